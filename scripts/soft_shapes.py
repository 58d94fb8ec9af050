"""Draw training images of soft edges between saturated colors.

    python scripts/soft_shapes.py FOLDER [--count 48]

Each image has a color gradient as its background and shapes of random colors, whose edges are blurred by different
amounts; a third of the images are textured. Photographs have few such edges. Networks that add their result to
nearest-neighbor upsampling, as SRVGGNetCompact does, learn from them to remove its steps in all colors.
"""

from __future__ import annotations

import argparse
import colorsys
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

log = logging.getLogger("soft_shapes")

SIDE = 640  # of the images in pixels
SHAPES = (10, 24)  # per image
SIZES = (0.08, 0.5)  # of the shapes, over the side of the image
BLUR_RADII = (1.5, 24.0)  # standard deviation of the edges in pixels
SATURATION = (0.6, 1.0)
TEXTURED_SHARE = 1 / 3
TEXTURE_CELLS = (1.5, 6.0)  # size of the texture's grain in pixels
TEXTURE_AMPLITUDE = (0.02, 0.12)


def draw_image(seed: int, number: int) -> Tensor:
    """Draw an image by its number: (3, SIDE, SIDE) uint8."""
    rng = np.random.default_rng((seed, number))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = torch.meshgrid(*2 * [torch.linspace(-0.5, 0.5, SIDE)], indexing="ij")
    position = (0.5 + 0.7 * (np.cos(angle) * x + np.sin(angle) * y)).clamp(0, 1)
    image = torch.lerp(draw_color(rng), draw_color(rng), position)
    textured = rng.random() < TEXTURED_SHARE
    if textured:
        image = image + _texture(rng)
    for _ in range(rng.integers(*SHAPES, endpoint=True)):
        mask = _draw_mask(rng)
        shape = draw_color(rng) + (_texture(rng) if textured else 0.0)
        image = torch.lerp(image, shape.expand_as(image), mask)
    return (image.clamp(0, 1) * 255).round().byte()


def draw_color(rng: Generator) -> Tensor:
    """Draw a saturated color, (3, 1, 1) in [0, 1]."""
    value = 1 - 0.8 * rng.random() ** 2  # mostly bright
    return torch.tensor(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*SATURATION), value))[:, None, None].float()


def _draw_mask(rng: Generator) -> Tensor:
    """Draw an ellipse, a polygon or a band with soft edges, (SIDE, SIDE) in [0, 1]."""
    canvas = Image.new("L", (SIDE, SIDE))
    draw, center = ImageDraw.Draw(canvas), rng.uniform(0, SIDE, 2)
    width, height = SIDE * np.exp(rng.uniform(*np.log(SIZES), 2))
    kind = rng.integers(3)
    if kind == 0:
        box = (center[0] - width / 2, center[1] - height / 2, center[0] + width / 2, center[1] + height / 2)
        draw.ellipse(box, fill=255)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = center + 0.7 * np.stack([width * np.cos(angles), height * np.sin(angles)], 1)
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    else:
        end = rng.uniform(0, SIDE, 2)
        draw.line([tuple(center.tolist()), tuple(end.tolist())], fill=255, width=max(3, int(min(width, height) / 3)))
    radius = float(np.exp(rng.uniform(*np.log(BLUR_RADII))))
    return torch.from_numpy(np.array(canvas.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255)


def _texture(rng: Generator) -> Tensor:
    """Draw gray noise of a random grain, (1, SIDE, SIDE) around 0."""
    cells = int(SIDE / rng.uniform(*TEXTURE_CELLS))
    noise = torch.from_numpy(rng.standard_normal((1, 1, cells, cells), np.float32))
    return rng.uniform(*TEXTURE_AMPLITUDE) * F.interpolate(noise, size=(SIDE, SIDE), mode="bicubic")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        pixels = draw_image(options.seed, number).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(options.folder / f"shapes_{number:03d}.png")
    log.info("%d images in %s", options.count, options.folder)


if __name__ == "__main__":
    main()
