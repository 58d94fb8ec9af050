"""Hostile and broken files: each raises WeightsError, executes nothing and allocates nothing large."""

import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from steadyscale.models import RRDBConfig, RRDBNet, WeightsError, load_upscaler
from steadyscale.models.loading import weight_file


class RunsOnLoad:
    """Unpickling this creates the file `executed` in the current folder."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def small() -> dict[str, torch.Tensor]:
    return dict(RRDBNet(RRDBConfig(features=4, blocks=1, growth=2)).state_dict())


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rezipped(data: bytes, compression: int, extra: dict[str, bytes] | None = None, without: str = "/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            if not name.endswith(without):
                target.writestr(name, source.read(name))
        for name, content in (extra or {}).items():
            target.writestr(name, content)
    return buffer.getvalue()


def safetensors_header(header: object, claimed: int | None = None, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", claimed or len(text)) + text + data


def many_tensors(count: int) -> bytes:
    tensors = (f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(count))
    text = f"{{{','.join(tensors)}}}".encode()
    return struct.pack("<Q", len(text)) + text


def expanded() -> dict[str, torch.Tensor]:
    """One float that claims to be a billion."""
    return {**small(), "conv_hr.bias": torch.zeros(1).expand(10**9)}


def shared_storage() -> dict[str, torch.Tensor]:
    """A thousand keys for the same 40 KB."""
    tensor = torch.ones(10_000)
    return {f"key{i}": tensor for i in range(1000)}


def pickled(opcodes: bytes) -> bytes:
    """A .pth with hand-written pickle opcodes."""
    return rezipped(
        saved({}), zipfile.ZIP_STORED, without="data.pkl", extra={"archive/data.pkl": b"\x80\x02" + opcodes}
    )


def repeated_hex(times: int) -> bytes:
    """One letter, hex-encoded again and again, which doubles its length each time."""
    start = b"c_codecs\nencode\n" * (times + 1) + b"X\1\0\0\0aX\6\0\0\0latin1\x86R"
    return start + b"X\3\0\0\0hex\x86R" * times + b"."


def copied_to_device() -> bytes:
    """One float expanded to 100 million and copied to its own device."""
    expanded_file = saved(torch.zeros(1).expand(10**8))
    with zipfile.ZipFile(io.BytesIO(expanded_file)) as archive:
        inner = archive.read("archive/data.pkl").removeprefix(b"\x80\x02").removesuffix(b".")
    call = b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(" + inner
    call += b"ctorch\nfloat64\nX\3\0\0\0cpu\x89tR."
    return rezipped(expanded_file, zipfile.ZIP_STORED, without="data.pkl", extra={"archive/data.pkl": call})


CORPUS = {  # name -> (function that returns the content, what the message says)
    "empty.pth": (lambda: b"", "an empty file"),
    "zeros.pth": (lambda: bytes(4096), "no known weight file format"),
    "text.pth": (lambda: b"Please accept the licence first.\n", "plain text"),
    "page.safetensors": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "pointer.safetensors": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
        "a Git LFS pointer",
    ),
    "model.gguf": (lambda: b"GGUF" + bytes(60), "a GGUF"),
    "code.pth": (lambda: saved({"a": RunsOnLoad()}), "holds more than tensors"),
    "legacy code.pth": (
        lambda: saved({"a": RunsOnLoad()}, _use_new_zipfile_serialization=False),
        "holds more than tensors",
    ),
    "bare.pth": (lambda: pickle.dumps(RunsOnLoad(), protocol=2), "holds more than tensors|damaged"),
    "bare4.pth": (lambda: pickle.dumps(RunsOnLoad(), protocol=4), "holds more than tensors|damaged"),
    "stride0.pth": (lambda: saved(expanded()), "larger than the file itself"),
    "legacy stride0.pth": (
        lambda: saved(expanded(), _use_new_zipfile_serialization=False),
        "larger than the file itself",
    ),
    "shared.pth": (lambda: saved(shared_storage()), "larger than the file itself"),
    "sparse.pth": (lambda: saved({**small(), "conv_hr.bias": torch.eye(4).to_sparse()}), "sparse"),
    "deflated.pth": (lambda: rezipped(saved(small()), zipfile.ZIP_DEFLATED), "compressed entries"),
    "script.pt": (lambda: rezipped(saved(small()), zipfile.ZIP_STORED, {"archive/code/net.py": b"x"}), "a TorchScript"),
    "cut.pth": (lambda: saved(small())[:-300], "damaged or incomplete"),
    "legacy cut.pth": (lambda: saved(small(), _use_new_zipfile_serialization=False)[:-300], "damaged"),
    "bytes.pth": (
        lambda: pickled(b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 200 * 2**20) + b"\x85R."),
        "calls bytearray",
    ),
    "legacy bytes.pth": (lambda: b"\x80\x02c__builtin__\nbytearray\nJ\0\0\0\x10\x85R.", "calls bytearray"),
    "doubled.pth": (lambda: pickled(repeated_hex(27)), "calls _codecs encode"),
    "copied.pth": (lambda: copied_to_device(), "calls _rebuild_device"),
    "list.pth": (lambda: saved([torch.ones(2)]), "holds a list"),
    "number.pth": (lambda: saved({**small(), "step": 7}), "'step', a int"),
    "nothing.pth": (lambda: saved({}), "holds no tensors"),
    "cut.safetensors": (lambda: save(small())[:-5], "broken safetensors"),
    "header.safetensors": (lambda: save(small())[:100], "broken safetensors"),
    "long.safetensors": (lambda: save(small()) + b"more", "broken safetensors"),
    "claim.safetensors": (lambda: safetensors_header({}, claimed=2**63), "header of 9223372036854775808 bytes"),
    "nested.safetensors": (lambda: struct.pack("<Q", 50_006) + b'{"a":' + b"[" * 50_001, "broken safetensors"),
    "array.safetensors": (lambda: struct.pack("<Q", 9) + b'{"a": 1} ', "broken safetensors"),
    "twice.safetensors": (lambda: struct.pack("<Q", 15) + b'{"a":{},"a":{}}', "a key appears twice"),
    "long key.safetensors": (
        lambda: safetensors_header({"x" * 10_000: {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}),
        "broken safetensors",
    ),
    "huge.safetensors": (
        lambda: safetensors_header({"a": {"dtype": "F32", "shape": [2**40, 0, 2**40], "data_offsets": [0, 0]}}),
        "broken safetensors|no known network|larger",
    ),
    "many.safetensors": (lambda: many_tensors(25_000), "claims 25000 tensors"),
    "300k.safetensors": (lambda: many_tensors(300_000), "header of [0-9]{8} bytes"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_files_are_rejected(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, expected = CORPUS[name]
    path = tmp_path / name
    path.write_bytes(content())
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=expected) as caught:
            load_upscaler(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    assert not (tmp_path / "executed").exists()


def test_code_in_the_corpus_is_executable(tmp_path, monkeypatch):
    """Plain unpickling executes the code of code.pth, so rejecting it is a real test."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(RunsOnLoad()))  # noqa: S301 (that is the point)
    assert (tmp_path / "executed").exists()


def test_old_torch_rejects_pickles(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    torch.save(small(), path)
    load_upscaler(path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(WeightsError, match=r"torch 2\.5\.1.*CVE-2025-32434"):
        load_upscaler(path)
    assert weight_file.torch_version() == (2, 5)


def test_zip_without_weights_is_rejected(tmp_path):
    path = tmp_path / "models.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net.pth", saved(small()))
    with pytest.raises(WeightsError, match="zip archive without weights; unpack it"):
        load_upscaler(path)


def test_dictionary_that_contains_itself_is_rejected(tmp_path):
    state: dict[str, object] = dict(small())
    state["model"] = state
    torch.save(state, tmp_path / "loop.pth")
    with pytest.raises(WeightsError, match="'model', a dict"):
        load_upscaler(tmp_path / "loop.pth")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.sampled_from([saved(small()), saved(small(), _use_new_zipfile_serialization=False), save(small())]),
    where=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_flipped_byte_raises_no_other_error(tmp_path, data, where, byte, cut):
    path = tmp_path / "net.pth"
    at = int(where * len(data)) if cut else int(where * min(len(data), 3000))
    path.write_bytes(data[:at] if cut else data[:at] + bytes([byte]) + data[at + 1 :])
    with contextlib.suppress(WeightsError):
        assert load_upscaler(path).scale == 4
