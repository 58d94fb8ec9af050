from fractions import Fraction
from importlib import import_module
from itertools import islice

import numpy as np
import pytest
import torch
from counting import number_of, numbered
from footage import jitter, shake, shaken_clip, texture
from rolled import seen_steps, way
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.flow import FlowMethod, flow_model
from steadyscale.core.path.axes import Strength
from steadyscale.core.path.crop import zoomed
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.warping.border import Border
from steadyscale.core.warping.live import Measured, live, measure
from steadyscale.core.warping.move import warp
from steadyscale.models import load_path_smoother

FPS = Fraction(25)


def along(path, frames=None, trust=None):
    """A path as if it had been measured."""
    poses = geometry.to_matrices(np.asarray(path, dtype=float))
    frames = torch.zeros(len(path), 3, 90, 160) if frames is None else frames
    for i, frame in enumerate(frames):
        step = np.eye(3) if i == 0 else np.linalg.inv(poses[i]) @ poses[i - 1]
        yield Measured(frame[None], step, (0.0 if i == 0 else 1.0) if trust is None else trust[i])


def shown_path(path, look_ahead, monkeypatch, **settings):
    """Where the camera seems to be after live correction: the corrections are caught on their way to the pixels."""
    caught = []
    live_module = import_module("steadyscale.core.warping.live")
    maps = live_module.pixel_maps

    def catch(matrices, width, height, pad=0):
        caught.extend(matrices)
        return maps(matrices, width, height, pad)

    monkeypatch.setattr(live_module, "pixel_maps", catch)
    settings = {"border": Border.EDGE, "max_zoom": 4.0, **settings}
    assert len(list(live(along(path), FPS, look_ahead=look_ahead, **settings))) == len(path)
    monkeypatch.undo()
    return geometry.to_parameters(geometry.to_matrices(path) @ np.linalg.inv(np.stack(caught)))


def test_measuring_as_frames_come_equals_measuring_the_clip():
    clip, _ = shaken_clip(frames=6)
    motion = estimate_motion(clip, flow_model(FlowMethod.DIS))
    came = list(measure(clip.frames(batch=4), flow_model(FlowMethod.DIS)))
    assert np.allclose(np.stack([m.step for m in came]), motion.steps, atol=1e-9)
    assert np.allclose([m.trust for m in came], motion.trust, atol=1e-9)
    assert torch.equal(torch.cat([m.frame for m in came]), torch.cat(list(clip.frames())))


def test_jitter_falls_as_the_future_opens(monkeypatch):
    path = shake(120, seed=2, pixels=4)
    left = [jitter(shown_path(path, n, monkeypatch)[40:], 160, 90) for n in (0, 4, 12, 40)]
    assert left[0] < jitter(path, 160, 90) / 2
    assert left[1] < left[0]
    assert left[2] < left[1]
    assert left[3] < left[2]
    assert left[3] < jitter(path, 160, 90) / 40


def test_a_steady_pan_is_followed(monkeypatch):
    pan = np.outer(np.arange(60.0), [2, 1, 0, 0])
    assert np.allclose(shown_path(pan, 5, monkeypatch)[2:], pan[2:], atol=0.05)


@pytest.mark.parametrize("ahead", [0, 3])
def test_nothing_beyond_the_look_ahead_is_used_and_one_comes_out_for_one_in(ahead):
    path, frames = shake(30), texture(90, 160).expand(30, -1, -1, -1)
    other = path.copy()
    other[20 + ahead :, :2] += 40
    stream = live(along(path, frames), FPS, look_ahead=ahead)
    changed = live(along(other, frames), FPS, look_ahead=ahead)
    same = [torch.equal(a.frames, b.frames) for a, b in zip(stream, changed, strict=True)]
    assert same[:20] == [True] * 20
    assert not same[20]
    asked = iter(along(path, frames))
    next(live(asked, FPS, look_ahead=ahead))
    assert len(list(asked)) == 30 - 1 - ahead, "the latency is what it says"


def test_every_frame_comes_out_once_and_in_order():
    frames = numbered(20)
    still = live(along(np.zeros((20, 4)), frames), FPS, look_ahead=6, border=Border.EDGE)
    assert [number_of(w.frames[0]) for w in still] == list(range(20))


def test_the_crop_is_fixed_and_hides_every_border():
    path = shake(50, seed=5, pixels=12)
    for w in live(along(path, torch.full((50, 3, 90, 160), 0.7)), FPS, max_zoom=1.15, look_ahead=2):
        assert not w.invented.any()
        assert torch.allclose(w.frames, torch.tensor(0.7), atol=1e-5)
    frames = texture(90, 160).expand(3, -1, -1, -1)
    clip = TensorClip(frames, FPS)
    fix = zoomed(Correction(np.eye(3)[None].repeat(3, 0), [slice(0, 3)], clip.info), 1.15)
    plain = torch.cat([w.frames for w in warp(clip.frames(), fix, Border.EDGE)])
    still = torch.cat([w.frames for w in live(along(np.zeros((3, 4)), frames), FPS, max_zoom=1.15)])
    assert torch.equal(still, plain)


def test_a_cut_starts_afresh_on_both_sides():
    trust, path = np.ones(30), shake(30)
    trust[[0, 15]] = 0
    frames = texture(90, 160).expand(30, -1, -1, -1)
    whole = [w.frames for w in live(along(path, frames, trust), FPS, look_ahead=5)]
    parts = [live(islice(along(path, frames, trust), a, b), FPS, look_ahead=5) for a, b in ((0, 15), (15, 30))]
    apart = [w.frames for part in parts for w in part]
    assert torch.equal(torch.cat(whole), torch.cat(apart))


def test_what_cannot_be_trusted_goes_on_as_before(monkeypatch):
    pan = np.outer(np.arange(40.0), [2, 0, 0, 0])
    frames = texture(90, 160).expand(40, -1, -1, -1)
    wild, trust = pan.copy(), np.ones(40)
    wild[20:, 0] += 50
    trust[[0, 20]] = 0, 0.05
    expected = [w.frames for w in live(along(pan, frames), FPS)]
    seen = [w.frames for w in live(along(wild, frames, trust), FPS)]
    assert torch.allclose(torch.cat(seen), torch.cat(expected), atol=1e-4)


def test_a_degenerate_step_goes_on_as_before():
    pan = np.outer(np.arange(40.0), [2, 0, 0, 0])
    frames = texture(90, 160).expand(40, -1, -1, -1)
    steps = list(along(pan, frames))
    expected = [w.frames for w in live(iter(steps), FPS)]
    steps[20] = steps[20]._replace(step=np.diag([0.0, 0.0, 1.0]))
    seen = [w.frames for w in live(iter(steps), FPS)]
    assert torch.allclose(torch.cat(seen), torch.cat(expected), atol=1e-4)


@pytest.mark.parametrize("border", [Border.FILL, Border.CROP_ADAPTIVE])
def test_what_needs_the_future_is_refused(border):
    with pytest.raises(ClipError, match="know the future"):
        next(live(along(np.zeros((3, 4))), FPS, border=border))
    with pytest.raises(ClipError, match="0 or more frames"):
        next(live(along(np.zeros((3, 4))), FPS, look_ahead=-1))


def settled(width, height, max_zoom, period):
    """Drives at once to where the frame is."""
    return lambda seen: seen[0]


def at_rest(width, height, max_zoom, period):
    """Stays where the shot began."""
    return lambda seen: np.zeros(8)


def test_a_driver_decides_where_the_camera_seems_to_be(monkeypatch):
    path = shake(20, pixels=5)
    assert np.allclose(shown_path(path, 3, monkeypatch, smoother=settled), path, atol=1e-6)
    assert np.allclose(shown_path(path, 3, monkeypatch, smoother=at_rest), path[0], atol=1e-6)


def test_a_driver_is_told_what_is_known_and_a_new_one_begins_after_a_cut():
    told, path = [], np.outer(np.arange(12.0), [2, 0, 0, 0])
    trust = np.ones(12)
    trust[[0, 7]] = 0

    def listening(width, height, max_zoom, period):
        assert (width, height, max_zoom, period) == (160, 90, 1.2, 3.0 * 25)
        told.append([])
        return lambda seen: told[-1].append(seen) or np.zeros(8)

    list(live(along(path, trust=trust), FPS, look_ahead=2, smoother=listening))
    assert [[len(seen) for seen in shot] for shot in told] == [[3, 3, 3, 3, 3, 2, 1], [3, 3, 3, 2, 1]]
    assert np.allclose(told[0][1][:, 0], [2, 4, 6])
    assert np.allclose(told[1][0][:, 0], [0, 2, 4])


def test_the_learned_driver_steadies(monkeypatch):
    path = shake(120, seed=2, pixels=4)
    driver = load_path_smoother().driver
    left = [jitter(shown_path(path, n, monkeypatch, smoother=driver)[40:], 160, 90) for n in (0, 15)]
    assert left[0] < jitter(path, 160, 90) / 3
    assert left[1] < left[0]


def test_strength_and_horizon_work_live(monkeypatch):
    path = shake(40, pixels=5)
    kept = shown_path(path, 3, monkeypatch, strength=Strength(x=0))
    plain = shown_path(path, 3, monkeypatch)
    assert np.abs(kept[:, 0] - path[:, 0]).max() < 0.1
    assert np.abs(plain[:, 0] - path[:, 0]).max() > 1
    rolling = np.zeros((200, 4))
    rolling[:, 2] = 0.1 * np.sin(2 * np.pi * np.arange(200) / 150)
    turns = [np.ptp(shown_path(rolling, 3, monkeypatch, horizon=h)[20:, 2]) for h in (0.0, 0.5, 1.0)]
    assert turns[2] < 0.6 * turns[0]
    assert turns[2] < turns[1] < turns[0]
    with pytest.raises(ClipError, match="horizon"):
        next(live(along(path), FPS, horizon=2.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_known_rolling_shutter_is_straightened(sign):
    """Frames that show where each pixel is tell where the output came from, and so what of the scene it shows."""
    readout, height, width = 0.8 * sign, 360, 640
    steps, _ = seen_steps(readout)
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    frame = torch.from_numpy(np.stack([x / width + 0.5, y / height + 0.5, 0 * x])).float()[None]
    at = np.s_[40:320:40, 60:580:40]
    points = np.stack([x[at].ravel(), y[at].ravel()], axis=-1)

    def bent_by(told, look_ahead):
        """Pixels, root mean square, by which what is shown of the scene is no picture of it at any one time."""
        came = (Measured(frame, steps[i], float(i > 0)) for i in range(24))
        off = []
        for i, w in enumerate(live(came, FPS, look_ahead=look_ahead, readout=told, max_zoom=1.3, border=Border.EDGE)):
            u, v = ((w.frames[0, k].double().numpy()[at].ravel() - 0.5) * size for k, size in ((0, width), (1, height)))
            scene = geometry.apply(way(i + readout * v / height), np.stack([u, v], -1)[:, None])[:, 0]
            z, seen = (p @ [1, 1j] for p in (points, scene))
            columns = np.stack([z, np.ones_like(z)], axis=-1)
            found = np.linalg.lstsq(columns, seen)[0]  # the camera turns and zooms, and so must what it shows
            off.append((np.abs(columns @ found - seen) ** 2).mean())
        assert len(off) == 24
        return float(np.sqrt(np.mean(off[5:-4])))

    left = bent_by(0.0, 5)
    assert left > 0.15, "the test itself bends"
    assert bent_by(readout, 5) < left / 2.5
    assert bent_by(-readout, 5) > 1.5 * left, "a shutter that rolls the other way would bend it more"


def test_a_readout_beyond_a_frame_is_refused():
    with pytest.raises(ClipError, match="got 1\\.5"):
        next(live(along(np.zeros((3, 4))), FPS, readout=1.5))
