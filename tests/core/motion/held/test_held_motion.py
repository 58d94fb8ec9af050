"""Layers and subjects of synthetic scenes, whose motion is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import Clip, ClipError, ClipInfo, TensorClip
from steadyscale.core.hold import Hold, Region, RegionMask
from steadyscale.core.motion.estimate import luma_range
from steadyscale.core.motion.held import held_motion
from steadyscale.core.motion.held.held_motion import hold_motion
from steadyscale.core.path.motion import Motion
from steadyscale.core.video.decode import video_clip
from steadyscale.core.video.decode.timestamps import Timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from torch import Tensor

WIDTH, HEIGHT, COUNT, FPS = 240, 136, 24, 24
CENTER = np.array([WIDTH, HEIGHT]) / 2
SIZE = np.array([56, 64])  # of the subject


def steps_of(poses: np.ndarray) -> np.ndarray:
    """(N, 3, 3): the step to each frame."""
    return np.concatenate([np.eye(3)[None], np.linalg.inv(poses[1:]) @ poses[:-1]])


def camera_motion(poses: np.ndarray, cuts: tuple[int, ...] = ()) -> Motion:
    confidence = np.ones(len(poses))
    confidence[[0, *cuts]] = 0
    return Motion(steps_of(poses), confidence, ClipInfo(WIDTH, HEIGHT, Fraction(FPS), len(poses)))


def centers_along(motion: Motion, start: np.ndarray) -> np.ndarray:
    """(N, 2): where the steps of a motion move a point of the first frame."""
    points = [start]
    for step in motion.steps[1:]:
        points.append(geometry.transform_points(step, points[-1][None])[0])
    return np.stack(points)


@pytest.fixture(scope="module")
def far_poses() -> np.ndarray:
    return geometry.matrices_from_parameters(make_shake_path(COUNT, pixels=2.0, angle=0.002, zoom=0))


@pytest.fixture(scope="module")
def near_poses(far_poses: np.ndarray) -> np.ndarray:
    poses = far_poses.copy()
    poses[:, :2, 2] *= 3
    return poses


@pytest.fixture(scope="module")
def two_planes(far_poses: np.ndarray, near_poses: np.ndarray) -> TensorClip:
    """A wall, behind a nearer one with wide holes."""
    far, near = (make_texture(240, 400, seed) for seed in (1, 2))
    holes = torch.zeros(1, 1, 240, 400)
    holes[..., 70:170, 70:190] = holes[..., 100:240, 260:330] = 1
    seen = render_camera(holes, near_poses, WIDTH, HEIGHT)
    frames = torch.where(
        seen > 0.5, *(render_camera(s, p, WIDTH, HEIGHT) for s, p in ((near, near_poses), (far, far_poses)))
    )
    return TensorClip(frames, Fraction(FPS))


@pytest.mark.parametrize(("hold", "index"), [(Hold.BACKGROUND, 0), (Hold.FOREGROUND, 1)])
def test_a_layer_is_held_where_the_other_was_measured(two_planes, far_poses, near_poses, hold, index):
    truth = (far_poses, near_poses)
    held = hold_motion(two_planes, camera_motion(truth[1 - index]), hold)
    assert held.hold is hold
    assert held.held is not None
    assert held.held.min() == 1
    points = np.array([[-60.0, -30.0], [50.0, 30.0]])
    errors = [geometry.transform_points(steps, points) for steps in (held.steps[1:], steps_of(truth[index])[1:])]
    assert np.sqrt(np.square(errors[0] - errors[1]).mean()) < 0.1


def test_one_layer_is_the_foreground_too(far_poses):
    frames = render_camera(make_texture(240, 400, 1), far_poses[:8], WIDTH, HEIGHT)
    motion = camera_motion(far_poses[:8])
    held = hold_motion(TensorClip(frames, Fraction(FPS)), motion, Hold.FOREGROUND)
    assert held.steps == pytest.approx(motion.steps, abs=0.06)


@pytest.fixture(scope="module")
def positions(far_poses: np.ndarray) -> np.ndarray:
    """(N, 2): the center of the subject in each frame."""
    i = np.arange(COUNT, dtype=np.float64)
    in_scene = np.stack([-40 + 3 * i, 5 + 4 * np.sin(1.1 * i)], axis=-1)
    return geometry.transform_points(np.linalg.inv(far_poses), in_scene[:, None])[:, 0]


@pytest.fixture(scope="module")
def subject_frames(far_poses: np.ndarray, positions: np.ndarray) -> Tensor:
    """(N, 3, H, W): a textured rectangle before a wall."""
    frames = render_camera(make_texture(240, 400, 1), far_poses, WIDTH, HEIGHT)
    return torch.where(subject_masks(positions)[:, None], draw_subject(positions), frames)


def draw_subject(positions: np.ndarray) -> Tensor:
    poses = np.tile(np.eye(3), (len(positions), 1, 1))
    poses[:, :2, 2] = -positions
    return render_camera(make_texture(240, 400, 5), poses, WIDTH, HEIGHT)


def subject_masks(positions: np.ndarray) -> Tensor:
    """(N, H, W) bool."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    left, top = torch.from_numpy(positions + CENTER - SIZE / 2).float().T
    return (
        (x >= left[:, None, None])
        & (x < left[:, None, None] + SIZE[0])
        & (y >= top[:, None, None])
        & (y < top[:, None, None] + SIZE[1])
    )


def box_at(position: np.ndarray, frame: int, margin: float = 6.0) -> Region:
    left, top = position + CENTER - SIZE / 2 - margin
    return Region(float(left), float(top), float(SIZE[0] + 2 * margin), float(SIZE[1] + 2 * margin), frame)


def clip_of(frames: Tensor) -> TensorClip:
    return TensorClip(frames, Fraction(FPS))


class CountedClip:
    """A clip that counts the frames read from it and the frames announced for a second pass."""

    def __init__(self, clip: Clip) -> None:
        self.info, self.frames = clip.info, clip.frames
        self.read = self.announced = 0
        self._clip = clip

    def second_pass(self, count: int) -> CountedClip:
        self.announced += count
        return self

    def luma_range(self, side: int, first: int, stop: int | None, times: Timestamps | None) -> Iterator[np.ndarray]:
        for plane in luma_range(self._clip, side, first, stop, times):
            self.read += 1
            yield plane


@pytest.mark.parametrize("frame", [0, 15])
def test_a_box_is_tracked_both_ways(subject_frames, far_poses, positions, frame, monkeypatch):
    monkeypatch.setattr(held_motion, "BACKWARD_FRAMES", 8)
    clip = CountedClip(clip_of(subject_frames))
    held = hold_motion(clip, camera_motion(far_poses), Hold.REGION, region=box_at(positions[frame], frame))
    assert clip.read == clip.announced == COUNT
    assert held.held is not None
    assert held.held.min() == 1
    assert np.abs(centers_along(held, positions[0]) - positions).max() < 0.35
    turns = [geometry.to_parameters(steps)[:, 2:] for steps in (held.steps, steps_of(far_poses))]
    assert turns[0] == pytest.approx(turns[1], abs=1e-9)


def test_a_late_box_in_a_file_decodes_no_frame_again_and_again(
    subject_frames, far_poses, positions, tmp_path, monkeypatch
):
    """Each part is decoded from the key frame before it, and the packets are read once."""
    monkeypatch.setattr(held_motion, "BACKWARD_FRAMES", 4)
    file = tmp_path / "subject.mkv"
    encoding = Encoding("ffv1")  # whose frames are all key frames
    write_video(file, iter([subject_frames]), clip_of(subject_frames).info, encoding=encoding)
    decoded, scans, read = [], [], video_clip.read_timestamps
    for owner, name in ((video_clip, "decode_range"), (VideoClip, "_decode")):  # from a key frame, and from the start
        decode = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, decode=decode: (decoded.append(f) or f for f in decode(*a)))
    monkeypatch.setattr(video_clip, "read_timestamps", lambda *a: scans.append(a) or read(*a))
    hold_motion(VideoClip(file), camera_motion(far_poses), Hold.REGION, region=box_at(positions[22], 22))
    assert (len(decoded), len(scans)) == (COUNT, 1)


def test_the_strength_is_that_share_of_its_own_motion(subject_frames, far_poses, positions):
    motion, region = camera_motion(far_poses), box_at(positions[0], 0)
    whole, half, none = (
        hold_motion(clip_of(subject_frames), motion, Hold.REGION, region=region, strength=share).steps[:, :2, 2]
        for share in (1.0, 0.5, 0.0)
    )
    assert none == pytest.approx(motion.steps[:, :2, 2], abs=1e-9)
    assert half == pytest.approx((whole + none) / 2, abs=1e-6)


def test_masks_of_one_or_of_all_frames(subject_frames, far_poses, positions):
    masks = subject_masks(positions).float()
    for region in (RegionMask(masks[5:6], frame=5), RegionMask(masks)):
        held = hold_motion(clip_of(subject_frames), camera_motion(far_poses), Hold.REGION, region=region)
        assert np.abs(centers_along(held, positions[0]) - positions).max() < 0.35


def test_a_subject_that_enters_the_frame_is_held_once_it_shows_enough(subject_frames, far_poses, positions):
    masks = subject_masks(positions).float()
    for number in range(4):
        columns = np.flatnonzero(masks[number].any(dim=0).numpy())
        masks[number, :, columns[0] + 1 :] = 0  # one column is seen
    held = hold_motion(clip_of(subject_frames), camera_motion(far_poses), Hold.REGION, region=RegionMask(masks))
    assert np.abs(centers_along(held, positions[0])[5:] - positions[5:]).max() < 6
    assert held.held is not None
    assert (held.held[5:] == 1).all()
    with pytest.raises(ClipError, match="too little"):
        hold_motion(
            clip_of(subject_frames),
            camera_motion(far_poses),
            Hold.REGION,
            region=RegionMask(masks[:1].repeat(24, 1, 1)),
        )


def test_a_short_occlusion_is_bridged(subject_frames, far_poses, positions):
    """A post as wide as the subject hides it for some frames."""
    frames = subject_frames.clone()
    frames[10:14] = render_camera(make_texture(240, 400, 1), far_poses[10:14], WIDTH, HEIGHT)
    held = hold_motion(clip_of(frames), camera_motion(far_poses), Hold.REGION, region=box_at(positions[0], 0))
    assert held.held is not None
    assert held.held.min() == 1
    after = centers_along(held, positions[0]) - positions
    assert np.abs(after[[9, 16, 23]]).max() < 1.5


def test_a_lost_subject_fades_into_the_background(subject_frames, far_poses, positions):
    frames, motion = subject_frames.clone(), camera_motion(far_poses)
    frames[8:] = render_camera(make_texture(240, 400, 1), far_poses[8:], WIDTH, HEIGHT)
    held = hold_motion(clip_of(frames), motion, Hold.REGION, region=box_at(positions[0], 0))
    assert held.held is not None
    assert (held.held[:8] == 1).all()
    assert (np.diff(held.held[7:21]) < 0).all()
    assert (held.held[21:] == 0).all()
    assert held.steps[21:] == pytest.approx(motion.steps[21:], abs=1e-9)
    own = np.linalg.norm((held.steps - motion.steps)[8:20, :2, 2], axis=-1)
    assert (np.diff(own) < 1e-9).all()


def test_the_region_is_that_of_its_shot(subject_frames, far_poses, positions):
    motion = camera_motion(far_poses, cuts=(12,))
    held = hold_motion(clip_of(subject_frames), motion, Hold.REGION, region=box_at(positions[14], 14))
    assert held.held is not None
    assert held.held.tolist() == [0.0] * 12 + [1.0] * 12
    assert np.array_equal(held.steps[:12], motion.steps[:12])
    assert np.flatnonzero(held.confidence == 0).tolist() == [0, 12]


def test_steps_that_were_not_measured_are_held(subject_frames, far_poses, positions):
    motion = camera_motion(far_poses)
    motion.confidence[7] = 1e-3
    motion = replace(motion, steps=motion.steps.copy())
    motion.steps[7, 0, 2] += 40
    held = hold_motion(clip_of(subject_frames), motion, Hold.REGION, region=box_at(positions[0], 0))
    assert np.abs(centers_along(held, positions[0]) - positions).max() < 0.35


def test_auto_is_the_motion_itself(two_planes, far_poses):
    motion = camera_motion(far_poses)
    assert hold_motion(two_planes, motion, Hold.AUTO) is motion


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(200, 0, 60, 60), "not inside frames of 240x136"),
        (Region(0, 0, 60, 60, 24), "the clip has frames 0 to 23"),
        (Region(0, 0, 2, 60), "too small"),
        (RegionMask(torch.ones(3, 8, 8)), "one mask"),
        (RegionMask(torch.zeros(1, 8, 8)), "paint the subject white"),
        (RegionMask(torch.ones(1, 8, 8), frame=24), "the clip has frames 0 to 23"),
        (RegionMask(torch.nn.functional.one_hot(torch.tensor([[9] * 300]), 1000).float()), "smaller than a pixel"),
        (None, "give the region"),
    ],
)
def test_regions_that_are_none(subject_frames, far_poses, region, message):
    with pytest.raises(ClipError, match=message):
        hold_motion(clip_of(subject_frames), camera_motion(far_poses), Hold.REGION, region=region)


def test_a_mask_of_a_negative_frame_is_refused():
    with pytest.raises(ClipError, match="frame -1; frames are counted from 0"):
        RegionMask(torch.ones(1, 8, 8), -1)


def test_a_flat_region_is_refused(far_poses):
    frames = torch.full((COUNT, 3, HEIGHT, WIDTH), 0.5)
    with pytest.raises(ClipError, match="corners or texture"):
        hold_motion(clip_of(frames), camera_motion(far_poses), Hold.REGION, region=Region(80, 40, 60, 60))
