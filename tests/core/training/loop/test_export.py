"""Weight files: permissions, metadata, dtype, and errors."""

import os

import pytest
import torch
from safetensors import safe_open
from steadyscale.core.training import TrainingError
from steadyscale.core.training.loop.export import export
from torch import nn


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX rights")
def test_permissions_of_a_weight_file_follow_the_umask(tmp_path):
    umask = os.umask(0o022)
    try:
        file = export(nn.Conv2d(3, 3, 3), tmp_path / "new" / "net.safetensors", {"scale": "2"}, torch.float16)
    finally:
        os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o644
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"format": "pt", "architecture": "Conv2d", "scale": "2"}
        assert opened.get_tensor("weight").dtype is torch.float16


def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(TrainingError, match=r"net\.safetensors cannot be written \(No space left on device\)"):
        export(nn.Conv2d(3, 3, 3), tmp_path / "net.safetensors", {})
    assert not list(tmp_path.iterdir())
