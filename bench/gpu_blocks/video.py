"""From file to file: decode, upscale and encode a synthetic clip."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import steadyscale
from steadyscale.core import ClipInfo, UpscaleStats, write_video
from steadyscale.core.upscaling.benchmark import speed_fields
from steadyscale.core.upscaling.model.precision import ComputeMode

from .networks import Variant, bind_network, make_upscaler, photo, photos, place_images, place_network
from .session import Row, Session
from .timing import time_calls

CASES = (("compact2x", (960, 540), 60), ("compact4x", (960, 540), 40))
DISTINCT_FRAMES = 12


def run(session: Session) -> None:
    for network, size, frames in CASES[: session.count(len(CASES))]:
        width, height = session.size(*size)
        session.measure_row(
            lambda network=network, width=width, height=height, frames=frames: _upscale_file(
                session, network, width, height, session.count(frames, 6)
            ),
            **speed_fields(network, "", width, height),
        )


def summarize(rows: list[Row]) -> str:
    return "; ".join(
        f"{row['network']} {row['size']} {row['fps']:.3g} fps, the network takes {row['network_share']:.0%} of the time"
        for row in rows
        if "network_share" in row
    )


def _upscale_file(session: Session, network: str, width: int, height: int, frames: int) -> Row:
    model = make_upscaler(network, is_quick=session.is_quick)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.mp4", Path(folder) / "target.mp4"
        distinct = photos(width, height, DISTINCT_FRAMES)
        info = ClipInfo(width, height, Fraction(24))

        def run_file(count: int):
            write_video(source, islice(cycle(distinct), count), info)
            return steadyscale.upscale_video(source, target, model=model, device=str(session.device))

        if not session.is_quick:
            run_file(3)  # compiles kernels and checks the dtype
        report = run_file(frames)
    stats = report.stats or UpscaleStats()
    variant = Variant(ComputeMode(stats.mode))
    images = place_images(photo(width, height), variant, session)
    alone = time_calls(
        session, bind_network(place_network(model.model, variant, session), images, variant, session), max_seconds=1.0
    )
    return {
        "dtype": stats.mode,
        "frames": report.frames_out,
        "seconds": report.seconds,
        "fps": report.frames_out / report.seconds,
        "network_fps": 1 / alone.seconds,
        "network_share": alone.seconds * report.frames_out / report.seconds,
        "output": f"{report.info.width}x{report.info.height}",
    }
