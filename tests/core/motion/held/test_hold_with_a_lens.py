"""A subject, and layers, before a fisheye: their motion is known, and the frames are rendered along rays."""

from __future__ import annotations

from fractions import Fraction

import fisheye_camera
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from steadyscale.core import geometry
from steadyscale.core.bars import Bars
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.hold import Hold, Region, RegionMask
from steadyscale.core.lens import Lens
from steadyscale.core.motion.held import held_motion
from steadyscale.core.motion.held.background import RayBackground
from steadyscale.core.motion.held.held_motion import hold_motion
from steadyscale.core.motion.lens_view import LensView, to_homographies, to_rotations
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.ray_camera import RayCamera
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.warping.sampling_map import sampling_map
from torch import Tensor

WIDTH, HEIGHT, COUNT, FOV = 320, 180, 40, 140.0
FOCAL = WIDTH / 2 / np.radians(FOV / 2)
CENTER = np.array([WIDTH, HEIGHT]) / 2
HALF = np.tan(np.radians(13))  # of the subject's side
LENS = Lens(FOV)


def camera_steps(rotations: np.ndarray) -> np.ndarray:
    """(N, 3, 3): the steps of a camera with the lens."""
    turns = np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]
    views = RayCamera(LENS, WIDTH).views(turns, np.ones(len(turns)))
    return np.concatenate([np.eye(3)[None], geometry.inverse(views)])


def camera_motion(rotations: np.ndarray) -> Motion:
    confidence = np.ones(len(rotations))
    confidence[0] = 0
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), len(rotations))
    return Motion(camera_steps(rotations), confidence, info, lens=LENS)


def follow(steps: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(N, 2): where steps move a point of the first frame, along rays."""
    camera, points = RayCamera(LENS, WIDTH), [start]
    for step in steps[1:]:
        points.append(camera.transform_back(geometry.inverse(step), points[-1][None])[0])
    return np.stack(points)


@pytest.fixture(scope="module")
def rotations() -> np.ndarray:
    return fisheye_camera.shake(COUNT, 0.02)


@pytest.fixture(scope="module")
def subject() -> np.ndarray:
    """A walk through the left half of the view, 45 to 15 degrees from the axis, up and down by three degrees."""
    t = np.arange(COUNT)
    angles = np.stack([np.linspace(-45, -15, COUNT), 3 * np.sin(t * 0.5)], axis=-1)
    return Rotation.from_euler("yx", angles, degrees=True).as_matrix()


@pytest.fixture(scope="module")
def positions(rotations: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """(N, 2): the center of the subject in each frame, from the center of the frame."""
    return fisheye_camera.to_points(np.einsum("nji,nj->ni", rotations, subject[:, :, 2]), FOCAL)


@pytest.fixture(scope="module")
def frames(rotations: np.ndarray, subject: np.ndarray) -> Tensor:
    wall = fisheye_camera.render(rotations, FOCAL, WIDTH, HEIGHT)
    return fisheye_camera.add_subject(wall, rotations, subject, FOCAL, HALF)


def box_at(position: np.ndarray, frame: int = 0, shift: tuple[int, int] = (0, 0)) -> Region:
    side = 60.0
    left, top = position + CENTER - side / 2 + shift
    return Region(float(left), float(top), side, side, frame)


def clip_of(frames: Tensor) -> TensorClip:
    return TensorClip(frames, Fraction(25))


@pytest.mark.parametrize("frame", [0, 26])
def test_a_subject_is_followed_along_rays(frames, rotations, positions, frame):
    region = box_at(positions[frame], frame)
    held = hold_motion(clip_of(frames), camera_motion(rotations), Hold.REGION, region=region)
    assert held.lens == LENS
    assert held.held is not None
    assert held.held.min() == 1
    assert np.abs(follow(held.steps, positions[0]) - positions).max() < 1.0
    roll, camera_roll = (geometry.to_parameters(steps)[:, 2] for steps in (held.steps, camera_steps(rotations)))
    own = np.abs(np.diff(positions, axis=0)).sum() / FOCAL
    assert np.abs(np.cumsum(roll - camera_roll)).max() < 0.02 * own, "the frame turns with the camera"


def test_a_mask_of_each_frame_and_a_part_of_the_strength(frames, rotations, positions):
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    center = torch.from_numpy(positions + CENTER)[:, :, None, None]
    masks = ((x - center[:, 0]).abs() < 24) & ((y - center[:, 1]).abs() < 24)
    motion, region = camera_motion(rotations), RegionMask(masks.float())
    whole, half, none = (
        hold_motion(clip_of(frames), motion, Hold.REGION, region=region, strength=share) for share in (1.0, 0.5, 0.0)
    )
    assert np.abs(follow(whole.steps, positions[0]) - positions).max() < 1.0
    assert none.steps == pytest.approx(motion.steps, abs=1e-9)
    arcs = [np.cumsum(held.steps[:, :2, 2] - motion.steps[:, :2, 2], axis=0)[-1] for held in (half, whole)]
    assert arcs[0] == pytest.approx(arcs[1] / 2, abs=0.3)


def test_a_short_occlusion_is_bridged(frames, rotations, positions):
    hidden = frames.clone()
    hidden[14:18] = fisheye_camera.render(rotations[14:18], FOCAL, WIDTH, HEIGHT)
    held = hold_motion(clip_of(hidden), camera_motion(rotations), Hold.REGION, region=box_at(positions[0]))
    assert held.held is not None
    assert held.held.min() == 1
    assert np.abs(follow(held.steps, positions[0]) - positions)[[13, 20, 39]].max() < 1.5


def test_moves_of_a_background_along_rays(rotations):
    """Forth, back, and through bars that are not symmetric, in reduced frames."""
    bars, to_small = Bars(top=20), np.array([0.5, 0.5])
    motion = Motion(
        camera_steps(rotations), np.ones(COUNT), ClipInfo(WIDTH, HEIGHT, Fraction(25)), lens=LENS, bars=bars
    )
    background = RayBackground(motion, motion.steps, to_small)
    points = fisheye_camera.frame_points(WIDTH, HEIGHT)
    rays = fisheye_camera.to_rays(points, FOCAL) @ rotations[4].T @ rotations[5]
    seen, expected = (p * 0.5 + [0, 5] for p in (points, fisheye_camera.to_points(rays, FOCAL)))
    assert background.move(5, seen) == pytest.approx(expected, abs=1e-6)
    assert background.move_back(5, expected) == pytest.approx(seen, abs=1e-6)


def test_rotations_become_homographies_of_the_view_and_back(rotations):
    view = LensView(ClipInfo(WIDTH, HEIGHT, Fraction(25)), LENS)
    motion = camera_motion(rotations)
    motion.steps[3, :2, :2] *= 1.02
    motion.steps[7] = np.nan
    back = to_rotations(to_homographies(motion, view), view)
    usable = np.arange(COUNT) != 7
    assert back.steps[usable] == pytest.approx(motion.steps[usable], abs=2e-3)
    assert 0 < back.confidence[7] < 0.2


@pytest.fixture(scope="module")
def near_rotations(rotations: np.ndarray) -> np.ndarray:
    vectors = Rotation.from_matrix(rotations).as_rotvec()
    return Rotation.from_rotvec(1.5 * vectors).as_matrix()


class CountedClip:
    """A clip that counts its frames, and those announced for a second pass."""

    def __init__(self, frames: Tensor) -> None:
        self._clip, self.read, self.announced = clip_of(frames), 0, 0
        self.info = self._clip.info

    def frames(self, batch: int = 1):
        for part in self._clip.frames(batch):
            self.read += len(part)
            yield part

    def second_pass(self, count: int) -> CountedClip:
        self.announced += count
        return self


@pytest.mark.parametrize(("hold", "index"), [(Hold.BACKGROUND, 0), (Hold.FOREGROUND, 1)])
def test_a_layer_is_held_through_the_view(rotations, near_rotations, hold, index):
    """A wall behind a nearer one with wide holes; each layer is held where the other one was measured."""
    truth = (rotations, near_rotations)
    far, near = (fisheye_camera.render(r, FOCAL, WIDTH, HEIGHT) for r in truth)
    y, x = np.meshgrid(np.arange(HEIGHT) + 0.5 - HEIGHT / 2, np.arange(WIDTH) + 0.5 - WIDTH / 2, indexing="ij")
    rays = fisheye_camera.to_rays(np.stack([x, y], axis=-1), FOCAL)
    in_scene = np.einsum("nij,hwj->nhwi", near_rotations, rays)
    holes = torch.from_numpy((in_scene[..., 0] < 0.1) & (np.abs(in_scene[..., 1]) < 0.45))[:, None]
    clip = CountedClip(torch.where(holes, far, near.flip(1)))
    held = hold_motion(clip, camera_motion(truth[1 - index]), hold)
    assert (clip.read, clip.announced) == (COUNT, COUNT), "all frames, once more"
    assert (held.lens, held.hold) == (LENS, hold)
    assert held.held is not None
    assert held.held.min() == 1
    camera, points = RayCamera(LENS, WIDTH), np.array([[-60.0, -30.0], [50.0, 30.0]])
    moved = [
        camera.transform_back(geometry.inverse(steps[1:]), points[None])
        for steps in (held.steps, camera_steps(truth[index]))
    ]
    assert np.sqrt(np.square(moved[0] - moved[1]).mean()) < 0.15


@pytest.mark.parametrize("lens", [FOV, "auto"])
def test_a_subject_stays_in_place_and_no_frame_is_lost(frames, positions, lens):
    """With a given and a detected lens: the displayed subject moves smoothly, the input's by pixels."""
    settings = StabilizeSettings(lens=lens, hold="region", region=box_at(positions[0]), seconds=1.0, border="mirror")
    motion = measure_motion(clip_of(frames), settings)
    assert motion.hold is Hold.REGION
    assert motion.lens is not None
    assert motion.lens.fov == pytest.approx(FOV, rel=0.1)
    fix = correct_motion(motion, settings)
    assert len(fix.matrices) == COUNT
    x, y = np.meshgrid(np.arange(0.0, WIDTH, 2), np.arange(0.0, HEIGHT, 2))
    grid = np.stack([x.ravel(), y.ravel()], axis=-1)
    displayed = []
    for i, position in enumerate(positions):
        sampled = sampling_map(fix, i).map_points(grid) - (CENTER - 0.5)
        nearest = np.argsort(np.linalg.norm(sampled - position, axis=1))[:12]
        system = np.column_stack([sampled[nearest] - position, np.ones(12)])  # the local inverse of the map
        displayed.append(np.linalg.lstsq(system, grid[nearest], rcond=None)[0][2])
    weights = np.hanning(13)[1:-1] / np.hanning(13).sum()

    def shake(path: np.ndarray) -> float:
        slow = np.stack([np.convolve(column, weights, mode="valid") for column in path.T], axis=-1)
        return float(np.sqrt(np.square(path[5:-5] - slow).sum(axis=-1).mean()))

    assert shake(positions) > 1.5
    assert shake(np.stack(displayed)) < 0.5


def test_the_tracker_reads_no_more_frames_with_a_lens(frames, rotations, positions, monkeypatch):
    monkeypatch.setattr(held_motion, "BACKWARD_FRAMES", 64)
    clip = CountedClip(frames)
    hold_motion(clip, camera_motion(rotations), Hold.REGION, region=box_at(positions[0]))
    assert (clip.read, clip.announced) == (COUNT, COUNT)
