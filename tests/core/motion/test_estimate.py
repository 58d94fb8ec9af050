from fractions import Fraction

import numpy as np
import pytest
import torch
from footage import filmed, shaken_clip, texture
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.motion import estimate as estimate_module
from steadyscale.core.motion import flow as flow_module
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.flow import FlowMethod, flow_model
from steadyscale.core.path.trajectory import WEAK, Trajectory


@pytest.mark.parametrize("method", list(FlowMethod))
def test_a_known_shake_is_measured(method):
    clip, truth = shaken_clip()
    path = Trajectory.of(estimate_motion(clip, flow_model(method))).path
    error = np.abs(path - truth)
    assert error[:, :2].max() < 0.15, "pixels, accumulated over 50 frames"
    assert error[:, 2].max() < 0.0015, "radians"
    assert error[:, 3].max() < 0.006, "log zoom"


def test_the_torch_estimator_serves_where_opencv_is_missing(monkeypatch):
    monkeypatch.setattr(flow_module, "optional_opencv", lambda: None)
    clip, truth = shaken_clip(frames=8)
    path = Trajectory.of(estimate_motion(clip, flow_model())).path
    assert np.abs(path - truth)[:, :2].max() < 0.3
    for method in (FlowMethod.DIS, FlowMethod.TRACKS):
        with pytest.raises(ClipError, match="opencv-python-headless"):
            flow_model(method)


def test_motion_of_a_large_clip_is_in_its_own_pixels():
    path = np.array([[0, 0, 0, 0], [24.0, -16.0, 0, 0]])
    clip = TensorClip(filmed(texture(800, 1400), geometry.to_matrices(path), 960, 540))
    measured = estimate_motion(clip, flow_model(), side=320)
    assert np.allclose(geometry.to_parameters(measured.steps[1])[:2], [-24, 16], atol=0.5)


def test_a_moving_subject_does_not_take_the_camera_along():
    path = np.stack([np.zeros(6), np.zeros(6), np.zeros(6), np.zeros(6)], -1)
    path[:, 0] = np.arange(6) * 2.0
    background = filmed(texture(300, 500, seed=1), geometry.to_matrices(path), 320, 180)
    walk = np.zeros((6, 4))
    walk[:, 0] = -np.arange(6) * 4.0
    subject = filmed(texture(300, 500, seed=2), geometry.to_matrices(walk), 320, 180)
    background[:, :, :, 180:288] = subject[:, :, :, 180:288]  # a third of the picture
    motion = estimate_motion(TensorClip(background), flow_model())
    assert np.allclose(geometry.to_parameters(motion.steps[1:])[:, :2], [[-2, 0]], atol=0.25)


METHODS = pytest.mark.parametrize("method", list(FlowMethod))
PATH, WALK = np.array([-2.0, 1.0, 0, 0]), np.array([4.0, -1.0, 0, 0])  # per frame, of the camera and of a subject


def with_subject(widths):
    """A clip whose camera goes by PATH, with a subject of these widths (pixels of 320) in the middle that goes by WALK.

    Also the mask of the subject, and the camera's steps.
    """
    n = len(widths)
    index = np.arange(n)[:, None]
    frames = filmed(texture(300, 500, seed=1), geometry.to_matrices(index * PATH), 320, 180)
    subject = filmed(texture(300, 500, seed=2), geometry.to_matrices(index * WALK), 320, 180)
    mask = torch.zeros(n, 180, 320)
    for i, width in enumerate(widths):
        seen = slice(160 - width // 2, 160 + width // 2)
        frames[i, ..., seen], mask[i, :, seen] = subject[i, ..., seen], 1.0
    return TensorClip(frames), mask, -PATH[:2]


def missed(motion, truth):
    """How far the centre's steps are from what they should be, at most."""
    return float(np.abs(geometry.to_parameters(motion.steps[1:])[:, :2] - truth).max())


@METHODS
def test_a_mask_hides_a_subject_that_fills_most_of_the_frame(method):
    clip, mask, truth = with_subject([192] * 5)  # 60 %
    assert missed(estimate_motion(clip, flow_model(method), mask=mask), truth) < 0.1
    assert missed(estimate_motion(clip, flow_model(method)), truth) > 2, "without it, most of the picture wins"


def test_a_mask_may_be_one_for_all_or_a_function_and_of_any_size():
    clip, mask, truth = with_subject([192] * 4)
    small = mask[:1, ::2, ::2]
    asked = []
    for given in (mask[:1], small, lambda i: asked.append(i) or mask[i]):
        assert missed(estimate_motion(clip, flow_model(), mask=given), truth) < 0.1
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 5])
def test_masks_are_as_many_as_frames(count):
    clip, mask, _ = with_subject([192] * 4)
    with pytest.raises(ClipError, match=r"frame 2 has no mask|4 frames, the mask 5"):
        estimate_motion(clip, flow_model(FlowMethod.DIS), mask=mask[:1].repeat(count, 1, 1))


def test_a_frame_that_is_hidden_altogether_is_not_trusted_and_is_no_cut():
    clip, mask, _ = with_subject([0] * 3)
    motion = estimate_motion(clip, flow_model(), mask=torch.ones_like(mask))
    assert motion.shots == [slice(0, 3)]
    assert (motion.trust < WEAK).all()


@METHODS
def test_a_subject_that_grows_does_not_become_the_camera(method):
    clip, _, truth = with_subject([0, 0, 40, 80, 120, 160, 180, 200])  # up to 62 %
    assert missed(estimate_motion(clip, flow_model(method)), truth) < 0.4
    backwards = TensorClip(next(clip.frames(8)).flip(0))
    assert missed(estimate_motion(backwards, flow_model(method)), -truth) > 2, "nor does it leave off being it"


def test_cuts_have_no_trust_and_repeats_no_motion():
    a, b = texture(180, 320, seed=1), texture(180, 320, seed=2)
    moved = torch.roll(a, 3, dims=-1)
    motion = estimate_motion(TensorClip(torch.cat([a, moved, moved, b, b]), Fraction(25)), flow_model())
    assert (motion.trust == 0).tolist() == [True, False, False, True, False]
    assert motion.shots == [slice(0, 3), slice(3, 5)]
    assert np.array_equal(motion.steps[2], np.eye(3))
    assert np.array_equal(motion.steps[4], np.eye(3))
    assert abs(motion.steps[1][0, 2] - 3) < 0.1


def test_a_flash_is_not_a_cut():
    a = texture(180, 320)
    motion = estimate_motion(TensorClip(torch.cat([a, (a * 1.6).clamp(0, 1), a * 0.5])), flow_model())
    assert motion.shots == [slice(0, 3)]


def test_flat_frames_have_little_trust_but_are_no_cut():
    flat = torch.full((3, 3, 90, 160), 0.5) + 0.01 * torch.randn(3, 3, 90, 160, generator=torch.manual_seed(0))
    motion = estimate_motion(TensorClip(flat), flow_model())
    assert motion.shots == [slice(0, 3)]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (17, 16)])
def test_tiny_frames_stand_still(size):
    motion = estimate_motion(TensorClip(torch.rand(3, 3, *size)), flow_model())
    assert len(motion.steps) == 3
    assert np.isfinite(motion.steps).all()


def test_one_frame_and_none():
    assert estimate_motion(TensorClip(torch.rand(1, 3, 40, 40)), flow_model()).shots == [slice(0, 1)]
    with pytest.raises(ClipError, match="no frames"):
        estimate_motion(TensorClip(torch.rand(0, 3, 40, 40)), flow_model())


@pytest.mark.parametrize("method", FlowMethod)
def test_a_jump_that_one_estimator_cannot_follow_is_no_cut(method):
    """Blocks of random colour that jump by more than a block: to a dense flow, one frame is as good as any other."""
    blocks = np.random.default_rng(0).integers(30, 226, (20, 24), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    places = [(29, 19), (20, 21), (26, 24), (17, 17), (27, 22)]
    frames = torch.stack([torch.from_numpy(blocks[y : y + 96, x : x + 128]) for x, y in places])
    clip = TensorClip((frames[:, None] / 255.0).expand(-1, 3, -1, -1))
    motion = estimate_motion(clip, flow_model(method))
    assert len(motion.shots) == 1
    assert np.abs(motion.steps[1:, :2, 2] + np.diff(places, axis=0)).max() < 0.05
    elsewhere = torch.flip(clip._frames, dims=(2, 3))
    cut = TensorClip(torch.cat([clip._frames, elsewhere]))
    assert [s.start for s in estimate_motion(cut, flow_model(method)).shots] == [0, 5]


def behind_things(frames=8, height=270, width=480):
    """(N, 3, H, W) of a scene of which half is seen between things that are two and four times nearer; its steps."""
    random = np.random.default_rng(3)
    x = np.cumsum(random.choice([-3.0, 3.0], frames)) + np.arange(frames)
    shown = None
    for layer, near in enumerate((1, 2, 4)):
        poses = geometry.to_matrices(np.stack([near * x, 0 * x, 0 * x, 0 * x], axis=-1))
        seen = filmed(texture(540, 960, seed=layer), poses, width, height)
        across, down = np.meshgrid(np.arange(960) / (14 + 4 * layer), np.arange(540) / (17 - 2 * layer))
        patches = torch.from_numpy(0.5 + np.sin(across + layer) * np.sin(down) / 2).float()[None, None]
        there = filmed(patches, poses, width, height) > float(patches.quantile(0.72))
        shown = seen if shown is None else torch.where(there, seen, shown)
    return shown, -np.diff(x)


def test_among_many_near_things_the_scene_behind_is_followed(monkeypatch):
    """Dense flow runs smoothly from one to the other; a motion between theirs would please it, which nothing does."""
    frames, moved = behind_things()

    def off():
        steps = estimate_motion(TensorClip(frames), flow_model()).steps[1:]
        corners = geometry.corners(480, 270)
        return np.abs(geometry.apply(steps, corners[None]) - corners - [[[m, 0]] for m in moved]).max(axis=(1, 2))

    assert np.median(off()) < 0.3
    monkeypatch.setattr(estimate_module, "WHOLE", 0.0)
    assert np.median(off()) > 1, "dense flow alone is torn"


@METHODS
def test_pixels_that_are_no_numbers_are_not_followed(method):
    """What comes from half precision may hold some."""
    clip, truth = shaken_clip(frames=6)
    frames = torch.cat(list(clip.frames()))
    height, width = frames.shape[-2:]
    frames[3, :, height // 3 : height // 2, width // 3 : width // 2] = float("nan")
    frames[4, :, : height // 8, : width // 8] = float("inf")
    measured = estimate_motion(TensorClip(frames), flow_model(method))
    assert measured.shots == [slice(0, 6)]
    assert np.abs(Trajectory.of(measured).path - truth)[:, :2].max() < 0.5
    frames[2] = float("nan")
    steps = estimate_motion(TensorClip(frames), flow_model(method)).steps
    assert geometry.regular(steps, 100).all()


class Degenerate:
    """A flow network: of the right flow, each point's place is multiplied by this."""

    def __init__(self, across, down):
        self.factors = across, down

    def __call__(self, first, second):
        height, width = first.shape[-2:]
        x = torch.arange(width).expand(height, width) + 0.5 - width / 2
        y = torch.arange(height)[:, None].expand(height, width) + 0.5 - height / 2
        return torch.stack([x * (self.factors[0] - 1), y * (self.factors[1] - 1)])[None]


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize(
    "factors", [(0, 0), (1e-6, 1e-6), (1e6, 1e6), (1, 0), (-1, 1), (1, 1e-8), (float("nan"), 1), (1, float("inf"))]
)
def test_a_flow_that_is_no_motion_gives_steps_that_can_be_inverted(factors, opencv, monkeypatch):
    if not opencv:  # then no second opinion is asked
        monkeypatch.setattr(estimate_module, "optional_opencv", lambda: None)
    faint = 0.5 + 0.04 * torch.cat(list(shaken_clip(frames=4)[0].frames()))  # nothing in it is a cut
    measured = estimate_motion(TensorClip(faint), Degenerate(*factors))
    assert measured.shots == [slice(0, 4)]
    assert geometry.regular(measured.steps, 100).all()
