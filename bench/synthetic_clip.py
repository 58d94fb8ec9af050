"""Synthetic clips with a known camera path.

A camera that rotates about its center films a flat scene.

In "parallax" the camera also translates, with a near object in front of the scene; the reference is the path across the
background, which homographies can follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS, FOCAL_PIXELS = 1280, 720, 30, 1000.0  # a horizontal field of view of 65 degrees
SHAKE_HERTZ = (0.7, 1.3, 2.2, 3.1, 4.7, 6.3, 8.1)  # frequencies of hand shake
KINDS = (
    *("hand", "walk", "zoom", "cut", "low light", "subject", "people", "parallax"),
    *("rolling shutter", "blur", "low texture", "tripod"),
)
FOREGROUND_NEARNESS = 3.0  # distance of the scene over that of the near object


@dataclass(frozen=True)
class SyntheticClip:
    """A clip of one kind; frames are uint8 BGR.

    `pose(t)` maps frame points to scene points, both in pixels from the centers.
    """

    kind: str
    length: int = 150
    seed: int = 1

    @cached_property
    def scenes(self) -> list[NDArray[np.uint8]]:
        """The filmed scenes, one image per shot."""
        first = make_scene(self.seed)
        if self.kind == "low texture":
            first = cv2.GaussianBlur(first, (0, 0), 12)
        return [first, make_scene(self.seed + 1)] if self.kind == "cut" else [first]

    @cached_property
    def _angles(self) -> NDArray[np.float64]:
        """(8 per frame, 3): yaw, pitch, roll in radians."""
        t, angles = self._random_sway(np.random.default_rng(self.seed), 3, 0.7)
        if self.kind == "walk":
            angles[:, 0] += 1.2 * np.sin(2 * np.pi * 0.95 * t)
            angles[:, 1] += 2 * np.sin(2 * np.pi * 1.9 * t)
        angles *= np.array([7.4, 6.4, 8.0]) / FOCAL_PIXELS / angles.std(axis=0)
        return angles * (self.kind != "tripod")

    @cached_property
    def _offsets(self) -> NDArray[np.float64]:
        """Translation (8 per frame, 2) along x and y, in pixels of the scene."""
        t, offsets = self._random_sway(np.random.default_rng(self.seed + 100), 2, 1.2)
        offsets = offsets / offsets.std(axis=0) * [4.0, 3.0]
        offsets[:, 0] += 10 * t  # plus a uniform translation
        return offsets * (self.kind == "parallax")

    def _random_sway(
        self, random: np.random.Generator, count: int, falloff: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times in seconds (8 per frame,) and random hand shake (8 per frame, count).

        The shake is weaker at high frequencies.
        """
        t = np.arange((self.length + 2) * 8) / (8 * FPS)
        sway = np.zeros((len(t), count))
        for column in sway.T:
            for hertz in SHAKE_HERTZ:
                wave = random.standard_normal() * np.sin(2 * np.pi * (hertz * t + random.random()))
                column += wave / hertz**falloff
        return t, sway

    def pose(self, t: float, nearness: float = 1.0) -> NDArray[np.float64]:
        """Pose of the camera at frame time t.

        nearness: how many times nearer than the scene the objects are.
        """
        index = np.arange(len(self._angles))
        yaw, pitch, roll = (np.interp(8 * t, index, a) for a in self._angles.T)
        rotation = cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
        rotation = rotation @ cv2.Rodrigues(np.array([0, yaw, 0]))[0]
        intrinsics = np.diag([FOCAL_PIXELS, FOCAL_PIXELS, 1.0])
        zoom = np.exp(-0.35 * t / self.length) if self.kind == "zoom" else 1.0
        translation = np.eye(3)
        translation[:2, 2] = [nearness * np.interp(8 * t, index, p) for p in self._offsets.T]
        pose = translation @ intrinsics @ rotation @ np.linalg.inv(intrinsics) @ np.diag([zoom, zoom, 1.0])
        return pose / pose[2, 2]

    @property
    def poses(self) -> NDArray[np.float64]:
        """(N, 3, 3): pose in the middle of the exposure or readout of each frame."""
        delay = {"blur": 0.25, "rolling shutter": 0.375}.get(self.kind, 0.0)
        return np.stack([self.pose(i + delay) for i in range(self.length)])

    @property
    def shots(self) -> list[slice]:
        ends = [self.length // 2, self.length] if self.kind == "cut" else [self.length]
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    @cached_property
    def _subject_texture(self) -> NDArray[np.uint8]:
        """Texture of moving subjects."""
        return make_scene(self.seed + 2)

    @cached_property
    def _foreground(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The near object: its image, and its mask, 255 over a third of the area."""
        cover = cv2.GaussianBlur(np.random.default_rng(self.seed + 4).standard_normal((200, 320)), (0, 0), 8)
        cover = cv2.resize(cover, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        return make_scene(self.seed + 3), np.where(cover > np.quantile(cover, 0.65), 255, 0).astype(np.uint8)

    def scene_at(self, i: int) -> NDArray[np.uint8]:
        return self.scenes[next(n for n, shot in enumerate(self.shots) if i < shot.stop)]

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        for i in range(self.length):
            yield self._render_frame(i, np.random.default_rng(1000 * self.seed + i))

    def _render_frame(self, i: int, random: np.random.Generator) -> NDArray[np.uint8]:
        scene = self.scene_at(i)
        if self.kind == "rolling shutter":
            rows = [(HEIGHT * b // 48, HEIGHT * (b + 1) // 48) for b in range(48)]
            bands = [render_view(scene, self.pose(i + 0.75 * (a + b) / 2 / HEIGHT), a, b) for a, b in rows]
            return np.concatenate(bands)
        if self.kind == "blur":
            exposures = [render_view(scene, self.pose(i + 0.5 * k / 8)).astype(np.float32) for k in range(9)]
            return np.mean(exposures, axis=0).astype(np.uint8)
        if self.kind == "people":
            scene = add_people(scene, self._subject_texture, i, self.seed)
        frame = render_view(scene, self.pose(i))
        if self.kind == "parallax":
            near, mask = self._foreground
            pose = self.pose(i, FOREGROUND_NEARNESS)
            frame = np.where(render_view(mask, pose)[..., None] > 127, render_view(near, pose), frame)
        if self.kind == "subject":
            walk = np.array([[1, 0, 400 * np.sin(i / 17) - 3 * i], [0, 1, 60 * np.sin(i / 7)], [0, 0, 1.0]])
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.ellipse(mask, (int(WIDTH * 0.35 + 3 * i) % WIDTH, HEIGHT // 2 + 40), (240, 400), 0, 0, 360, 255, -1)
            frame[mask > 0] = render_view(self._subject_texture, walk @ self.pose(i))[mask > 0]
        noise = {"low light": 3.0, "low texture": 1.5, "tripod": 2.0}.get(self.kind)
        if noise:
            light = 0.25 if self.kind == "low light" else 1.0
            frame = (frame * light + random.normal(0, noise, frame.shape)).clip(0, 255).astype(np.uint8)
        return frame


def make_scene(seed: int) -> NDArray[np.uint8]:
    """Draw colored rectangles on a texture with the spectrum of a photograph.

    Returns (1600, 2560, 3).
    """
    random = np.random.default_rng(seed)
    height, width = 1600, 2560
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    spectrum = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.3
    detail = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * spectrum) for _ in range(3)]
    scene = np.stack([128 + 30 * (d - d.mean()) / d.std() for d in detail], axis=-1).astype(np.float32)
    for _ in range(160):
        corner, size = random.uniform([0, 0], [width, height]), random.uniform(20, 260, 2)
        box = cv2.boxPoints((tuple(corner), tuple(size), random.uniform(0, 90))).astype(np.int32)
        mask = cv2.fillPoly(np.zeros((height, width), np.uint8), [box], 1).astype(bool)
        scene[mask] += random.uniform(-60, 60, 3)
    return scene.clip(0, 255).astype(np.uint8)


def add_people(image: NDArray[np.uint8], texture: NDArray[np.uint8], i: int, seed: int) -> NDArray[np.uint8]:
    """The scene at frame i with walking people, who cover a fifth of the frame."""
    random, image = np.random.default_rng(seed + 5), image.copy()
    top, left = ((s - o) // 2 for s, o in zip(image.shape, (HEIGHT, WIDTH), strict=False))
    for person in range(8):
        width, height = int(random.uniform(80, 120)), int(random.uniform(240, 320))
        speed, step = random.choice([-1, 1]) * random.uniform(1.5, 5.0), random.uniform(5, 9)
        x = int((person + random.random()) * WIDTH / 8 + speed * i) % (WIDTH + width) - width + left
        y = int(random.uniform(0.2, 0.9) * (HEIGHT - height) + 8 * abs(np.sin(i / step))) + top
        center = (width // 2, height // 2)
        mask = cv2.ellipse(np.zeros((height, width), np.uint8), center, center, 0, 0, 360, 1, -1)
        part = image[y : y + height, x : x + width]
        part[mask > 0] = texture[person * 150 : person * 150 + height, 300 : 300 + width][mask > 0]
    return image


def render_view(
    image: NDArray[np.uint8], pose: NDArray[np.float64], top: int = 0, bottom: int = HEIGHT
) -> NDArray[np.uint8]:
    """Render the rows from top to bottom of a camera frame with this pose."""
    height, width = image.shape[:2]
    from_frame = np.array([[1, 0, 0.5 - WIDTH / 2], [0, 1, 0.5 - HEIGHT / 2 + top], [0, 0, 1.0]])
    to_image = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (WIDTH, bottom - top)
    return cv2.warpPerspective(image, to_image @ pose @ from_frame, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
