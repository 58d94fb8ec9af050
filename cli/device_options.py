"""How commands that run a network let people say where and how, and what becomes of it."""

from __future__ import annotations

import argparse
import ctypes
from contextlib import suppress
from pathlib import Path

from ..core.clip import ClipError
from ..core.upscaling.settings import Precision
from .arg_types import add_enum_option, positive_int


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if one is there"
    )


def resolve_device(args: argparse.Namespace) -> str:
    """'cpu' or 'cuda', by torch's names."""
    if args.device == "auto":
        return "cuda" if _has_gpu() else "cpu"
    if args.device == "cuda" and not _has_gpu():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return args.device


def _has_gpu() -> bool:
    """Whether torch can use a GPU. It is asked only where there is a driver: importing it takes a second and memory."""
    if not _has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_gpu_driver() -> bool:
    """Nvidia's library, or the device file of AMD's."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return Path("/dev/kfd").exists()


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """How a network is run; the defaults serve everybody."""
    add_enum_option(parser, "--precision", Precision.AUTO, "auto: the fastest that a self-check shows to be safe")
    parser.add_argument(
        "--tile", type=positive_int, metavar="PIXELS", help="side of the pieces of a frame (default: by memory)"
    )
    parser.add_argument("--compile", action="store_true", help="compile the network with torch: pays for long clips")
