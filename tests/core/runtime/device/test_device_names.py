"""The choice of a device by its name."""

import sys
from types import SimpleNamespace

import pytest
import simulated_gpu
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.device import device_names
from steadyscale.core.runtime.device.device_names import resolve_device


def test_without_a_gpu():
    assert resolve_device("cpu") == "cpu"
    for name in ("cuda", "xpu:1", "mps"):
        if not device_names._device_count(name.partition(":")[0]):
            with pytest.raises(ClipError, match="use the device cpu"):
                resolve_device(name)
    with pytest.raises(ClipError, match="gpu is not a device that torch knows"):
        resolve_device("gpu")
    with pytest.raises(ClipError, match="pip install torch-directml"):
        resolve_device("directml")


def test_directml_is_found_by_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_directml", SimpleNamespace(device=lambda index=0: f"privateuseone:{index}"))
    assert resolve_device("directml") == "privateuseone:0"
    assert resolve_device("directml:1") == "privateuseone:1"
    assert resolve_device("privateuseone:1") == "privateuseone:1"  # as nodes pass the device of the host on


def test_auto_prefers_the_first_kind_that_is_there(monkeypatch):
    for present, expected in ((("mps", "xpu"), "xpu"), (("mps",), "mps"), (("cuda", "mps"), "cuda")):
        monkeypatch.setattr(device_names, "_device_count", lambda kind, present=present: int(kind in present))
        assert resolve_device() == expected


def test_a_simulated_gpu_is_found_and_counted(gpu):
    assert resolve_device() == simulated_gpu.DEVICE
    with pytest.raises(ClipError, match="the last one is simgpu:0"):
        resolve_device("simgpu:1")
