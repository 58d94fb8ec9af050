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
def without_words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The caption would cover what is looked at."""
    said: list[str] = []

    def keep(frames: torch.Tensor, text: str) -> torch.Tensor:
        said.append(text)
        return frames

    monkeypatch.setattr(under_test, "draw_caption", keep)
    return said


def blue(picture: torch.Tensor) -> torch.Tensor:
    return (picture[0] - torch.tensor(FILL_COLOR).view(3, 1, 1)).abs().amax(0) < 0.01


def tinted(picture: torch.Tensor) -> torch.Tensor:
    return FRAME * (1 - CUT_OPACITY) + torch.tensor(CUT_COLOR).view(3, 1, 1) * CUT_OPACITY - picture


def test_a_frame_moved_to_the_right_shows_what_lies_to_its_left(without_words: list[str]):
    """Moved by 20: its last 20 columns leave the picture, and 20 columns before its first are made up."""
    picture = draw_crop_overlay(FRAME, fix((20, 0, 0, 0)), 0, Border.MIRROR)
    extra = picture.shape[-1] - WIDTH
    assert picture.shape[-2] == HEIGHT
    assert 20 <= extra <= 23
    marked = blue(picture)
    assert marked[:, extra - 19 : extra - 1].float().mean() > 0.95
    assert not marked[:, extra:].any()
    own = picture[..., extra:]
    assert torch.allclose(own[..., 5:-25, 2:130], FRAME[..., 5:-25, 2:130])
    assert tinted(own)[..., 142:].abs().max() < 1e-5, "red is what leaves the picture"
    assert without_words == ["frame 0: 12.5 % cut away, 12.5 % made up"]


def test_a_crop_invents_nothing_and_cuts_what_geometry_says(without_words: list[str]):
    planned = fix((6, -4, 0.02, 0.0), (0, 0, 0, 0))
    picture = draw_crop_overlay(FRAME, planned, 0, Border.CROP)
    assert picture.shape == FRAME.shape
    assert not blue(picture).any()
    zoom = np.linalg.norm(with_border_zoom(planned, Border.CROP).matrices[0][0, :2])
    share = 100 * (1 - 1 / zoom**2)
    told = [float(number) for number in re.findall(r"([\d.]+) %", without_words[0])]
    assert told[0] == pytest.approx(share, abs=1.0)
    assert told[1] < 0.2
    red = tinted(picture).abs().amax((0, 1)) < 1e-5
    assert 100 * red.float().mean() == pytest.approx(share, abs=3)
    assert red[:, -3:].any(), "moved right: the right edge is lost"


def test_the_correction_is_brought_to_the_size_of_the_frame(without_words: list[str]):
    large = make_texture(2 * HEIGHT, 2 * WIDTH)
    picture = draw_crop_overlay(large, fix((20, 0, 0, 0)), 0, Border.BLACK)
    assert 40 <= picture.shape[-1] - 2 * WIDTH <= 43
    assert without_words == ["frame 0: 12.5 % cut away, 12.5 % made up"]


def test_a_pad_is_made_up_on_all_sides():
    picture = draw_crop_overlay(FRAME, fix((0, 0, 0, 0)), 0, Border.EDGE, pad=10)
    marked = blue(picture)
    assert picture.shape[-2:] == (HEIGHT + 24, WIDTH + 24)
    assert marked[4:11, 20:-20].all()
    assert marked[20:-20, -11:-4].all()
    assert torch.allclose(picture[..., 12:-12, 12:-12], FRAME)


def test_it_does_not_grow_without_end():
    picture = draw_crop_overlay(FRAME, fix((1000, 0, 0, 0)), 0, Border.MIRROR)
    assert picture.shape[-1] <= 2 * WIDTH


def test_the_costliest_frame_is_the_one_that_moves_farthest():
    assert find_max_zoom_frame(fix((1, 0, 0, 0), (9, 0, 0, 0), (0, -3, 0, 0))) == 1


def test_a_frame_that_was_not_measured_is_refused():
    with pytest.raises(ClipError, match="there is no frame 2: motion was measured for 2 frames"):
        draw_crop_overlay(FRAME, fix((1, 0, 0, 0), (0, 0, 0, 0)), 2)
