"""Ceilings of the device: matrix products, copies of its memory, transfers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .session import Row, Session
from .timing import time_calls

MATRIX_SIZE, QUICK_MATRIX_SIZE = 8192, 128
MAX_COPY_BYTES, TRANSFER_BYTES, QUICK_BYTES = 1 << 30, 256 << 20, 1 << 20
MAX_SECONDS = 2.0  # of each row


def run(session: Session) -> None:
    for mode in session.modes:
        session.measure_row(lambda mode=mode: _time_product(session, mode), what="matmul", dtype=mode.value)
    session.measure_row(lambda: _time_copy(session), what="device memory copy")
    if session.accelerator.is_cpu:
        return
    for is_pinned in (True, False):
        for direction in ("up", "down"):
            session.measure_row(
                lambda is_pinned=is_pinned, direction=direction: _time_transfer(session, is_pinned, direction),
                what="transfer",
                direction=direction,
                memory="pinned" if is_pinned else "pageable",
            )


def summarize(rows: list[Row]) -> str:
    parts = [f"{row['dtype']} {row['best_tflops']:.3g}" for row in rows if row.get("what") == "matmul"]
    parts = [f"matmul {', '.join(parts)} TFLOP/s"] if parts else []
    parts += [f"memory {row['gb_per_s']:.3g} GB/s" for row in rows if row.get("what") == "device memory copy"]
    transfers = [row for row in rows if row.get("what") == "transfer"]
    parts += [f"{row['memory']} {row['direction']} {row['gb_per_s']:.3g} GB/s" for row in transfers]
    return "; ".join(parts)


@torch.inference_mode()
def _time_product(session: Session, mode) -> Row:
    n = QUICK_MATRIX_SIZE if session.is_quick else MATRIX_SIZE
    if session.accelerator.is_cpu:
        n //= 4
    # Random values: products of zeros take less power, and run faster.
    a, b = (torch.rand(n, n).to(session.device, mode.dtype) for _ in range(2))
    with mode.arithmetic(session.accelerator):
        timing = time_calls(session, lambda: a @ b, max_seconds=MAX_SECONDS)
    session.peaks[mode.value] = 2 * n**3 / timing.best
    return {
        "n": n,
        "tflops": 2e-12 * n**3 / timing.seconds,
        "best_tflops": session.peaks[mode.value] / 1e12,
        **timing.as_row(),
    }


@torch.inference_mode()
def _time_copy(session: Session) -> Row:
    size = QUICK_BYTES if session.is_quick else min(MAX_COPY_BYTES, int(session.accelerator.free_memory() / 8))
    source = torch.zeros(size, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)
    return _rate(session, lambda: target.copy_(source), 2 * size)


@torch.inference_mode()
def _time_transfer(session: Session, is_pinned: bool, direction: str) -> Row:
    size = QUICK_BYTES if session.is_quick else TRANSFER_BYTES
    host: Tensor
    if is_pinned:
        host = session.accelerator.empty_pinned(size, dtype=torch.uint8)
    else:
        host = torch.empty(size, dtype=torch.uint8)
    host.zero_()  # The system provides pages when they are first written.
    on_device = torch.zeros(size, dtype=torch.uint8, device=session.device)
    source, target = (host, on_device) if direction == "up" else (on_device, host)
    return _rate(session, lambda: target.copy_(source, non_blocking=is_pinned), size)


def _rate(session: Session, function: Callable[[], object], size: int) -> Row:
    """size: bytes that are read and written by one call."""
    timing = time_calls(session, function, max_seconds=MAX_SECONDS)
    return {"mb": size / 1e6, "gb_per_s": size / 1e9 / timing.seconds, **timing.as_row()}
