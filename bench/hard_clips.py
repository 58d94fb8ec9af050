"""Synthetic clips on which stabilizers go wrong, with exact camera paths.

Smaller than the clips of synthetic_clip.py, and not measured by registration, which would fail on them as well: a
correction is composed with the true poses. A clip that is hard to follow must not come out worse than it went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from steadyscale.core import Region

Image = NDArray[Any]  # (H, W, 3), BGR in [0, 255]

WIDTH, HEIGHT, FPS = 480, 270, 30
HARD_KINDS = (
    *("jello", "flashes", "partial flashes", "night", "film", "time-lapse", "page", "window", "letterbox"),
    *("pillarbox", "long lens", "dissolve", "parallax", "rain", "confetti", "logo", "strobe", "exposure"),
    *("focus", "person", "repeated", "ticker", "still", "fast cuts", "fade", "dark cut"),
    *("night tripod", "fisheye", "planes", "subject", "mains light", "lamps"),
)
STATIC_KINDS = ("page", "window", "time-lapse", "still", "night tripod")
SHAKE_PIXELS = {"long lens": 15.0, "jello": 1.0, **dict.fromkeys(STATIC_KINDS, 0.0)}  # of each axis; others: 3
SHAKE_HERTZ = (0.9, 1.7, 2.9, 4.3, 6.1)
BAR_PIXELS = {"letterbox": (0, 34), "pillarbox": (60, 0)}  # width and height of each bar
DISSOLVE = (33, 57)  # first and last frame of the mixture
FADE = (30, 40, 50, 60)  # the scene is gone from the second to the third of these frames
FISHEYE_DEGREES = 150.0  # horizontal field of view, equidistant
FLASHES = {"flashes": (32, 58), "partial flashes": (26, 45, 64)}
LAYERS = {"parallax": {"far": 1.0, "near": 2.5}, "planes": {"far": 1.0, "middle": 1.7, "near": 2.8}}  # nearness
COVERS = {"parallax": {"near": 0.35}, "planes": {"middle": 0.4, "near": 0.3}}  # share of the scene that a layer covers
SUBJECT_SIZE = (96, 120)  # width and height of the ellipse that moves across the frame, in pixels


@dataclass(frozen=True)
class HardClip:
    """A clip of one kind; frames are uint8 BGR.

    `poses` map frame points to scene points, both in pixels from the centers.
    """

    kind: str
    length: int = 90
    seed: int = 1

    @property
    def shots(self) -> list[slice]:
        """Slices of frames that show one scene.

        The second half of a dissolve belongs to the second scene.
        """
        middle = {
            "dissolve": sum(DISSOLVE) // 2 + 1,
            **dict.fromkeys(("fast cuts", "dark cut"), self.length // 2),
        }.get(self.kind, self.length)
        return [slice(a, b) for a, b in ((0, middle), (middle, self.length)) if b > a]

    @property
    def poses(self) -> NDArray[np.float64]:
        """(N, 3, 3): pose in the middle of the exposure of each frame."""
        return np.stack([self.pose(float(i)) for i in range(self.length)])

    def pose(self, t: float, nearness: float = 1.0) -> NDArray[np.float64]:
        """Pose of the camera at frame time t.

        nearness: how many times nearer than the scene the objects are.
        """
        seconds, pixels = t / FPS, SHAKE_PIXELS.get(self.kind, 3.0)
        random = np.random.default_rng(self.seed)
        x, y, roll = (
            sum(
                a * np.sin(2 * np.pi * (hertz * seconds + p))
                for hertz, a, p in zip(SHAKE_HERTZ, size, phase, strict=True)
            )
            for size, phase in zip(random.uniform(0.3, 0.8, (3, 5)), random.random((3, 5)), strict=True)
        )
        if self.kind == "jello":
            # A vibration above the frame rate: within a frame, rows move to and fro.
            x, y, roll = 3 * np.sin(2 * np.pi * 41 * seconds), 2 * np.sin(2 * np.pi * 38 * seconds + 1), 0.0
        if self.kind in LAYERS:
            x += 0.2 * t
        shift = pixels * nearness * np.array([x, y])
        angle = roll * pixels / 300
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1.0]])

    def frames(self) -> Iterator[Image]:
        """Yield the frames (HEIGHT, WIDTH, 3)."""
        for i in range(self.length):
            random = np.random.default_rng(1000 * self.seed + i)
            draw = getattr(self, f"_draw_{self.kind.replace(' ', '_').replace('-', '_')}", None)
            frame = self._view(i) if draw is None else draw(i, random)
            yield np.clip(frame, 0, 255).astype(np.uint8)

    @cached_property
    def _scene(self) -> Image:
        return make_scene(self.seed)

    @cached_property
    def _other_scene(self) -> Image:
        return make_scene(self.seed + 1)

    @cached_property
    def _faint_scene(self) -> Image:
        """A sky: little but slow gradients."""
        return (128 + (cv2.GaussianBlur(self._scene, (0, 0), 10).astype(np.float32) - 128) * 0.6).astype(np.uint8)

    def _view(self, i: int, scene: Image | None = None, nearness: float = 1.0) -> Image:
        return render(self._scene if scene is None else scene, self.pose(i, nearness)).astype(np.float32)

    def _draw_jello(self, i: int, random: np.random.Generator) -> Image:
        edges = np.linspace(0, HEIGHT, 46).astype(int)
        readout = 0.8
        bands = [
            render(self._scene, self.pose(i + readout * ((a + b) / 2 / HEIGHT - 0.5)))[a:b]
            for a, b in pairwise(edges.tolist())
        ]
        return np.concatenate(bands).astype(np.float32)

    def _draw_flashes(self, i: int, random: np.random.Generator) -> Image:
        return self._view(i) * (5 if i in FLASHES[self.kind] else 1) + (190 if i in FLASHES[self.kind] else 0)

    def _draw_partial_flashes(self, i: int, random: np.random.Generator) -> Image:
        """Draw a frame of a clip with flashes and a rolling shutter.

        A flash lights the lower part of one frame and the upper part of the next.
        """
        frame = self._view(i)
        for flash in FLASHES[self.kind]:
            if i == flash:
                frame[HEIGHT * 2 // 5 :] = frame[HEIGHT * 2 // 5 :] * 3 + 140
            if i == flash + 1:
                frame[: HEIGHT * 2 // 5] = frame[: HEIGHT * 2 // 5] * 3 + 140
        return frame

    def _draw_night(self, i: int, random: np.random.Generator) -> Image:
        return self._view(i) * 0.07 + 8 + random.normal(0, 5, (HEIGHT, WIDTH, 3))

    def _draw_film(self, i: int, random: np.random.Generator) -> Image:
        """Faint structure under coarse grain, with scratches."""
        grain = cv2.GaussianBlur(random.normal(0, 18, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.0)
        frame = self._view(i, self._faint_scene) + grain[..., None]
        for x in random.integers(0, WIDTH, 3):
            frame[:, x : x + 1] += 60
        return frame

    def _draw_time_lapse(self, i: int, random: np.random.Generator) -> Image:
        """Clouds that change between frames of a static camera, above a dark ridge."""
        frame = np.full((HEIGHT, WIDTH, 3), 150, np.float32)
        clouds = np.random.default_rng(7).standard_normal((4, HEIGHT // 8, WIDTH // 8))
        mixture = sum(c * np.sin(i * f + k) for k, (c, f) in enumerate(zip(clouds, (0.9, 1.1, 1.6, 0.7), strict=True)))
        frame += cv2.resize(cv2.GaussianBlur(mixture, (0, 0), 4), (WIDTH, HEIGHT))[..., None].astype(np.float32) * 220
        frame += 10 * np.sin(i * 0.8)
        frame[HEIGHT * 9 // 10 :] = 30
        return frame + random.normal(0, 1.5, frame.shape)

    def _draw_page(self, i: int, random: np.random.Generator) -> Image:
        """A page that scrolls in bursts under a fixed header."""
        offset = int(np.interp(i, [0, 15, 27, 45, 52, 75, 89], [0, 0, 130, 130, 330, 330, 500]))
        frame = np.full((HEIGHT, WIDTH, 3), 245, np.uint8)
        frame[36:, 70:410] = self._page[offset : offset + HEIGHT - 36]
        frame[:36] = 70
        for k in range(6):
            cv2.putText(frame, "Menu", (10 + 76 * k, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230), 1)
        return frame

    @cached_property
    def _page(self) -> Image:
        page, random = np.full((900, 340, 3), 255, np.uint8), np.random.default_rng(3)
        for y in range(20, 900, 16):
            text = "".join(random.choice(list("abcdefghij klmnop"), 42))
            cv2.putText(page, text, (8, y), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (40, 40, 40), 1)
        for y in range(150, 800, 230):
            page[y : y + 90, 20:320] = self._scene[y % 400 : y % 400 + 90, 100:400]
        return page

    def _draw_window(self, i: int, random: np.random.Generator) -> Image:
        """A film with its own shake plays in a window of a desktop."""
        frame = self._scene[100 : 100 + HEIGHT, 200 : 200 + WIDTH].copy()
        film = render(self._other_scene, HardClip("exposure", self.length, self.seed).pose(i))
        frame[44:228, 76:404] = cv2.resize(film, (328, 184), interpolation=cv2.INTER_AREA)
        frame[28:44, 76:404] = 210
        return frame

    def _with_bars(self, frame: Image) -> Image:
        x, y = BAR_PIXELS[self.kind]
        barred = np.zeros_like(frame)
        barred[y : HEIGHT - y, x : WIDTH - x] = frame[y : HEIGHT - y, x : WIDTH - x]
        return barred

    def _draw_letterbox(self, i: int, random: np.random.Generator) -> Image:
        return self._with_bars(self._view(i))

    def _draw_pillarbox(self, i: int, random: np.random.Generator) -> Image:
        return self._with_bars(self._view(i))

    def _draw_dissolve(self, i: int, random: np.random.Generator) -> Image:
        share = np.clip((i - DISSOLVE[0] + 1) / (DISSOLVE[1] - DISSOLVE[0] + 2), 0, 1)
        return (1 - share) * self._view(i) + share * render(self._other_scene, self._second_pose(i))

    def _second_pose(self, i: float) -> NDArray[np.float64]:
        return HardClip("exposure", self.length, self.seed + 5).pose(i)

    def _draw_fast_cuts(self, i: int, random: np.random.Generator) -> Image:
        """A cut with three frames of other scenes before it."""
        middle = self.length // 2
        if middle - 3 <= i < middle:
            return make_scene(self.seed + 10 + i - middle)[100 : 100 + HEIGHT, 200 : 200 + WIDTH].astype(np.float32)
        return self._view(i, self._scene if i < middle else self._other_scene)

    def _draw_fade(self, i: int, random: np.random.Generator) -> Image:
        """The scene fades to black and comes back."""
        return self._view(i) * np.interp(i, FADE, [1, 0, 0, 1]) + random.normal(0, 0.7, (HEIGHT, WIDTH, 3))

    def _draw_dark_cut(self, i: int, random: np.random.Generator) -> Image:
        """A cut between two scenes by night."""
        scene = self._scene if i < self.length // 2 else self._other_scene
        return self._view(i, scene) * 0.04 + 6 + random.normal(0, 2, (HEIGHT, WIDTH, 3))

    def _draw_night_tripod(self, i: int, random: np.random.Generator) -> Image:
        return self._draw_night(i, random)

    def _draw_parallax(self, i: int, random: np.random.Generator) -> Image:
        """A scene behind others with holes, each of them a plane."""
        frame = self._view(i)
        for k, (name, share) in enumerate(COVERS[self.kind].items()):
            nearness = LAYERS[self.kind][name]
            cover = np.random.default_rng(4 + k).standard_normal((100, 160))
            cover = cv2.resize(cv2.GaussianBlur(cover, (0, 0), 6), self._scene.shape[1::-1])
            mask = np.where(cover > np.quantile(cover, 1 - share), 255, 0).astype(np.uint8)
            plane = self._view(i, self._layer_scenes[k], nearness)
            frame = np.where(render(mask, self.pose(i, nearness))[..., None] > 127, plane, frame)
        return frame

    _draw_planes = _draw_parallax

    @cached_property
    def _layer_scenes(self) -> list[Image]:
        return [make_scene(self.seed + 1 + k) for k in range(len(COVERS[self.kind]))]

    def _draw_subject(self, i: int, random: np.random.Generator) -> Image:
        """An animal runs through the scene and bobs at each step."""
        center = self.subject_positions()[i]
        to_texture = self.pose(i)  # it turns with the camera, as the scene does
        to_texture[:2, 2] = -to_texture[:2, :2] @ center
        ellipse = np.zeros((HEIGHT, WIDTH), np.float32)
        shift = 16 * (center + np.array([WIDTH, HEIGHT]) / 2 - 0.5)
        axes = (8 * SUBJECT_SIZE[0], 8 * SUBJECT_SIZE[1])
        cv2.ellipse(ellipse, np.rint(shift).astype(int).tolist(), axes, 0, 0, 360, 1, -1, cv2.LINE_AA, 4)
        return np.where(ellipse[..., None] > 0.5, render(self._other_scene, to_texture), self._view(i))

    def subject_positions(self) -> NDArray[np.float64]:
        """Centers (N, 2) of the subject of "subject" in pixels from the frame's center."""
        i = np.arange(self.length)
        in_scene = np.stack([-130 + 260 * i / self.length, 10 + 7 * np.sin(2 * np.pi * 2.6 * i / FPS)], axis=-1)
        in_scene[:, 0] += 4 * np.sin(2 * np.pi * 1.9 * i / FPS + 1)
        return np.stack([(np.linalg.inv(self.pose(float(k))) @ [*p, 1])[:2] for k, p in enumerate(in_scene)])

    def subject_region(self) -> Region | None:
        """A box around the subject in the first frame, with a margin of 4 pixels."""
        if self.kind != "subject":
            return None
        x, y = self.subject_positions()[0] + np.array([WIDTH, HEIGHT]) / 2 - np.array(SUBJECT_SIZE) / 2 - 4
        return Region(float(x), float(y), SUBJECT_SIZE[0] + 8, SUBJECT_SIZE[1] + 8)

    def layer_poses(self) -> dict[str, NDArray[np.float64]]:
        """Camera poses (N, 3, 3) over each layer, by name; empty without layers.

        The subject of "subject" turns with the camera.
        """
        if self.kind == "subject":
            subject = self.poses
            subject[:, :2, 2] = -np.einsum("nij,nj->ni", subject[:, :2, :2], self.subject_positions())
            return {"background": self.poses, "subject": subject}
        layers = LAYERS.get(self.kind, {})
        return {
            name: np.stack([self.pose(float(i), near) for i in range(self.length)]) for name, near in layers.items()
        }

    def _draw_rain(self, i: int, random: np.random.Generator) -> Image:
        frame = np.ascontiguousarray(self._view(i))
        for x, y in random.integers(0, [WIDTH, HEIGHT], (200, 2)).tolist():
            cv2.line(frame, (x, y), (x + 2, y + 20), (220, 220, 220), 1, cv2.LINE_AA)
        return frame

    def _draw_confetti(self, i: int, random: np.random.Generator) -> Image:
        frame = np.ascontiguousarray(self._view(i))
        pieces = np.random.default_rng(11)
        for x, y, speed in zip(*pieces.uniform(0, 1, (3, 150)), strict=True):
            top = (y * HEIGHT + i * (4 + 8 * speed)) % HEIGHT
            left = (x * WIDTH + 12 * np.sin(0.2 * i + 20 * x)) % WIDTH
            color = tuple(float(c) for c in np.random.default_rng(int(1e6 * x)).integers(0, 255, 3))
            box = cv2.boxPoints(((float(left), float(top)), (15.0, 9.0), float((i * 20 * speed) % 180)))
            cv2.fillPoly(frame, [box.astype(np.int32)], color)
        return frame

    def _draw_logo(self, i: int, random: np.random.Generator) -> Image:
        frame = self._view(i, self._faint_scene) + random.normal(0, 1, (HEIGHT, WIDTH, 3))
        frame = frame.clip(0, 255).astype(np.uint8)
        cv2.rectangle(frame, (360, 15), (465, 68), (240, 240, 240), -1)
        cv2.putText(frame, "NEWS 24", (367, 48), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (20, 20, 200), 2)
        return frame

    def _draw_ticker(self, i: int, random: np.random.Generator) -> Image:
        """Text runs over the lower part of a filmed scene."""
        frame = render(self._scene, self.pose(i))
        frame[225:] = 200
        text = "BREAKING NEWS FROM ALL OVER THE WORLD AND BEYOND " * 3
        cv2.putText(frame, text, (40 - 4 * i, 258), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
        return frame

    def _draw_strobe(self, i: int, random: np.random.Generator) -> Image:
        return self._view(i) * (1.0 if i % 3 else 0.15)

    def _draw_mains_light(self, i: int, random: np.random.Generator) -> Image:
        """Bands of a lamp on alternating current, as a rolling shutter films them."""
        rows = np.arange(HEIGHT)[:, None, None]
        return self._view(i) * (1 + 0.35 * np.sin(2 * np.pi * (rows / 150 - 0.23 * i)))

    def _draw_lamps(self, i: int, random: np.random.Generator) -> Image:
        """Red and blue lamps that take turns on both sides, and a pause."""
        color = np.array([[0.5, 0.6, 2.2], [2.4, 0.5, 0.4], [0.8, 0.8, 0.8]])[i // 2 % 3]
        across = np.linspace(-1, 1, WIDTH)[None, :, None] - (-0.5, 0.5)[i // 2 % 2]
        return self._view(i) * (0.5 + (color - 0.4) * np.exp(-3 * across**2))

    def _draw_exposure(self, i: int, random: np.random.Generator) -> Image:
        return self._view(i) * (1.2 + 1.1 * np.sin(i / 9))

    def _draw_focus(self, i: int, random: np.random.Generator) -> Image:
        return cv2.GaussianBlur(self._view(i), (0, 0), 0.3 + 10 * np.sin(np.pi * i / self.length) ** 2)

    def _draw_person(self, i: int, random: np.random.Generator) -> Image:
        frame, texture = self._view(i), self._other_scene
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(mask, (int(-80 + 7 * i), HEIGHT // 2 + 45), (110, 190), 0, 0, 360, 255, -1)
        moved = np.eye(3)
        moved[:2, 2] = [200 - 5 * i, 15 * np.sin(i / 4)]
        return np.where(mask[..., None] > 0, render(texture, self.pose(i) @ moved), frame)

    def _draw_repeated(self, i: int, random: np.random.Generator) -> Image:
        return self._view(i, self._tiles)

    @cached_property
    def _tiles(self) -> Image:
        """A wall of tiles, 16 pixels wide."""
        tiles = np.full((*self._scene.shape[:2], 3), 170, np.uint8)
        tiles[::16], tiles[:, ::16] = 60, 60
        tiles[1::16], tiles[:, 1::16] = 60, 60
        return cv2.addWeighted(tiles, 0.9, self._faint_scene, 0.1, 0)

    def _draw_still(self, i: int, random: np.random.Generator) -> Image:
        """A camera on a tripod before moving leaves, with sensor noise."""
        frame = self._view(0)
        y, x = np.mgrid[:210, :380].astype(np.float32)
        leaves = self._other_scene[:300, :450]
        x += 9 * np.sin(0.2 * i + y / 20)
        frame[30:240, 50:430] = cv2.remap(leaves, x + 20, y + 4 * np.sin(0.33 * i + x / 30) + 20, cv2.INTER_LINEAR)
        return frame + random.normal(0, 2, frame.shape)

    def rotation(self, i: int) -> NDArray[np.float64]:
        """Rotation of the fisheye camera at frame i, from its axes to the scene's."""
        pose = self.pose(i)
        x, y = 8 / 3 * pose[:2, 2] / FISHEYE_FOCAL
        return cv2.Rodrigues(np.array([-y, x, np.arctan2(pose[1, 0], pose[0, 0])]))[0]

    def _draw_fisheye(self, i: int, random: np.random.Generator) -> Image:
        """A camera that turns, in a sphere painted with four scenes."""
        x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
        rays = to_rays(np.stack([x, y], axis=-1)) @ self.rotation(i).T
        longitude, latitude = np.arctan2(rays[..., 0], rays[..., 2]), np.arcsin(rays[..., 1].clip(-1, 1))
        height, width = self._sphere.shape[:2]
        columns, rows = (1.3 * FISHEYE_FOCAL * angle for angle in (longitude, latitude))
        maps = [(values + size / 2).astype(np.float32) for values, size in ((columns, width), (rows, height))]
        return cv2.remap(self._sphere, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT).astype(np.float32)

    @cached_property
    def _sphere(self) -> Image:
        a, b = self._scene, self._other_scene
        return np.concatenate([np.concatenate([a, b[:, ::-1]], axis=1), np.concatenate([b, a[:, ::-1]], axis=1)])

    def true_poses(self) -> NDArray[np.float64]:
        """As `poses`; after a dissolve, those of the second camera."""
        poses = self.poses
        if self.kind == "dissolve":
            second = self.shots[1]
            poses[second] = [self._second_pose(float(i)) for i in range(second.start, second.stop)]
        return poses


FISHEYE_FOCAL = WIDTH / np.radians(FISHEYE_DEGREES)  # pixels per radian


def to_rays(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rays (..., 3) of the fisheye at points (..., 2), in pixels from the center."""
    angle = np.linalg.norm(points, axis=-1) / FISHEYE_FOCAL
    across = points / FISHEYE_FOCAL * np.sinc(angle / np.pi)[..., None]
    return np.concatenate([across, np.cos(angle)[..., None]], axis=-1)


def fisheye_jitter(clip: HardClip, sources: NDArray[np.float64], seconds: float) -> float:
    """As `jitter` of core/metrics.py, for what frames of the fisheye display.

    sources: (N, P, 2), points of each frame, in pixels from the center, that are displayed at the same P places.
    """
    seen = np.stack([to_rays(points) @ clip.rotation(i).T for i, points in enumerate(sources)])
    sigma = seconds * FPS / 2
    radius = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    smooth = np.apply_along_axis(np.convolve, 0, seen, weights / weights.sum(), mode="valid")
    return float(FISHEYE_FOCAL * np.sqrt(np.square(seen[radius:-radius] - smooth).sum(axis=-1).mean()))


def make_scene(seed: int) -> Image:
    """Draw colored rectangles on a texture with the spectrum of a photograph.

    Returns (576, 1024, 3).
    """
    random, (height, width) = np.random.default_rng(seed), (576, 1024)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    spectrum = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.3
    detail = np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * spectrum)
    scene = np.repeat((128 + 30 * detail / detail.std())[..., None], 3, axis=-1).astype(np.float32)
    for _ in range(120):
        corner, size = random.uniform([0, 0], [width, height]), random.uniform(10, 110, 2)
        box = cv2.boxPoints((tuple(corner), tuple(size), random.uniform(0, 90))).astype(np.int32)
        scene += cv2.fillPoly(np.zeros((height, width), np.uint8), [box], 1)[..., None] * random.uniform(-60, 60, 3)
    return scene.clip(0, 255).astype(np.uint8)


def render(image: Image, pose: NDArray[np.float64]) -> Image:
    """Render the frame of a camera with this pose."""
    height, width = image.shape[:2]
    from_frame = np.array([[1, 0, 0.5 - WIDTH / 2], [0, 1, 0.5 - HEIGHT / 2], [0, 0, 1.0]])
    to_image = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(
        image, to_image @ pose @ from_frame, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
