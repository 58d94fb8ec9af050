"""Write pairs of images to distill a large network.

    python scripts/teacher_pairs.py OUT --images photographs=0.74 --images drawings=0.16 --images text=0.10 \\
        --count 400 --truth-share 0.3

OUT gets `lq` and `gt`, for a run with data.paired, and `teacher` with the network's own results, which are not computed
again. An input is a reduced crop of an image; training degrades it further. The target is the network's result with the
low frequencies of the input, because large networks shift colors, blended with the crop itself: the network alone is
below bicubic interpolation in PSNR. With a truth share of 1, no network is needed.
"""

from __future__ import annotations

import argparse
import logging
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from steadyscale.core.upscaling.resize import resize
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo
from torch import Tensor

log = logging.getLogger("teacher_pairs")

MIN_RESIZE = 0.3  # crops are cut from images that are reduced by up to this
SCALE = 4  # of pairs without a teacher
CANDIDATES = 6  # crops of which the one with the most detail is taken
BLUR_RADIUS = 1  # input pixels of the box filter, applied twice, that separates low frequencies


def draw_crop(pools: list[tuple[list[Path], float]], side: int, seed: int, number: int) -> Tensor:
    """Return a crop by its number: (1, 3, side, side) in [0, 1]."""
    rng = np.random.default_rng((seed, number))
    draw, total = rng.random(), 0.0
    files = pools[-1][0]
    for candidates, share in pools:
        total += share
        if draw < total:
            files = candidates
            break
    image = read_image(files[int(rng.integers(len(files)))])
    shortest = min(image.shape[:2])
    source_side = min(shortest, round(side / rng.uniform(max(MIN_RESIZE, min(1.0, side / shortest)), 1.0)))
    crops = []
    for _ in range(CANDIDATES):
        top, left = (int(rng.integers(length - source_side + 1)) for length in image.shape[:2])
        crops.append(image[top : top + source_side, left : left + source_side])
    best = max(crops, key=_mean_gradient)
    crop = torch.from_numpy(np.ascontiguousarray(best)).permute(2, 0, 1)[None].float() / 255
    return resize(crop, side, side).clamp(0, 1)


@cache
def read_image(file: Path) -> np.ndarray:
    """Read an image, (H, W, 3) uint8."""
    return np.asarray(Image.open(file).convert("RGB"))


def _mean_gradient(crop: np.ndarray) -> float:
    green = crop[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def make_target(teacher: Tensor, truth: Tensor, small: Tensor, truth_share: float) -> Tensor:
    """Blend the truth and the teacher with the low frequencies of the input."""
    height, width = small.shape[-2:]
    difference = _blur(small - resize(teacher, width, height))
    # Not `resize`, which clamps to [0, 1]: the difference has both signs.
    difference = F.interpolate(difference, size=teacher.shape[-2:], mode="bilinear", align_corners=False)
    corrected = (teacher + difference).clamp(0, 1)
    return corrected * (1 - truth_share) + truth * truth_share


def _blur(image: Tensor) -> Tensor:
    kernel, margin = 2 * BLUR_RADIUS + 1, 2 * BLUR_RADIUS
    padded = F.pad(image, (margin, margin, margin, margin), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, kernel, 1), kernel, 1)


def read_tensor(file: Path) -> Tensor:
    """Read an image, (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255


def write_tensor(image: Tensor, file: Path) -> None:
    """Write (1, 3, H, W) in [0, 1] as an image."""
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, compress_level=1)


def parse_pool(text: str) -> tuple[list[Path], float]:
    """FOLDER=SHARE -> the files of the folder, and the share of crops from it."""
    folder, _, share = text.rpartition("=")
    return sorted(file for file in Path(folder).iterdir() if file.is_file()), float(share)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=parse_pool, action="append", required=True, metavar="FOLDER=SHARE")
    parser.add_argument("--teacher", default="realesrgan-x4plus", help="weight file or name (default %(default)s)")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--side", type=int, default=96, help="of the inputs in pixels (default %(default)s)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--truth-share", type=float, default=0.3, help="of the ground truth in the targets")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    teacher = load_upscaler(zoo.find_weights(options.teacher)) if options.truth_share < 1 else None
    side = options.side * (SCALE if teacher is None else int(teacher.scale))
    folders = {name: options.out / name for name in ("lq", "gt", "teacher") if teacher or name != "teacher"}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        files = {name: folder / f"{number:05d}.png" for name, folder in folders.items()}
        truth = draw_crop(options.images, side, options.seed, number)
        small = (resize(truth, options.side, options.side).clamp(0, 1) * 255).round() / 255
        target = truth
        if teacher is not None:
            if not files["teacher"].exists():
                write_tensor(teacher(small).clamp(0, 1), files["teacher"])
            target = make_target(read_tensor(files["teacher"]), truth, small, options.truth_share)
        write_tensor(small, files["lq"])
        write_tensor(target, files["gt"])
        if number % 50 == 0:
            log.info("%d of %d", number, options.count)


if __name__ == "__main__":
    main()
