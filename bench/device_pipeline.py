"""Benchmark the CPU's part of upscaling on a GPU: the GPU takes no time.

    python bench/device_pipeline.py [--size 1920x1080] [--frames 48] > device_pipeline.json

A simulated GPU allocates results without computing them, the network repeats pixels, and frames are not encoded. What
is left is the upload of planes, launches, the download into pinned memory and the copy into the encoder's frames. This
part limits every GPU. The aim for 4K is 25 fps on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from av.video.frame import VideoFrame

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import simulated_gpu
from steadyscale.core.clip import ClipInfo
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.runtime.threads.prefetch import write_behind
from steadyscale.core.upscaling.benchmark import describe_machine
from steadyscale.core.video.encode.device_planes import PlaneDownloader
from steadyscale.core.video.encode.output_format import OutputFormat
from steadyscale.core.video.format.stream_format import NativeFrames, Orientation, StreamFormat


class DecodedClip:
    """Decoded frames in memory, as a `Clip`: two different ones, in turn."""

    def __init__(self, width: int, height: int, count: int) -> None:
        self.info = ClipInfo(width, height, Fraction(25), count)
        self.stream_format = StreamFormat("none", "yuv420p", Orientation(), Fraction(1), 1, False, 1, 1)
        random = np.random.default_rng(0)
        self._frames = [
            VideoFrame.from_ndarray(random.integers(16, 235, (height * 3 // 2, width), np.uint8), format="yuv420p")
            for _ in range(2)
        ]

    def frames(self, batch: int = 1) -> Iterator[torch.Tensor]:
        raise NotImplementedError("the pipeline reads native frames")

    def native_frames(self) -> Iterator[NativeFrames]:
        for number in range(self.info.length or 0):
            yield [self._frames[number % 2]]


class Repeat(torch.nn.Module):
    """Doubles each side in one launch."""

    scale, halo = 2, 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(images, scale_factor=2, mode="nearest")


def measure(width: int, height: int, count: int) -> dict[str, object]:
    """Run the pipeline once; the first two frames are not timed."""
    clip = DecodedClip(width, height, count)
    output = OutputFormat(2 * width, 2 * height, 3, False, "yuv420p", Fraction(1), 1, 1, False, 1, 1)
    downloader = PlaneDownloader(output, torch.device(simulated_gpu.DEVICE), Path("null"))
    times: list[float] = []

    def encode(frames: torch.Tensor) -> None:
        for _ in downloader.exchange(frames):
            times.append(time.perf_counter())

    cpu_start = time.process_time()
    write_behind(Pipeline(clip).then(UpscaleOp(Repeat(), device=simulated_gpu.DEVICE)).frames(on_device=True), encode)
    cpu = time.process_time() - cpu_start
    return {
        "size": f"{2 * width}x{2 * height}",
        "frames": count,
        "fps": round((len(times) - 3) / (times[-1] - times[2]), 1),
        "cpu_ms_per_frame": round(1000 * cpu / count, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", default="1920x1080", help="of the decoded frames; the result has twice that")
    parser.add_argument("--frames", type=int, default=48)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with simulated_gpu.enabled(memory=64 << 30, computes=False):
        measure(width, height, 8)
        row = measure(width, height, arguments.frames)
    sys.stdout.write(json.dumps({"machine": describe_machine(), **row}) + "\n")


if __name__ == "__main__":
    main()
