"""Screen recordings: frames of which a part changes, enlarged with what did not change used again, and without.

    python bench/screen.py [--network steadyscale-4x ...] [--engine native|torch] > screen.json

A case is a screen full of detail before which one thing moves: a window in a corner or in the middle of which the tiles
that have to be run again are about 40 % of the screen, a line that is being typed, a mouse pointer. Both ways run in
one process with one thread, alternating; the quickest round counts. `faster`: CPU seconds of all frames but the first,
whole, against those with reuse, on the second of which the engine begins to keep what it renews. `settled`: the same
for the median frame, as in a recording of more than a few seconds. `equal`: whether every frame is the same to the last
bit. `tiles_reused`: of all, after the first frame. The JSON goes to stdout, a table to stderr.
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
CHANGED_SHARE = 0.4  # of the screen that the tiles to run again are to cover, where a window moves


def draw_screen(width: int, height: int, seed: int) -> np.ndarray:
    """(3, height, width): bars and blocks as sharp as letters, on grey."""
    random = np.random.default_rng(seed)
    letters = np.kron(random.random((height // 2 + 1, width // 4 + 1)) < 0.35, np.ones((2, 4)))[:height, :width]
    tint = random.random((3, 1, 1)).astype(np.float32)
    return (0.9 - 0.8 * letters[None] * tint).astype(np.float32)


def changed_rect(case: str, width: int, height: int, halo: int) -> tuple[int, int, int, int]:
    """top, left, height and width of what changes. edge: pixels around it that have to be run again with it."""
    if case == "a line":
        return height // 2, width // 8, 14, width // 2
    if case == "a pointer":
        return height // 3, width // 3, 12, 8
    # The sides of a rectangle of the screen's shape, which with its edges covers the share.
    sides = 1 if case == "in a corner" else 2
    high, wide = (round(side * CHANGED_SHARE**0.5) - sides * halo for side in (height, width))
    return (0, 0, high, wide) if sides == 1 else ((height - high) // 2, (width - wide) // 2, high, wide)


def iter_recording(case: str, width: int, height: int, halo: int, frames: int) -> Iterator[Frames]:
    still, moving = draw_screen(width, height, 0), draw_screen(width, 2 * height, 1)
    top, left, high, wide = changed_rect(case, width, height, halo)
    for n in range(frames):
        picture = still.copy()
        picture[:, top : top + high, left : left + wide] = moving[:, 2 * n : 2 * n + high, left : left + wide]
        yield torch.from_numpy(picture)[None]


CASES = ("in a corner", "in the middle", "a line", "a pointer")


def measure_case(model: Any, case: str, width: int, height: int, frames: int, rounds: int) -> dict[str, Any]:
    edge = (model.native_reach or model.halo) + 6  # and half a tile, on average
    clip = [*iter_recording(case, width, height, edge, frames)]
    least, median = {True: float("inf"), False: float("inf")}, {True: float("inf"), False: float("inf")}
    tally, equal = UpscaleStats(), True
    for _ in range(rounds):
        seen: dict[bool, list[bytes]] = {}
        for on in (False, True):
            tally, times, seen[on] = UpscaleStats(), [], []
            stream = upscale(iter(clip), model, UpscaleSettings(reuse=Reuse(enabled=on)), stats=tally)
            for _ in clip:
                began = time.process_time()
                frame = next(stream)
                times.append(time.process_time() - began)
                seen[on].append(hashlib.sha256(frame.numpy()).digest())
                del frame
            least[on] = min(least[on], sum(times[1:]))  # The first frame is whole in any case.
            median[on] = min(median[on], statistics.median(times[1:]))
        equal = equal and seen[False] == seen[True]
    first = -(-tally.tiles_computed - tally.tiles_reused) // tally.frames
    others = tally.tiles_computed + tally.tiles_reused - first
    each = 1000 / (frames - 1)
    return {
        "case": case,
        "size": f"{width}x{height}",
        "whole_cpu_ms": round(each * least[False], 1),
        "reused_cpu_ms": round(each * least[True], 1),
        "faster": round(least[False] / least[True], 2),
        "settled_cpu_ms": [round(1000 * median[on], 1) for on in (False, True)],
        "settled": round(median[False] / median[True], 2),
        "tiles_reused": round(tally.tiles_reused / others, 3),
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
    torch.set_num_threads(1)  # the machine may be busy, and threads that wait for each other count as work
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
