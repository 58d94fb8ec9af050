"""Describe the GPU, its software and the computer."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress

import psutil
import steadyscale
import torch

from .session import Row, Session

PACKAGES = ("torch", "triton", "numpy", "av", "onnxruntime", "onnxruntime-gpu", "spandrel", "opencv-python-headless")


def describe_machine(session: Session) -> Row:
    """The contents of the first row."""
    accelerator = session.accelerator
    return {
        "device_type": session.device.type,
        "memory_gb": accelerator.total_memory() / 1e9,
        "free_memory_gb": accelerator.free_memory() / 1e9,
        **_describe_device(session),
        "driver": _read_driver(),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "cudnn": _read_cudnn(),
        "half_dtypes": [str(dtype) for dtype in accelerator.candidate_dtypes],
        "has_tf32": accelerator.has_tf32,
        "cpus": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "ram_gb": psutil.virtual_memory().total / 1e9,
        "load": psutil.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "steadyscale": steadyscale.__version__,
        "versions": _read_versions(),
    }


def _describe_device(session: Session) -> Row:
    found: Row = {}
    with suppress(Exception):  # Backends differ in what they report.
        properties = session.device_module.get_device_properties(session.device)
        for name in ("multi_processor_count", "major", "minor", "gcnArchName", "L2_cache_size"):
            if hasattr(properties, name):
                found[name] = getattr(properties, name)
    with suppress(Exception):
        found["allocator"] = session.device_module.get_allocator_backend()
    return found


def _read_driver() -> str | None:
    """The version of Nvidia's driver, which torch does not report."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return output.strip().partition("\n")[0]
    return None


def _read_cudnn() -> int | None:
    with suppress(Exception):
        return torch.backends.cudnn.version()
    return None


def _read_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
