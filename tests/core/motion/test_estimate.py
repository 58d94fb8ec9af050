from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shaken_clip, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.motion import estimate as estimate_module
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow import flow as flow_module
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame
from steadyscale.core.path.trajectory import MIN_CONFIDENCE, Trajectory


@pytest.mark.parametrize("method", list(FlowMethod))
def test_known_shake_is_measured(method):
    clip, truth = make_shaken_clip()
    path = Trajectory.of(estimate_motion(clip, flow_model(method))).path
    error = np.abs(path - truth)
    assert error[:, :2].max() < 0.15, "pixels, accumulated over 50 frames"
    assert error[:, 2].max() < 0.0015, "radians"
    assert error[:, 3].max() < 0.006, "log zoom"


def test_torch_estimator_is_used_without_opencv(monkeypatch):
    monkeypatch.setattr(flow_module, "optional_opencv", lambda: None)
    clip, truth = make_shaken_clip(frames=8)
    path = Trajectory.of(estimate_motion(clip, flow_model())).path
    assert np.abs(path - truth)[:, :2].max() < 0.3
    for method in (FlowMethod.DIS, FlowMethod.TRACKS):
        with pytest.raises(ClipError, match="opencv-python-headless"):
            flow_model(method)


def test_motion_is_in_pixels_of_the_full_size():
    path = np.array([[0, 0, 0, 0], [24.0, -16.0, 0, 0]])
    clip = TensorClip(render_camera(make_texture(800, 1400), geometry.matrices_from_parameters(path), 960, 540))
    measured = estimate_motion(clip, flow_model(), side=320)
    assert np.allclose(geometry.to_parameters(measured.steps[1])[:2], [-24, 16], atol=0.5)


def test_moving_subject_does_not_affect_the_camera_motion():
    path = np.stack([np.zeros(6), np.zeros(6), np.zeros(6), np.zeros(6)], -1)
    path[:, 0] = np.arange(6) * 2.0
    background = render_camera(make_texture(300, 500, seed=1), geometry.matrices_from_parameters(path), 320, 180)
    walk = np.zeros((6, 4))
    walk[:, 0] = -np.arange(6) * 4.0
    subject = render_camera(make_texture(300, 500, seed=2), geometry.matrices_from_parameters(walk), 320, 180)
    background[:, :, :, 180:288] = subject[:, :, :, 180:288]  # a third of the frame
    motion = estimate_motion(TensorClip(background), flow_model())
    assert np.allclose(geometry.to_parameters(motion.steps[1:])[:, :2], [[-2, 0]], atol=0.25)


METHODS = pytest.mark.parametrize("method", list(FlowMethod))
PATH, WALK = np.array([-2.0, 1.0, 0, 0]), np.array([4.0, -1.0, 0, 0])  # per frame, of the camera and of a subject


def with_subject(widths):
    """A clip whose camera moves by PATH, with a subject of these widths (pixels of 320) that moves by WALK.

    Also the mask of the subject, and the camera's steps.
    """
    n = len(widths)
    index = np.arange(n)[:, None]
    frames = render_camera(make_texture(300, 500, seed=1), geometry.matrices_from_parameters(index * PATH), 320, 180)
    subject = render_camera(make_texture(300, 500, seed=2), geometry.matrices_from_parameters(index * WALK), 320, 180)
    mask = torch.zeros(n, 180, 320)
    for i, width in enumerate(widths):
        columns = slice(160 - width // 2, 160 + width // 2)
        frames[i, ..., columns], mask[i, :, columns] = subject[i, ..., columns], 1.0
    return TensorClip(frames), mask, -PATH[:2]


def missed(motion, truth):
    """Maximum error of the center's steps."""
    return float(np.abs(geometry.to_parameters(motion.steps[1:])[:, :2] - truth).max())


@METHODS
def test_mask_excludes_a_subject_that_fills_most_of_the_frame(method):
    clip, mask, truth = with_subject([192] * 5)  # 60 %
    assert missed(estimate_motion(clip, flow_model(method), mask=mask), truth) < 0.1
    assert missed(estimate_motion(clip, flow_model(method)), truth) > 2, "without it, the majority of the frame wins"


def test_mask_may_be_constant_or_a_function_of_any_size():
    clip, mask, truth = with_subject([192] * 4)
    small = mask[:1, ::2, ::2]
    asked = []
    for given in (mask[:1], small, lambda i: asked.append(i) or mask[i]):
        assert missed(estimate_motion(clip, flow_model(), mask=given), truth) < 0.1
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 5])
def test_wrong_number_of_masks_is_an_error(count):
    clip, mask, _ = with_subject([192] * 4)
    with pytest.raises(ClipError, match=r"frame 2 has no mask|4 frames, the mask 5"):
        estimate_motion(clip, flow_model(FlowMethod.DIS), mask=mask[:1].repeat(count, 1, 1))


def test_fully_masked_frame_has_low_confidence_and_is_not_a_cut():
    clip, mask, _ = with_subject([0] * 3)
    motion = estimate_motion(clip, flow_model(), mask=torch.ones_like(mask))
    assert motion.shots == [slice(0, 3)]
    assert (motion.confidence < MIN_CONFIDENCE).all()


@METHODS
def test_growing_subject_does_not_become_the_camera_motion(method):
    clip, _, truth = with_subject([0, 0, 40, 80, 120, 160, 180, 200])  # up to 62 %
    assert missed(estimate_motion(clip, flow_model(method)), truth) < 0.4
    backwards = TensorClip(next(clip.frames(8)).flip(0))
    assert missed(estimate_motion(backwards, flow_model(method)), -truth) > 2, (
        "nor does the background, once the subject is the camera motion"
    )


def test_cuts_have_zero_confidence_and_duplicates_no_motion():
    a, b = make_texture(180, 320, seed=1), make_texture(180, 320, seed=2)
    moved = torch.roll(a, 3, dims=-1)
    motion = estimate_motion(TensorClip(torch.cat([a, moved, moved, b, b]), Fraction(25)), flow_model())
    assert (motion.confidence == 0).tolist() == [True, False, False, True, False]
    assert motion.shots == [slice(0, 3), slice(3, 5)]
    assert np.array_equal(motion.steps[2], np.eye(3))
    assert np.array_equal(motion.steps[4], np.eye(3))
    assert abs(motion.steps[1][0, 2] - 3) < 0.1


def test_flash_is_not_a_cut():
    a = make_texture(180, 320)
    motion = estimate_motion(TensorClip(torch.cat([a, (a * 1.6).clamp(0, 1), a * 0.5])), flow_model())
    assert motion.shots == [slice(0, 3)]


def test_saturated_and_partial_flashes_do_not_end_a_shot():
    clip, truth = make_shaken_clip(frames=9)
    frames = torch.cat(list(clip.frames()))
    frames[3] = (0.75 + 5 * frames[3]).clamp(0, 1)
    frames[6, :, 72:] = (0.8 + 3 * frames[6, :, 72:]).clamp(0, 1)
    motion = estimate_motion(TensorClip(frames), flow_model())
    assert motion.shots == [slice(0, 9)]
    path = Trajectory.of(motion).path
    lit = [3, 6]
    assert np.abs(np.delete(path - truth, lit, axis=0)[:, :2]).max() < 0.3
    assert (motion.confidence[1:] >= MIN_CONFIDENCE).all()


def light_bands(frames: torch.Tensor) -> torch.Tensor:
    """Bands of mains light that run upwards, as a rolling shutter films them."""
    number, rows = torch.arange(len(frames))[:, None], torch.arange(frames.shape[2])
    bands = 1 + 0.35 * torch.sin(2 * torch.pi * (rows / 100 - number * 0.23))
    return (frames * bands[:, None, :, None]).clamp(0, 1)


def moving_lamps(frames: torch.Tensor) -> torch.Tensor:
    """Lamps left and right that take turns, in two colors."""
    colors = torch.tensor([[1.6, 0.7, 0.6], [0.5, 0.6, 1.7]])
    across = torch.linspace(-1, 1, frames.shape[3])
    lit = [
        0.5 + (colors[i // 2 % 2][:, None] - 0.4) * torch.exp(-3 * (across + (-0.5, 0.5)[i // 2 % 2]) ** 2)
        for i in range(len(frames))
    ]
    return (frames * torch.stack(lit)[:, :, None]).clamp(0, 1)


@pytest.mark.parametrize("method", [FlowMethod.TRACKS, FlowMethod.DIS])
@pytest.mark.parametrize("light", [light_bands, moving_lamps])
def test_light_that_changes_in_parts_of_the_frame_is_not_motion(method, light):
    clip, truth = make_shaken_clip(frames=24)
    frames = torch.cat(list(clip.frames())).expand(-1, 3, -1, -1)
    motion = estimate_motion(TensorClip(light(frames)), flow_model(method))
    assert motion.shots == [slice(0, 24)]
    steps = np.diff(Trajectory.of(motion).path - truth, axis=0)
    assert np.abs(steps[:, :2]).max() < 0.3, "pixels"


def test_ordinary_frames_are_not_evened(monkeypatch):
    monkeypatch.setattr(GrayFrame, "even_light", property(lambda _: pytest.fail("this takes time")))
    estimate_motion(make_shaken_clip()[0], flow_model(FlowMethod.TRACKS))


def test_flat_frames_have_low_confidence_and_are_not_cuts():
    flat = torch.full((3, 3, 90, 160), 0.5) + 0.01 * torch.randn(3, 3, 90, 160, generator=torch.manual_seed(0))
    motion = estimate_motion(TensorClip(flat), flow_model())
    assert motion.shots == [slice(0, 3)]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (17, 16)])
def test_tiny_frames_have_no_motion(size):
    motion = estimate_motion(TensorClip(torch.rand(3, 3, *size)), flow_model())
    assert len(motion.steps) == 3
    assert np.isfinite(motion.steps).all()


def test_clips_of_one_and_no_frame():
    assert estimate_motion(TensorClip(torch.rand(1, 3, 40, 40)), flow_model()).shots == [slice(0, 1)]
    with pytest.raises(ClipError, match="no frames"):
        estimate_motion(TensorClip(torch.rand(0, 3, 40, 40)), flow_model())


@pytest.mark.parametrize("method", FlowMethod)
def test_jump_that_one_estimator_cannot_follow_is_not_a_cut(method):
    """Blocks of random color that jump by more than a block, which dense flow cannot measure."""
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
    """(N, 3, H, W): a scene, half hidden by objects two and four times nearer; and its steps."""
    random = np.random.default_rng(3)
    x = np.cumsum(random.choice([-3.0, 3.0], frames)) + np.arange(frames)
    composite = None
    for layer, near in enumerate((1, 2, 4)):
        poses = geometry.matrices_from_parameters(np.stack([near * x, 0 * x, 0 * x, 0 * x], axis=-1))
        layer_frames = render_camera(make_texture(540, 960, seed=layer), poses, width, height)
        across, down = np.meshgrid(np.arange(960) / (14 + 4 * layer), np.arange(540) / (17 - 2 * layer))
        patches = torch.from_numpy(0.5 + np.sin(across + layer) * np.sin(down) / 2).float()[None, None]
        there = render_camera(patches, poses, width, height) > float(patches.quantile(0.72))
        composite = layer_frames if composite is None else torch.where(there, layer_frames, composite)
    return composite, -np.diff(x)


def test_background_is_tracked_behind_many_near_objects(monkeypatch):
    """Dense flow is smooth across edges; its average between the layers is the motion of none."""
    frames, moved = behind_things()

    def off():
        steps = estimate_motion(TensorClip(frames), flow_model()).steps[1:]
        corners = geometry.corners(480, 270)
        return np.abs(geometry.transform_points(steps, corners[None]) - corners - [[[m, 0]] for m in moved]).max(
            axis=(1, 2)
        )

    assert np.median(off()) < 0.3
    monkeypatch.setattr(estimate_module, "LOW_CONFIDENCE", 0.0)
    assert np.median(off()) > 1, "dense flow alone fails"


@METHODS
def test_non_finite_pixels_are_ignored(method):
    """Frames from half precision may contain NaN and infinity."""
    clip, truth = make_shaken_clip(frames=6)
    frames = torch.cat(list(clip.frames()))
    height, width = frames.shape[-2:]
    frames[3, :, height // 3 : height // 2, width // 3 : width // 2] = float("nan")
    frames[4, :, : height // 8, : width // 8] = float("inf")
    measured = estimate_motion(TensorClip(frames), flow_model(method))
    assert measured.shots == [slice(0, 6)]
    assert np.abs(Trajectory.of(measured).path - truth)[:, :2].max() < 0.5
    frames[2] = float("nan")
    steps = estimate_motion(TensorClip(frames), flow_model(method)).steps
    assert geometry.is_regular(steps, 100).all()


class ScalingFlow:
    """A flow model that multiplies positions by constant factors along x and y."""

    def __init__(self, factor_x, factor_y):
        self.factors = factor_x, factor_y

    def __call__(self, first, second):
        height, width = first.shape[-2:]
        x = torch.arange(width).expand(height, width) + 0.5 - width / 2
        y = torch.arange(height)[:, None].expand(height, width) + 0.5 - height / 2
        return torch.stack([x * (self.factors[0] - 1), y * (self.factors[1] - 1)])[None]


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize(
    "factors", [(0, 0), (1e-6, 1e-6), (1e6, 1e6), (1, 0), (-1, 1), (1, 1e-8), (float("nan"), 1), (1, float("inf"))]
)
def test_degenerate_flow_gives_regular_steps(factors, opencv, monkeypatch):
    if not opencv:  # disables the fallback flow
        monkeypatch.setattr(estimate_module, "optional_opencv", lambda: None)
    faint = 0.5 + 0.04 * torch.cat(list(make_shaken_clip(4, 160, 90)[0].frames()))  # nothing in it is a cut
    measured = estimate_motion(TensorClip(faint), ScalingFlow(*factors))
    assert measured.shots == [slice(0, 4)]
    assert geometry.is_regular(measured.steps, 100).all()


@METHODS
def test_moving_texture_in_a_masked_area_is_not_followed(method):
    """It moves by so little that the refinement to sub-pixels could follow it, and has more texture than the rest."""
    background = 0.5 + 0.15 * (make_texture(180, 320, seed=1) - 0.5)
    frames = background.repeat(5, 1, 1, 1)
    mask = torch.zeros(1, 180, 320)
    mask[:, 10:170, 40:280] = 1
    walk = np.zeros((5, 4))
    walk[:, 0] = -np.arange(5) * 1.5
    subject = render_camera(make_texture(300, 500, seed=2), geometry.matrices_from_parameters(walk), 320, 180)
    frames[..., 14:166, 44:276] = subject[..., 14:166, 44:276]
    clip = TensorClip(frames)
    assert missed(estimate_motion(clip, flow_model(method), mask=mask), np.zeros(2)) < 0.02
    assert missed(estimate_motion(clip, flow_model(method)), np.zeros(2)) > 1, "without the mask it is followed"
