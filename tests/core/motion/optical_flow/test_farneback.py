"""Farneback in torch measures known motion and agrees with OpenCV.

The texture is a sum of plane waves with as much power in each octave as natural images have (1/f), so it can be
evaluated at any point: the second frame shows it at p, the first at p + flow(p), and the truth is exact.
"""

import math
from functools import cache

import assets
import av
import numpy as np
import pytest
import torch
from steadyscale.core.motion.optical_flow.farneback import FarnebackSettings, farneback

HEIGHT, WIDTH = 200, 240


def texture(x, y, seed=0):
    """Grey values around 0.5 at points x, y (h, w): 150 waves of 5 to 80 pixels length, equal power per octave."""
    rng = np.random.default_rng(seed)
    length = 5 * 16 ** rng.random(150)
    angle, phase = rng.random((2, 150)) * 2 * np.pi
    value = np.zeros_like(x)
    for size, turn, start in zip(length, angle, phase, strict=True):
        value += np.cos(2 * np.pi / size * (x * np.cos(turn) + y * np.sin(turn)) + start)
    return torch.from_numpy(0.5 + 0.16 * value / math.sqrt(75)).clamp(0, 1).float()


def pixels(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def pair_moved_by(dx, dy, seed=0):
    """Two frames (1, 1, H, W) and their true flow (1, 2, H, W)."""
    x, y = pixels()
    dx, dy = np.broadcast_to(dx, x.shape), np.broadcast_to(dy, x.shape)
    first, second = texture(x + dx, y + dy, seed), still(seed)
    return first[None, None], second[None, None], torch.from_numpy(np.stack([dx, dy])).float()[None]


@cache
def still(seed):
    """The frame (H, W) that others are compared with; not to be written to."""
    return texture(*pixels(), seed)


def turned(degrees, zoom=1.0):
    """The flow (dx, dy) of a rotation and a zoom about the center."""
    x, y = pixels()
    x, y = x - WIDTH / 2, y - HEIGHT / 2
    cos, sin = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
    return cos * x - sin * y - x, sin * x + cos * y - y


def end_point_error(flow, truth, margin):
    """(B, 2, H, W) twice -> (B, h, w): distance in pixels, away from the border."""
    return (flow - truth).square().sum(1).sqrt()[:, margin : HEIGHT - margin, margin : WIDTH - margin]


def opencv_flow(first, second, s):
    """cv2 on two uint8 frames (h, w) -> (1, 2, h, w)."""
    cv2 = pytest.importorskip("cv2")
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if s.gaussian_window else 0
    numbers = (s.pyramid_scale, s.levels, s.window, s.iterations, s.poly_n, s.poly_sigma, flags)
    return torch.from_numpy(cv2.calcOpticalFlowFarneback(first, second, None, *numbers)).movedim(-1, 0)[None]


def from_bytes(frame):
    """uint8 (h, w) -> (1, 1, h, w) in [0, 1]."""
    return torch.from_numpy(frame)[None, None].float() / 255


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -0.6), (-0.25, 0.5), (6.75, 3.5), (-3.5, 9.2)])
def test_shift_has_the_right_sign(shift):
    first, second, truth = pair_moved_by(*shift)
    error = end_point_error(farneback(first, second), truth, margin=24)
    assert error.mean() < 0.05
    assert error.max() < 0.1


@pytest.mark.parametrize(("degrees", "zoom"), [(1.0, 1.0), (-1.5, 1.0), (0.0, 1.03), (1.0, 0.98)])
def test_rotation_and_zoom_are_measured(degrees, zoom):
    first, second, truth = pair_moved_by(*turned(degrees, zoom))
    error = end_point_error(farneback(first, second), truth, margin=24)
    assert error.mean() < 0.07  # one shift per window is an approximation for rotation and zoom
    assert error.max() < 0.2


def test_two_motions_in_one_frame():
    x, _ = pixels()
    first, second, _ = pair_moved_by(np.where(x < WIDTH / 2, 2.0, -1.0), 0.0)
    flow = farneback(first, second)[0, 0, 24:-24]  # (h, W)
    assert flow[:, 24 : WIDTH // 2 - 20].sub(2).abs().max() < 0.1
    assert flow[:, WIDTH // 2 + 20 : -24].add(1).abs().max() < 0.1


@pytest.mark.parametrize(
    "settings",
    [
        FarnebackSettings(),
        FarnebackSettings(gaussian_window=True, window=21),
        FarnebackSettings(pyramid_scale=0.7, levels=3, window=11, iterations=2, poly_n=5, poly_sigma=1.1),
        FarnebackSettings(levels=0, iterations=1),
    ],
    ids=["default", "gaussian", "fine", "one level"],
)
def test_agrees_with_opencv_up_to_the_border(settings):
    dx, dy = turned(1.5, 1.02)
    first, second, _ = pair_moved_by(dx + 2.4, dy - 1.7)
    first, second = ((f[0, 0, :, :-3] * 255).round().byte().numpy() for f in (first, second))  # an odd width
    theirs = opencv_flow(first, second, settings)
    ours = farneback(from_bytes(first), from_bytes(second), settings)
    assert theirs.abs().mean() > 0.5
    error = (ours - theirs).square().sum(1).sqrt()
    assert error.mean() < 1e-3
    assert error.max() < 0.02


@pytest.fixture
def clip_frames():
    """Two neighboring gray frames (h, w), uint8, of the sample clip."""
    path = assets.get_sample_clip()
    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(format="gray") for _, frame in zip(range(32), container.decode(video=0), strict=False)
        ]
    return frames[-2], frames[-1]


def test_agrees_with_opencv_on_a_real_clip(clip_frames):
    first, second = clip_frames
    theirs = opencv_flow(first, second, FarnebackSettings())
    ours = farneback(from_bytes(first), from_bytes(second))
    assert theirs.abs().mean() > 0.1
    error = (ours - theirs).square().sum(1).sqrt()
    assert error.mean() < 0.02
    assert error.quantile(0.99) < 0.05


def test_pairs_of_a_batch_are_independent():
    pairs = [pair_moved_by(1.5, 0.5, seed=1), pair_moved_by(-4.0, 2.0, seed=2), pair_moved_by(*turned(2), seed=3)]
    alone = torch.cat([farneback(first, second) for first, second, _ in pairs])
    together = farneback(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]))
    assert together.shape == (3, 2, HEIGHT, WIDTH)
    assert torch.allclose(together, alone, atol=1e-3)
    assert (together[0] - together[1]).abs().mean() > 1


def test_color_is_converted_to_luma():
    first, second, truth = pair_moved_by(1.5, -2.0)
    other = pair_moved_by(-3.0, 3.0, seed=5)  # faint blue texture that moves elsewhere
    colors = [torch.cat([0.4 * a, 0.9 * a, 0.1 * b], dim=1) for a, b in ((first, other[0]), (second, other[1]))]
    grays = [c[:, :1] * 0.299 + c[:, 1:2] * 0.587 + c[:, 2:] * 0.114 for c in colors]
    assert torch.allclose(farneback(*colors), farneback(*grays), atol=1e-3)
    assert end_point_error(farneback(*colors), truth, margin=24).mean() < 0.1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_frames_do_not_move(value):
    flat = torch.full((2, 3, 70, 90), value)
    flow = farneback(flat, flat)
    assert flow.shape == (2, 2, 70, 90)
    assert flow.abs().max() < 1e-3


def test_stripes_of_one_direction_are_ambiguous_but_bounded():
    x, y = pixels()
    first, second = (torch.from_numpy(np.sin((x + y + d) / 2) > 0).float()[None, None] for d in (1.0, 0.0))
    flow = farneback(first, second)  # a singular system at every pixel: rounding decides the sign of its determinant
    assert flow.isfinite().all()
    assert flow.abs().max() < 10 * WIDTH


def test_unrelated_frames_give_finite_flow():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 1, 1, 80, 100, generator=generator)
    assert farneback(first, second).isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (1, 40), (33, 2), (9, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_frames(size, channels):
    first, second = torch.rand(2, 2, channels, *size, generator=torch.Generator().manual_seed(1))
    flow = farneback(first, second)
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def test_result_is_float32_and_inputs_are_not_modified():
    first, second, truth = pair_moved_by(1.0, 2.0)
    before = first.clone(), second.clone()
    flow = farneback(first.requires_grad_(), second)
    assert flow.dtype == torch.float32
    assert not flow.requires_grad
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])
    half = farneback(first.half(), second.half())
    assert half.dtype == torch.float32
    assert end_point_error(half, truth, margin=24).max() < 0.1


def test_empty_batch_gives_empty_flow():
    assert farneback(torch.zeros(0, 3, 64, 80), torch.zeros(0, 3, 64, 80)).shape == (0, 2, 64, 80)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_result_equals_cpu_result():
    first, second, _ = pair_moved_by(2.5, -1.5)
    assert torch.allclose(farneback(first.cuda(), second.cuda()).cpu(), farneback(first, second), atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 1, 8, 8), (2, 3, 8, 8)])
def test_frames_must_match(shape):
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\)"):
        farneback(torch.zeros(1, 3, 8, 8), torch.zeros(shape))


def test_frames_must_be_gray_or_rgb():
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)"):
        farneback(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pyramid_scale": 1.0},
        {"window": 14},
        {"window": 1},
        {"levels": -1},
        {"iterations": 0},
        {"poly_n": 0},
        {"poly_sigma": 0.0},
    ],
)
def test_invalid_settings_are_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FarnebackSettings(**wrong)
