from fractions import Fraction
from importlib import import_module
from itertools import islice

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_shaken_clip, make_texture, measure_jitter
from numbered_video import numbered_frames, read_number
from rolling_shutter_motion import pose_at, rolling_shutter_steps
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import apply_zoom
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.smoothing.strength import Strength
from steadyscale.core.warping.live import FrameMotion, stabilize_live, stream_motion
from steadyscale.core.warping.warp import warp
from steadyscale.models import load_path_smoother
from uneven_timestamps import PATTERNS, judder, pattern_times

FPS = Fraction(25)


def motions_along(path, frames=None, confidence=None):
    """Frame motions along a path."""
    poses = geometry.matrices_from_parameters(np.asarray(path, dtype=float))
    frames = torch.zeros(len(path), 3, 90, 160) if frames is None else frames
    for i, frame in enumerate(frames):
        step = np.eye(3) if i == 0 else np.linalg.inv(poses[i]) @ poses[i - 1]
        yield FrameMotion(frame[None], step, (0.0 if i == 0 else 1.0) if confidence is None else confidence[i])


def corrected_path(path, look_ahead, monkeypatch, **settings):
    """The path after live correction, from the corrections that are passed to the warp."""
    caught = []
    live_module = import_module("steadyscale.core.warping.live")
    maps = live_module.pixel_maps

    def catch(matrices, width, height, pad=0):
        caught.extend(matrices)
        return maps(matrices, width, height, pad)

    monkeypatch.setattr(live_module, "pixel_maps", catch)
    settings = {"border": Border.EDGE, "max_zoom": 4.0, **settings}
    assert len(list(stabilize_live(motions_along(path), FPS, look_ahead=look_ahead, **settings))) == len(path)
    monkeypatch.undo()
    return geometry.to_parameters(geometry.matrices_from_parameters(path) @ np.linalg.inv(np.stack(caught)))


def test_stream_motion_equals_estimate_motion():
    clip, _ = make_shaken_clip(frames=6)
    motion = estimate_motion(clip, flow_model(FlowMethod.DIS))
    came = list(stream_motion(clip.frames(batch=4), flow_model(FlowMethod.DIS)))
    assert np.allclose(np.stack([m.step for m in came]), motion.steps, atol=1e-9)
    assert np.allclose([m.confidence for m in came], motion.confidence, atol=1e-9)
    assert torch.equal(torch.cat([m.frame for m in came]), torch.cat(list(clip.frames())))


def test_jitter_decreases_with_look_ahead(monkeypatch):
    path = make_shake_path(120, seed=2, pixels=4)
    left = [measure_jitter(corrected_path(path, n, monkeypatch)[40:], 160, 90) for n in (0, 4, 12, 40)]
    assert left[0] < measure_jitter(path, 160, 90) / 2
    assert left[1] < left[0]
    assert left[2] < left[1]
    assert left[3] < left[2]
    assert left[3] < measure_jitter(path, 160, 90) / 40


def test_uniform_pan_is_followed(monkeypatch):
    pan = np.outer(np.arange(60.0), [2, 1, 0, 0])
    assert np.allclose(corrected_path(pan, 5, monkeypatch)[2:], pan[2:], atol=0.05)


@pytest.mark.parametrize(("is_learned", "degrees"), [(False, 180), (False, 360), (False, 720), (True, 720)])
def test_rolls_have_any_number_of_turns(is_learned, degrees, monkeypatch):
    turn = np.zeros((60, 4))
    turn[:, 2] = np.radians(degrees) * np.clip((np.arange(60) - 10) / 40, 0, 1)
    smoother = load_path_smoother().make_controller if is_learned else None
    rolls = np.unwrap(corrected_path(turn, 12, monkeypatch, seconds=2.0, smoother=smoother)[:, 2])
    assert np.abs(np.diff(rolls, 2)).max() < np.abs(np.diff(turn[:, 2], 2)).max()
    assert np.abs(rolls - turn[:, 2]).max() < np.pi


@pytest.mark.parametrize("ahead", [0, 3])
def test_look_ahead_bounds_the_delay(ahead):
    path, frames = make_shake_path(30), make_texture(90, 160).expand(30, -1, -1, -1)
    other = path.copy()
    other[20 + ahead :, :2] += 40
    stream = stabilize_live(motions_along(path, frames), FPS, look_ahead=ahead)
    changed = stabilize_live(motions_along(other, frames), FPS, look_ahead=ahead)
    same = [torch.equal(a.frames, b.frames) for a, b in zip(stream, changed, strict=True)]
    assert same[:20] == [True] * 20
    assert not same[20]
    asked = iter(motions_along(path, frames))
    next(stabilize_live(asked, FPS, look_ahead=ahead))
    assert len(list(asked)) == 30 - 1 - ahead, "the delay equals the look-ahead"


def test_every_frame_is_output_once_and_in_order():
    frames = numbered_frames(20)
    still = stabilize_live(motions_along(np.zeros((20, 4)), frames), FPS, look_ahead=6, border=Border.EDGE)
    assert [read_number(w.frames[0]) for w in still] == list(range(20))


def test_crop_is_constant_and_hides_borders():
    path = make_shake_path(50, seed=5, pixels=12)
    for w in stabilize_live(motions_along(path, torch.full((50, 3, 90, 160), 0.7)), FPS, max_zoom=1.15, look_ahead=2):
        assert not w.fill_mask.any()
        assert torch.allclose(w.frames, torch.tensor(0.7), atol=1e-5)
    frames = make_texture(90, 160).expand(3, -1, -1, -1)
    clip = TensorClip(frames, FPS)
    fix = apply_zoom(Correction(np.eye(3)[None].repeat(3, 0), [slice(0, 3)], clip.info), 1.15)
    plain = torch.cat([w.frames for w in warp(clip.frames(), fix, Border.EDGE)])
    still = torch.cat([w.frames for w in stabilize_live(motions_along(np.zeros((3, 4)), frames), FPS, max_zoom=1.15)])
    assert torch.equal(still, plain)


def test_shots_are_independent():
    confidence, path = np.ones(30), make_shake_path(30)
    confidence[[0, 15]] = 0
    frames = make_texture(90, 160).expand(30, -1, -1, -1)
    joined = [w.frames for w in stabilize_live(motions_along(path, frames, confidence), FPS, look_ahead=5)]
    parts = [
        stabilize_live(islice(motions_along(path, frames, confidence), a, b), FPS, look_ahead=5)
        for a, b in ((0, 15), (15, 30))
    ]
    apart = [w.frames for part in parts for w in part]
    assert torch.equal(torch.cat(joined), torch.cat(apart))


def test_low_confidence_continues_the_last_motion(monkeypatch):
    pan = np.outer(np.arange(40.0), [2, 0, 0, 0])
    frames = make_texture(90, 160).expand(40, -1, -1, -1)
    wild, confidence = pan.copy(), np.ones(40)
    wild[20:, 0] += 50
    confidence[[0, 20]] = 0, 0.05
    expected = [w.frames for w in stabilize_live(motions_along(pan, frames), FPS)]
    seen = [w.frames for w in stabilize_live(motions_along(wild, frames, confidence), FPS)]
    assert torch.allclose(torch.cat(seen), torch.cat(expected), atol=1e-4)


def test_a_degenerate_step_continues_the_last_motion():
    pan = np.outer(np.arange(40.0), [2, 0, 0, 0])
    frames = make_texture(90, 160).expand(40, -1, -1, -1)
    steps = list(motions_along(pan, frames))
    expected = [w.frames for w in stabilize_live(iter(steps), FPS)]
    steps[20] = steps[20]._replace(step=np.diag([0.0, 0.0, 1.0]))
    actual = [w.frames for w in stabilize_live(iter(steps), FPS)]
    assert torch.allclose(torch.cat(actual), torch.cat(expected), atol=1e-4)


@pytest.mark.parametrize("border", [Border.FILL, Border.CROP_ADAPTIVE])
def test_borders_that_need_the_future_are_errors(border):
    with pytest.raises(ClipError, match="needs future frames"):
        next(stabilize_live(motions_along(np.zeros((3, 4))), FPS, border=border))
    with pytest.raises(ClipError, match="0 or more frames"):
        next(stabilize_live(motions_along(np.zeros((3, 4))), FPS, look_ahead=-1))


def follow_frame(width, height, max_zoom, period):
    """A controller that follows each frame."""
    return lambda poses: poses[0]


def stay(width, height, max_zoom, period):
    """A controller that does not move."""
    return lambda poses: np.zeros(8)


def test_controller_determines_the_virtual_camera(monkeypatch):
    path = make_shake_path(20, pixels=5)
    assert np.allclose(corrected_path(path, 3, monkeypatch, smoother=follow_frame), path, atol=1e-6)
    assert np.allclose(corrected_path(path, 3, monkeypatch, smoother=stay), path[0], atol=1e-6)


def test_controller_gets_known_poses_and_is_recreated_after_a_cut():
    received, path = [], np.outer(np.arange(12.0), [2, 0, 0, 0])
    confidence = np.ones(12)
    confidence[[0, 7]] = 0

    def make_recorder(width, height, max_zoom, period):
        assert (width, height, max_zoom, period) == (160, 90, 1.2, 3.0 * 25)
        received.append([])
        return lambda poses: received[-1].append(poses) or np.zeros(8)

    list(stabilize_live(motions_along(path, confidence=confidence), FPS, look_ahead=2, smoother=make_recorder))
    assert [[len(poses) for poses in shot] for shot in received] == [[3, 3, 3, 3, 3, 2, 1], [3, 3, 3, 2, 1]]
    assert np.allclose(received[0][1][:, 0], [2, 4, 6])
    assert np.allclose(received[1][0][:, 0], [0, 2, 4])


def test_learned_controller_stabilizes(monkeypatch):
    path = make_shake_path(120, seed=2, pixels=4)
    controller = load_path_smoother().make_controller
    left = [measure_jitter(corrected_path(path, n, monkeypatch, smoother=controller)[40:], 160, 90) for n in (0, 15)]
    assert left[0] < measure_jitter(path, 160, 90) / 3
    assert left[1] < left[0]


def test_strength_and_horizon_apply_live(monkeypatch):
    path = make_shake_path(40, pixels=5)
    kept = corrected_path(path, 3, monkeypatch, strength=Strength(x=0))
    plain = corrected_path(path, 3, monkeypatch)
    assert np.abs(kept[:, 0] - path[:, 0]).max() < 0.1
    assert np.abs(plain[:, 0] - path[:, 0]).max() > 1
    rolling = np.zeros((100, 4))
    rolling[:, 2] = 0.1 * np.sin(2 * np.pi * np.arange(100) / 75)
    corrected = (corrected_path(rolling, 3, monkeypatch, horizon=h, seconds=1.5) for h in (0.0, 0.5, 1.0))
    turns = [np.ptp(path[20:, 2]) for path in corrected]
    assert turns[2] < 0.6 * turns[0]
    assert turns[2] < turns[1] < turns[0]
    with pytest.raises(ClipError, match="horizon"):
        next(stabilize_live(motions_along(path), FPS, horizon=2.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_known_rolling_shutter_is_rectified(sign):
    """Pixel values are coordinates, so the output contains its source positions."""
    readout, height, width = 0.8 * sign, 180, 320
    steps, _ = rolling_shutter_steps(readout, height=height)
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    frame = torch.from_numpy(np.stack([x / width + 0.5, y / height + 0.5, 0 * x])).float()[None]
    at = np.s_[20:160:20, 30:290:20]
    points = np.stack([x[at].ravel(), y[at].ravel()], axis=-1)

    def bent_by(received, look_ahead):
        """Root mean square deviation in pixels of the output from a similarity of the scene."""
        came = (FrameMotion(frame, steps[i], float(i > 0)) for i in range(18))
        off = []
        for i, w in enumerate(
            stabilize_live(came, FPS, look_ahead=look_ahead, readout=received, max_zoom=1.3, border=Border.EDGE)
        ):
            u, v = ((w.frames[0, k].double().numpy()[at].ravel() - 0.5) * size for k, size in ((0, width), (1, height)))
            scene = geometry.transform_points(pose_at(i + readout * v / height), np.stack([u, v], -1)[:, None])[:, 0]
            z, seen = (p @ [1, 1j] for p in (points, scene))
            columns = np.stack([z, np.ones_like(z)], axis=-1)
            found = np.linalg.lstsq(columns, seen)[0]  # camera motion is a similarity
            off.append((np.abs(columns @ found - seen) ** 2).mean())
        assert len(off) == 18
        return float(np.sqrt(np.mean(off[5:-4])))

    left = bent_by(0.0, 5)
    assert left > 0.15, "the input has a rolling shutter"
    assert bent_by(readout, 5) < left / 2.5
    assert bent_by(-readout, 5) > 1.5 * left, "the opposite readout increases the distortion"


def test_readout_beyond_a_frame_is_an_error():
    with pytest.raises(ClipError, match="got 1\\.5"):
        next(stabilize_live(motions_along(np.zeros((3, 4))), FPS, readout=1.5))


def test_live_an_attenuation_is_immediate_and_ends_slowly_or_at_a_cut(monkeypatch):
    live_module, strengths = import_module("steadyscale.core.warping.live"), []
    limit = live_module.max_strength_for_zoom

    def peak(fix, max_zoom):
        """Only frame 20 allows less than the whole correction."""
        limit(fix, max_zoom)
        peak.count += 1
        return np.array([0.25 if peak.count == 21 else 1.0])

    peak.count = 0
    attenuate = live_module.attenuate_correction
    monkeypatch.setattr(live_module, "max_strength_for_zoom", peak)
    monkeypatch.setattr(
        live_module, "attenuate_correction", lambda fix, by: (strengths.append(float(by[0])), attenuate(fix, by))[1]
    )
    confidence = np.ones(60)
    confidence[[0, 50]] = 0
    period = 2.0 * 25
    assert len(list(stabilize_live(motions_along(np.zeros((60, 4)), confidence=confidence), FPS, seconds=2.0))) == 60
    assert strengths == pytest.approx([0.25 + number / period for number in range(30)]), "frames 20 to 49"


@pytest.mark.parametrize(("pattern", "look_ahead"), [*((name, 0) for name in PATTERNS), ("random", 5), ("gap", 5)])
def test_even_pan_at_uneven_times_stays_even_live(pattern, look_ahead, monkeypatch):
    times = pattern_times(pattern)
    fps, pan = Fraction(30), np.outer(times, [150.0, 0, 0, 0])
    poses = geometry.matrices_from_parameters(pan)
    steps = np.concatenate([np.eye(3)[None], np.linalg.inv(poses[1:]) @ poses[:-1]])
    elapsed = np.diff(times * 30, prepend=-1.0)
    for smoother in (None, load_path_smoother().make_controller):
        live = import_module("steadyscale.core.warping.live")
        came = (FrameMotion(torch.zeros(1, 3, 90, 160), steps[i], float(i > 0), elapsed[i]) for i in range(len(times)))
        make = smoother and (lambda width, height: load_path_smoother().make_controller(width, height, 4.0, 60.0))
        fixes = [item.correction.matrices[0] for item in live._compute_corrections(came, fps, 60.0, look_ahead, make)]
        after = geometry.to_parameters(poses @ np.linalg.inv(np.stack(fixes)))[:, 0]
        middle = slice(len(times) // 2, -look_ahead - 1)
        assert judder(times[middle], after[middle]) < (0.01 if smoother is None else 0.1)
