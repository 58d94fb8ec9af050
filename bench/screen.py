"""Benchmark of reusing unchanged regions in screen recordings.

    python bench/screen.py [--network steadyscale-4x ...] [--engine native|torch] > screen.json

A case is a static screen full of detail with one moving thing: a window in a corner or in the middle, whose changed
tiles are about 40 % of the screen, a line that is being typed, or a mouse pointer. Both variants run in one process
with one thread, alternating; the fastest round counts. `faster`: CPU seconds of all frames but the first without reuse
over those with reuse; the second of them also fills the engine's cache. `settled`: the same for the median frame, as in
a recording of more than a few seconds. `equal`: whether all frames are bit-identical. `tiles_reused`: share of all
tiles after the first frame. The JSON goes to stdout, a table to stderr.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from steadyscale.core import Frames, upscale
from steadyscale.core.upscaling.benchmark import describe_machine
from steadyscale.core.upscaling.settings import Reuse, UpscaleSettings, UpscaleStats
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo

SIZES = ((480, 270), (1280, 720))
CHANGED_SHARE = 0.4  # of the screen that changed tiles cover where a window moves


def draw_screen(width: int, height: int, seed: int) -> np.ndarray:
    """(3, height, width): blocks as sharp as letters, on gray."""
    random = np.random.default_rng(seed)
    letters = np.kron(random.random((height // 2 + 1, width // 4 + 1)) < 0.35, np.ones((2, 4)))[:height, :width]
    tint = random.random((3, 1, 1)).astype(np.float32)
    return (0.9 - 0.8 * letters[None] * tint).astype(np.float32)


def changed_rect(case: str, width: int, height: int, halo: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the region that changes.

    halo: pixels around it that must be recomputed.
    """
    if case == "a line":
        return height // 2, width // 8, 14, width // 2
    if case == "a pointer":
        return height // 3, width // 3, 12, 8
    # A rectangle of the screen's shape that covers the share together with its halo.
    sides = 1 if case == "in a corner" else 2
    high, wide = (round(side * CHANGED_SHARE**0.5) - sides * halo for side in (height, width))
    return (0, 0, high, wide) if sides == 1 else ((height - high) // 2, (width - wide) // 2, high, wide)


def iter_recording(case: str, width: int, height: int, halo: int, frames: int) -> Iterator[Frames]:
    """Frames (1, 3, height, width) of a case."""
    still, moving = draw_screen(width, height, 0), draw_screen(width, 2 * height, 1)
    top, left, high, wide = changed_rect(case, width, height, halo)
    for n in range(frames):
        frame = still.copy()
        frame[:, top : top + high, left : left + wide] = moving[:, 2 * n : 2 * n + high, left : left + wide]
        yield torch.from_numpy(frame)[None]


CASES = ("in a corner", "in the middle", "a line", "a pointer")


def measure_case(model: Any, case: str, width: int, height: int, frames: int, rounds: int) -> dict[str, Any]:
    """Measure one case with and without reuse; returns its row."""
    halo = (model.exact_halo or model.halo) + 6  # and half a tile, on average
    clip = [*iter_recording(case, width, height, halo, frames)]
    fastest, median = {True: float("inf"), False: float("inf")}, {True: float("inf"), False: float("inf")}
    stats, equal = UpscaleStats(), True
    for _ in range(rounds):
        digests: dict[bool, list[bytes]] = {}
        for on in (False, True):
            stats, times, digests[on] = UpscaleStats(), [], []
            stream = upscale(iter(clip), model, UpscaleSettings(reuse=Reuse(enabled=on)), stats=stats)
            for _ in clip:
                start = time.process_time()
                frame = next(stream)
                times.append(time.process_time() - start)
                digests[on].append(hashlib.sha256(frame.numpy()).digest())
                del frame
            fastest[on] = min(fastest[on], sum(times[1:]))  # the first frame is computed in full in any case
            median[on] = min(median[on], statistics.median(times[1:]))
        equal = equal and digests[False] == digests[True]
    first = -(-stats.tiles_computed - stats.tiles_reused) // stats.frames
    others = stats.tiles_computed + stats.tiles_reused - first
    ms_per_frame = 1000 / (frames - 1)
    return {
        "case": case,
        "size": f"{width}x{height}",
        "whole_cpu_ms": round(ms_per_frame * fastest[False], 1),
        "reused_cpu_ms": round(ms_per_frame * fastest[True], 1),
        "faster": round(fastest[False] / fastest[True], 2),
        "settled_cpu_ms": [round(1000 * median[on], 1) for on in (False, True)],
        "settled": round(median[False] / median[True], 2),
        "tiles_reused": round(stats.tiles_reused / others, 3),
        "equal": equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="a weight file or name, repeatable")
    parser.add_argument("--engine", choices=("native", "torch"), default="native")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.engine == "torch":
        os.environ["STEADYSCALE_NATIVE"] = "0"
    torch.set_num_threads(1)  # waiting threads would count as CPU time on a busy machine
    rows = []
    for name in options.network or ["steadyscale-4x"]:
        model = load_upscaler(zoo.find_weights(name))
        for width, height in SIZES:
            for case in CASES:
                row = measure_case(model, case, width, height, options.frames, options.rounds)
                row = {"network": model.name, "engine": model.engine, **row}
                rows.append(row)
                print(json.dumps(row), file=sys.stderr)
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    json.dump(
        {"machine": describe_machine(), "load": load, "frames": options.frames, "rows": rows}, sys.stdout, indent=1
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
