"""Keyframes: parsing, curves over time, and what a plan makes of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.crop.border import Border, border_zooms, with_border_zoom
from steadyscale.core.crop.zoom import zooms_to_fill
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.smoothing.keyframes import Keyframe, interpolate_keyframes, parse_keyframes, read_keyframes
from steadyscale.core.smoothing.smooth import Smoothing
from steadyscale.core.smoothing.stabilize import plan_correction
from steadyscale.core.smoothing.strength import Strength

COUNT, FPS = 120, 20
SECONDS = np.arange(COUNT) / FPS


@pytest.fixture(scope="module")
def measured():
    path = make_shake_path(COUNT, pixels=8)
    return Trajectory(
        geometry.matrices_from_parameters(path), [slice(0, COUNT)], ClipInfo(320, 180, Fraction(FPS), COUNT)
    )


def plan(measured, *keyframes, border=Border.CROP_ADAPTIVE, **options):
    return plan_correction(measured, seconds=2.0, border=border, keyframes=keyframes, **options)


def test_json_and_toml_have_the_same_entries(tmp_path):
    expected = (Keyframe(0, max_zoom=1.2), Keyframe(2.5, strength=0.5, center=(0.25, 1.0)))
    entries = '[{"time": 0, "max_zoom": 1.2}, {"time": 2.5, "strength": 0.5, "center": [0.25, 1]}]'
    assert parse_keyframes(entries) == expected
    assert parse_keyframes(f'{{"keyframes": {entries}}}') == expected
    (tmp_path / "list.json").write_text(f"\ufeff{entries}", encoding="utf-8")  # as editors on Windows write it
    (tmp_path / "list.TOML").write_text(
        "[[keyframes]]\ntime = 0\nmax_zoom = 1.2\n[[keyframes]]\ntime = 2.5\nstrength = 0.5\ncenter = [0.25, 1]\n"
    )
    assert read_keyframes(tmp_path / "list.json") == expected
    assert read_keyframes(tmp_path / "list.TOML") == expected
    assert parse_keyframes(" \n") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", "list: is not valid JSON"),
        ("[" * 100_000, "list: is not valid JSON"),
        ('{"frames": []}', "list: has no list of keyframes"),
        ("[3]", "list, entry 1: is 3; it has to be an object"),
        ('[{"max_zoom": 1.2}]', "list, entry 1: there is no time"),
        ('[{"time": 0, "strength": 1}, {"time": 1, "zoom": 2}]', "entry 2: zoom is not a key; the keys are time, str"),
        ('[{"time": 3}]', "entry 1: the keyframe at 3 s sets nothing"),
        ('[{"time": -1, "strength": 1}]', "entry 1: time is -1; it is a number of seconds"),
        ('[{"time": NaN, "strength": 1}]', "entry 1: time is nan"),
        ('[{"time": "2", "strength": 1}]', "entry 1: time is '2'"),
        ('[{"time": 0, "strength": 1.5}]', "entry 1: strength is 1.5; it goes from 0"),
        ('[{"time": 0, "strength": true}]', "entry 1: strength is True"),
        (f'[{{"time": 0, "max_zoom": 1{400 * "0"}}}]', "entry 1: max_zoom is 1000"),
        ('[{"time": 0, "max_zoom": 0.9}]', "entry 1: max_zoom is 0.9; it is a magnification"),
        ('[{"time": 0, "center": 0.5}]', "entry 1: center is 0.5; it is x and y"),
        ('[{"time": 0, "center": [0.5, 1.5]}]', r"entry 1: center is \[0.5, 1.5\]"),
        ('[{"time": 2, "strength": 1}, {"time": 2, "strength": 0}]', "entry 2: time is 2 and that of the entry before"),
    ],
)
def test_errors_name_the_entry_and_its_value(text, message):
    with pytest.raises(ClipError, match=message):
        parse_keyframes(text, "list")


def test_errors_name_the_file(tmp_path):
    (tmp_path / "bad.toml").write_text("[[keyframes]]\ntime = 1\ncenter = 2\n")
    with pytest.raises(ClipError, match=r"bad\.toml, entry 1: center is 2"):
        read_keyframes(tmp_path / "bad.toml")
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(ClipError, match=r"latin\.json: is not UTF-8 \(byte 2\)"):
        read_keyframes(tmp_path / "latin.json")
    with pytest.raises(ClipError, match=r"none\.json: cannot be read"):
        read_keyframes(tmp_path / "none.json")


def test_values_go_smoothly_from_one_keyframe_to_the_next():
    frames = (
        Keyframe(1, strength=0.2),
        Keyframe(2, max_zoom=1.5),
        Keyframe(3, strength=0.8),
        Keyframe(4, strength=0.9),
    )
    times = np.linspace(0, 5, 501)
    curve = interpolate_keyframes(frames, "strength", times)
    assert np.allclose(curve[[0, 100, 300, 400, 500]], [0.2, 0.2, 0.8, 0.9, 0.9])
    assert (np.diff(curve) >= 0).all()  # no overshoot
    speed = np.gradient(curve, times)
    assert np.abs(np.diff(speed)).max() < 0.03  # of 0.3 per second on average: continuous
    assert speed[300] > 0.05  # a keyframe on the way is no stop
    assert np.allclose(interpolate_keyframes(frames, "max_zoom", times), 1.5)


def test_two_coordinates_of_a_center_are_independent():
    frames = (Keyframe(0, center=(0.2, 0.9)), Keyframe(2, center=(0.6, 0.1)))
    middle = interpolate_keyframes(frames, "center", np.array([-1.0, 1.0, 7.0]))
    assert np.allclose(middle, [[0.2, 0.9], [0.4, 0.5], [0.6, 0.1]])


@pytest.mark.parametrize(("method", "least"), [(Smoothing.KALMAN, 1.0), (Smoothing.LOCKED, 1.03)])
def test_the_zoom_of_every_frame_stays_below_its_limit(measured, method, least):
    frames = (Keyframe(2, max_zoom=least), Keyframe(4, max_zoom=1.4))
    zooms = border_zooms(plan(measured, *frames, method=method), Border.CROP_ADAPTIVE)
    assert (zooms <= interpolate_keyframes(frames, "max_zoom", SECONDS) + 1e-9).all()
    assert zooms[-1] > 1.05  # the limits of both ends are not the same


def test_strength_over_time_keeps_the_shake_while_it_is_zero(measured):
    planned = plan(measured, Keyframe(2, strength=0), Keyframe(4, strength=1), border=Border.MIRROR)
    free = plan(measured, border=Border.MIRROR)
    still = SECONDS <= 2
    assert np.allclose(planned.matrices[still], np.eye(3), atol=1e-9)
    assert np.allclose(planned.matrices[SECONDS >= 4], free.matrices[SECONDS >= 4], atol=1e-9)
    weak = plan(measured, Keyframe(0, strength=0.5), border=Border.MIRROR)
    expected = plan(measured, border=Border.MIRROR, strength=Strength(*[0.5] * 5))
    assert np.allclose(weak.matrices, expected.matrices, atol=1e-6)


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
@pytest.mark.parametrize("max_zoom", [1.05, 4.0])  # whether the correction is limited, or only its peaks are trimmed
def test_a_crop_moves_no_frame_of_strength_zero(measured, border, max_zoom):
    frames = Keyframe(2, strength=0), Keyframe(3, strength=1)
    planned, free = plan(measured, *frames, border=border, max_zoom=max_zoom), plan(measured, *frames, border="mirror")
    assert np.abs(planned.matrices - free.matrices).max() > 0.01, "something is limited"
    np.testing.assert_array_equal(planned.matrices[SECONDS <= 2], np.tile(np.eye(3), (41, 1, 1)))
    assert zooms_to_fill(planned).max() <= max_zoom
    second = np.abs(np.diff(planned.matrices[:, :2, 2] - free.matrices[:, :2, 2], 2, axis=0))
    assert second.max() < 0.2 * np.abs(np.diff(free.matrices[:, :2, 2], 2, axis=0)).max(), "no jolt where it begins"


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
def test_the_center_moves_the_window_without_a_border(measured, border):
    free, planned = (
        with_border_zoom(plan(measured, *frames, border=border, max_zoom=1.5), border)
        for frames in ((), (Keyframe(0, center=(0.6, 0.45)),))
    )
    shift = visible_centers(planned) - visible_centers(free)
    assert np.allclose(shift.mean(axis=0), [0.1 * 320, -0.05 * 180], atol=1.0)
    assert zooms_to_fill(planned).max() < 1 + 1e-6


def test_a_center_out_of_reach_is_approached(measured):
    planned = with_border_zoom(plan(measured, Keyframe(0, center=(0.0, 0.5)), max_zoom=1.3), Border.CROP_ADAPTIVE)
    left = visible_centers(planned)[:, 0].mean()
    assert -0.5 * (1 - 1 / 1.3) * 320 < left < -0.06 * 320
    assert zooms_to_fill(planned).max() < 1 + 1e-6


def test_times_are_those_of_the_frames(measured):
    """The second half of the frames is shown at a quarter of the rate."""
    times = np.concatenate([SECONDS[:60], 3 + 4 * SECONDS[:60]])
    planned = plan(
        replace(measured, times=times), Keyframe(6, strength=0), Keyframe(8, strength=1), border=Border.MIRROR
    )
    moved = np.abs(planned.matrices - np.eye(3)).max(axis=(1, 2))
    assert (moved[times <= 6] < 1e-9).all()
    assert (moved[times > 8] > 1e-3).all()


def visible_centers(correction):
    """(N, 2): the source points in the middle of the results."""
    return geometry.transform_points(geometry.inverse(correction.matrices), np.zeros((1, 1, 2)))[:, 0]
