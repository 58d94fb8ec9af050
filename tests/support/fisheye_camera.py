"""A rotating camera with a fisheye lens: its rotations, frames and motion, computed without the code under test."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from camera_simulation import make_texture
from scipy.spatial.transform import Rotation
from torch import Tensor


def shake(count: int, radians: float, seed: int = 0) -> np.ndarray:
    """(count, 3, 3): rotations from the axes of each frame to those of the scene, of 2 to 6 Hz at 25 fps."""
    random, t = np.random.default_rng(seed), np.arange(count)[:, None] / 25
    vectors = sum(random.standard_normal(3) * np.sin(2 * np.pi * (f * t + random.random(3))) for f in (2.1, 3.7, 5.3))
    return Rotation.from_rotvec(vectors * [radians, radians, radians / 2]).as_matrix()


def to_rays(points: np.ndarray, focal: float) -> np.ndarray:
    """Rays of an equidistant lens (..., 3)."""
    angle = np.hypot(points[..., 0], points[..., 1]) / focal
    x, y = np.moveaxis(points, -1, 0) / focal * np.sinc(angle / np.pi)
    return np.stack([x, y, np.cos(angle)], axis=-1)


def to_points(rays: np.ndarray, focal: float) -> np.ndarray:
    across = np.hypot(rays[..., 0], rays[..., 1])
    return rays[..., :2] * (np.arctan2(across, rays[..., 2]) * focal / np.maximum(across, 1e-12))[..., None]


def frame_points(width: int, height: int, columns: int = 9, rows: int = 7) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-0.45, 0.45, columns) * width, np.linspace(-0.45, 0.45, rows) * height)
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def render(rotations: np.ndarray, focal: float, width: int, height: int) -> Tensor:
    """(N, 3, height, width): frames of an equidistant lens in a painted sphere."""
    texture = make_texture(1024, 2048, 3, 1.1)
    y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
    rays = to_rays(np.stack([x, y], axis=-1), focal)
    frames = []
    for rotation in rotations:
        turned = rays @ rotation.T
        longitude = np.arctan2(turned[..., 0], turned[..., 2])
        latitude = np.arcsin(turned[..., 1].clip(-1, 1))
        grid = torch.from_numpy(np.stack([longitude, latitude], axis=-1) / [np.pi, np.pi / 2] * 0.9).float()
        frames.append(
            F.grid_sample(texture, grid[None], mode="bicubic", padding_mode="reflection", align_corners=False)
        )
    return torch.cat(frames).clamp(0, 1)


def add_subject(frames: Tensor, rotations: np.ndarray, subject: np.ndarray, focal: float, half: float) -> Tensor:
    """The frames with a textured square at a place in the scene.

    subject: (N, 3, 3), rotations whose third column points at its center. half: of its side, as a tangent.
    """
    height, width = frames.shape[-2:]
    texture = make_texture(96, 96, 9, 1.1)
    y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
    rays, result = to_rays(np.stack([x, y], axis=-1), focal), frames.clone()
    for i, (rotation, place) in enumerate(zip(rotations, subject, strict=True)):
        local = rays @ rotation.T @ place
        flat = local[..., :2] / np.maximum(local[..., 2:], 1e-6) / half
        inside = torch.from_numpy((np.abs(flat).max(axis=-1) < 1) & (local[..., 2] > 0))
        seen = F.grid_sample(texture, torch.from_numpy(flat)[None].float(), mode="bicubic", align_corners=False)
        result[i] = torch.where(inside, seen[0].clamp(0, 1), result[i])
    return result


def residual(rotations: np.ndarray, focal: float, sources: np.ndarray) -> float:
    """Root mean square distance, in pixels, of what is displayed from a moving mean of 11 frames.

    sources: (N, P, 2), where each frame shows what is displayed at P points.
    """
    seen = np.einsum("nij,npj->npi", rotations, to_rays(sources, focal))
    weights = np.hanning(13)[1:-1] / np.hanning(13).sum()
    smooth = np.stack([np.tensordot(weights, seen[i : i + 11], 1) for i in range(len(seen) - 10)])
    return float(focal * np.sqrt(np.square(seen[5:-5] - smooth).sum(axis=-1).mean()))
