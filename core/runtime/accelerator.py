"""Choose the device that networks run on: a GPU if available, else the CPU."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from ..clip import ClipError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str = "auto") -> str:
    """The device of that name: "cpu", "cuda" or "cuda:1"; "auto" prefers a GPU.

    Raises ClipError for a GPU that is not there.
    """
    if name == "auto":
        return "cuda" if has_gpu() else "cpu"
    if name.startswith("cuda") and not has_gpu():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return name


def has_gpu() -> bool:
    """Whether torch can use a GPU.

    torch takes a second and much memory to import; it is imported only if a driver is present.
    """
    if not _has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_gpu_driver() -> bool:
    """Whether Nvidia's driver library or AMD's device file exists."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return Path("/dev/kfd").exists()
