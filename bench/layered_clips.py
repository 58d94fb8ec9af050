"""Synthetic clips with depth and an exactly known motion of every pixel.

One homography for each frame cannot follow them: layers at several distances, or textures that swim, as in generated
video. A pixel of the result is traced through the sampling map to the layer that it shows, and that point
of the scene through all other frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from hard_clips import FPS, HEIGHT, WIDTH, HardClip, make_scene, render
from numpy.typing import NDArray
from steadyscale.core import geometry
from steadyscale.core.crop.border import Border, with_border_zoom
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.warping.sampling_map import sampling_map

Image = NDArray[Any]  # (H, W, 3), BGR in [0, 255]
Points = NDArray[np.float64]  # (P, 2), in pixels from the center of the frame or of the scene

LAYERED_KINDS = ("flat", "blobs", "three planes", "swimming", "swimming still")
NEARNESS = {"blobs": (1.0, 2.5), "three planes": (1.0, 1.8, 3.1)}  # of the layers, from far to near; others: one layer
SHAKE = {"three planes": 0.62}  # of the camera, relative to that of the hard clips
SWIM_CELLS = (7, 12)  # rows and columns of the random field by which textures move
SWIM_HERTZ = (0.5, 2.0)
SWIM_PIXELS = 4.0  # amplitude in each axis
SIGMA_FRAMES = 6.9  # of the smooth motion from which displayed motion is measured: oscillations above 0.8 Hz count


@dataclass(frozen=True)
class LayeredClip:
    """A clip of one kind. Frames are uint8 BGR; layers are numbered from far to near."""

    kind: str
    length: int = 90
    seed: int = 1

    @property
    def nearness(self) -> tuple[float, ...]:
        return NEARNESS.get(self.kind, (1.0,))

    def pose(self, i: int, layer: int = 0) -> NDArray[np.float64]:
        """(3, 3): frame points to points of the image of a layer."""
        if self.kind == "swimming still":
            return np.eye(3)
        near = self.nearness[layer]
        pose = HardClip("exposure", self.length, self.seed).pose(i, SHAKE.get(self.kind, 1.0) * near)
        if self.kind != "three planes":
            pose[0, 2] += 0.6 * near * i
            return pose
        walk = 1 - 0.0012 * near * i  # towards the scene
        return pose @ np.diag([walk, walk, 1.0])

    def to_scene(self, i: int, layer: int, points: Points) -> Points:
        """Points of frame `i` to points of a layer."""
        moved = geometry.transform_points(self.pose(i, layer), points)
        return moved + self._swim(i, moved)

    def to_frame(self, i: int, layer: int, scene_points: Points) -> Points:
        """The inverse of `to_scene`."""
        moved = scene_points
        for _ in range(12 if self._swims else 1):
            moved = scene_points - self._swim(i, moved)
        return geometry.transform_points(np.linalg.inv(self.pose(i, layer)), moved)

    @property
    def _swims(self) -> bool:
        return self.kind.startswith("swimming")

    def _swim(self, i: int, points: Points) -> Points:
        """Displacement (P, 2) of the texture at points of the scene."""
        if not self._swims:
            return np.zeros_like(points)
        height, width = self._images[0].shape[:2]
        position = (points + np.array([width, height]) / 2) / [width, height] * SWIM_CELLS[::-1]
        frequency, phase = self._swim_waves
        field = np.sin(2 * np.pi * (frequency * i / FPS + phase)).sum(axis=0) * SWIM_PIXELS / np.sqrt(len(phase))
        field = cv2.resize(field.astype(np.float32), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        return interpolate(field, position * 8)

    @cached_property
    def _swim_waves(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        random = np.random.default_rng(self.seed + 50)
        shape = (4, SWIM_CELLS[0] + 1, SWIM_CELLS[1] + 1, 2)
        return random.uniform(*SWIM_HERTZ, shape), random.random(shape)

    @cached_property
    def _images(self) -> list[Image]:
        return [make_scene(self.seed + k) for k in range(len(self.nearness))]

    @cached_property
    def _covers(self) -> list[Image]:
        """(H, W) of each layer, above 127 where it is opaque."""
        height, width = self._images[0].shape[:2]
        covers = [np.full((height, width), 255, np.uint8)]
        for k in range(1, len(self.nearness)):
            if self.kind == "blobs":
                noise = np.random.default_rng(4).standard_normal((100, 160))
                noise = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 6), (width, height))
                covers.append(np.where(noise > np.quantile(noise, 0.65), 255, 0).astype(np.uint8))
                continue
            cover = np.zeros((height, width), np.uint8)
            y, x = np.mgrid[:height, :width] - np.array([height / 2, width / 2]).reshape(2, 1, 1)
            if k == 1:
                cover[(x < -50) & (y > -70 + 20 * np.sin(x / 40))] = 255
            else:
                cover[(x > 60) & (y > 10 + 15 * np.sin(x / 50))] = 255
            covers.append(cover)
        return covers

    def layers_at(self, i: int, points: Points) -> NDArray[np.int_]:
        """The layer that is visible at each point of frame `i`."""
        visible = np.zeros(len(points), int)
        for layer in range(1, len(self.nearness)):
            height, width = self._covers[layer].shape
            x, y = np.rint((self.to_scene(i, layer, points) + to_index((width, height))).T).astype(int)
            visible[self._covers[layer][y.clip(0, height - 1), x.clip(0, width - 1)] > 127] = layer
        return visible

    def frames(self) -> Iterator[Image]:
        """Yield the frames (HEIGHT, WIDTH, 3)."""
        for i in range(self.length):
            yield self._draw_swim(i) if self._swims else self._draw_layers(i)

    def _draw_layers(self, i: int) -> Image:
        frame = render(self._images[0], self.pose(i))
        for layer in range(1, len(self.nearness)):
            pose = self.pose(i, layer)
            is_opaque = render(self._covers[layer], pose)[..., None] > 127
            frame = np.where(is_opaque, render(self._images[layer], pose), frame)
        return frame

    def _draw_swim(self, i: int) -> Image:
        height, width = self._images[0].shape[:2]
        scene = self.to_scene(i, 0, frame_points(1)).reshape(HEIGHT, WIDTH, 2)
        x, y = np.ascontiguousarray(np.moveaxis(scene + to_index((width, height)), -1, 0), dtype=np.float32)
        return cv2.remap(self._images[0], x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    def displayed_motion(self, correction: Correction | None, stride: int = 3) -> dict[str, float]:
        """RMS distance of displayed points from their smooth motion, in pixels.

        Keys: "frame" for all points, "layer 0" and so on for those that show a layer. correction: None for the input.
        stride: only every so many frames are evaluated.
        """
        maps = self._exact_maps(correction)
        radius = round(3 * SIGMA_FRAMES)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / SIGMA_FRAMES) ** 2)
        weights /= weights.sum()
        squares: list[NDArray[np.float64]] = []
        layers: list[NDArray[np.int_]] = []
        displayed = frame_points(16)
        for i in range(radius, self.length - radius, stride):
            source = maps[i].to_source(displayed)
            visible = self.layers_at(i, source)
            mean = np.zeros_like(displayed)
            for layer in np.unique(visible):
                used = visible == layer
                scene = self.to_scene(i, layer, source[used])
                for k, weight in zip(range(i - radius, i + radius + 1), weights, strict=True):
                    mean[used] += weight * maps[k].to_output(self.to_frame(k, layer, scene))
            squares.append(np.square(mean - displayed).sum(axis=-1))
            layers.append(visible)
        all_squares, all_layers = np.concatenate(squares), np.concatenate(layers)
        result = {"frame": float(np.sqrt(all_squares.mean()))}
        for layer in range(len(self.nearness)):
            result[f"layer {layer}"] = float(np.sqrt(all_squares[all_layers == layer].mean()))
        return result

    def line_bend(self, correction: Correction | None) -> float:
        """Largest bend of a displayed row or column of one layer, in pixels.

        The distance from the straight line that fits best. Textures that swim bend lines of the scene themselves.
        correction: None for the input.
        """
        worst = 0.0
        for i, own in enumerate(self._exact_maps(correction)):
            points = frame_points(8)
            source = own.to_source(points)
            visible, straight = self.layers_at(i, source), geometry.transform_points(own.matrix, points)
            bend = source - straight
            if self._swims:  # a point of the scene is where the texture has moved it
                scene = self.to_scene(i, 0, source)
                bend = geometry.transform_points(np.linalg.inv(self.pose(i)), scene) - straight
            columns = -(-WIDTH // 8)
            for layer in range(len(self.nearness)):
                grid = np.where((visible == layer)[:, None], bend, np.nan).reshape(-1, columns, 2)
                for line in [*grid[..., 1], *grid[..., 0].T]:
                    position = np.flatnonzero(np.isfinite(line)).astype(float)
                    if len(position) > 4:
                        values = line[np.isfinite(line)]
                        straight_line = np.polyval(np.polyfit(position, values, 1), position)
                        worst = max(worst, float(np.abs(values - straight_line).max()))
        return worst

    def _exact_maps(self, correction: Correction | None) -> list[_ExactMap]:
        if correction is None:
            return [_ExactMap(np.eye(3), np.zeros((HEIGHT, WIDTH, 2), np.float32))] * self.length
        zoomed = with_border_zoom(correction, Border.CROP)
        return [_exact_map(zoomed, i) for i in range(self.length)]


@dataclass(frozen=True)
class _ExactMap:
    """The sampling map of a frame in centered coordinates.

    matrix: output to source. bend: (H, W, 2), what the map adds to it.
    """

    matrix: NDArray[np.float64]
    bend: NDArray[np.float32]

    def _bend_at(self, points: Points) -> Points:
        return interpolate(self.bend, points + to_index((WIDTH, HEIGHT)))

    def to_source(self, points: Points) -> Points:
        return geometry.transform_points(self.matrix, points) + self._bend_at(points)

    def to_output(self, points: Points) -> Points:
        inverse = np.linalg.inv(self.matrix)
        output = geometry.transform_points(inverse, points)
        for _ in range(4):
            output = geometry.transform_points(inverse, points - self._bend_at(output))
        return output


def _exact_map(correction: Correction, i: int) -> _ExactMap:
    x, y = sampling_map(correction, i).source_coords(np.empty((3, HEIGHT, WIDTH), np.float32))
    matrix = geometry.inverse(correction.matrices[i])
    points = frame_points(1)
    exact = np.stack([x.ravel(), y.ravel()], axis=-1) - to_index((WIDTH, HEIGHT))
    bend = (exact - geometry.transform_points(matrix, points)).reshape(HEIGHT, WIDTH, 2)
    return _ExactMap(matrix, bend.astype(np.float32))


def interpolate(image: NDArray[np.float32], indices: Points) -> NDArray[np.float64]:
    """Interpolate an image linearly at pixel indices (P, 2): (P, C)."""
    rows = -(-len(indices) // 4096)  # OpenCV bounds both sides of a result
    x, y = np.resize(indices, (rows * 4096, 2)).T.astype(np.float32).reshape(2, rows, 4096)
    values = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(rows * 4096, -1)[: len(indices)].astype(np.float64)


def to_index(size: tuple[int, int]) -> NDArray[np.float64]:
    """The pixel indices of the center of an image (width, height)."""
    return (np.array(size) - 1) / 2


def frame_points(step: int) -> Points:
    """Every so many pixel centers of a frame in each axis: (P, 2)."""
    x, y = np.meshgrid(np.arange(0, WIDTH, step) + 0.5 - WIDTH / 2, np.arange(0, HEIGHT, step) + 0.5 - HEIGHT / 2)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float64)
