"""Measure concurrent stages against the slowest stage alone and sequential stages.

    python bench/stream.py [--frames 90] [--network realesr-animevideov3] > stream.json

A case is decoding, a stage in the middle (warp, a network, or one that only waits, as for a GPU), and encoding (H.264
with default settings). Each is first run alone, on frames in memory; then all of them sequentially, in one thread; then
concurrently, as in `write_video(path, stage(prefetch(clip.frames())), …)`. Rounds alternate and the fastest counts. The
measure is wall time: on a machine with other users, see the reported load. Each run that writes a file includes
flushing the encoder, so short clips look slow.

A pipeline cannot be faster than its slowest stage alone, nor than the CPU: `processor` is what the CPU seconds of the
sequential run allow on this many cores. `of_bound` is relative to the lower of the two. `latency_ms`: mean time from
decoding a frame to passing it to the encoder. The JSON goes to stdout, a table to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from steadyscale.core import (
    Border,
    ClipInfo,
    Frames,
    Trajectory,
    VideoClip,
    correction,
    estimate_motion,
    flow_model,
    smooth,
    upscale,
    warp,
    write_video,
)
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.runtime.device.device_names import resolve_device
from steadyscale.core.runtime.threads.prefetch import prefetch
from steadyscale.core.upscaling.resize import resize
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo
from synthetic_clip import FPS, HEIGHT, WIDTH, SyntheticClip

SMALL_SIZE = (480, 270)
MAX_CACHED_FRAMES = 16  # distinct frames in memory, which stages that run alone get forwards and backwards

Stage = Callable[[Iterator[Frames]], Iterator[Frames]]


@dataclass
class Case:
    """A clip, the stage in the middle, and its input and output frames in memory."""

    name: str
    clip: VideoClip
    length: int
    stage: Stage
    folder: Path
    input_frames: list[Frames] = field(default_factory=list)
    output_frames: list[Frames] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.input_frames = list(islice(self.clip.frames(), MAX_CACHED_FRAMES))
        self.output_frames = list(islice(self.stage(self.clip.frames()), MAX_CACHED_FRAMES))

    def repeat_frames(self, frames: list[Frames]) -> Iterator[Frames]:
        """Yield as many frames as the clip has, forwards and backwards."""
        return islice(cycle([*frames, *frames[-2:0:-1]]), self.length)

    def write_output(self, frames: Iterator[Frames]) -> int:
        height, width = self.output_frames[0].shape[-2:]
        return write_video(self.folder / "out.mp4", frames, self.clip.info.resized(width, height))

    def with_latency(self, source: Callable[[Iterator[Frames]], Iterator[Frames]]) -> Iterator[Frames]:
        """Yield the frames of the stage, and record the time since each was decoded."""
        decoded: list[float] = []

        def record_decode_times() -> Iterator[Frames]:
            for frames in self.clip.frames():
                decoded.append(time.perf_counter())
                yield frames

        for number, frames in enumerate(self.stage(source(record_decode_times()))):
            self.latencies.append(time.perf_counter() - decoded[number])
            yield frames


# ---- run modes of a case, named as in the JSON; each returns the number of frames ----


def decode(case: Case) -> int:
    return sum(len(frames) for frames in case.clip.frames())


def middle(case: Case) -> int:
    return sum(len(frames) for frames in case.stage(case.repeat_frames(case.input_frames)))


def encode(case: Case) -> int:
    return case.write_output(case.repeat_frames(case.output_frames))


def in_turn(case: Case) -> int:
    """Run all stages sequentially, in one thread."""
    with mock.patch(
        "steadyscale.core.video.encode.writer.write_behind", lambda stream, write, **_: [write(item) for item in stream]
    ):
        return case.write_output(case.stage(case.clip.frames()))


def side_by_side(case: Case) -> int:
    """Run all stages concurrently."""
    return case.write_output(case.with_latency(prefetch))


SINGLE_STAGES = (decode, middle, encode)
RUN_MODES = (*SINGLE_STAGES, in_turn, side_by_side)


# ---- cases ----


def make_source_clip(folder: Path, frames: int) -> VideoClip:
    """Write a shaking clip in 720p."""
    images = (np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)) for bgr in SyntheticClip("hand", frames).frames())
    write_video(
        folder / "720p.mp4",
        (torch.from_numpy(image)[None].float() / 255 for image in images),
        ClipInfo(WIDTH, HEIGHT, Fraction(FPS)),
    )
    return VideoClip(folder / "720p.mp4")


def warp_case(folder: Path, clip: VideoClip, options: argparse.Namespace) -> Case:
    trajectory = Trajectory.of(estimate_motion(clip, flow_model()))
    corrections = correction(trajectory, smooth(trajectory, seconds=3.0))

    def stabilize(frames: Iterator[Frames]) -> Iterator[Frames]:
        return (warped.frames for warped in warp(frames, corrections, Border.CROP, device=options.device))

    return Case("decode 720p + warp + encode 720p", clip, options.frames, stabilize, folder)


def upscale_case(folder: Path, clip: VideoClip, options: argparse.Namespace) -> Case:
    write_video(folder / "small.mp4", (resize(f, *SMALL_SIZE) for f in clip.frames()), clip.info.resized(*SMALL_SIZE))
    model = load_upscaler(zoo.find_weights(options.network))
    name = f"decode {SMALL_SIZE[1]}p + {Path(options.network).stem} + encode {SMALL_SIZE[1] * model.scale}p"
    small = VideoClip(folder / "small.mp4")
    return Case(name, small, options.frames, lambda frames: upscale(frames, model, device=options.device), folder)


def wait_case(folder: Path, clip: VideoClip, options: argparse.Namespace) -> Case:
    def wait(frames: Iterator[Frames]) -> Iterator[Frames]:
        for frame in frames:
            time.sleep(options.wait / 1000)
            yield frame

    return Case(f"decode 720p + wait {options.wait} ms + encode 720p", clip, options.frames, wait, folder)


CASES = {"warp": warp_case, "network": upscale_case, "device": wait_case}


# ---- the comparison ----


def compare(case: Case, rounds: int) -> dict[str, object]:
    """Return one row: the frames per second of each run mode, and ratios."""
    wall = {mode.__name__: float("inf") for mode in RUN_MODES}
    cpu, delays = float("inf"), []
    for _ in range(rounds):
        for mode in RUN_MODES:
            case.latencies.clear()
            start, cpu_start = time.perf_counter(), time.process_time()
            if (count := mode(case)) != case.length:
                raise SystemExit(f"{case.name}: {mode.__name__} gave {count} of {case.length} frames")
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            if mode is in_turn:
                cpu = min(cpu, cpu_seconds)
            if mode is side_by_side and seconds < wall[mode.__name__]:
                delays = list(case.latencies)
            wall[mode.__name__] = min(wall[mode.__name__], seconds)
            print(f"{case.name}: {mode.__name__} {case.length / seconds:.1f} fps", file=sys.stderr)
    fps = {name: case.length / seconds for name, seconds in wall.items()}
    slowest = min((mode.__name__ for mode in SINGLE_STAGES), key=lambda name: fps[name])
    processor = available_cores() * case.length / cpu
    return {
        "case": case.name,
        "frames": case.length,
        "fps": {name: round(value, 2) for name, value in fps.items()},
        "slowest_stage": slowest,
        "of_slowest_stage": round(fps["side_by_side"] / fps[slowest], 3),
        "times_in_turn": round(fps["side_by_side"] / fps["in_turn"], 3),
        "processor": round(processor, 2),
        "of_bound": round(fps["side_by_side"] / min(processor, fps[slowest]), 3),
        "cpu_ms_per_frame": round(1000 * cpu / case.length, 1),
        "latency_ms": round(1000 * sum(delays) / len(delays), 1),
    }


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine(options: argparse.Namespace) -> dict[str, object]:
    """Return the machine and versions."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "device": accelerator_for(torch.device(options.device)).name,
        "torch_threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "av", "numpy")},
    }


def format_table(rows: list[dict]) -> str:
    lines = ["frames per second"]
    for row in rows:
        parts = "  ".join(f"{name} {value:.1f}" for name, value in row["fps"].items())
        lines += [
            f"{row['case']}: {parts}",
            f"    {row['of_slowest_stage']:.0%} of its slowest stage, {row['slowest_stage']}; {row['of_bound']:.0%} of",
            f"    what the cores allow, {row['times_in_turn']:.2f} times in turn, latency {row['latency_ms']:.0f} ms",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=90, help="of each clip (default 90)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts (default 3)")
    parser.add_argument("--network", default="realesr-animevideov3", help="name or file of the network")
    parser.add_argument("--device", default="cpu", help="any device of torch (default cpu)")
    parser.add_argument(
        "--wait", type=int, default=100, help="milliseconds that the case `device` waits for each frame"
    )
    parser.add_argument("--threads", type=int, help="torch's own threads (default: torch's choice)")
    parser.add_argument("--case", choices=CASES, action="append", help="repeatable (default: all)")
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = describe_machine(options)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        clip = make_source_clip(Path(scratch), options.frames)
        for name in options.case or CASES:
            rows.append(compare(CASES[name](Path(scratch), clip, options), options.rounds))
    print(json.dumps({"machine": {**machine, "load_after": round(os.getloadavg()[0], 1)}, "rows": rows}, indent=1))
    print(format_table(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
