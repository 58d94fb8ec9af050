"""Equal weights give byte-identical .safetensors files."""

import hashlib
import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from steadyscale.models import RRDBConfig, RRDBNet
from steadyscale.models.loading.safetensors_writer import save_deterministic

METADATA = {name: f"value of {name}" for name in ("format", "architecture", "licence", "origin", "source", "größe")}


@pytest.mark.parametrize("order", [1, -1])
def test_equal_weights_give_equal_bytes(order):
    torch.manual_seed(0)
    state = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2)).state_dict()
    files = {save_deterministic(dict([*state.items()][::order]), dict([*METADATA.items()][::order])) for _ in range(20)}
    assert len(files) == 1
    digest = hashlib.sha256(files.pop()).hexdigest()
    assert digest == hashlib.sha256(save_deterministic(state, METADATA)).hexdigest()


@pytest.mark.parametrize("extra", range(9))
def test_reads_what_was_written(tmp_path, extra):
    """For any length of the header."""
    state = {"b": torch.rand(3, 2), "a": torch.rand(5).half(), "c": torch.arange(7)}
    content = save_deterministic(state, {**METADATA, "more": "x" * extra})
    loaded = load(content)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) and loaded[key].dtype == state[key].dtype for key in state)
    (tmp_path / "x.safetensors").write_bytes(content)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {**METADATA, "more": "x" * extra}
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert list(json.loads(content[8 : 8 + length])) == ["__metadata__", "a", "b", "c"]
