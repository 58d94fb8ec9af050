"""Settings of stabilization, and the operation that they make of a clip whose shake is known."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_shaken_clip
from recorded_calls import RecordedCalls
from steadyscale.core import geometry
from steadyscale.core.bars import Bars
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import zooms_to_fill
from steadyscale.core.hold import Hold, Region
from steadyscale.core.jobs.segments import SEGMENT_SECONDS
from steadyscale.core.jobs.state.fingerprint import fingerprint
from steadyscale.core.lens import Lens
from steadyscale.core.motion.camera.readout_time import RollingShutter
from steadyscale.core.motion.optical_flow.flow import FlowMethod
from steadyscale.core.path.motion import Motion
from steadyscale.core.smoothing.keyframes import Keyframe
from steadyscale.core.smoothing.mesh_smooth import MeshWarp
from steadyscale.core.smoothing.smooth import Smoothing
from steadyscale.core.smoothing.strength import Strength
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion, plan_stabilization


@pytest.fixture(scope="module")
def shaken():
    """24 frames of 160x120, and the true path of the camera."""
    return make_shaken_clip(24, 160, 120, pixels=5.0)


class UnreadableClip:
    """A clip that fails if it is read."""

    info = ClipInfo(160, 120, Fraction(25), 24)

    def frames(self, batch: int = 1):
        raise AssertionError("the clip is read")


def test_strings_become_members_of_their_enum():
    settings = StabilizeSettings(smoothing="l1", border="mirror", flow="dis", rolling_shutter="off")
    assert settings.smoothing is Smoothing.L1
    assert settings.border is Border.MIRROR
    assert settings.flow is FlowMethod.DIS
    assert settings.rolling_shutter is RollingShutter.OFF


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": 0}, "seconds is 0"),
        ({"max_zoom": 0.9}, "max_zoom is 0.9"),
        ({"horizon": 1.1}, "horizon is 1.1"),
        ({"rolling_shutter": -1.5}, "rolling_shutter is -1.5"),
        ({"reference": -1}, "reference is -1"),
        ({"pad": -2, "border": Border.BLACK}, "pad is -2"),
        ({"pad": 2, "border": Border.CROP_ADAPTIVE}, "cannot be cropped"),
        ({"keyframes": (Keyframe(0, max_zoom=1.2),)}, "the border crop has no zoom that changes: choose crop-adaptive"),
        ({"keyframes": (Keyframe(0, center=(0.5, 0.4)),), "border": Border.EDGE}, "the border edge does not crop"),
        ({"keyframes": [Keyframe(2, strength=0), Keyframe(1, strength=1)]}, "entry 2: time is 1"),
    ],
)
def test_values_outside_their_range_are_refused(values, message):
    with pytest.raises(ClipError, match=message):
        StabilizeSettings(**values)


def test_keyframes_reach_the_correction():
    """The guard against added shake does not undo a center that moves fast, as it is asked for."""
    info = ClipInfo(160, 120, Fraction(25), 50)
    motion = Motion(np.tile(np.eye(3), (50, 1, 1)), np.array([0.0] + [1.0] * 49), info)
    keyframes = [Keyframe(0.8, center=(0.5, 0.5)), Keyframe(1.2, center=(0.6, 0.5))]
    settings = StabilizeSettings(border="crop-adaptive", keyframes=keyframes)
    fix = correct_motion(motion, settings)
    assert fix.matrices[-1, 0, 2] == pytest.approx(-16, abs=0.5)
    assert fix.matrices[0, 0, 2] == pytest.approx(0, abs=0.5)
    assert fingerprint(fix) != fingerprint(correct_motion(motion))


def test_a_lens_moves_no_frame_of_strength_zero(shaken_motion):
    frames = (Keyframe(1, strength=0), Keyframe(1.4, strength=1))
    fix = correct_motion(dataclasses.replace(shaken_motion, lens=Lens(150.0)), StabilizeSettings(keyframes=frames))
    np.testing.assert_array_equal(fix.matrices[:26], np.tile(np.eye(3), (26, 1, 1)))
    assert np.abs(fix.matrices[35:, :2, 2]).max() > 1


def test_the_learned_smoother_gets_the_largest_zoom_of_the_keyframes():
    recorded = []

    def load(*size):
        recorded.append(size)
        return lambda values, period: values

    keyframes = (Keyframe(0, max_zoom=1.1), Keyframe(1, max_zoom=1.6))
    settings = StabilizeSettings(smoothing="learned", border="crop-adaptive", keyframes=keyframes)
    info = ClipInfo(160, 120, Fraction(25), 3)
    correct_motion(Motion(np.tile(np.eye(3), (3, 1, 1)), np.array([0.0, 1, 1]), info), settings, load_smoother=load)
    assert recorded == [(160, 120, 1.6)]


def test_a_name_that_is_no_member_is_refused():
    with pytest.raises(ValueError, match="magic"):
        StabilizeSettings(smoothing="magic")


@pytest.mark.parametrize(
    ("rolling_shutter", "readout"),
    [(RollingShutter.AUTO, None), (RollingShutter.OFF, 0.0), (0.4, 0.4), (-1, -1.0)],
)
def test_the_readout_time_follows_from_the_setting(rolling_shutter, readout):
    assert StabilizeSettings(rolling_shutter=rolling_shutter).readout_time == readout


def test_a_locked_view_undoes_the_known_shake(shaken):
    clip, path = shaken
    settings = StabilizeSettings(smoothing=Smoothing.LOCKED, reference=0, border=Border.BLACK)
    warp = plan_stabilization(clip, settings)
    truth = geometry.matrices_from_parameters(path)
    corners = geometry.corners(160, 120)[None]
    error = geometry.transform_points(warp.correction.matrices, corners) - geometry.transform_points(truth, corners)
    assert np.abs(geometry.transform_points(truth, corners) - corners).max() > 3, "the clip is shaken"
    assert np.abs(error).max() < 0.6


def test_border_pad_and_device_are_those_of_the_operation(shaken):
    warp = plan_stabilization(shaken[0], StabilizeSettings(border=Border.EDGE, pad=4), device="cpu")
    assert (warp.border, warp.pad, warp.device) == (Border.EDGE, 4, "cpu")


def test_strength_reaches_the_correction(shaken):
    none = StabilizeSettings(border=Border.BLACK, strength=Strength(0, 0, 0, 0, 0))
    warp = plan_stabilization(shaken[0], none)
    np.testing.assert_allclose(warp.correction.matrices, np.tile(np.eye(3), (24, 1, 1)), atol=1e-9)


def test_a_given_motion_is_not_measured_again(shaken):
    clip, _ = shaken
    motion = measure_motion(clip)
    planned = plan_stabilization(UnreadableClip(), motion=motion)
    np.testing.assert_array_equal(planned.correction.matrices, plan_stabilization(clip).correction.matrices)
    np.testing.assert_array_equal(planned.correction.matrices, correct_motion(motion).matrices)
    with pytest.raises(AssertionError, match="the clip is read"):
        plan_stabilization(UnreadableClip())


def test_a_stated_readout_time_is_part_of_the_motion(shaken):
    assert measure_motion(shaken[0], StabilizeSettings(rolling_shutter=0.3)).readout == 0.3
    assert measure_motion(shaken[0], StabilizeSettings(rolling_shutter="off")).readout == 0.0


@pytest.mark.parametrize(("border", "max_zoom"), [(Border.CROP, 1.2), (Border.MIRROR, None)])
def test_the_learned_smoother_is_loaded_for_the_size_and_the_crop(border, max_zoom):
    motion = Motion(np.tile(np.eye(3), (10, 1, 1)), np.array([0.0, *[1.0] * 9]), ClipInfo(64, 48, Fraction(25), 10))
    calls = []

    def load(*size):
        calls.append(size)
        return lambda values, period: values

    settings = StabilizeSettings(smoothing="learned", border=border, max_zoom=1.2)
    correct_motion(motion, settings, load_smoother=load)
    assert calls == [(64, 48, max_zoom)]
    with pytest.raises(ClipError, match="learned smoother is a network"):
        correct_motion(motion, settings)


def test_a_function_is_a_smoother(shaken):
    """One that returns its values leaves every frame where it is."""
    settings = StabilizeSettings(smoothing=lambda values, period: values, border=Border.BLACK)
    warp = plan_stabilization(shaken[0], settings)
    np.testing.assert_allclose(warp.correction.matrices, np.tile(np.eye(3), (24, 1, 1)), atol=1e-6)


def test_a_mask_is_not_measured(shaken):
    """Masked where anything is, nothing can be measured: every step is without confidence."""
    clip, _ = shaken
    masked = measure_motion(clip, mask=torch.ones(1, 120, 160))
    assert masked.confidence[1:].max() < measure_motion(clip).confidence[1:].min()


def test_a_job_refuses_a_mask_that_it_cannot_compare(shaken):
    with pytest.raises(ClipError, match="as a tensor"):
        measure_motion(shaken[0], mask=lambda i: torch.zeros(120, 160), job=object())


def test_every_setting_has_a_default():
    assert all(
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(StabilizeSettings)
    )


@pytest.fixture(scope="module")
def shaken_motion() -> Motion:
    """A strong shake with a slow turn of 60 frames: every setting has something to change."""
    path = make_shake_path(60, pixels=6.0, angle=0.03)
    path[:, 2] += np.linspace(0, 0.2, 60)
    poses = geometry.matrices_from_parameters(path)
    steps = np.concatenate([np.eye(3)[None], geometry.inverse(poses[1:]) @ poses[:-1]])
    return Motion(steps, np.array([0.0, *[1.0] * 59]), ClipInfo(160, 120, Fraction(25), 60))


OTHER_SETTINGS = {
    "smoothing": (Smoothing.GAUSSIAN, {}),
    "seconds": (0.5, {}),
    "border": (Border.CROP_ADAPTIVE, {}),
    "max_zoom": (1.05, {}),
    "flow": (FlowMethod.DIS, {}),
    "strength": (Strength(x=0.5), {}),
    "horizon": (1.0, {}),
    "rolling_shutter": (0.5, {}),
    "reference": (5, {"smoothing": Smoothing.LOCKED}),
    "pad": (3, {"border": Border.MIRROR}),
    "bars": (Bars(top=8, bottom=8), {}),
    "keyframes": ((Keyframe(0, strength=0.5),), {}),
    "mesh": (MeshWarp.OFF, {}),
    "lens": (150.0, {}),
    "telemetry": ("auto", {}),
    "hold": (Hold.BACKGROUND, {}),
    "region": (Region(9, 9, 40, 40), {"hold": Hold.REGION, "region": Region(1, 1, 40, 40)}),
    "hold_strength": (0.5, {"hold": Hold.REGION, "region": Region(1, 1, 40, 40)}),
}


# The file of a smoother is loaded by the caller: api/test_wiring.py.
@pytest.mark.parametrize("name", sorted({field.name for field in dataclasses.fields(StabilizeSettings)} - {"smoother"}))
def test_every_setting_changes_the_operation(monkeypatch, shaken_motion, name):
    value, needed = OTHER_SETTINGS[name]
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.stabilize.measure.flow_model", "the flow")
    calls.replace("steadyscale.core.stabilize.motion_estimator.estimate_motion", shaken_motion)
    calls.replace("steadyscale.core.stabilize.known_bars.find_bars", None)
    calls.replace("steadyscale.core.stabilize.measure.gyro_of", "no gyroscope")
    calls.replace("steadyscale.core.stabilize.measure.hold_motion", shaken_motion)

    clip = UnreadableClip()

    def plan(**settings):
        calls.calls.clear()
        warp = plan_stabilization(clip, StabilizeSettings(**settings))
        fix = warp.correction
        return str(calls.calls), fix.matrices.tobytes(), str(fix.rows), warp.border, warp.pad

    assert plan(**needed) == plan(**needed), "the same twice"
    assert plan(**needed) != plan(**{**needed, name: value})


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
@pytest.mark.parametrize("max_zoom", [1.02, 1.05])
def test_a_crop_needs_at_most_the_largest_zoom_and_others_are_not_limited(shaken_motion, border, max_zoom):
    fix = correct_motion(shaken_motion, StabilizeSettings(border=border, max_zoom=max_zoom))
    assert zooms_to_fill(fix).max() <= max_zoom + 1e-6
    free = correct_motion(shaken_motion, StabilizeSettings(border=Border.MIRROR, max_zoom=max_zoom))
    assert zooms_to_fill(free).max() > 1.1


def test_arguments_of_the_measuring_arrive(monkeypatch, shaken_motion):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.stabilize.measure.flow_model", "the flow")
    calls.replace("steadyscale.core.stabilize.motion_estimator.estimate_motion", shaken_motion)
    calls.replace("steadyscale.core.stabilize.known_bars.find_bars", None)
    calls.replace("steadyscale.core.jobs.motion_cache.cached_motion", shaken_motion)
    clip, mask, settings = UnreadableClip(), torch.zeros(1, 120, 160), StabilizeSettings(flow="dis")
    plan_stabilization(clip, settings, device="cuda", side=96, mask=mask)
    assert calls.one("flow_model") == {"method": FlowMethod.DIS, "device": "cuda"}
    assert calls.one("estimate_motion") == {
        "clip": clip, "flow": "the flow", "side": 96, "mask": mask, "with_residuals": True,
    }  # fmt: skip
    plan_stabilization(clip, settings, side=96, mask=mask, job="the job", segment_seconds=2.5)
    expected = {"job": "the job", "clip": clip, "flow": "the flow", "side": 96, "mask": mask, "segment_seconds": 2.5}
    expected |= {"with_residuals": True, "lens": None, "is_second_pass": False}
    assert calls.one("cached_motion") == expected
    assert measure_motion(clip, settings, flow="another", job="the job") is not None
    assert calls.all("cached_motion")[-1]["flow"] == "another"
    assert calls.all("cached_motion")[-1]["segment_seconds"] == SEGMENT_SECONDS


def test_what_is_held_is_measured_of_the_camera_motion(monkeypatch, shaken_motion):
    """The readout is the camera's, and the region is one of the frame with its bars."""
    held = dataclasses.replace(shaken_motion, steps=shaken_motion.steps[::-1].copy(), hold=Hold.REGION)
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.stabilize.measure.flow_model", "the flow")
    calls.replace("steadyscale.core.stabilize.motion_estimator.estimate_motion", shaken_motion)
    calls.replace("steadyscale.core.stabilize.measure.hold_motion", held)
    calls.replace(
        "steadyscale.core.stabilize.measure.with_rolling_shutter", dataclasses.replace(shaken_motion, readout=0.3)
    )
    region, bars = Region(9, 9, 40, 40), Bars(top=8)
    settings = StabilizeSettings(hold="region", region=region, hold_strength=0.5, bars=bars)
    motion = measure_motion(UnreadableClip(), settings, side=96)
    call = calls.one("hold_motion")
    assert call["motion"].steps == pytest.approx(shaken_motion.steps, abs=1e-9)
    assert (call["motion"].info, call["motion"].bars) == (shaken_motion.info, None)
    assert (call["hold"], call["region"], call["strength"], call["side"]) == (Hold.REGION, region, 0.5, 96)
    assert call["mask"] is not None
    assert motion.steps == pytest.approx(held.inside(bars).steps)
    assert (motion.readout, motion.bars, motion.hold) == (0.3, bars, Hold.REGION)
    camera = calls.one("with_rolling_shutter")["motion"]
    assert camera.steps == pytest.approx(shaken_motion.inside(bars).steps)


def test_values_at_the_ends_of_their_range_are_accepted():
    StabilizeSettings(max_zoom=1, horizon=0, rolling_shutter=-1, reference=0)
    StabilizeSettings(horizon=1, rolling_shutter=1, pad=0)
    for wrong in (
        {"seconds": float("nan")},
        {"max_zoom": float("nan")},
        {"horizon": -0.01},
        {"horizon": float("nan")},
        {"rolling_shutter": 1.01},
        {"border": "crop", "pad": 1},
    ):
        with pytest.raises(ClipError):
            StabilizeSettings(**wrong)


@pytest.mark.parametrize("size", [(2, 480), (40, 3), (6, 1200), (1, 1), (11, 300)])
@pytest.mark.parametrize("hold", [Hold.AUTO, Hold.FOREGROUND])
def test_thin_frames_are_measured(size, hold):
    frames = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(1))
    motion = measure_motion(TensorClip(frames, Fraction(25)), StabilizeSettings(hold=hold))
    assert len(motion.steps) == 5
