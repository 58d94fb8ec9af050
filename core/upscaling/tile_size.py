"""How much memory there is, how much a network takes, and how frames are therefore cut."""

from __future__ import annotations

import os
from math import inf, isqrt
from pathlib import Path

import torch

from ..runtime.malloc import MAX_RETAINED_BYTES
from .precision import find_module
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
) -> TilePlan:
    """The policy: how much of `frames` frames of height x width goes through the network at once.

    A size that was asked for is kept. Otherwise the window with its halo may take a part of what is free now: half on
    the CPU, where too much means swapping rather than an error, 0.7 on a card, where an error is caught.

    - On the CPU a large frame is cut even if it would fit, so that no layer's result (`layer` bytes per pixel) is
      above 32 MB: such blocks are mapped anew each time (allocator.py), and the page faults make whole frames up to
      twice as slow. A wide halo costs more than that (at 64 a core of 256 computes 2.25 times its pixels), so then the
      frame stays whole, as it does where the network says that it keeps its memory itself (`whole`). Batches gain
      nothing.
    - On a card the frame stays whole and several go at once where they fit, up to a million pixels: that fills any
      card, and at 64 channels and 4 times the size it stays below 2^31 elements, where cuDNN's fast kernels end.
    """
    on_cpu = device.type == "cpu"
    pixels = int(free_memory(device) * (0.5 if on_cpu else 0.7) / bytes_per_pixel)
    if not on_cpu:
        pixels = min(pixels, 1 << 20)
    size = tiling.size
    if size is None:
        # As a square with both halos, rounded so that alignment does not exceed it.
        largest = max(MIN_CORE, (isqrt(pixels) - 2 * (halo + ALIGN)) // ALIGN * ALIGN)
        longest = max(height, width)
        size = longest if height * width <= pixels else min(longest, largest)
        kept = int(MAX_RETAINED_BYTES / layer_bytes)
        if on_cpu and not full_frames and halo <= 32 and height * width > kept:
            size = min(size, max(MIN_CORE, (isqrt(kept) - 2 * (halo + ALIGN)) // ALIGN * ALIGN))
    batch = 1 if on_cpu or size < max(height, width) else min(frames, pixels // (height * width))
    return TilePlan(max(1, batch), size)


def estimate_activation_bytes(model: object, scale: int) -> float:
    """Bytes of activations per input pixel in fp32: what the network says of itself, or else guessed high.

    The guess is four tensors of the widest layer, all at the size of the result: for a residual dense network at x4
    that is 16 KB, as measured where nobody cuts its enlarged end into pieces.
    """
    told = declared_activation_bytes(model)
    return 4.0 * widest_layer_bytes(model) * scale * scale if told is None else told


def declared_activation_bytes(model: object) -> float | None:
    """What a network says of itself, as `guessed_bytes`."""
    told = getattr(find_module(model), "activation_bytes", None)
    return None if told is None else float(told)


def widest_layer_bytes(model: object) -> float:
    """Bytes per pixel of the widest layer's result in fp32."""
    module = find_module(model)
    weights = module.parameters() if module is not None else ()
    return 4.0 * max((p.shape[0] for p in weights if p.ndim == 4), default=64)


def free_memory(device: torch.device) -> float:
    """Bytes that a stream may hope for on a device now."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    return min(_free_on_host(), _free_in_container())


def _free_on_host() -> float:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            return float(lines["MemAvailable"].split()[0]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    return 4e9  # Windows tells only through its own libraries; this is what a small machine has left.


def _free_in_container() -> float:
    """What a container's limit (cgroup v2) leaves; beyond it the system kills the process and raises nothing."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text()
    except OSError:
        return inf
    return inf if limit == "max" else max(0.0, float(limit) - float(used))
