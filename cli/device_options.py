"""How commands that run a network let people say where and how, and what becomes of it."""

from __future__ import annotations

import argparse
import ctypes
from contextlib import suppress
from pathlib import Path

from ..core.clip import ClipError
from ..core.upscaling.settings import Precision
from .arg_types import add_choice, count


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if one is there"
    )


def chosen_device(args: argparse.Namespace) -> str:
    """'cpu' or 'cuda', by torch's names."""
    if args.device == "auto":
        return "cuda" if _has_card() else "cpu"
    if args.device == "cuda" and not _has_card():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return args.device


def _has_card() -> bool:
    """Whether torch can use a GPU. It is asked only where there is a driver: importing it takes a second and memory."""
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    """Nvidia's library, or the device file of AMD's."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return Path("/dev/kfd").exists()


def add_running(command: argparse.ArgumentParser) -> None:
    """How a network is run; the defaults serve everybody."""
    add_choice(command, "--precision", Precision.AUTO, "auto: the fastest that a self-check shows to be safe")
    command.add_argument(
        "--tile", type=count, metavar="PIXELS", help="side of the pieces of a frame (default: by memory)"
    )
    command.add_argument("--compile", action="store_true", help="compile the network with torch: pays for long clips")
