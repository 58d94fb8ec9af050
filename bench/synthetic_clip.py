"""Clips whose camera path is known: a scene filmed by a shaking camera that turns about its centre, frame by frame.

In "parallax" it moves from its place too, and there is something near before the scene; the path that counts is the
one across the scene behind, which a picture that is only shifted, turned and bent can follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS, FOCAL_PIXELS = 1280, 720, 30, 1000.0  # pixels; a horizontal view of 65 degrees
SHAKE_HERTZ = (0.7, 1.3, 2.2, 3.1, 4.7, 6.3, 8.1)  # of a hand; slower is weaker no more than quicker
KINDS = (
    *("hand", "walk", "zoom", "cut", "low light", "subject", "people", "parallax"),
    *("rolling shutter", "blur", "low texture", "tripod"),
)
FOREGROUND_NEARNESS = 3.0  # times: how much nearer than the scene what stands before it is


@dataclass(frozen=True)
class SyntheticClip:
    """A clip of one kind. `frames` are uint8 BGR; `pose(t)` carries frame points to the scene, centre to centre."""

    kind: str
    length: int = 150
    seed: int = 1

    @cached_property
    def scenes(self) -> list[NDArray[np.uint8]]:
        """What is filmed: one picture per shot."""
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
        """(8 per frame, 2): how far the camera has moved sideways and down, in pixels of the scene."""
        t, places = self._random_sway(np.random.default_rng(self.seed + 100), 2, 1.2)
        places = places / places.std(axis=0) * [4.0, 3.0]
        places[:, 0] += 10 * t  # it goes on sideways meanwhile
        return places * (self.kind == "parallax")

    def _random_sway(
        self, random: np.random.Generator, count: int, falloff: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times in seconds (8 per frame,), and (8 per frame, count) of a hand's swings, the quicker ones weaker."""
        t = np.arange((self.length + 2) * 8) / (8 * FPS)
        swings = np.zeros((len(t), count))
        for column in swings.T:
            for hertz in SHAKE_HERTZ:
                swing = random.standard_normal() * np.sin(2 * np.pi * (hertz * t + random.random()))
                column += swing / hertz**falloff
        return t, swings

    def pose(self, t: float, nearness: float = 1.0) -> NDArray[np.float64]:
        """The camera at frame time t, as seen against what is `nearness` times nearer than the scene."""
        index = np.arange(len(self._angles))
        yaw, pitch, roll = (np.interp(8 * t, index, a) for a in self._angles.T)
        turn = cv2.Rodrigues(np.array([0, 0, roll]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
        turn = turn @ cv2.Rodrigues(np.array([0, yaw, 0]))[0]
        lens = np.diag([FOCAL_PIXELS, FOCAL_PIXELS, 1.0])
        zoom = np.exp(-0.35 * t / self.length) if self.kind == "zoom" else 1.0
        place = np.eye(3)
        place[:2, 2] = [nearness * np.interp(8 * t, index, p) for p in self._offsets.T]
        pose = place @ lens @ turn @ np.linalg.inv(lens) @ np.diag([zoom, zoom, 1.0])
        return pose / pose[2, 2]

    @property
    def poses(self) -> NDArray[np.float64]:
        """(N, 3, 3): of each frame; of the middle of its exposure or read-out where that takes time."""
        late = {"blur": 0.25, "rolling shutter": 0.375}.get(self.kind, 0.0)
        return np.stack([self.pose(i + late) for i in range(self.length)])

    @property
    def shots(self) -> list[slice]:
        ends = [self.length // 2, self.length] if self.kind == "cut" else [self.length]
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    @cached_property
    def _subject_texture(self) -> NDArray[np.uint8]:
        """What subjects are clad in."""
        return make_scene(self.seed + 2)

    @cached_property
    def _foreground(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What stands before the scene: its picture, and where it is, 255 over a third of it."""
        cover = cv2.GaussianBlur(np.random.default_rng(self.seed + 4).standard_normal((200, 320)), (0, 0), 8)
        cover = cv2.resize(cover, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        return make_scene(self.seed + 3), np.where(cover > np.quantile(cover, 0.65), 255, 0).astype(np.uint8)

    def scene_at(self, i: int) -> NDArray[np.uint8]:
        return self.scenes[next(n for n, shot in enumerate(self.shots) if i < shot.stop)]

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        for i in range(self.length):
            yield self._render_frame(i, np.random.default_rng(1000 * self.seed + i))

    def _render_frame(self, i: int, random: np.random.Generator) -> NDArray[np.uint8]:
        picture = self.scene_at(i)
        if self.kind == "rolling shutter":
            rows = [(HEIGHT * b // 48, HEIGHT * (b + 1) // 48) for b in range(48)]
            bands = [render_view(picture, self.pose(i + 0.75 * (a + b) / 2 / HEIGHT), a, b) for a, b in rows]
            return np.concatenate(bands)
        if self.kind == "blur":
            shots = [render_view(picture, self.pose(i + 0.5 * k / 8)).astype(np.float32) for k in range(9)]
            return np.mean(shots, axis=0).astype(np.uint8)
        if self.kind == "people":
            picture = add_people(picture, self._subject_texture, i, self.seed)
        frame = render_view(picture, self.pose(i))
        if self.kind == "parallax":
            near, there = self._foreground
            pose = self.pose(i, FOREGROUND_NEARNESS)
            frame = np.where(render_view(there, pose)[..., None] > 127, render_view(near, pose), frame)
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
    """(1600, 2560, 3): fields of colour with edges, on detail whose spectrum falls as a photograph's does."""
    random = np.random.default_rng(seed)
    height, width = 1600, 2560
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.3
    detail = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * falling) for _ in range(3)]
    picture = np.stack([128 + 30 * (d - d.mean()) / d.std() for d in detail], axis=-1).astype(np.float32)
    for _ in range(160):
        corner, size = random.uniform([0, 0], [width, height]), random.uniform(20, 260, 2)
        box = cv2.boxPoints((tuple(corner), tuple(size), random.uniform(0, 90))).astype(np.int32)
        mask = cv2.fillPoly(np.zeros((height, width), np.uint8), [box], 1).astype(bool)
        picture[mask] += random.uniform(-60, 60, 3)
    return picture.clip(0, 255).astype(np.uint8)


def add_people(image: NDArray[np.uint8], texture: NDArray[np.uint8], i: int, seed: int) -> NDArray[np.uint8]:
    """The scene at frame i with people who walk through it, each at a pace of their own: a fifth of what is filmed."""
    random, image = np.random.default_rng(seed + 5), image.copy()
    top, left = ((s - o) // 2 for s, o in zip(image.shape, (HEIGHT, WIDTH), strict=False))
    for person in range(8):
        wide, high = int(random.uniform(80, 120)), int(random.uniform(240, 320))
        pace, step = random.choice([-1, 1]) * random.uniform(1.5, 5.0), random.uniform(5, 9)
        x = int((person + random.random()) * WIDTH / 8 + pace * i) % (WIDTH + wide) - wide + left
        y = int(random.uniform(0.2, 0.9) * (HEIGHT - high) + 8 * abs(np.sin(i / step))) + top
        shape = cv2.ellipse(
            np.zeros((high, wide), np.uint8), (wide // 2, high // 2), (wide // 2, high // 2), 0, 0, 360, 1, -1
        )
        part = image[y : y + high, x : x + wide]
        part[shape > 0] = texture[person * 150 : person * 150 + high, 300 : 300 + wide][shape > 0]
    return image


def render_view(
    image: NDArray[np.uint8], pose: NDArray[np.float64], top: int = 0, bottom: int = HEIGHT
) -> NDArray[np.uint8]:
    """Rows top to bottom of what a camera with this pose sees of the picture."""
    height, width = image.shape[:2]
    from_frame = np.array([[1, 0, 0.5 - WIDTH / 2], [0, 1, 0.5 - HEIGHT / 2 + top], [0, 0, 1.0]])
    to_picture = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (WIDTH, bottom - top)
    return cv2.warpPerspective(image, to_picture @ pose @ from_frame, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
