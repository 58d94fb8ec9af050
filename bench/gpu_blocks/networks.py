"""Networks with random weights and the sizes of published ones, on a device."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from steadyscale.core.upscaling.model.precision import ComputeMode
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import Tensor, nn
from upscale import synthetic_photo

from .session import Session

# Of a quick run: networks of the same kinds that a CPU computes at once, in float16 too.
_QUICK_FEATURES, _QUICK_GROWTH, _QUICK_CONVS = 4, 2, 1


def make_network(name: str, *, is_quick: bool) -> nn.Module:
    """A network with random weights, on the CPU.

    name: "rrdb23" or "rrdb6" (4x, Real-ESRGAN x4plus and its variant for anime), "compact4x" or "compact2x".
    """
    torch.manual_seed(0)
    if name.startswith("rrdb"):
        blocks = int(name.removeprefix("rrdb"))
        config = RRDBConfig(blocks=blocks)
        if is_quick:
            config = RRDBConfig(blocks=1 + blocks // 16, features=_QUICK_FEATURES, growth=_QUICK_GROWTH)
        module: nn.Module = RRDBNet(config)
        # Random weights give values around 0, of which half would be clamped.
        nn.init.constant_(module.get_submodule("conv_last").get_parameter("bias"), 0.5)
    else:
        scale = int(name.removeprefix("compact").removesuffix("x"))
        compact = SRVGGConfig(scale=scale)
        if is_quick:
            compact = SRVGGConfig(scale=scale, features=_QUICK_FEATURES, convs=_QUICK_CONVS)
        module = SRVGGNetCompact(compact)
    return module.eval().requires_grad_(False)


def make_upscaler(name: str, *, is_quick: bool) -> Upscaler:
    """The same as a loaded network."""
    return Upscaler(make_network(name, is_quick=is_quick), name, "rrdb" if name.startswith("rrdb") else "srvgg")


@functools.cache
def count_flops(name: str, *, is_quick: bool) -> float:
    """Multiplications and additions of the convolutions per pixel of the input.

    By their definition, whatever algorithm computes them.
    """
    module, total, side = make_network(name, is_quick=is_quick), 0, 4

    def count(conv: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        total += 2 * conv.get_parameter("weight")[0].numel() * out.numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(torch.zeros(1, 3, side, side))
    return total / side**2


@functools.cache
def photo(width: int, height: int) -> Tensor:
    """A synthetic photograph (1, 3, height, width) in [0, 1], on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(synthetic_photo(width, height, seed=4).transpose(2, 0, 1)))[None]


def photos(width: int, height: int, count: int) -> list[Tensor]:
    """Different frames (1, 3, height, width) that pan over a synthetic photograph."""
    return [photo(width, height).roll((3 * n, 5 * n), dims=(2, 3)) for n in range(count)]


@dataclass(frozen=True)
class Variant:
    """How a network runs."""

    mode: ComputeMode
    channels_last: bool = True
    cudnn_benchmark: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @contextmanager
    def settings(self, session: Session) -> Generator[None, None, None]:
        """Inference mode and settings of this variant, within a `with` block."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        try:
            with torch.inference_mode(), self.mode.arithmetic(session.accelerator):
                yield
        finally:
            torch.backends.cudnn.benchmark = before


def place_network(module: nn.Module, variant: Variant, session: Session) -> nn.Module:
    """A copy of a network on the device."""
    with torch.inference_mode(False):
        copied: Any = copy.deepcopy(module).to(session.device, variant.mode.dtype)
        return copied.to(memory_format=variant.memory_format)


def place_images(images: Tensor, variant: Variant, session: Session) -> Tensor:
    """A copy of images (B, 3, H, W) on the device."""
    return images.to(session.device, variant.mode.dtype, memory_format=variant.memory_format, copy=True)


def bind_network(module: nn.Module, images: Tensor, variant: Variant, session: Session) -> Callable[[], Tensor]:
    """A function that runs a network on images, both on the device."""

    def run() -> Tensor:
        with variant.settings(session):
            return module(images)

    return run
