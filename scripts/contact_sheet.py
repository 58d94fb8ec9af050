"""Draws the contact sheet: moments of the source beside the same moments of the result, and the camera path below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 32, 12
FRAME_WIDTH = 640  # of each displayed frame
PAPER, INK, GREY = "#ffffff", "#1a1a1a", "#6a6a6a"


def draw(source: Path, result: Path, plot: Image.Image | None, target: Path, moments: int = 3) -> None:
    """Writes the PNG `target`. A row is one moment: both frames at one size, then a detail pixel by pixel.

    The last row is the mean over half a second: in it, whatever stands still is sharp if the camera is steady.
    """
    before, after = frames_at(source, moments), frames_at(result, moments)
    old_size, new_size = before[0].size, after[0].size
    shown = (FRAME_WIDTH, round(FRAME_WIDTH * old_size[1] / old_size[0]))
    detail = (shown[1] * 4 // 3, shown[1])
    titles = (f"Source, {old_size[0]} x {old_size[1]}", f"Result, {new_size[0]} x {new_size[1]}")
    strips = [text([f"SteadyScale: {result.name}"], [0], 30, INK)]
    lefts = [0, shown[0] + GAP, 2 * (shown[0] + GAP), 2 * (shown[0] + GAP) + detail[0] + GAP]
    strips.append(text([*titles, "Source, detail", "Result, detail (1:1 pixels)"], lefts, 22, GREY))
    strips += [row(old, new, shown, detail) for old, new in zip(before, after, strict=True)]
    strips.append(text(["The mean of half a second: sharp where the picture stands still"], [0], 22, GREY))
    strips.append(row(mean(source), mean(result), shown, detail))
    room = strips[-1].width  # text may be wider, but has nothing to say there
    if plot is not None:
        strips.append(text(["The path of the camera, before and after"], [0], 22, GREY))
        strips.append(plot.resize((room, round(plot.height * room / plot.width)), Image.Resampling.LANCZOS))

    size = (room + 2 * MARGIN, sum(strip.height + GAP for strip in strips) + 2 * MARGIN)
    sheet, top = Image.new("RGB", size, PAPER), MARGIN
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + GAP
    sheet.save(target)


def row(old: Image.Image, new: Image.Image, shown: tuple[int, int], detail: tuple[int, int]) -> Image.Image:
    """Source and result at one size, then their centres; the source enlarged as it is without a network."""
    cells = [
        old.resize(shown, Image.Resampling.BICUBIC),
        new.resize(shown, Image.Resampling.LANCZOS),
        middle(old.resize(new.size, Image.Resampling.BICUBIC), detail),
        middle(new, detail),
    ]
    strip, left = Image.new("RGB", (sum(cell.width + GAP for cell in cells) - GAP, shown[1]), PAPER), 0
    for cell in cells:
        strip.paste(cell, (left, 0))
        left += cell.width + GAP
    return strip


def text(words: list[str], lefts: list[int], size: int, colour: str) -> Image.Image:
    strip = Image.new("RGB", (lefts[-1] + 1200, size + 8), PAPER)
    for left, word in zip(lefts, words, strict=True):
        ImageDraw.Draw(strip).text((left, 0), word, colour, ImageFont.load_default(size))
    return strip


def middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The centre of the image; where the image is smaller, the rest is black."""
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def frames_at(path: Path, moments: int) -> list[Image.Image]:
    """Frames of a video, evenly spaced, ends excluded."""
    count = length(path)
    wanted = [int((i + 0.5) * count / moments) for i in range(moments)]
    found = {index: frame.to_image() for index, frame in decode(path, wanted[-1] + 1) if index in wanted}
    return [found[index] for index in wanted]


def mean(path: Path) -> Image.Image:
    """The mean of the frames of half a second, in the middle of the video."""
    with av.open(str(path)) as container:
        span = max(1, round(float(container.streams.video[0].average_rate or 25) / 2))
    start = max(0, (length(path) - span) // 2)
    total, count = np.zeros(()), 0
    for index, frame in decode(path, start + span):
        if index >= start:
            total, count = total + frame.to_ndarray(format="rgb24").astype(np.float64), count + 1
    return Image.fromarray((total / count).round().astype(np.uint8))


def length(path: Path) -> int:
    """How many frames there are, by counting: what a container claims may be wrong."""
    count = sum(1 for _ in decode(path))
    if not count:
        raise ValueError(f"{path} has no frames")
    return count


def decode(path: Path, stop: int | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
    """The numbered frames before `stop`."""
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == stop:
                return
            yield index, frame
