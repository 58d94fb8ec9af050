from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from camera_simulation import make_shake_path, measure_jitter
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.crop.zoom import (
    adaptive_zoom,
    apply_zoom,
    attenuate_to_zoom,
    limit_zoom,
    trim_peaks,
    zoom_to_fill,
    zooms_to_fill,
)
from steadyscale.core.path.trajectory import Correction


def correction(path, width=640, height=360):
    return Correction(
        geometry.matrices_from_parameters(path), [slice(0, len(path))], ClipInfo(width, height, Fraction(25), len(path))
    )


def outermost(fix):
    """Source coordinates of the centers of the output's corner pixels."""
    width, height = fix.info.width, fix.info.height
    return geometry.transform_points(np.linalg.inv(fix.matrices), geometry.corners(width - 1, height - 1))


@settings(deadline=None)  # the first example may wait for other processes
@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_zoom_just_fills_the_frame(x, y, angle, zoom):
    fix = correction(np.array([[x, y, angle, zoom]]))
    need = zooms_to_fill(fix)[0]
    excess = np.abs(outermost(apply_zoom(fix, need))[0]) - [639 / 2, 359 / 2]
    assert excess.max() < 1e-6, "every corner is inside the source"
    if need > 1:
        assert excess.max() > -1e-6, "and the crop is minimal"


def test_known_zooms():
    fix = correction(np.array([[0, 0, 0, 0], [63.9, 0, 0, 0], [0, 0, 0, np.log(0.5)], [2000, 0, 0, 0]]))
    assert np.allclose(zooms_to_fill(fix)[:3], [1, 1 / (1 - 63.9 / 319.5), 2])
    assert np.isinf(zooms_to_fill(fix)[3])


def wild(frames=200):
    path = make_shake_path(frames, pixels=4)
    path[frames // 2, :2] += 120
    return path


def test_attenuated_correction_respects_max_zoom_and_changes_locally():
    fix = correction(path := wild())
    limited = limit_zoom(fix, 1.1, seconds=1.0)
    assert zooms_to_fill(fix).max() > 1.5
    assert zooms_to_fill(limited).max() <= 1.1
    given_up = geometry.to_parameters(limited.matrices) - path
    assert np.abs(given_up[:40]).max() < 0.2
    assert np.abs(given_up[-40:]).max() < 0.2
    assert np.median(np.abs(given_up[90:111, 0])) > 15, "its neighbors change as far as they can"


def test_limit_zoom_changes_less_than_attenuation():
    fix = correction(make_shake_path(200, pixels=20, zoom=0))
    for max_zoom in (1.03, 1.1):
        limited, held = limit_zoom(fix, max_zoom), attenuate_to_zoom(fix, max_zoom)
        assert zooms_to_fill(limited).max() <= max_zoom
        back = [
            measure_jitter(geometry.to_parameters(fix.matrices @ np.linalg.inv(f.matrices)), 640, 360)
            for f in (limited, held)
        ]
        assert back[0] < 0.6 * back[1]


def test_shot_within_max_zoom_does_not_change():
    path = np.concatenate([make_shake_path(50, pixels=2), wild(50)])
    fix = replace(correction(path), shots=[slice(0, 50), slice(50, 100)])
    limited = limit_zoom(fix, 1.15)
    assert np.array_equal(limited.matrices[:50], fix.matrices[:50])
    assert zooms_to_fill(limited).max() <= 1.15


def test_views_are_not_reduced_in_scale():
    limited = limit_zoom(correction(make_shake_path(150, pixels=20, zoom=0)), 1.03)
    assert geometry.to_parameters(limited.matrices)[:, 3].max() < 1e-3


def test_limit_zoom_adds_no_shear():
    tangents = np.zeros((100, 8))
    tangents[:, :4] = np.outer(np.arange(100), [8, 2, 0.002, 0])
    tangents[:, 6] = 2e-5 * np.sin(np.arange(100))
    fix = replace(correction(np.zeros((100, 4))), matrices=geometry.matrices_from_tangents(tangents))
    limited = geometry.to_tangents(limit_zoom(fix, 1.1).matrices)
    assert np.isinf(zooms_to_fill(fix)[-1])
    assert np.allclose(limited[:, 4:], tangents[:, 4:], atol=1e-12), "shear and perspective do not change"


@pytest.mark.parametrize("max_zoom", [1.0, 1.0005, 1.2])
@pytest.mark.parametrize(
    "scale",
    [(100, 100, 0.1, 0), (1e4, 10, 3, 1), (0, 0, 0, 3), (np.nan, 0, 0, 0)],
    ids=["wild", "huge", "zoom", "tilt"],
)
def test_any_correction_respects_any_max_zoom(max_zoom, scale):
    random = np.random.default_rng(1)
    tangents = np.zeros((61, 8))
    if np.isnan(scale[0]):
        tangents[:, 4:] = random.normal(size=(61, 4)) * [0.1, 0.1, 1e-3, 1e-3]
    else:
        tangents[:, :4] = random.normal(size=(61, 4)) * scale
    fix = replace(correction(np.zeros((61, 4))), matrices=geometry.matrices_from_tangents(tangents))
    limited = limit_zoom(fix, max_zoom)
    assert np.isfinite(limited.matrices).all()
    assert zooms_to_fill(limited).max() <= max_zoom + 1e-6


def test_corrections_within_max_zoom_do_not_change():
    fix = correction(make_shake_path(50, pixels=2))
    assert limit_zoom(fix, 2.0) is fix


def zooms_of(fix, adapted):
    return adapted.matrices[:, 0, 0] / fix.matrices[:, 0, 0]


def test_adaptive_zoom_hides_borders_and_changes_slowly():
    path = make_shake_path(300, seed=1, pixels=3, angle=0)
    path[150, :2] += 60
    fix = correction(path)
    adapted = adaptive_zoom(fix, seconds=2.0)
    assert zooms_to_fill(adapted).max() <= 1 + 1e-9
    zooms = np.log(zooms_of(fix, adapted))
    reach = np.log(zooms_to_fill(fix)).max()
    assert np.abs(np.diff(zooms)).max() <= reach / 25, "half of a transition takes at least half a second"
    assert np.abs(np.diff(zooms, 2)).max() <= reach / 25 / 12, "ease-in and ease-out"
    assert zooms.mean() < np.log(zoom_to_fill(fix)) / 2, "on average far less is cropped than with a constant zoom"
    assert np.isclose(zooms.max(), reach), "and the maximum is not exceeded"


def test_adaptive_zoom_is_independent_per_shot_and_one_without_motion():
    path = np.zeros((60, 4))
    path[30:, 0] = 50
    fix = Correction(geometry.matrices_from_parameters(path), [slice(0, 30), slice(30, 60)], correction(path).info)
    zooms = zooms_of(fix, adaptive_zoom(fix))
    assert np.allclose(zooms[:30], 1)
    assert np.allclose(zooms[30:], zoom_to_fill(fix))


def test_excessive_zoom_is_an_error():
    for zoom in (zoom_to_fill, adaptive_zoom):
        with pytest.raises(ClipError, match="frame 1 is moved so far"):
            zoom(correction(np.array([[0, 0, 0, 0], [300.0, 0, 0, 0]])))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2)])
def test_tiny_frames(size):
    zooms = zooms_to_fill(correction(np.zeros((3, 4)), *size))
    assert np.array_equal(zooms, np.ones(3))


def leaning(frames=600, at=400, pixels=24.0, seconds=16.0):
    """Fast shake of some pixels, and one slow excursion that determines the crop."""
    lean = pixels * np.exp(-0.5 * ((np.arange(frames) - at) / (seconds * 25 / 4)) ** 2)
    return make_shake_path(frames, seed=3, pixels=2, angle=0.002, zoom=0) + np.outer(lean, [1, 0, 0, 0])


@cache
def trimmed_leaning():
    return trim_peaks(correction(leaning()), seconds=2.0)


def test_peak_that_determines_the_crop_is_trimmed_invisibly():
    fix, less = correction(leaning()), trimmed_leaning()
    assert zoom_to_fill(less) < zoom_to_fill(fix) - 0.008
    given_up = geometry.to_parameters(less.matrices) - geometry.to_parameters(fix.matrices)
    assert measure_jitter(given_up, 640, 360) < 0.005, "the change has no shake"
    assert given_up[:, 0].min() < -2, "the change has the same direction"
    assert np.abs(given_up[:200]).max() < 0.01, "frames far away do not change"


def test_fast_shake_is_not_trimmed():
    fix = correction(make_shake_path(100, seed=2, pixels=20))
    less = trim_peaks(fix, seconds=2.0)
    given_up = geometry.to_parameters(less.matrices) - geometry.to_parameters(fix.matrices)
    shaken = geometry.to_parameters(fix.matrices)
    assert measure_jitter(given_up, 640, 360) < 0.02 * measure_jitter(shaken, 640, 360)
    assert zoom_to_fill(less) > 1 + 0.7 * (zoom_to_fill(fix) - 1)


def test_only_shots_that_determine_the_crop_are_trimmed():
    path = np.concatenate([leaning(200, 100, seconds=8.0), make_shake_path(200, seed=5, pixels=2, zoom=0)])
    fix = replace(correction(path), shots=[slice(0, 200), slice(200, 400)])
    less = trim_peaks(fix, seconds=2.0)
    assert zoom_to_fill(less) < zoom_to_fill(fix) - 0.01
    assert np.array_equal(less.matrices[200:], fix.matrices[200:])


def test_untrimmable_corrections_do_not_change():
    still = correction(np.zeros((30, 4)))
    assert np.array_equal(trim_peaks(still).matrices, still.matrices)
    gone = correction(np.tile([2000.0, 0, 0, 0], (5, 1)))
    assert np.array_equal(trim_peaks(gone).matrices, gone.matrices), "cropping it is an error elsewhere"
    none = correction(np.zeros((0, 4)))
    assert trim_peaks(replace(none, shots=[])).matrices.shape == (0, 3, 3)


def test_long_shot_is_trimmed_as_much_as_a_short_one(monkeypatch):
    """The solver's rounding where chunks meet does not count as a jolt."""
    fix, expected = correction(leaning()), zoom_to_fill(trimmed_leaning())
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 90)
    assert zoom_to_fill(trim_peaks(fix, seconds=2.0)) < expected + 0.002


def test_a_singular_correction_cannot_be_filled():
    fix = correction(np.zeros((3, 4)))
    fix.matrices[1, :2, :2] = 0
    assert zooms_to_fill(fix).tolist() == [1.0, np.inf, 1.0]
    with pytest.raises(ClipError, match="frame 1 is moved so far"):
        zoom_to_fill(fix)


def test_an_attenuation_changes_slowly_before_and_after_a_peak():
    """A correction of 10 pixels throughout, and one of 130 in the middle that must be reduced."""
    path = np.zeros((201, 4))
    path[:, 0], path[100, 0] = 10, 130
    limited = attenuate_to_zoom(correction(path), 1.1, seconds=1.0)
    strength = geometry.to_parameters(limited.matrices)[:, 0] / path[:, 0]
    assert zooms_to_fill(limited).max() <= 1.1
    assert strength[100] < 0.3
    assert np.abs(np.diff(strength)).max() <= 1.001 * (1 - strength[100]) / 25, "over a second at least"
    assert np.allclose(strength, strength[::-1])
    assert np.allclose(strength[:45], 1)


def test_an_attenuation_ends_at_a_cut():
    path = np.zeros((100, 4))
    path[:, 0], path[48, 0] = 10, 130
    fix = replace(correction(path), shots=[slice(0, 50), slice(50, 100)])
    strength = geometry.to_parameters(attenuate_to_zoom(fix, 1.1).matrices)[:, 0] / path[:, 0]
    assert strength[49] < 0.4
    assert np.allclose(strength[50:], 1)


def unevenly_timed(hold, seconds=8.0):
    """A correction of 40 pixels from 4 s on for `hold` seconds; the frames are 20 and 60 ms apart in turn."""
    times = np.cumsum(np.resize([0.02, 0.06], int(seconds * 25)))
    path = np.zeros((len(times), 4))
    path[:, 0] = 40.0 * ((times >= 4) & (times < 4 + hold))
    return times, replace(correction(path), times=times)


def test_adaptive_zoom_changes_evenly_in_time():
    times, fix = unevenly_timed(1.0)
    zooms = np.log(zooms_of(fix, adaptive_zoom(fix, 2.0)))
    assert (zooms_to_fill(adaptive_zoom(fix, 2.0)) < 1 + 1e-9).all(), "no border is visible"
    middle = (times > 2.2) & (times < 3.8)
    speed = np.diff(zooms[middle]) / np.diff(times[middle])
    by_number = np.log(zooms_of(fix, adaptive_zoom(replace(fix, times=None), 2.0)))
    assert np.abs(np.diff(speed)).max() < 0.1 * speed.max()
    speed = np.diff(by_number[middle]) / np.diff(times[middle])
    assert np.abs(np.diff(speed)).max() > 0.5 * speed.max(), "the test must be able to fail"


def test_attenuation_and_limit_respect_the_zoom_at_every_unevenly_timed_frame():
    times, fix = unevenly_timed(0.5)
    for limited in (attenuate_to_zoom(fix, 1.05), limit_zoom(fix, 1.05)):
        assert (zooms_to_fill(limited) < 1.05 + 1e-6).all()
        assert limited.times is times


def test_limited_shake_changes_evenly_in_time():
    """A slow excursion beyond the limit: what is taken back is as smooth in time as the excursion."""
    times = np.cumsum(np.resize([0.02, 0.06], 200))
    path = np.zeros((200, 4))
    path[:, 0] = 60 * np.exp(-(((times - 4) / 1.5) ** 2))
    fix = replace(correction(path), times=times)
    shift = limit_zoom(fix, 1.1, seconds=2.0).matrices[:, 0, 2]
    speed = np.diff(shift) / np.diff(times)
    jitter = np.abs(np.diff(speed))[60:140].max()
    by_number = limit_zoom(replace(fix, times=None), 1.1, seconds=2.0).matrices[:, 0, 2]
    assert jitter < 0.3 * np.abs(np.diff(np.diff(by_number) / np.diff(times)))[60:140].max()
