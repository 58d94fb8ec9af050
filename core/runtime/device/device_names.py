"""The choice of a device by its name."""

from __future__ import annotations

import ctypes
import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...clip import ClipError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
# In the order in which "auto" prefers them; other backends follow, then the CPU.
GPU_TYPES = ("cuda", "xpu", "mps")


def resolve_device(name: str = AUTO) -> str:
    """The device of that name.

    Names are those of `torch.device`, "directml", and "auto" for the best device that is available.
    Raises ClipError for a name that torch does not know and for a device that is not there.
    """
    if name == AUTO:
        return _best_device()
    if name == "cpu":
        return name
    if name.partition(":")[0] == "directml":
        return str(_directml_device(name))
    if name.startswith("privateuseone") and "torch_directml" in sys.modules:
        return name  # It has no module in torch that could count its devices.
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ClipError(f"{name} is not a device that torch knows; use auto, cpu, cuda, cuda:1, xpu or mps") from error
    count = _device_count(device.type)
    if count == 0:
        raise ClipError(
            f"there is no {device.type} device here, or this build of torch does not know it; use the device cpu"
        )
    if device.index is not None and device.index >= count:  # pyright: ignore[reportUnnecessaryComparison]  # torch annotates int
        raise ClipError(f"there is no device {name}: the last one is {device.type}:{count - 1}")
    return name


def resolve_devices(names: str = AUTO) -> str:
    """The devices of names that are separated by commas.

    They are as `resolve_device` returns them. Raises ClipError as it does, and for a device that is named twice.
    """
    devices = [resolve_device(name.strip()) for name in names.split(",")]
    if len(devices) > 1:
        numbered = [name if ":" in name or name == "cpu" else f"{name}:0" for name in devices]
        twice = next((name for n, name in enumerate(numbered) if name in numbered[:n]), None)
        if twice is not None:
            raise ClipError(f"the devices {names} contain {twice} twice; name each device once")
    return ",".join(devices)


def split_devices(devices: torch.device | str) -> list[torch.device]:
    """The devices of a string of `resolve_devices`."""
    import torch

    return [torch.device(name) for name in str(devices).split(",")]


def _best_device() -> str:
    # torch takes a second and much memory to import; it is imported only if a driver is present.
    if "torch" not in sys.modules and not _has_gpu_driver():
        return "cpu"
    import torch

    for kind in GPU_TYPES:
        if _device_count(kind):
            return kind
    with suppress(AttributeError):  # before torch 2.6
        if torch.accelerator.is_available() and (other := torch.accelerator.current_accelerator()) is not None:
            return other.type
    return "cpu"


def _device_count(kind: str) -> int:
    import torch

    module: Any = getattr(torch, kind, None)
    with suppress(AttributeError, RuntimeError):
        return int(module.device_count()) if module.is_available() else 0
    return 0


def _directml_device(name: str) -> torch.device:
    try:
        directml = importlib.import_module("torch_directml")
    except ImportError as error:
        raise ClipError("the device directml needs the package torch-directml: pip install torch-directml") from error
    index = name.partition(":")[2]
    return directml.device(int(index)) if index else directml.device()


def _has_gpu_driver() -> bool:
    """Whether a driver of Nvidia, AMD or Intel is installed, or the system is macOS."""
    for library in ("libcuda.so.1", "nvcuda.dll", "libze_loader.so.1", "ze_loader.dll"):
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return sys.platform == "darwin" or Path("/dev/kfd").exists()
