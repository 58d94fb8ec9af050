"""When the device's memory runs out, the result is that of small tiles."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from steadyscale.core import Precision, Tiling, UpscaleSettings, upscale
from steadyscale.models import Upscaler
from torch import Tensor

from .networks import make_upscaler, photos
from .session import NotAvailable, Row, Session

NETWORK, SIZE, FRAMES = "compact4x", (1920, 1080), 2
SMALL_TILE, QUICK_TILE = 256, 64
# Of the memory that a full frame takes.
MEMORY_FRACTION = 0.5
MAX_DIFFERENCE = 1e-3  # libraries choose other algorithms for other sizes, with other rounding


def run(session: Session) -> None:
    session.measure_row(lambda: _measure(session), network=NETWORK, size="{}x{}".format(*session.size(*SIZE)))


def summarize(rows: list[Row]) -> str:
    for row in rows:
        if "equal" in row:
            verdict = "the same result" if row["equal"] else "ANOTHER RESULT"
            return f"{verdict} with {row['limit_mb']:.0f} MB, after {row['errors']} errors of the allocator"
    return ""


def _measure(session: Session) -> Row:
    if session.accelerator.is_cpu:
        raise NotAvailable("the CPU has no limit that can be set")
    model = make_upscaler(NETWORK, is_quick=session.is_quick)
    width, height = session.size(*SIZE)
    frames = photos(width, height, FRAMES)
    expected = _upscale(session, model, frames, QUICK_TILE if session.is_quick else SMALL_TILE)
    accelerator = session.accelerator
    accelerator.release_cache()
    before = accelerator.allocated_memory()
    accelerator.reset_peak_memory()
    full = _upscale(session, model, frames, max(SIZE))
    needed = accelerator.peak_memory() - before
    accelerator.release_cache()
    with _memory_limit(session, before + int(needed * MEMORY_FRACTION)) as count_errors:
        result = _upscale(session, model, frames, max(SIZE))
        errors = count_errors()
    worst = max(float((a - b).abs().max()) for a, b in zip(result, expected, strict=True))
    is_equal = worst <= MAX_DIFFERENCE and len(result) == len(full) == len(expected)
    return {
        "status": "ok" if is_equal and errors else "failed",
        "equal": is_equal,
        "worst_of_255": 255 * worst,
        "full_frame_mb": needed / 1e6,
        "limit_mb": needed * MEMORY_FRACTION / 1e6,
        "errors": errors,
        **({} if errors else {"error": "memory did not run out: the limit was not effective"}),
    }


def _upscale(session: Session, model: Upscaler, frames: list[Tensor], tile: int) -> list[Tensor]:
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=tile))
    return list(upscale(iter(frames), model, settings, device=session.device))


@contextmanager
def _memory_limit(session: Session, size: int) -> Generator[Callable[[], int], None, None]:
    """Limit the memory of this process to that many bytes.

    Yields a counter of failed allocations.
    """
    module: Any = session.device_module
    simulated = getattr(module, "gpu", None)
    if simulated is not None:
        _, _, limit = simulated.read_memory()
        start = simulated.cache_releases
        simulated.set_memory_limit(size)
        try:
            yield lambda: simulated.cache_releases - start
        finally:
            simulated.set_memory_limit(limit)
    elif hasattr(module, "set_per_process_memory_fraction") and hasattr(module, "memory_stats"):
        start = module.memory_stats(session.device).get("num_ooms", 0)
        module.set_per_process_memory_fraction(
            min(1.0, size / session.accelerator.total_memory()), _index(session.device, module)
        )
        try:
            yield lambda: module.memory_stats(session.device).get("num_ooms", 0) - start
        finally:
            module.set_per_process_memory_fraction(1.0, _index(session.device, module))
    else:
        raise NotAvailable(f"the memory of {session.device.type} cannot be limited")


def _index(device: torch.device, module: Any) -> int:
    return module.current_device() if device.index is None else device.index
