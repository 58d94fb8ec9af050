from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from footage import jitter, shake
from hypothesis import given
from hypothesis import strategies as st
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.path.crop import (
    adaptive_zoom,
    held_back,
    limit_zoom,
    trimmed,
    zoom_to_fill,
    zoomed,
    zooms_to_fill,
)
from steadyscale.core.path.trajectory import Correction


def correction(path, width=640, height=360):
    return Correction(
        geometry.to_matrices(path), [slice(0, len(path))], ClipInfo(width, height, Fraction(25), len(path))
    )


def outermost(fix):
    """Where the centres of the output's corner pixels are looked up."""
    width, height = fix.info.width, fix.info.height
    return geometry.apply(np.linalg.inv(fix.matrices), geometry.corners(width - 1, height - 1))


@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_the_zoom_just_fills_the_frame(x, y, angle, zoom):
    fix = correction(np.array([[x, y, angle, zoom]]))
    need = zooms_to_fill(fix)[0]
    excess = np.abs(outermost(zoomed(fix, need))[0]) - [639 / 2, 359 / 2]
    assert excess.max() < 1e-6, "every corner shows source pixels"
    if need > 1:
        assert excess.max() > -1e-6, "and no more is cut than necessary"


def test_known_zooms():
    fix = correction(np.array([[0, 0, 0, 0], [63.9, 0, 0, 0], [0, 0, 0, np.log(0.5)], [2000, 0, 0, 0]]))
    assert np.allclose(zooms_to_fill(fix)[:3], [1, 1 / (1 - 63.9 / 319.5), 2])
    assert np.isinf(zooms_to_fill(fix)[3])


def wild(frames=200):
    path = shake(frames, pixels=4)
    path[frames // 2, :2] += 120
    return path


def test_the_budget_holds_and_what_is_far_from_the_need_stays():
    fix = correction(path := wild())
    limited = limit_zoom(fix, 1.1, seconds=1.0)
    assert zooms_to_fill(fix).max() > 1.5
    assert zooms_to_fill(limited).max() <= 1.1
    given_up = geometry.to_parameters(limited.matrices) - path
    assert np.abs(given_up[:40]).max() < 0.2
    assert np.abs(given_up[-40:]).max() < 0.2
    assert np.median(np.abs(given_up[90:111, 0])) > 15, "its neighbours go as far as they can to meet it"


def test_less_is_given_up_than_by_holding_back_and_less_shake_comes_back():
    fix = correction(shake(200, pixels=20, zoom=0))
    for most in (1.03, 1.1):
        limited, held = limit_zoom(fix, most), held_back(fix, most)
        assert zooms_to_fill(limited).max() <= most
        back = [
            jitter(geometry.to_parameters(fix.matrices @ np.linalg.inv(f.matrices)), 640, 360) for f in (limited, held)
        ]
        assert back[0] < 0.6 * back[1]


def test_a_shot_within_the_budget_stays_as_it_is():
    path = np.concatenate([shake(50, pixels=2), wild(50)])
    fix = replace(correction(path), shots=[slice(0, 50), slice(50, 100)])
    limited = limit_zoom(fix, 1.15)
    assert np.array_equal(limited.matrices[:50], fix.matrices[:50])
    assert zooms_to_fill(limited).max() <= 1.15


def test_the_budget_is_not_spent_by_enlarging_either():
    limited = limit_zoom(correction(shake(150, pixels=20, zoom=0)), 1.03)
    assert geometry.to_parameters(limited.matrices)[:, 3].max() < 1e-3


def test_room_costs_no_wobble():
    tangents = np.zeros((100, 8))
    tangents[:, :4] = np.outer(np.arange(100), [8, 2, 0.002, 0])
    tangents[:, 6] = 2e-5 * np.sin(np.arange(100))
    fix = replace(correction(np.zeros((100, 4))), matrices=geometry.to_matrices_of(tangents))
    limited = geometry.to_tangents(limit_zoom(fix, 1.1).matrices)
    assert np.isinf(zooms_to_fill(fix)[-1])
    assert np.allclose(limited[:, 4:], tangents[:, 4:], atol=1e-12), "shear and perspective are what was asked for"


@pytest.mark.parametrize("most", [1.0, 1.0005, 1.2])
@pytest.mark.parametrize(
    "scale",
    [(100, 100, 0.1, 0), (1e4, 10, 3, 1), (0, 0, 0, 3), (np.nan, 0, 0, 0)],
    ids=["wild", "huge", "zoom", "tilt"],
)
def test_any_correction_is_held_to_any_budget(most, scale):
    random = np.random.default_rng(1)
    tangents = np.zeros((61, 8))
    if np.isnan(scale[0]):
        tangents[:, 4:] = random.normal(size=(61, 4)) * [0.1, 0.1, 1e-3, 1e-3]
    else:
        tangents[:, :4] = random.normal(size=(61, 4)) * scale
    fix = replace(correction(np.zeros((61, 4))), matrices=geometry.to_matrices_of(tangents))
    limited = limit_zoom(fix, most)
    assert np.isfinite(limited.matrices).all()
    assert zooms_to_fill(limited).max() <= most + 1e-6


def test_within_the_budget_nothing_changes():
    fix = correction(shake(50, pixels=2))
    assert limit_zoom(fix, 2.0) is fix


def zooms_of(fix, adapted):
    return adapted.matrices[:, 0, 0] / fix.matrices[:, 0, 0]


def test_adaptive_zoom_shows_no_border_and_moves_slowly():
    path = shake(300, seed=1, pixels=3, angle=0)
    path[150, :2] += 60
    fix = correction(path)
    adapted = adaptive_zoom(fix, seconds=2.0)
    assert zooms_to_fill(adapted).max() <= 1 + 1e-9
    zooms = np.log(zooms_of(fix, adapted))
    reach = np.log(zooms_to_fill(fix)).max()
    assert np.abs(np.diff(zooms)).max() <= reach / 25, "half the way may take no less than half a second"
    assert np.abs(np.diff(zooms, 2)).max() <= reach / 25 / 12, "easing in and out"
    assert zooms.mean() < np.log(zoom_to_fill(fix)) / 2, "most of the time far less is cut than by one zoom for all"
    assert np.isclose(zooms.max(), reach), "and never more"


def test_adaptive_zoom_starts_afresh_after_a_cut_and_does_nothing_without_need():
    path = np.zeros((60, 4))
    path[30:, 0] = 50
    fix = Correction(geometry.to_matrices(path), [slice(0, 30), slice(30, 60)], correction(path).info)
    zooms = zooms_of(fix, adaptive_zoom(fix))
    assert np.allclose(zooms[:30], 1)
    assert np.allclose(zooms[30:], zoom_to_fill(fix))


def test_a_zoom_that_leaves_next_to_nothing_is_refused():
    for zoom in (zoom_to_fill, adaptive_zoom):
        with pytest.raises(ClipError, match="frame 1 is moved so far"):
            zoom(correction(np.array([[0, 0, 0, 0], [300.0, 0, 0, 0]])))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2)])
def test_tiny_frames(size):
    zooms = zooms_to_fill(correction(np.zeros((3, 4)), *size))
    assert np.array_equal(zooms, np.ones(3))


def leaning(frames=600, at=400, pixels=24.0, seconds=16.0):
    """Quick shake of some pixels, and once a slow lean to one side, which is what most picture is needed for."""
    lean = pixels * np.exp(-0.5 * ((np.arange(frames) - at) / (seconds * 25 / 4)) ** 2)
    return shake(frames, seed=3, pixels=2, angle=0.002, zoom=0) + np.outer(lean, [1, 0, 0, 0])


def test_a_peak_that_costs_all_frames_picture_is_trimmed_unseen():
    fix = correction(leaning())
    less = trimmed(fix, seconds=2.0)
    assert zoom_to_fill(less) < zoom_to_fill(fix) - 0.008
    given_up = geometry.to_parameters(less.matrices) - geometry.to_parameters(fix.matrices)
    assert jitter(given_up, 640, 360) < 0.005, "what is given up is no shake"
    assert given_up[:, 0].min() < -2, "it leans to the same side"
    assert np.abs(given_up[:200]).max() < 0.01, "far from it all is as it was"


def test_quick_shake_is_not_given_up_to_save_picture():
    fix = correction(shake(100, seed=2, pixels=20))
    less = trimmed(fix, seconds=2.0)
    given_up = geometry.to_parameters(less.matrices) - geometry.to_parameters(fix.matrices)
    shaken = geometry.to_parameters(fix.matrices)
    assert jitter(given_up, 640, 360) < 0.02 * jitter(shaken, 640, 360)
    assert zoom_to_fill(less) > 1 + 0.7 * (zoom_to_fill(fix) - 1)


def test_only_the_shots_that_decide_the_crop_are_trimmed():
    path = np.concatenate([leaning(200, 100, seconds=8.0), shake(200, seed=5, pixels=2, zoom=0)])
    fix = replace(correction(path), shots=[slice(0, 200), slice(200, 400)])
    less = trimmed(fix, seconds=2.0)
    assert zoom_to_fill(less) < zoom_to_fill(fix) - 0.01
    assert np.array_equal(less.matrices[200:], fix.matrices[200:])


def test_what_cannot_be_trimmed_stays():
    still = correction(np.zeros((30, 4)))
    assert np.array_equal(trimmed(still).matrices, still.matrices)
    gone = correction(np.tile([2000.0, 0, 0, 0], (5, 1)))
    assert np.array_equal(trimmed(gone).matrices, gone.matrices), "cropping it is refused by others"
    none = correction(np.zeros((0, 4)))
    assert trimmed(replace(none, shots=[])).matrices.shape == (0, 3, 3)


def test_a_long_shot_is_trimmed_as_much_as_a_short_one(monkeypatch):
    """It is solved in runs, and where they meet the solver's last digits are no jolt."""
    fix = correction(leaning())
    whole = zoom_to_fill(trimmed(fix, seconds=2.0))
    monkeypatch.setattr(geometry, "PIECE", 90)
    assert zoom_to_fill(trimmed(fix, seconds=2.0)) < whole + 0.002


def test_a_correction_without_an_inverse_fills_nothing():
    fix = correction(np.zeros((3, 4)))
    fix.matrices[1, :2, :2] = 0
    assert zooms_to_fill(fix).tolist() == [1.0, np.inf, 1.0]
    with pytest.raises(ClipError, match="frame 1 is moved so far"):
        zoom_to_fill(fix)
