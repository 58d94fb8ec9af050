import sys
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera
from gpmf_video import add_gpmf_track
from scipy.spatial.transform import Rotation
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.hold import Region
from steadyscale.core.lens import Lens
from steadyscale.core.motion.camera.telemetry import Gyro, fuse_gyro, gyro_of, read_gyro
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.ray_camera import RayCamera
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.video.open import open_clip

INFO, FOCAL, RATE, COUNT = ClipInfo(320, 180, Fraction(25), 80), 260.0, 200, 80


def vectors(times):
    """Rotation vectors of the camera: slow oscillations, small enough to be added."""
    phases = np.array([0.1, 0.45, 0.8])
    t = np.asarray(times)[:, None]
    return 0.012 * sum(np.sin(2 * np.pi * (f * t + phases * f)) for f in (1.3, 2.6, 4.1)) * [1, 1.2, 0.8]


def steps_of(rotations, focal=FOCAL):
    """Homographies between frames."""
    k = np.diag([focal, focal, 1.0])
    turns = np.swapaxes(rotations[1:], 1, 2) @ rotations[:-1]
    return geometry.normalize(np.concatenate([np.eye(3)[None], k @ turns @ np.linalg.inv(k)]))


def gyro_of_path(offset=0.0, axes=None):
    """Body rates at 200 Hz. offset: of the clock. axes: (3, 3), from the camera's axes to the sensor's."""
    times = np.arange(-200, COUNT * 8 + 200) / RATE
    turns = Rotation.from_rotvec(vectors(times + 0.0005))
    before = Rotation.from_rotvec(vectors(times - 0.0005))
    rates = (before.inv() * turns).as_rotvec() * 1000
    return Gyro(times + offset, rates @ (np.eye(3) if axes is None else axes).T)


@pytest.fixture(scope="module")
def truth():
    return steps_of(Rotation.from_rotvec(vectors(np.arange(COUNT) / 25)).as_matrix())


def motion_with(steps):
    return Motion(steps, np.array([0.0, *[0.9] * (COUNT - 1)]), INFO)


def corner_error(steps, truth):
    corners = geometry.corners(320, 180)
    return np.abs(geometry.transform_points(steps, corners) - geometry.transform_points(truth, corners)).max(
        axis=(1, 2)
    )


def noisy(steps, pixels):
    noise = np.random.default_rng(0).normal(0, 1, (COUNT, 4)) * [pixels, pixels, pixels / 180, 0]
    return geometry.normalize(steps @ geometry.matrices_from_parameters(noise))


@pytest.mark.parametrize("axes", [[[0, 0, 1], [1, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]])
def test_a_gyroscope_replaces_noisy_steps(truth, axes):
    measured = motion_with(noisy(truth, 1.5))
    fused = fuse_gyro(measured, gyro_of_path(0.13, np.array(axes, float)))
    assert "+13" in fused.telemetry or "+12" in fused.telemetry, fused.telemetry
    before, after = (np.sqrt(np.square(corner_error(m.steps, truth)[1:]).mean()) for m in (measured, fused))
    assert after < 0.25 * before


def test_only_outliers_of_exact_steps_are_replaced(truth):
    steps = truth.copy()
    steps[40] = geometry.matrices_from_parameters(np.array([9.0, -7, 0.02, 0]))
    fused = fuse_gyro(motion_with(steps), gyro_of_path())
    assert corner_error(steps, truth)[40] > 5 > 0.3 > corner_error(fused.steps, truth)[40]
    others = np.arange(COUNT) != 40
    assert np.array_equal(fused.steps[others], steps[others])


@pytest.mark.parametrize("kept", [slice(0, 600), slice(400, None)], ids=["ends early", "begins late"])
def test_steps_without_samples_stay(truth, kept):
    full = gyro_of_path()
    gyro = Gyro(full.times[kept], full.rates[kept])
    measured = motion_with(noisy(truth, 0.8))
    fused = fuse_gyro(measured, gyro)
    times = np.arange(COUNT) / 25
    has_samples = (times - 1 / 25 >= gyro.times[0]) & (times <= gyro.times[-1])
    assert 0.5 < has_samples.mean() < 0.8
    assert np.array_equal(fused.steps[~has_samples], measured.steps[~has_samples])
    before, after = (np.median(corner_error(m.steps, truth)[has_samples]) for m in (measured, fused))
    assert after < 0.4 * before
    few = gyro._replace(times=full.times[:200], rates=full.rates[:200])  # all before the clip
    assert fuse_gyro(measured, few).telemetry == "off: its samples cover less than 50% of the frames"


def test_the_residuals_of_replaced_steps_are_cleared(truth):
    steps = truth.copy()
    steps[40] = geometry.matrices_from_parameters(np.array([9.0, -7, 0.02, 0]))
    residuals = np.full((COUNT, 2, 3, 2), 5, np.float32)
    fused = fuse_gyro(replace(motion_with(steps), residuals=residuals), gyro_of_path())
    assert fused.residuals is not None
    assert [*np.flatnonzero((fused.residuals == 0).all(axis=(1, 2, 3)))] == [40]


def test_steps_that_could_not_be_measured_are_those_of_the_gyroscope(truth):
    confidence = np.array([0.0, *[0.9] * (COUNT - 1)])
    confidence[20:26] = 1e-3
    steps = truth.copy()
    steps[20:26] = np.eye(3)
    fused = fuse_gyro(Motion(steps, confidence, INFO), gyro_of_path())
    assert corner_error(fused.steps, truth)[20:26].max() < 0.2
    assert (fused.confidence[20:26] == 1).all()
    assert fused.confidence[0] == 0


def test_a_gyroscope_of_another_clip_is_refused(truth):
    times = np.arange(1200) / RATE - 1
    other = Gyro(times, np.random.default_rng(1).normal(0, 0.3, (1200, 3)))
    measured = motion_with(truth)
    fused = fuse_gyro(measured, other)
    assert fused.steps is measured.steps
    assert fused.telemetry.startswith("off: it correlates")


def test_with_a_lens_the_steps_are_rotations():
    rotations = Rotation.from_rotvec(vectors(np.arange(COUNT) / 25)).as_matrix()
    camera = RayCamera(Lens(120), 320)
    views = camera.views(np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:], np.ones(COUNT - 1))
    exact = np.concatenate([np.eye(3)[None], geometry.inverse(views)])
    measured = Motion(noisy(exact, 1.5), np.array([0.0, *[0.9] * (COUNT - 1)]), INFO, lens=Lens(120))
    fused = fuse_gyro(measured, gyro_of_path(-0.05))
    before, after = (np.sqrt(np.square(corner_error(m.steps, exact)[1:]).mean()) for m in (measured, fused))
    assert after < 0.25 * before


def test_a_subject_is_held_relative_to_the_camera_of_the_gyroscope(truth):
    """Of some frames a mask hides all but the subject: the roll of the camera is that of the gyroscope."""
    rotations = Rotation.from_rotvec(vectors(np.arange(COUNT) / 25)).as_matrix()
    k = np.diag([FOCAL, FOCAL, 1.0])
    poses = geometry.normalize(k @ rotations @ np.linalg.inv(k))
    frames = render_camera(make_texture(360, 640, 2), poses, 320, 180)
    hidden, mask = slice(40, 46), torch.zeros(COUNT, 180, 320)
    mask[39:46] = 1
    t = np.arange(COUNT)
    in_scene = np.stack([-40 + t, 10 * np.sin(t * 0.2)], axis=-1)
    positions = geometry.transform_points(geometry.inverse(poses), in_scene[:, None])[:, 0]
    at_subject = np.tile(np.eye(3), (COUNT, 1, 1))
    at_subject[:, :2, 2] = -positions
    drawn = render_camera(make_texture(240, 400, 5), at_subject, 320, 180)
    y, x = torch.meshgrid(torch.arange(180) + 0.5 - 90, torch.arange(320) + 0.5 - 160, indexing="ij")
    offsets = torch.from_numpy(positions)[:, :, None, None]
    inside = ((x - offsets[:, 0]).abs() < 26) & ((y - offsets[:, 1]).abs() < 26)
    clip = TensorClip(torch.where(inside[:, None], drawn, frames), Fraction(25))
    left, top = positions[0] + [160 - 32, 90 - 32]
    settings = StabilizeSettings(hold="region", region=Region(left, top, 64, 64), telemetry="auto", rolling_shutter=0)
    held = measure_motion(clip, settings, mask=mask, gyro=gyro_of_path(0.04))
    assert "gyroscope at +4" in held.telemetry, held.telemetry
    assert held.held.min() == 1
    points = [positions[0]]
    for step in held.steps[1:]:
        points.append(geometry.transform_points(step, points[-1][None])[0])
    assert np.abs(np.stack(points) - positions).max() < 3
    rolls = [np.abs(geometry.to_parameters(steps)[hidden, 2]) for steps in (held.steps - truth + np.eye(3), truth)]
    assert rolls[1].max() > 5e-3 > 1e-3 > rolls[0].max()


def test_too_few_steps_and_missing_samples_are_reported(truth, monkeypatch, tmp_path):
    short = Motion(truth[:20], np.array([0.0, *[0.9] * 19]), INFO)
    assert "too few" in fuse_gyro(short, gyro_of_path()).telemetry
    assert fuse_gyro(motion_with(truth), "no file").telemetry == "off: no file"
    monkeypatch.setitem(sys.modules, "telemetry_parser", None)
    assert "telemetry-parser" in read_gyro(tmp_path / "clip.mp4")


def write_night(path, rotations, light=16.0):
    """A clip of a scene in the dark, with more noise than texture, or with more light."""
    k = np.diag([FOCAL, FOCAL, 1.0])
    poses = geometry.normalize(k @ rotations @ np.linalg.inv(k))
    frames = render_camera(make_texture(360, 640, 2), poses, 320, 180)
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for frame in frames.permute(0, 2, 3, 1).numpy():
            dark = frame * light + 8 + random.normal(0, 6, frame.shape)
            pixels = np.clip(dark, 0, 255).astype(np.uint8)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sink.mux(stream.encode(None))


def test_the_gyroscope_of_a_gopro_file_beats_the_frames_of_a_night(truth, tmp_path):
    pytest.importorskip("telemetry_parser")
    path = tmp_path / "night.mp4"
    write_night(path, Rotation.from_rotvec(vectors(np.arange(COUNT) / 25)).as_matrix())
    times = np.arange(COUNT * 8) / RATE
    before, after = (Rotation.from_rotvec(vectors(times + dt)) for dt in (-0.0005, 0.0005))
    rates = (before.inv() * after).as_rotvec() * 1000
    add_gpmf_track(path, rates[:, [2, 0, 1]], np.tile([9.81, 0, 0], (len(rates), 1)), RATE)
    clip = open_clip(path)
    gyro = gyro_of(clip)
    assert isinstance(gyro, Gyro)
    assert np.abs(gyro.rates - rates[:, [2, 0, 1]]).max() < 1e-3
    off, auto = (measure_motion(clip, StabilizeSettings(telemetry=telemetry)) for telemetry in ("off", "auto"))
    errors = [float(np.sqrt(np.square(corner_error(m.steps, truth)[1:]).mean())) for m in (off, auto)]
    assert off.telemetry is None
    assert "gyroscope" in auto.telemetry
    assert errors[1] < 0.5 * errors[0], errors


TILT = np.radians(5)


def tilted_camera(times):
    """Rotations from the camera's axes to those of the scene, z forward and y down: tilted, and shaken."""
    return Rotation.from_euler("z", TILT) * Rotation.from_rotvec(vectors(times))


def sensors_of_tilted_camera(axes=None, push=0.0):
    """Gyroscope and accelerometer of that camera.

    push: amplitude of the acceleration sideways by which it walks, in meters per square second.
    """
    times = np.arange(-200, COUNT * 8 + 200) / RATE
    poses = tilted_camera(times)
    rates = (tilted_camera(times - 0.0005).inv() * tilted_camera(times + 0.0005)).as_rotvec() * 1000
    force = np.tile([0.0, -9.81, 0.0], (len(times), 1))
    force[:, 0] += push * np.sin(2 * np.pi * 1.9 * times)
    to_sensor = np.eye(3) if axes is None else np.array(axes, float)
    return Gyro(times, rates @ to_sensor.T, poses.inv().apply(force) @ to_sensor.T)


def rolls_of(rotations):
    """Angles by which frames are turned clockwise from level."""
    up = np.swapaxes(rotations.as_matrix(), 1, 2) @ [0, -1, 0]
    return np.arctan2(-up[:, 0], -up[:, 1])


def displayed_rolls(motion, rotations, **settings):
    """How far from level the stabilized frames are, in degrees."""
    fix = correct_motion(motion, StabilizeSettings(border="mirror", **settings))
    turned = geometry.to_parameters(fix.matrices)[:, 2]
    return np.degrees(rolls_of(rotations) - turned)


@pytest.mark.parametrize("axes", [np.eye(3), [[0, 0, 1], [1, 0, 0], [0, 1, 0]]])
@pytest.mark.parametrize("sign", [1, -1])
def test_gravity_levels_a_camera_that_is_always_tilted(axes, sign):
    """Whatever the axes of the sensor, and whether it counts gravity or what holds against it."""
    rotations = tilted_camera(np.arange(COUNT) / 25)
    measured = motion_with(steps_of(rotations.as_matrix()))
    gyro = sensors_of_tilted_camera(axes, push=1.0)
    fused = fuse_gyro(measured, gyro._replace(accelerations=sign * gyro.accelerations))
    assert "level by gravity" in fused.telemetry
    assert np.degrees(np.abs(fused.level - rolls_of(rotations))).max() < 0.5
    assert np.abs(displayed_rolls(fused, rotations, horizon=1.0)).max() < 0.2
    assert np.abs(displayed_rolls(fused, rotations, horizon=0.5) - 2.5).max() < 0.4
    assert displayed_rolls(fused, rotations).min() > 4
    locked = displayed_rolls(fused, rotations, horizon=1.0, smoothing="locked", reference=3)
    assert locked == pytest.approx(np.degrees(rolls_of(rotations)[3]), abs=0.1), "the reference is level"


def test_gravity_levels_a_lens():
    rotations = tilted_camera(np.arange(COUNT) / 25)
    camera, matrices = RayCamera(Lens(120), 320), rotations.as_matrix()
    views = camera.views(np.swapaxes(matrices[:-1], 1, 2) @ matrices[1:], np.ones(COUNT - 1))
    steps = np.concatenate([np.eye(3)[None], geometry.inverse(views)])
    measured = Motion(steps, np.array([0.0, *[0.9] * (COUNT - 1)]), INFO, lens=Lens(120))
    fused = fuse_gyro(measured, sensors_of_tilted_camera())
    assert np.abs(displayed_rolls(fused, rotations, horizon=1.0)).max() < 0.2


def test_without_gravity_the_horizon_is_the_median_roll():
    rotations = tilted_camera(np.arange(COUNT) / 25)
    measured = motion_with(steps_of(rotations.as_matrix()))
    gyro = sensors_of_tilted_camera()
    plain = displayed_rolls(measured, rotations, horizon=1.0)
    assert plain.mean() == pytest.approx(5, abs=0.7)
    still = np.full_like(gyro.rates, 0.0)
    for accelerations, note in (
        (None, "(no level: the file holds no accelerometer)"),
        (still + np.random.default_rng(0).normal(0, 5, still.shape), "(no level: the accelerometer shows no gravity)"),
        (still + np.array([0, 0, 9.81]), "(no level: the camera looks down or up)"),
    ):
        fused = fuse_gyro(measured, gyro._replace(accelerations=accelerations))
        assert fused.level is None
        assert fused.telemetry.endswith(note)
        assert displayed_rolls(fused, rotations, horizon=1.0) == pytest.approx(plain, abs=1e-9)


def test_turns_about_one_axis_do_not_show_how_the_sensor_lies():
    def pan(times):
        return Rotation.from_rotvec(vectors(times) * [0, 1, 0])

    times = np.arange(-200, COUNT * 8 + 200) / RATE
    rates = (pan(times - 0.0005).inv() * pan(times + 0.0005)).as_rotvec() * 1000
    force = pan(times).inv().apply(np.tile([0.0, -9.81, 0.0], (len(times), 1)))
    measured = motion_with(steps_of(pan(np.arange(COUNT) / 25).as_matrix()))
    fused = fuse_gyro(measured, Gyro(times, rates, force))
    assert "one axis only" in fused.telemetry
    assert fused.level is None


def test_the_accelerometer_of_a_file_is_read(monkeypatch, tmp_path):
    """A sample without it is interpolated; a file mostly without it has none."""
    gyro = {"gyro": [1.0, 2, 3]}
    samples = [{"timestamp_ms": 5.0 * i, **gyro, "accl": [i, 2.0 * i, 9]} for i in (2, 0, 3)]
    samples.insert(1, {"timestamp_ms": 5.0, **gyro, "accl": None})
    parser = SimpleNamespace(normalized_imu=lambda: samples)
    monkeypatch.setitem(sys.modules, "telemetry_parser", SimpleNamespace(Parser=lambda path: parser))
    found = read_gyro(tmp_path / "clip.mp4").accelerations
    assert found.tolist() == [[0, 0, 9], [1, 2, 9], [2, 4, 9], [3, 6, 9]]
    for sample in samples[:3]:
        sample.pop("accl")
    assert read_gyro(tmp_path / "clip.mp4").accelerations is None


def test_the_accelerometer_of_a_gopro_file_levels_its_horizon(tmp_path):
    pytest.importorskip("telemetry_parser")
    path, rotations = tmp_path / "tilted.mp4", tilted_camera(np.arange(COUNT) / 25)
    write_night(path, rotations.as_matrix(), light=200.0)
    sensors = sensors_of_tilted_camera(push=1.0)
    inside = slice(200, 200 + COUNT * 8)
    rates, forces = (table[inside][:, [2, 0, 1]] for table in (sensors.rates, sensors.accelerations))
    add_gpmf_track(path, rates, forces, RATE)
    motion = measure_motion(open_clip(path), StabilizeSettings(telemetry="auto"))
    assert "level by gravity" in motion.telemetry, motion.telemetry
    assert np.abs(displayed_rolls(motion, rotations, horizon=1.0)).max() < 0.2
