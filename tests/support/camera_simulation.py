"""Synthetic clips with a known camera path: textures with detail at every scale, and a simulated camera."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from steadyscale.core import geometry
from steadyscale.core.clip import Clip, TensorClip
from torch import Tensor


def make_texture(height: int, width: int, seed: int = 0, spectral_slope: float = 1.2) -> Tensor:
    """(1, 3, H, W) in [0, 1]: noise with the spectrum of photographs."""
    return _compute_texture(height, width, seed, spectral_slope).clone()


@lru_cache(maxsize=16)  # most tests ask for the same few
def _compute_texture(height: int, width: int, seed: int, spectral_slope: float) -> Tensor:
    random = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    spectrum = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** spectral_slope
    planes = []
    for _ in range(3):
        noise = np.fft.rfft2(random.standard_normal((height, width))) * spectrum
        plane = np.fft.irfft2(noise, (height, width))
        planes.append(0.5 + 0.18 * (plane - plane.mean()) / plane.std())
    return torch.from_numpy(np.stack(planes)).float().clamp(0, 1)[None]


def render_camera(scene: Tensor, poses: np.ndarray, width: int, height: int) -> Tensor:
    """(N, 3, height, width): frames of a camera whose poses (N, 3, 3) map frame points to scene points.

    Both have their origin at the center (steadyscale.core.geometry). Sampled independently of the code under test.
    """
    y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    scene_points = torch.from_numpy(geometry.transform_points(np.asarray(poses), points[None])).float()
    size = torch.tensor([scene.shape[-1], scene.shape[-2]])
    grid = (scene_points * 2 / size).view(len(poses), height, width, 2)
    scenes = scene.expand(len(poses), -1, -1, -1)
    return F.grid_sample(scenes, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def render_rolling_shutter(
    scene: Tensor, pose_at: Callable[[np.ndarray], np.ndarray], width: int, height: int, count: int, readout: float
):
    """(count, 3, height, width): frames of a camera with a rolling shutter and the poses `pose_at(times)`.

    Row y of frame i is exposed at i + readout * (y from the center) / height.
    """
    y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
    points = np.stack([x, y], axis=-1)
    size = torch.tensor([scene.shape[-1], scene.shape[-2]])
    frames = []
    for i in range(count):
        scene_points = geometry.transform_points(pose_at(i + readout * y[:, 0] / height), points)
        grid = torch.from_numpy(scene_points).float() * 2 / size
        frames.append(F.grid_sample(scene, grid[None], mode="bicubic", padding_mode="reflection", align_corners=False))
    return torch.cat(frames).clamp(0, 1)


def make_shake_path(
    frames: int, seed: int = 0, pixels: float = 6.0, angle: float = 0.012, zoom: float = 0.01
) -> np.ndarray:
    """(N, 4) parameters of a hand-held camera: smooth noise of 2 to 8 Hz at 25 frames per second, starting at zero."""
    random = np.random.default_rng(seed)
    t = np.arange(frames)[:, None] / 25
    path = np.zeros((frames, 4))
    for hertz in (2.1, 3.7, 5.3, 7.9):
        path += random.standard_normal(4) * np.sin(2 * np.pi * (hertz * t + random.random(4))) / hertz**0.5
    path *= np.array([pixels, pixels, angle, zoom])
    return path - path[0]


def make_shaken_clip(frames: int = 50, width: int = 320, height: int = 180, seed: int = 0, **amount: float):
    """A clip of a texture filmed with hand shake, and its true path (N, 4)."""
    rendered, path = _render_shaken(frames, width, height, seed, **amount)
    return TensorClip(rendered.clone(), Fraction(25)), path.copy()


@lru_cache(maxsize=4)  # the tests of a file ask for the same few
def _render_shaken(frames: int, width: int, height: int, seed: int, **amount: float) -> tuple[Tensor, np.ndarray]:
    path = make_shake_path(frames, seed, **amount)
    scene = make_texture(height * 2, width * 2, seed)
    return render_camera(scene, geometry.matrices_from_parameters(path), width, height), path


def measure_jitter(path: np.ndarray, width: int, height: int) -> float:
    """Root mean square acceleration over the frame, in pixels per frame squared."""
    poses = geometry.matrices_from_parameters(path)
    steps = np.linalg.inv(poses[1:]) @ poses[:-1]
    points = np.stack(np.meshgrid(np.linspace(-width / 2, width / 2, 9), np.linspace(-height / 2, height / 2, 9)), -1)
    moves = geometry.transform_points(steps, points.reshape(1, -1, 2)) - points.reshape(1, -1, 2)
    return float(np.sqrt((np.diff(moves, axis=0) ** 2).sum(-1).mean()))


def frame_difference(clip: Clip) -> float:
    """Mean difference between neighboring frames, away from the borders, relative to their contrast.

    NaN for uniform frames, so that black frames fail any bound.
    """
    frames = torch.cat(list(clip.frames()))
    height, width = frames.shape[-2:]
    inner = frames[..., height // 4 : -height // 4, width // 4 : -width // 4]
    return float(inner.diff(dim=0).abs().mean() / inner.std())
