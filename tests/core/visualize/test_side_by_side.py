from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core import ClipError, TensorClip
from steadyscale.core.visualize.side_by_side import Comparison, Layout, compare_frames, comparison_range, match_sizes

BEFORE, AFTER = make_texture(48, 64, seed=1), make_texture(48, 64, seed=2)
PLAIN = ("", "")


def test_split_contains_the_left_and_the_right_part():
    image = compare_frames(BEFORE, AFTER, Layout.SPLIT, split=0.25, labels=PLAIN)
    assert image.shape == (1, 3, 48, 64)
    assert torch.equal(image[..., :15], BEFORE[..., :15])
    assert torch.equal(image[..., 15:17], torch.ones(1, 3, 48, 2)), "the line between them"
    assert torch.equal(image[..., 17:], AFTER[..., 17:])


@pytest.mark.parametrize(("split", "expected"), [(0.0, AFTER), (1.0, BEFORE)])
def test_split_at_the_edge_shows_one_frame(split, expected):
    assert torch.equal(compare_frames(BEFORE, AFTER, split=split, labels=PLAIN), expected)


def test_side_by_side_and_stacked_contain_both_frames():
    beside = compare_frames(BEFORE, AFTER, Layout.SIDE_BY_SIDE, labels=PLAIN)
    assert beside.shape == (1, 3, 48, 128)
    assert torch.equal(beside[..., :63], BEFORE[..., :63])
    assert torch.equal(beside[..., 65:], AFTER[..., 1:])
    above = compare_frames(BEFORE, AFTER, Layout.STACKED, labels=PLAIN)
    assert above.shape == (1, 3, 96, 64)
    assert torch.equal(above[..., :47, :], BEFORE[..., :47, :])
    assert torch.equal(above[..., 49:, :], AFTER[..., 1:, :])


def test_inputs_are_not_modified():
    one, other = BEFORE.clone(), AFTER.clone()
    compare_frames(one, other)
    assert torch.equal(one, BEFORE)
    assert torch.equal(other, AFTER)


def test_labels_are_in_the_corners():
    changed = (
        (compare_frames(BEFORE, AFTER, labels=("a", "b")) - compare_frames(BEFORE, AFTER, labels=PLAIN))
        .abs()
        .amax((0, 1))
    )
    rows, columns = changed.nonzero().T
    assert rows.max() < 24
    assert columns.min() == 0
    assert columns.max() == 63
    assert not ((columns > 24) & (columns < 40)).any()
    assert (compare_frames(BEFORE, AFTER, labels=("a", "b"))[..., :24, :24] > 0.9).any(), "letters are white"


def test_smaller_frames_are_upscaled_to_the_larger():
    small = BEFORE[..., ::2, ::2]
    one, other = match_sizes(small, AFTER)
    assert torch.equal(other, AFTER)
    assert one.shape == AFTER.shape
    assert torch.allclose(one.mean(), small.mean(), atol=0.01)
    one, other = match_sizes(AFTER, small)
    assert torch.equal(one, AFTER)
    assert other.shape == AFTER.shape


def test_other_aspect_ratios_are_letterboxed():
    wide = torch.ones(1, 3, 10, 32)
    one, _ = match_sizes(wide, AFTER)
    assert torch.equal(one[0, 0, :, 5], torch.cat([torch.zeros(14), torch.ones(20), torch.zeros(14)]))
    almost = torch.ones(1, 3, 12, 17)  # rounding made it a pixel wider
    assert (match_sizes(almost, AFTER)[0] > 0.99).all(), "no bar for a pixel's rounding"


def test_alpha_is_composited_on_black():
    half = torch.cat([torch.ones(1, 3, 48, 64), torch.full((1, 1, 48, 64), 0.5)], dim=1)
    assert torch.equal(compare_frames(half, AFTER, split=1.0, labels=PLAIN), torch.full((1, 3, 48, 64), 0.5))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("side", [None, 40])
def test_info_has_the_size_of_the_frames(layout, side):
    clips = [TensorClip(frames.expand(5, -1, -1, -1), Fraction(25)) for frames in (BEFORE[..., ::2, ::2], AFTER)]
    both = Comparison(*clips, range(1, 4), layout, side=side)
    frames = list(both.frames())
    assert len(frames) == 3 == both.info.length
    assert {f.shape[-2:] for f in frames} == {(both.info.height, both.info.width)}
    assert side is None or max(frames[0].shape) == side
    assert both.info.fps == 25


def test_frames_are_paired_by_number_up_to_the_shorter_clip():
    def counting(count: int, start: float) -> TensorClip:
        return TensorClip((start + torch.arange(count) / 100).view(-1, 1, 1, 1).expand(-1, 3, 8, 8), Fraction(10))

    both = Comparison(counting(9, 0.0), counting(6, 0.5), range(2, 8), labels=PLAIN)
    frames = torch.cat(list(both.frames()))
    assert torch.allclose(frames[:, 0, 0, 0], torch.tensor([0.02, 0.03, 0.04, 0.05]))
    assert torch.allclose(frames[:, 0, 0, 7], torch.tensor([0.52, 0.53, 0.54, 0.55]))
    assert both.info.length == 4
    with pytest.raises(ClipError, match="there is no frame 7"):
        list(Comparison(counting(9, 0.0), counting(6, 0.5), range(7, 8)).frames())


def test_comparison_range_converts_seconds_to_frames():
    info = TensorClip(AFTER.expand(50, -1, -1, -1), Fraction(25)).info
    assert comparison_range(10, 2.0, info) == range(10, 60)
    assert comparison_range(3, 0.0, info) == range(3, 4)
    with pytest.raises(ClipError, match="not at -1"):
        comparison_range(-1, 1.0, info)
