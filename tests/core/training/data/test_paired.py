"""Paired images: aligned crops, degraded only on request, and refusals of folders that do not fit."""

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from steadyscale.core.training import TrainingError
from steadyscale.core.training.data.dataset import batches, load_images
from steadyscale.core.training.loop.trainer import train


def write_pair(folder, name, seed=0, height=32, width=40, scale=2):
    """Write an image whose ground truth repeats each of its pixels, plus a mark in one of them."""
    small = np.random.default_rng(seed).integers(0, 200, (height, width, 3), np.uint8)
    large = small.repeat(scale, 0).repeat(scale, 1)
    large[::scale, ::scale] += 50  # the first pixel of each block
    for side, image in (("lq", small), ("gt", large)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / side / name)


@pytest.fixture
def pair_folder(tmp_path):
    for number in range(3):
        write_pair(tmp_path / "pairs", f"{number}.png", number)
    return tmp_path / "pairs"


def paired_config(make_config, folder, **changes):
    data = {"train": [str(folder)], "validate": [str(folder)], "crop": 32, "crop_candidates": 2, "paired": True}
    return make_config(data=data, batch=8, **changes)


def test_crops_of_both_sides_show_the_same_place(make_config, pair_folder):
    config = paired_config(make_config, pair_folder)
    marks = set()
    for batch in batches(config, load_images(config), 0):
        assert batch.small.shape == (8, 3, 16, 16)
        assert batch.large.shape == (8, 3, 32, 32)
        for small, large in zip(batch.small, batch.large, strict=True):
            offset = large - small.repeat_interleave(2, 1).repeat_interleave(2, 2)
            corners = [(y, x) for y in (0, 1) for x in (0, 1) if offset[:, y::2, x::2].abs().max() > 0.1]
            assert len(corners) == 1, "one pixel of each block is marked, so the crops are aligned"
            marks.add(corners[0])
            offset[:, corners[0][0] :: 2, corners[0][1] :: 2] -= 50 / 255
            assert offset.abs().max() < 1e-6
    assert len(marks) == 4, "orientations are drawn"


def test_pairs_depend_on_seed_step_and_index_alone(make_config, pair_folder):
    config = paired_config(make_config, pair_folder, degrade={"enabled": True}, steps=4)
    images = load_images(config)
    full = list(batches(config, images, 0))
    assert torch.equal(next(batches(config, images, 3)).small, full[3].small)
    halves = [next(batches(config, images, 0, rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(torch.cat([half.small for half in halves]), full[0].small)
    assert not torch.equal(full[0].large, full[1].large)


def test_color_channels_are_permuted_alike_on_both_sides(make_config, pair_folder):
    data = {"train": [str(pair_folder)], "crop": 32, "paired": True}
    plain, permuted = (make_config(data=data | {"permute_colors": share}, batch=64) for share in (0.0, 1.0))
    images = load_images(plain)
    one, other = (next(batches(config, images, 0)) for config in (plain, permuted))
    orders = set()
    for crops in zip(one.small, other.small, one.large, other.large, strict=True):
        small, other_small, large, other_large = crops
        [order] = [p for p in permutations(range(3)) if torch.equal(small[list(p)], other_small)]
        assert torch.equal(large[list(order)], other_large)
        orders.add(order)
    assert len(orders) == 6


def _saturation_ratios(crop, vivid):
    """Distance from gray of the values of (3, H, W) that are not clipped, over what it was."""
    before, after = crop - crop.mean(0), vivid - crop.mean(0)
    return (after / before)[(vivid > 0) & (vivid < 1) & (before.abs() > 0.05)]


def test_saturation_is_raised_alike_on_both_sides(make_config, pair_folder):
    data = {"train": [str(pair_folder)], "crop": 32, "paired": True}
    plain, vivid = (make_config(data=data | {"max_saturation": most}, batch=32) for most in (1.0, 2.0))
    images = load_images(plain)
    one, other = (next(batches(config, images, 0)) for config in (plain, vivid))
    factors = []
    for crops in zip(one.small, other.small, one.large, other.large, strict=True):
        small, large = (_saturation_ratios(*pair) for pair in (crops[:2], crops[2:]))
        assert small.std() < 1e-4, "the same factor in all colors"
        assert small.mean() == pytest.approx(float(large.mean()), abs=1e-4)
        factors.append(float(small.mean()))
    assert 1 < min(factors) < 1.2
    assert 1.8 < max(factors) < 2


def test_degradation_changes_inputs_alone(make_config, pair_folder):
    plain = paired_config(make_config, pair_folder)
    degraded = paired_config(make_config, pair_folder, degrade={"enabled": True})
    images = load_images(plain)
    one, other = (next(batches(config, images, 0)) for config in (plain, degraded))
    assert torch.equal(one.large, other.large)
    assert (one.small - other.small).abs().amax((1, 2, 3)).min() > 0.05


def test_crops_of_a_consistency_pair_differ_in_degradation_alone(make_config, pair_folder):
    losses, degrade = {"shift_consistency": 10.0}, {"enabled": True}
    config = paired_config(make_config, pair_folder, losses=losses, degrade=degrade)
    batch = next(batches(config, load_images(config), 0))
    assert batch.shift == (0, 0)
    assert torch.equal(batch.large[0::2], batch.large[1::2])
    assert (batch.small[0::2] - batch.small[1::2]).abs().amax((1, 2, 3)).min() > 0.02
    with pytest.raises(TrainingError, match=r"shift_consistency .* set degrade\.enabled"):
        paired_config(make_config, pair_folder, losses=losses)


def test_a_run_learns_the_targets_of_pairs(make_config, tmp_path):
    folder = tmp_path / "brighter"
    for number in range(3):
        write_pair(folder, f"{number}.png", number)
        gt = np.asarray(Image.open(folder / "gt" / f"{number}.png"))
        Image.fromarray(gt // 2 + 120).save(folder / "gt" / f"{number}.png")
    config = paired_config(make_config, folder, steps=60, output={"validate_every": 30, "samples": 0})
    first, last = (report.scores[2] for report in train(config) if report.scores)
    # Upscaling that keeps the values of the input has less than 12 dB.
    assert 18 < first.psnr < last.psnr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "gt/1.png").unlink(), r"1 images .*lq.1\.png; add their partners or remove them"),
        (lambda folder: write_pair(folder, "9.png", scale=3), r"gt.9\.png is 120x96, but .*lq.9\.png at 2x is 80x64"),
        (lambda folder: write_pair(folder, "9.png", height=12), r"9\.png is 40x12; these settings need 24 pixels"),
        (lambda folder: (folder / "gt").rename(folder / "hr"), r"there is no folder .*gt; a folder of pairs contains"),
    ],
)
def test_folders_that_do_not_fit_are_refused(make_config, pair_folder, change, message):
    change(pair_folder)
    with pytest.raises(TrainingError, match=message):
        load_images(paired_config(make_config, pair_folder))


def test_settings_without_effect_on_pairs_are_refused(make_config, pair_folder):
    with pytest.raises(TrainingError, match=r"pairs have one scale, but network\.scales is \(2, 4\)"):
        paired_config(make_config, pair_folder, network={"scales": [2, 4]})
    with pytest.raises(TrainingError, match=r"data\.min_resize is 0\.5, but pairs .* are not resized"):
        make_config(data={"paired": True, "min_resize": 0.5})
