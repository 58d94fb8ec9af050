from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core import Border, ClipError, ClipInfo, Correction, geometry, with_border_zoom
from steadyscale.core.visualize import crop_overlay as under_test
from steadyscale.core.visualize.crop_overlay import (
    CUT_COLOR,
    CUT_OPACITY,
    FILL_COLOR,
    draw_crop_overlay,
    find_max_zoom_frame,
)

WIDTH, HEIGHT = 160, 120
FRAME = make_texture(HEIGHT, WIDTH)


def fix(*moves: tuple[float, float, float, float]) -> Correction:
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), len(moves))
    return Correction(geometry.matrices_from_parameters(np.array(moves)), [slice(0, len(moves))], info)


@pytest.fixture(autouse=True)
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace captions, which would cover the tested pixels; returns their texts."""
    texts: list[str] = []

    def keep(frames: torch.Tensor, text: str) -> torch.Tensor:
        texts.append(text)
        return frames

    monkeypatch.setattr(under_test, "draw_caption", keep)
    return texts


def blue(image: torch.Tensor) -> torch.Tensor:
    return (image[0] - torch.tensor(FILL_COLOR).view(3, 1, 1)).abs().amax(0) < 0.01


def tinted(image: torch.Tensor) -> torch.Tensor:
    return FRAME * (1 - CUT_OPACITY) + torch.tensor(CUT_COLOR).view(3, 1, 1) * CUT_OPACITY - image


def test_shift_to_the_right_crops_and_fills_20_columns(captions: list[str]):
    """A shift by 20: the last 20 columns are cropped, and 20 columns before the first are filled."""
    image = draw_crop_overlay(FRAME, fix((20, 0, 0, 0)), 0, Border.MIRROR)
    extra = image.shape[-1] - WIDTH
    assert image.shape[-2] == HEIGHT
    assert 20 <= extra <= 23
    marked = blue(image)
    assert marked[:, extra - 19 : extra - 1].float().mean() > 0.95
    assert not marked[:, extra:].any()
    own = image[..., extra:]
    assert torch.allclose(own[..., 5:-25, 2:130], FRAME[..., 5:-25, 2:130])
    assert tinted(own)[..., 142:].abs().max() < 1e-5, "cropped columns are red"
    assert captions == ["frame 0: 12.5 % cropped, 12.5 % synthesized"]


def test_crop_fills_nothing_and_cuts_the_expected_area(captions: list[str]):
    planned = fix((6, -4, 0.02, 0.0), (0, 0, 0, 0))
    image = draw_crop_overlay(FRAME, planned, 0, Border.CROP)
    assert image.shape == FRAME.shape
    assert not blue(image).any()
    zoom = np.linalg.norm(with_border_zoom(planned, Border.CROP).matrices[0][0, :2])
    share = 100 * (1 - 1 / zoom**2)
    percentages = [float(number) for number in re.findall(r"([\d.]+) %", captions[0])]
    assert percentages[0] == pytest.approx(share, abs=1.0)
    assert percentages[1] < 0.2
    red = tinted(image).abs().amax((0, 1)) < 1e-5
    assert 100 * red.float().mean() == pytest.approx(share, abs=3)
    assert red[:, -3:].any(), "shifted right: the right edge is cropped"


def test_correction_is_scaled_to_the_frame(captions: list[str]):
    large = make_texture(2 * HEIGHT, 2 * WIDTH)
    image = draw_crop_overlay(large, fix((20, 0, 0, 0)), 0, Border.BLACK)
    assert 40 <= image.shape[-1] - 2 * WIDTH <= 43
    assert captions == ["frame 0: 12.5 % cropped, 12.5 % synthesized"]


def test_padding_is_marked_as_filled():
    image = draw_crop_overlay(FRAME, fix((0, 0, 0, 0)), 0, Border.EDGE, pad=10)
    marked = blue(image)
    assert image.shape[-2:] == (HEIGHT + 24, WIDTH + 24)
    assert marked[4:11, 20:-20].all()
    assert marked[20:-20, -11:-4].all()
    assert torch.allclose(image[..., 12:-12, 12:-12], FRAME)


def test_canvas_is_bounded():
    image = draw_crop_overlay(FRAME, fix((1000, 0, 0, 0)), 0, Border.MIRROR)
    assert image.shape[-1] <= 2 * WIDTH


def test_find_max_zoom_frame_returns_the_largest_motion():
    assert find_max_zoom_frame(fix((1, 0, 0, 0), (9, 0, 0, 0), (0, -3, 0, 0))) == 1


def test_frame_outside_the_correction_is_an_error():
    with pytest.raises(ClipError, match="there is no frame 2: motion was measured for 2 frames"):
        draw_crop_overlay(FRAME, fix((1, 0, 0, 0), (0, 0, 0, 0)), 2)
