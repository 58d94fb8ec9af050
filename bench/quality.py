"""Quality of the bundled networks against bicubic and a larger network.

    python bench/quality.py --photographs FOLDER [--clip FILE ...] [--other FILE ...] > quality.json

The numbers of models/weights/README.md are those of

    OMP_NUM_THREADS=1 python bench/quality.py --photographs /usr/share/backgrounds/mate/nature --clip bikes.mp4 \\
        --other realesr-animevideov3 > bench/results/quality-epyc.json

and any images, such as those of Set5, are measured alone, on other networks too, by

    python bench/quality.py --photographs FOLDER --alone --other runs/small/small_2x.safetensors

PSNR and SSIM of luma on photographs follow the protocol of core/training/evaluate/metrics.py; LPIPS (AlexNet) is
included where its weights are on this machine. Clips, two of them synthetic with camera shake, are downscaled, rounded
to 8 bits and upscaled again: PSNR by the same protocol, and the warping error of neighboring frames along the flow of
the ground truth. Blur lowers the warping error even below that of the ground truth, so it is also computed for the
difference from the ground truth, which is the flicker that upscaling adds. Cost is CPU milliseconds of one thread for a
frame of 320x180, the minimum of alternating runs. `stream` is the full command, decode to encode, 320x180 to 640x360,
with OMP_NUM_THREADS threads. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from steadyscale.core import ClipInfo, VideoClip, flow_model, write_video
from steadyscale.core.metrics import warping_error
from steadyscale.core.training.evaluate.metrics import (
    PerceptualMetric,
    UpscaleFn,
    bicubic,
    load_lpips,
    make_lr_pair,
    psnr,
    round_to_8bit,
    score_image,
)
from steadyscale.core.upscaling.benchmark import describe_machine, synthetic_frames
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo
from synthetic_clip import SyntheticClip
from torch import Tensor

log = logging.getLogger("quality")

MAX_PHOTO_SIDE = 1024  # photographs are downscaled to this, which removes artifacts of the camera's JPEG
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def iter_photographs(folder: Path) -> Iterator[Tensor]:
    """Photographs (3, H, W) uint8, at most MAX_PHOTO_SIDE pixels a side."""
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES):
        image = Image.open(file).convert("RGB")
        image.thumbnail((MAX_PHOTO_SIDE, MAX_PHOTO_SIDE), Image.Resampling.LANCZOS)
        yield torch.from_numpy(np.array(image)).movedim(2, 0)


def load_cached_lpips() -> PerceptualMetric | None:
    """LPIPS, or None if its weights would have to be downloaded."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    return load_lpips() if cached.is_file() else None


@torch.inference_mode()
def score_photographs(upscaler: UpscaleFn, folder: Path, scale: int, metric: PerceptualMetric | None) -> dict[str, Any]:
    """Mean scores over the photographs of a folder, and PSNR of each."""
    scores, distances = [], []
    for image in iter_photographs(folder):
        small, large = make_lr_pair(image, scale)
        result = round_to_8bit(upscaler(small))
        scores.append(score_image(result, large, scale))
        if metric is not None:
            distances.append(float(metric(result, large)))
    means = {
        "psnr_y": round(float(np.mean([s.psnr for s in scores])), 3),
        "ssim_y": round(float(np.mean([s.ssim for s in scores])), 5),
        "psnr_y_of_each": [round(s.psnr, 2) for s in scores],
    }
    return means | ({"lpips": round(float(np.mean(distances)), 4)} if distances else {})


def iter_video_frames(file: Path) -> Iterator[Tensor]:
    """The frames of a video, (3, H, W) uint8."""
    return ((frame[0] * 255).round().byte() for frame in VideoClip(file).frames())


def iter_synthetic_frames(kind: str) -> Iterator[Tensor]:
    """Frames (3, 360, 640) uint8 of a synthetic scene with camera shake.

    At half the size of SyntheticClip.
    """
    for frame in SyntheticClip(kind, length=60).frames():
        small = cv2.resize(frame, (640, 360), interpolation=cv2.INTER_AREA)
        yield torch.from_numpy(np.ascontiguousarray(small[..., ::-1])).movedim(2, 0)


@torch.inference_mode()
def score_clip(contenders: list[tuple[str, int, UpscaleFn]], frames: Iterator[Tensor]) -> dict[str, dict[str, float]]:
    """By name: mean PSNR, and the warping errors that the module's docstring explains."""
    flow, names = flow_model(), [name for name, _, _ in contenders] + ["truth"]
    psnr_values: dict[str, list[float]] = {name: [] for name in names}
    frame_errors: dict[str, list[float]] = {name: [] for name in names}
    added_errors: dict[str, list[float]] = {name: [] for name in names}
    before: dict[str, Tensor] = {}
    for frame in frames:
        height, width = frame.shape[1] // 4 * 4, frame.shape[2] // 4 * 4
        frame = frame[:, :height, :width]
        after = {"truth": frame[None].float() / 255}
        for name, scale, upscaler in contenders:
            small, large = make_lr_pair(frame, scale)
            after[name] = round_to_8bit(upscaler(small))
            psnr_values[name].append(psnr(after[name], large, scale))
        if before:
            true_flow = flow(before["truth"], after["truth"])
            for name in names:
                frame_errors[name].append(float(warping_error(before[name], after[name], true_flow)[0]))
                first, second = before[name] - before["truth"], after[name] - after["truth"]
                added_errors[name].append(float(warping_error(first, second, true_flow)[0]))
        before = after
    truth = 1e6 * float(np.mean(frame_errors["truth"]))
    return {
        name: {
            "psnr_y": round(float(np.mean(psnr_values[name])), 3),
            "warping_error_1e6": round(1e6 * float(np.mean(frame_errors[name])), 2),
            "warping_error_of_truth_1e6": round(truth, 2),
            "warping_error_of_what_differs_1e6": round(1e6 * float(np.mean(added_errors[name])), 2),
        }
        for name, _, _ in contenders
    }


@torch.inference_mode()
def measure_cost(networks: dict[str, UpscaleFn], rounds: int = 5) -> dict[str, float]:
    """CPU milliseconds of one thread for a frame of 320x180, by name."""
    frames = [*synthetic_frames(320, 180, 2)]
    fastest = dict.fromkeys(networks, float("inf"))
    for _ in range(rounds):
        for name, network in networks.items():
            for frame in frames:
                start = time.process_time()
                network(frame)
                fastest[name] = min(fastest[name], time.process_time() - start)
    return {name: round(1000 * seconds, 2) for name, seconds in fastest.items()}


def measure_stream(count: int = 240) -> dict[str, float]:
    """Frames per second of `steadyscale upscale` with the fastest network.

    Without its start-up time.
    """
    with tempfile.TemporaryDirectory() as scratch:
        seconds, cpu = {}, {}
        for frames in (count // 8, count):
            source = Path(scratch) / f"{frames}.mp4"
            write_video(source, synthetic_frames(320, 180, frames), ClipInfo(320, 180, Fraction(24), frames))
            code = "import sys; from steadyscale.cli.main import main; sys.exit(main(sys.argv[1:]))"
            command = [sys.executable, "-c", code, "upscale", str(source), str(Path(scratch) / "large.mp4")]
            command += ["--model", "steadyscale-calm-2x", "--quiet"]
            times, start = os.times(), time.perf_counter()
            subprocess.run(command, check=True)
            seconds[frames] = time.perf_counter() - start
            cpu[frames] = sum(os.times()[2:4]) - sum(times[2:4])
    short, long = sorted(seconds)
    seconds_per_frame = (seconds[long] - seconds[short]) / (long - short)
    return {
        "fps": round(1 / seconds_per_frame, 1),
        "cpu_ms_per_frame": round(1000 * (cpu[long] - cpu[short]) / (long - short), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", type=Path, required=True, help="a folder of images outside of the training set"
    )
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video, repeatable")
    parser.add_argument("--frames", type=int, default=16, help="of each clip (default 16)")
    parser.add_argument("--other", action="append", default=[], help="another weight file or name, repeatable")
    parser.add_argument("--alone", action="store_true", help="photographs only: no clips, no cost, no full command")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # waiting threads would count as CPU time on a busy machine

    lpips, rows = load_cached_lpips(), []
    models = {bundled.name: load_upscaler(bundled.path) for bundled in zoo.BUNDLED_MODELS}
    models |= {Path(name).stem: load_upscaler(zoo.find_weights(name)) for name in options.other}
    contenders = [(f"bicubic-{scale}x", scale, bicubic(scale)) for scale in (2, 4)]
    contenders += [(name, int(model.scale), model) for name, model in models.items()]
    costs, clip_scores = {}, {}
    if not options.alone:
        log.info("cost")
        costs = measure_cost({name: upscaler for name, _, upscaler in contenders})
        clips = {clip.stem: iter_video_frames(clip) for clip in options.clip}
        clips |= {f"made, {kind}": iter_synthetic_frames(kind) for kind in ("hand", "walk")}
        for name, frames in clips.items():
            log.info("clip %s", name)
            clip_scores[name] = score_clip(contenders, islice(frames, options.frames))
    for name, scale, upscaler in contenders:
        row: dict[str, object] = {"name": name, "scale": scale}
        if costs:
            row["cpu_ms_320x180"] = costs[name]
            row["cpu_us_per_input_pixel"] = round(1000 * costs[name] / (320 * 180), 4)
        if name in models:
            row |= {"parameters": models[name].parameters_count, "engine": models[name].engine}
        log.info("photographs, %s", name)
        row["photographs"] = score_photographs(upscaler, options.photographs, scale, lpips)
        if clip_scores:
            row["clips"] = {clip: scores[name] for clip, scores in clip_scores.items()}
        rows.append(row)
    digests = {b.path.name: hashlib.sha256(b.path.read_bytes()).hexdigest() for b in zoo.BUNDLED_MODELS}
    report = {
        "machine": describe_machine(),
        "sha256": digests,
        "photographs": sum(1 for _ in iter_photographs(options.photographs)),
    }
    report["lpips"] = "AlexNet" if lpips else "left out: its weights are not on this machine"
    if not options.alone:
        log.info("the full command")
        report["stream_320x180_to_640x360"] = measure_stream()
    json.dump(report | {"rows": rows}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
