"""Dissolves of scenes that pan: block means of synthetic films with known cameras, and what is no dissolve."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.motion.transitions.dissolves import find_dissolves
from steadyscale.core.motion.transitions.moving_dissolves import find_moving_dissolves
from steadyscale.core.motion.transitions.transitions import thumbnail
from steadyscale.core.path.motion import Motion
from steadyscale.core.stabilize import measure_motion

FPS, COUNT, WIDTH, HEIGHT = 25, 64, 192, 108
START = 26  # first mixed frame
TURNS = np.array([np.sin(np.arange(COUNT) / 3), np.sin(np.arange(COUNT) / 4 + 1)]).T  # shake of a hand


def pan(per_frame, shake=0.6):
    """(COUNT, 2): positions of a camera that turns evenly, zero in the middle of the clip."""
    return np.arange(-COUNT // 2, COUNT - COUNT // 2)[:, None] * np.array(per_frame) + shake * TURNS


def film(seed, positions):
    """(COUNT, 3, HEIGHT, WIDTH): a scene under a camera at positions (COUNT, 2)."""
    poses = np.tile(np.eye(3), (COUNT, 1, 1))
    poses[:, :2, 2] = positions
    return render_camera(make_texture(300, 800, seed), poses, WIDTH, HEIGHT)


def motion_of(frames, positions):
    """The motion of a film whose camera is at positions, as it is measured, with thumbnails."""
    steps = np.tile(np.eye(3), (COUNT, 1, 1))
    steps[1:, :2, 2] = -np.diff(positions, axis=0)
    confidence = np.ones(COUNT)
    confidence[0] = 0
    luma = frames.mean(dim=1, keepdim=True).numpy()
    thumbnails = np.stack([thumbnail(plane[None]) for plane in luma])
    return Motion(steps, confidence, ClipInfo(WIDTH, HEIGHT, Fraction(FPS), COUNT), thumbnails=thumbnails)


def dissolve(first, second, count):
    """Mix two films from START on, over `count` frames."""
    share = np.clip((np.arange(COUNT) - START + 1) / (count + 1), 0, 1)
    weights = torch.from_numpy(share).float().view(-1, 1, 1, 1)
    return first * (1 - weights) + second * weights


@pytest.mark.parametrize("count", [6, 12, 20])
@pytest.mark.parametrize(
    ("before", "after"), [((2, 0), (2, 0)), ((2, 0), (-2, 0)), ((0, 0), (0, -1.5)), ((2.5, 0), (0, 0))]
)
def test_a_dissolve_between_pans_is_found_with_its_extent(before, after, count):
    paths = pan(before), pan(after)
    middle = START + (count + 1) // 2
    positions = np.concatenate([paths[0][:middle], paths[1][middle:] - paths[1][middle] + paths[0][middle - 1]])
    frames = dissolve(film(1, paths[0]), film(2, paths[1]), count)
    (found,) = find_moving_dissolves(motion_of(frames, positions))
    assert abs(found.first - START) <= 2
    assert abs(found.last - (START + count - 1)) <= 2
    assert abs(found.middle - (START + (count - 1) / 2)) <= 1.5


def test_a_pan_hides_a_dissolve_from_the_detection_without_motion():
    frames = dissolve(film(1, pan((2.5, 0))), film(2, pan((-2.5, 0))), 20)
    positions = np.abs(pan((2.5, 0), shake=0)) * [-1, 0]
    motion = motion_of(frames, positions)
    assert find_dissolves(motion.thumbnails, FPS) == []
    assert len(find_moving_dissolves(motion)) == 1


def ease(start, stop):
    """(COUNT,): 0 before, 1 after, smooth between."""
    t = np.clip((np.arange(COUNT) - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


WHIP = np.stack([150 * ease(26, 34) - 75, 0 * ease(0, 1)], axis=1) + 0.6 * TURNS
STARTS = np.stack([np.cumsum(3.0 * ease(24, 40)) - 60, 0 * ease(0, 1)], axis=1) + 0.6 * TURNS
GAIN = torch.from_numpy(1 - 0.6 * ease(24, 36)).float().view(-1, 1, 1, 1)
TURNED = pan((1, 0)) + np.stack([0 * ease(0, 1), 40 * ease(24, 40)], axis=1)


def flashes():
    frames = film(1, pan((2, 0)))
    frames[[20, 28, 36]] = (frames[[20, 28, 36]] * 3 + 0.4).clamp(0, 1)
    return frames, pan((2, 0))


def blurred():
    exposures = [film(1, pan((6, 0)) + np.array([shift, 0])) for shift in (-2.4, -1.2, 0.0, 1.2, 2.4)]
    return torch.stack(exposures).mean(dim=0), pan((6, 0))


def noise():
    random = torch.Generator().manual_seed(1)
    return 0.1 + 0.05 * torch.randn(COUNT, 3, HEIGHT, WIDTH, generator=random), pan((2, 0))


def rolling_text():
    """Lines of text that rise over a still background."""
    frames, lines = film(1, pan((0, 0))), torch.rand(300, WIDTH // 6, generator=torch.Generator().manual_seed(2)) > 0.5
    text = lines.float().repeat_interleave(6, dim=1)[:, None].repeat_interleave(6, dim=0)[:, 0]
    for i in range(COUNT):
        frames[i] = torch.where(text[3 * i : 3 * i + HEIGHT] > 0, 1.0, frames[i, :, :, : text.shape[1]])
    return frames, np.stack([np.zeros(COUNT), 3.0 * np.arange(COUNT)], axis=1)


def time_lapse():
    """Light and clouds change from frame to frame under a camera that turns."""
    layers = [film(seed, pan((1.5, 0))) for seed in (1, 2)]
    share = torch.rand(COUNT, 1, 1, 1, generator=torch.Generator().manual_seed(3)) * 0.4
    return layers[0] * (1 - share) + layers[1] * share, pan((1.5, 0))


def black_fade():
    share = torch.from_numpy(ease(20, 30) - ease(34, 44)).float().view(-1, 1, 1, 1)
    return film(1, pan((2, 0))) * (1 - share) + 0.03, pan((2, 0))


def cut():
    frames = dissolve(film(1, pan((2, 0))), film(2, pan((-2, 0))), 0)
    return frames, np.abs(pan((2, 0), shake=0)) * [-1, 0]


def passing():
    """Something near crosses the frame of a camera that pans."""
    frames, near = film(1, pan((2, 0))), film(2, pan((0, 0)))
    for i in range(COUNT):
        left = 5 * i - 60
        frames[i, :, :, max(0, left) : max(0, left + 90)] = near[i, :, :, max(0, left) : max(0, left + 90)]
    return frames, pan((2, 0))


def unknown_motion():
    frames, _ = blurred()
    return frames, np.zeros((COUNT, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (film(1, pan((2, 0))), pan((2, 0))),
        lambda: (film(1, pan((7, 0))), pan((7, 0))),
        lambda: (film(1, WHIP), WHIP),
        lambda: (film(1, STARTS), STARTS),
        lambda: (film(1, TURNED), TURNED),
        lambda: (film(1, pan((2, 0))) * GAIN, pan((2, 0))),
        *(flashes, blurred, noise, rolling_text, time_lapse, black_fade, cut, passing, unknown_motion),
    ],
    ids=[
        *("pan", "fast pan", "whip", "start of a pan", "turn", "exposure", "flashes", "motion blur", "noise"),
        *("rolling text", "time-lapse", "fade", "cut", "someone passes", "unmeasured pan"),
    ],
)
def test_other_changes_under_a_moving_camera_are_no_dissolves(make):
    assert find_moving_dissolves(motion_of(*make())) == []


def test_unknown_steps_give_no_speed():
    frames = dissolve(film(1, pan((2.5, 0))), film(2, pan((-2.5, 0))), 20)
    motion = motion_of(frames, np.abs(pan((2.5, 0), shake=0)) * [-1, 0])
    motion.confidence[1:] = 0.01
    assert find_moving_dissolves(motion) == []


def test_the_measured_motion_of_a_clip_serves():
    frames = dissolve(film(1, pan((2.5, 0))), film(2, pan((-2.5, 0))), 20)
    motion = measure_motion(TensorClip(frames, Fraction(FPS)))
    (mixed,) = motion.dissolves
    assert abs(mixed.start - START) <= 2
    assert abs(mixed.stop - (START + 20)) <= 2
    assert len(motion.shots) == 2
