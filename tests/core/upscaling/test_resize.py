import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.resize import bleed_alpha, resize


@pytest.mark.parametrize(("width", "height"), [(50, 30), (9, 7), (20, 41), (1, 1), (23, 17)])
def test_agrees_with_pillow_bicubic(width, height):
    frames = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    result = resize(frames, width, height)
    assert result.shape == (2, 3, height, width)
    for frame, resized in zip(frames.flatten(0, 1), result.flatten(0, 1), strict=True):
        wanted = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        torch.testing.assert_close(resized, torch.from_numpy(np.array(wanted)).clamp(0, 1), atol=2e-5, rtol=0)


def test_same_size_is_the_same_tensor():
    frames = torch.rand(1, 4, 5, 6)
    assert resize(frames, 6, 5) is frames


def test_overshoot_is_clamped():
    frames = torch.zeros(1, 3, 8, 8)
    frames[..., 4:] = 1.0
    result = resize(frames, 24, 24)
    assert result.min() == 0.0
    assert result.max() == 1.0


def test_a_ramp_does_not_move():
    ramp = ((torch.arange(16) + 0.5) / 16).expand(1, 3, 16, 16)
    wanted = ((torch.arange(32) + 0.5) / 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(resize(ramp, 32, 32)[..., 6:-6], wanted[..., 6:-6], atol=1e-5, rtol=0)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
def test_white_stays_white_and_black_stays_black(height, width, new_height, new_width):
    frames = torch.ones(1, 3, height, width)
    frames[:, 1] = 0.0
    result = resize(frames, new_width, new_height)
    assert torch.equal(result[:, ::2], torch.ones(1, 2, new_height, new_width))
    assert not result[:, 1].any()


def test_sizes_below_one_pixel_are_refused():
    with pytest.raises(ClipError, match="0x5"):
        resize(torch.rand(1, 3, 4, 4), 0, 5)


def test_holes_take_the_nearest_visible_color():
    frames = torch.zeros(1, 4, 13, 21)
    orange, blue = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    frames[0, :3, 2:6, 2:6], frames[0, 3, 2:6, 2:6] = orange[:, None, None], 1.0
    frames[0, :3, 8:12, 16:20], frames[0, 3, 8:12, 16:20] = blue[:, None, None], 0.25
    color = bleed_alpha(frames)
    visible = frames[0, 3] > 0
    assert torch.equal(color[0, :, visible], frames[0, :3, visible])
    torch.testing.assert_close(color[0, :, 6, 5], orange)
    torch.testing.assert_close(color[0, :, 12, 20], blue)
    assert (color.amax(dim=1) > 0).all()


def test_hidden_colors_and_visible_black_stay():
    frames = torch.zeros(1, 4, 6, 6)
    frames[0, 1] = 0.7
    frames[0, 3, :, :3] = 1.0
    frames[0, :3, 0, 0] = 0.0  # black and visible
    assert torch.equal(bleed_alpha(frames), frames[:, :3])


def test_a_frame_without_any_color_stays_black():
    assert torch.equal(bleed_alpha(torch.zeros(2, 4, 5, 3)), torch.zeros(2, 3, 5, 3))
