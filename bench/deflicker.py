"""Benchmark the deflicker filter on upscaled compressed video: gain, cost, ghosts.

    OMP_NUM_THREADS=1 python bench/deflicker.py --clip bikes.mp4 [--clip ...] --photographs FOLDER \\
        [--weights FILE ...] [--strength 0.3 ...] [--sheets FOLDER] > bench/results/deflicker-epyc.json

Frames of each clip are the ground truth; they are reduced by the network's scale, encoded by x264 (4:2:0, one CRF per
clip) and decoded, upscaled by the network, and filtered. Of photographs come a slow pan by whole pixels, whose motion
is known exactly, once clean and once with Gaussian noise on the reduced frames, and a pan with an object: a disc of
another photograph that crosses it. Without --weights the networks are the defaults, at 2x and 4x. Per strength, 0
being the result without the filter:

    psnr_y            against the ground truth, by the protocol of core/training/evaluate/metrics.py
    detail            energy of the differences between neighboring pixels, over that of the ground truth
    still_flicker     mean change per frame where the ground truth is still, in steps of 1/255
    motion_flicker    mean change per frame along the true motion, of pans, in steps of 1/255
    ghosting          how much further from the ground truth the filter moves pixels where things move: the mean of
                      |filtered - truth| - |unfiltered - truth| in steps of 1/255; below 0 they come nearer
    ghosting_worst    the mean of its largest hundredth
    moving_share      the share of pixels that count as moving: those whose ground truth changes by more than 10 steps
                      in the neighborhood; of the pan with an object, those that the disc covers or has just uncovered
    cpu_ms            added by the filter, per frame of the size in the report; one thread

`cpu_ms_320x180` compares the filter with the network: the minimum over frames of 320x180 of each. The first frames,
until the filter has settled, do not count. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from quality import iter_photographs, iter_video_frames
from restoration import compress, measure_flicker
from steadyscale.core import FlowMethod, flow_model
from steadyscale.core.filters.deflicker import deflicker
from steadyscale.core.training.evaluate.metrics import psnr, round_to_8bit
from steadyscale.core.upscaling.benchmark import describe_machine, synthetic_frames
from steadyscale.core.upscaling.resize import resize
from steadyscale.models import load_upscaler
from steadyscale.models.upscaler import Upscaler
from steadyscale.models.zoo import zoo
from steadyscale.models.zoo.bundled import DEFAULT_2X, DEFAULT_4X
from torch import Tensor

log = logging.getLogger("deflicker")

CRFS = (23, 28, 34)  # of the clips in turn
MAX_SIZE = (480, 640)  # rows and columns of the ground truth; larger clips are cropped
PAN = (1, 3)  # rows and columns that the camera moves a frame
OBJECT_STEP, OBJECT_RADIUS = 9, 60  # columns that the disc moves a frame against the frame, and its radius
NOISE = 5.0  # standard deviation in steps of 1/255, on the reduced frames
MOVING_LEVELS = 10 / 255
SETTLING_FRAMES = 3


@dataclass
class Scene:
    """Ground truth and what is known of its motion.

    frames: (3, H, W) uint8. step: rows and columns that the content moves a frame, None if unknown. moving: where an
    object moves, (H, W) per frame; None takes the changes of the ground truth. noise: see NOISE.
    """

    name: str
    frames: list[Tensor]
    step: tuple[int, int] | None = None
    moving: list[Tensor] | None = None
    noise: float = 0.0


def crop_center(frame: Tensor) -> Tensor:
    """Return the central part (3, H, W) of at most MAX_SIZE, sides divisible by 8."""
    height, width = (min(side, limit) // 8 * 8 for side, limit in zip(frame.shape[1:], MAX_SIZE, strict=True))
    top, left = (frame.shape[1] - height) // 2, (frame.shape[2] - width) // 2
    return frame[:, top : top + height, left : left + width]


def pan_over(photograph: Tensor, length: int) -> list[Tensor]:
    """Frames of a camera that moves down and to the right by PAN."""
    height, width = MAX_SIZE
    return [
        photograph[:, PAN[0] * n : PAN[0] * n + height, 40 + PAN[1] * n : 40 + PAN[1] * n + width]
        for n in range(length)
    ]


def add_object(frames: list[Tensor], texture: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Let a disc of another photograph cross the frames.

    Returns the frames, and masks of where the disc is or was a frame before.
    """
    height, width = MAX_SIZE
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    results, discs = [], []
    for number, frame in enumerate(frames):
        column, row = 120 + OBJECT_STEP * number, height // 2
        disc = (x - column) ** 2 + (y - row) ** 2 < OBJECT_RADIUS**2
        patch = texture[:, :height, :width].roll(OBJECT_STEP * number, 2)
        results.append(torch.where(disc, patch, frame))
        discs.append(disc)
    return results, [disc | discs[max(0, number - 1)] for number, disc in enumerate(discs)]


def iter_scenes(options: argparse.Namespace) -> Iterator[Scene]:
    """Yield the clips, then scenes of the photographs."""
    for clip in options.clip:
        frames = islice(iter_video_frames(clip), options.skip, options.skip + options.frames)
        yield Scene(clip.stem, [crop_center(frame) for frame in frames])
    if not options.photographs:
        return
    photographs = list(islice(iter_photographs(options.photographs), options.count))
    for number, photograph in enumerate(photographs):
        frames = pan_over(photograph, options.frames)
        yield Scene(f"pan {number}", frames, PAN)
        yield Scene(f"pan {number}, noise", frames, PAN, noise=NOISE)
    if len(photographs) > 1:
        frames, moving = add_object(pan_over(photographs[0], options.frames), photographs[1])
        yield Scene("pan with an object", frames, moving=moving)


def make_inputs(scene: Scene, scale: int, crf: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the compressed small frames and the ground truth, (1, 3, ., .) in [0, 1]."""
    rng = np.random.default_rng(7)
    small, large = [], []
    for frame in scene.frames:
        truth = frame[None].float() / 255
        reduced = resize(truth, truth.shape[3] // scale, truth.shape[2] // scale)
        if scene.noise:
            grain = torch.from_numpy(rng.standard_normal(reduced.shape, dtype=np.float32))
            reduced = reduced + grain * (scene.noise / 255)
        small.append(round_to_8bit(reduced))
        large.append(truth)
    return compress(small, crf), large


def measure_motion_flicker(results: list[Tensor], truths: list[Tensor], step: tuple[int, int]) -> float:
    """Mean change per frame of the error along the motion, which is by whole pixels."""
    down, right = step
    changes = []
    errors = [result - truth for result, truth in zip(results, truths, strict=True)]
    for before, after in pairwise(errors):
        height, width = after.shape[2:]
        changes.append(float((after[..., : height - down, : width - right] - before[..., down:, right:]).abs().mean()))
    return 255 * float(np.mean(changes))


def find_moving(scene: Scene, truths: list[Tensor]) -> list[Tensor]:
    """Return where things move, (1, 1, H, W) bool for each frame."""
    if scene.moving is not None:
        return [mask[None, None] for mask in scene.moving]
    masks = [torch.zeros_like(truths[0][:, :1], dtype=torch.bool)]
    for before, after in pairwise(truths):
        change = (after - before).abs().amax(1, keepdim=True)
        masks.append(F.max_pool2d(change, 5, 1, 2) > MOVING_LEVELS)
    return masks


def detail_energy(frame: Tensor) -> float:
    """Energy of the differences between neighboring pixels."""
    return float(frame.diff(dim=-1).square().mean() + frame.diff(dim=-2).square().mean())


def score_results(
    scene: Scene, results: list[Tensor], plain: list[Tensor], truths: list[Tensor], scale: int
) -> dict[str, float]:
    """Return the measures of the module's docstring, without the time."""
    results, plain, truths = (frames[SETTLING_FRAMES:] for frames in (results, plain, truths))
    moving = find_moving(scene, [frame[None].float() / 255 for frame in scene.frames])[SETTLING_FRAMES:]
    row = {
        "psnr_y": round(float(np.mean([psnr(r, t, scale) for r, t in zip(results, truths, strict=True)])), 3),
        "detail": round(
            float(np.mean([detail_energy(r) / detail_energy(t) for r, t in zip(results, truths, strict=True)])), 3
        ),
    }
    if scene.step is not None:
        row["motion_flicker"] = round(measure_motion_flicker(results, truths, scene.step), 3)
    elif (flicker := measure_flicker(results, truths)) is not None:
        row["still_flicker"] = round(flicker, 3)
    added = [
        (((r - t).abs() - (p - t).abs()).mean(1, keepdim=True))[mask]
        for r, p, t, mask in zip(results, plain, truths, moving, strict=True)
    ]
    values = 255 * torch.cat(added)
    if values.numel() >= 100:
        row["ghosting"] = round(float(values.mean()), 3)
        row["ghosting_worst"] = round(float(values.topk(len(values) // 100).values.mean()), 3)
        row["moving_share"] = round(len(values) / sum(mask.numel() for mask in moving), 3)
    return row


@torch.inference_mode()
def score_scene(
    scene: Scene, network: Upscaler, crf: int, strengths: list[float]
) -> tuple[dict[str, dict[str, float]], dict[str, list[Tensor]]]:
    """Return measures and frames by strength; the frames include the ground truth."""
    scale = int(network.scale)
    inputs, truths = make_inputs(scene, scale, crf)
    upscaled = [network(small).clamp(0, 1) for small in inputs]
    plain = [round_to_8bit(frame) for frame in upscaled]
    rows, frames = {"0": score_results(scene, plain, plain, truths, scale)}, {"truth": truths, "0": plain}
    for strength in strengths:
        start = time.process_time()
        filtered = list(deflicker(iter(upscaled), flow_model(FlowMethod.DIS), strength))
        seconds = time.process_time() - start
        results = [round_to_8bit(frame) for frame in filtered]
        name = f"{strength:g}"
        rows[name] = score_results(scene, results, plain, truths, scale)
        rows[name]["cpu_ms"] = round(1000 * seconds / len(results), 1)
        frames[name] = results
    return rows, frames


@torch.inference_mode()
def measure_cost(network: Upscaler, strength: float) -> dict[str, float]:
    """CPU milliseconds of network and filter per frame, on one thread.

    The input is 320x180.
    """
    fastest, spent = float("inf"), 0.0

    def iter_upscaled() -> Iterator[Tensor]:
        nonlocal fastest, spent
        for frame in synthetic_frames(320, 180, 8):
            start = time.process_time()
            result = network(frame).clamp(0, 1)
            spent = time.process_time() - start
            fastest = min(fastest, spent)
            yield result

    filtered = deflicker(iter_upscaled(), flow_model(FlowMethod.DIS), strength)
    next(filtered)  # the first frame is not filtered
    filtering, start = float("inf"), time.process_time()
    for _ in filtered:
        filtering = min(filtering, time.process_time() - start - spent)
        start = time.process_time()
    return {"network": round(1000 * fastest, 1), "filter": round(1000 * filtering, 1)}


def write_sheet(frames: dict[str, list[Tensor]], file: Path) -> None:
    """Write crops of the last frame, and 8 times its difference from the one before."""
    rows = []
    for images in frames.values():
        last, before = images[-1][0], images[-2][0]
        difference = (0.5 + 8 * (last - before)).clamp(0, 1)
        rows.append(torch.cat([last, difference], dim=2))
    sheet = (torch.cat(rows, dim=1) * 255).round().byte()
    Image.fromarray(np.ascontiguousarray(sheet.permute(1, 2, 0).numpy())).save(file)


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over the scenes that have it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: round(float(np.mean([row[name] for row in rows if name in row])), 3) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video, repeatable")
    parser.add_argument("--photographs", type=Path, help="a folder of images outside of the training set")
    parser.add_argument("--count", type=int, default=3, help="of the photographs (default 3)")
    parser.add_argument("--frames", type=int, default=16, help="of each clip (default 16)")
    parser.add_argument("--skip", type=int, default=0, help="frames of each clip before these (default 0)")
    parser.add_argument("--strength", type=float, action="append", default=[], help="repeatable (default 0.3 and 0.6)")
    parser.add_argument("--weights", action="append", default=[], help="a weight file or name, repeatable")
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of images per scene and network")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)

    strengths = options.strength or [0.3, 0.6]
    names = options.weights or [DEFAULT_4X.name, DEFAULT_2X.name]
    networks = {Path(name).stem: load_upscaler(zoo.find_weights(name)) for name in names}
    report: dict[str, Any] = {"machine": describe_machine(), "frames": options.frames, "networks": {}}
    scores: dict[str, dict[str, Any]] = {name: {} for name in networks}
    for number, scene in enumerate(iter_scenes(options)):
        crf = CRFS[number % len(CRFS)]
        height, width = scene.frames[0].shape[1:]
        for name, network in networks.items():
            log.info("%s, crf %d, %s", scene.name, crf, name)
            rows, frames = score_scene(scene, network, crf, strengths)
            scores[name][scene.name] = {"crf": crf, "size": f"{width}x{height}", "strengths": rows}
            if options.sheets:
                options.sheets.mkdir(parents=True, exist_ok=True)
                write_sheet(frames, options.sheets / f"{name}_{scene.name.replace(' ', '_')}.png")
    for name, scenes in scores.items():
        means = {
            key: mean_of([scene["strengths"][key] for scene in scenes.values()])
            for key in ("0", *(f"{strength:g}" for strength in strengths))
        }
        cost = measure_cost(networks[name], strengths[0])
        report["networks"][name] = {"cpu_ms_320x180": cost, "mean": means, "scenes": scenes}
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
