"""Speed of the networks by size, dtype, memory layout, cuDNN's search and batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from steadyscale.core.upscaling.benchmark import speed_fields
from steadyscale.core.upscaling.model.precision import ComputeMode

from .networks import Variant, bind_network, count_flops, make_network, photo, place_images, place_network
from .session import Row, Session
from .timing import time_calls

_LARGE = ((512, 512), (960, 540), (1920, 1080))
_HD = ((960, 540), (1920, 1080))
CASES = [(network, size) for network in ("rrdb23", "rrdb6") for size in _LARGE]
CASES += [(network, size) for network in ("compact4x", "compact2x") for size in _HD]
MAX_BATCH = 4
MAX_SECONDS = 2.5  # of each row


def run(session: Session) -> None:
    for variant, batch in _iter_variants(session):
        for network, size in CASES:
            _measure(session, network, session.size(*size), variant, batch)


def summarize(rows: list[Row]) -> str:
    fastest: dict[tuple[str, str], Row] = {}
    for row in rows:
        if "fps" in row:
            key = row["network"], row["size"]
            fastest[key] = max(fastest.get(key, row), row, key=lambda each: each["fps"])
    parts = []
    for (network, size), row in fastest.items():
        share = "" if row["of_peak"] is None else f" {row['of_peak']:.0%}"
        parts.append(f"{network} {size} {row['fps']:.3g} fps ({row['dtype']}{share})")
    return "; ".join(parts)


def _iter_variants(session: Session) -> Iterator[tuple[Variant, int]]:
    """Yield (variant, batch).

    The default comes first, then one change at a time, what matters least last.
    """
    default, *others = session.modes
    yield Variant(default), 1
    for mode in others:
        if mode is not ComputeMode.BF16:
            yield Variant(mode), 1
    yield Variant(default, channels_last=False), 1
    yield Variant(default, cudnn_benchmark=True), 1
    yield Variant(default), MAX_BATCH
    if default is not ComputeMode.FP32:
        yield Variant(default, channels_last=False, cudnn_benchmark=True), 1
        yield replace(Variant(default), mode=ComputeMode.BF16), 1


def _measure(session: Session, network: str, size: tuple[int, int], variant: Variant, batch: int) -> None:
    def measure() -> Row:
        module = place_network(make_network(network, is_quick=session.is_quick), variant, session)
        images = place_images(photo(*size).expand(batch, -1, -1, -1), variant, session)
        timing = time_calls(session, bind_network(module, images, variant, session), max_seconds=MAX_SECONDS)
        fps = batch / timing.seconds
        work, peak = fps * size[0] * size[1] * count_flops(network, is_quick=session.is_quick), None
        peak = session.peaks.get(variant.mode.value)
        row = {"fps": fps, "tflops": work / 1e12, "of_peak": None if peak is None else work / peak}
        return {**row, **timing.as_row()}

    session.measure_row(
        measure,
        **speed_fields(network, variant.mode.value, *size),
        layout="NHWC" if variant.channels_last else "NCHW",
        cudnn_benchmark=variant.cudnn_benchmark,
        batch=batch,
    )
