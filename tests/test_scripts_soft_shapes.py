"""Test the synthetic training images: soft edges between saturated colors, as a function of seed and number."""

from __future__ import annotations

import soft_shapes
import torch
import torch.nn.functional as F


def test_an_image_depends_on_seed_and_number_alone():
    first, again = (soft_shapes.draw_image(7, 3) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.uint8
    assert first.shape == (3, soft_shapes.SIDE, soft_shapes.SIDE)
    others = (soft_shapes.draw_image(7, 4), soft_shapes.draw_image(8, 3))
    assert all((first.int() - other.int()).abs().float().mean() > 10 for other in others)


def test_colors_are_saturated_and_many():
    images = torch.stack([soft_shapes.draw_image(1, number) for number in range(8)]).float() / 255
    brightest, darkest = images.amax(1), images.amin(1)
    saturation = (brightest - darkest) / brightest.clamp_min(1 / 255)
    assert saturation.mean() > 0.5
    ranks = images.movedim(1, -1).reshape(-1, 3).argmax(1).bincount(minlength=3)
    assert ranks.min() > 0.1 * ranks.sum(), "each channel is somewhere the largest"


def test_edges_are_soft_and_some_images_are_textured():
    roughness = []
    for number in range(8):
        image = soft_shapes.draw_image(2, number).float()[None]
        roughness.append(float(image.diff(dim=-1).abs().amax(1).median()))
        smooth = F.avg_pool2d(image, 5, 1)
        assert smooth.diff(dim=-1).abs().max() < 60, "no edge of full contrast within a pixel"
    assert min(roughness) < 1 < max(roughness)
