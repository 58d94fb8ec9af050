"""Choose the tile size from free memory and the memory that a network takes."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

import torch

from ..runtime.device.accelerator import accelerator_for
from ..runtime.malloc import MAX_RETAINED_BYTES
from .model.model_traits import ImageModel, read_traits
from .settings import Tiling
from .tiles import ALIGN, MIN_CORE, TilePlan


def plan_tiles(
    height: int,
    width: int,
    frames: int,
    halo: int,
    device: torch.device,
    tiling: Tiling,
    bytes_per_pixel: float,
    *,
    layer_bytes: float = 256.0,
    full_frames: bool = False,
    never_tiled: bool = False,
) -> TilePlan:
    """Plan how many frames, and tiles of which size, run at once.

    frames: number of frames of height x width that are available. never_tiled: whether the network cuts tiles itself;
    then frames are tiled only where `tiling` says so, or memory runs out.

    A tile size in `tiling` is kept. Otherwise a window with its halo may take a fraction of the free memory: half on
    the CPU, where too much means swapping rather than an error, 0.7 on a GPU, where an out-of-memory error is caught.

    - On the CPU a large frame is tiled even if it fits, so that no layer's result (`layer_bytes` per pixel) is above
      32 MB: glibc maps larger blocks anew each time (see runtime/malloc.py), and the page faults make untiled frames up
      to twice as slow. A wide halo costs more (at 64 a core of 256 computes 2.25 times its pixels), so then the frame
      is not tiled, nor where the network keeps its own buffers (`full_frames`). Batches gain nothing.
    - On a GPU frames are not tiled, and several run at once where they fit, up to a million pixels: that fills any GPU,
      and at 64 channels and 4x it stays below 2^31 elements, the limit of cuDNN's fast kernels.
    """
    on_cpu = device.type == "cpu"
    pixels = int(accelerator_for(device).free_memory() * (0.5 if on_cpu else 0.7) / bytes_per_pixel)
    if not on_cpu:
        pixels = min(pixels, 1 << 20)
    size = max(height, width) if tiling.size is None and never_tiled else tiling.size
    if size is None:
        # The window is a square with a halo on both sides, rounded down so that alignment does not exceed the limit.
        largest = max(MIN_CORE, (isqrt(pixels) - 2 * (halo + ALIGN)) // ALIGN * ALIGN)
        longest = max(height, width)
        size = longest if height * width <= pixels else min(longest, largest)
        retained = int(MAX_RETAINED_BYTES / layer_bytes)
        if on_cpu and not full_frames and halo <= 32 and height * width > retained:
            size = min(size, max(MIN_CORE, (isqrt(retained) - 2 * (halo + ALIGN)) // ALIGN * ALIGN))
    batch = 1 if on_cpu or size < max(height, width) else min(frames, pixels // (height * width))
    return TilePlan(max(1, batch), size)


def estimate_activation_bytes(model: ImageModel, scale: int) -> float:
    """Bytes of float32 activations per input pixel, see `ModelTraits`."""
    return replace(read_traits(model), scale=scale).estimated_activation_bytes
