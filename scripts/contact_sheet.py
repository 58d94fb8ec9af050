"""Draw the contact sheet: frames of source and result, and the camera path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 32, 12
FRAME_WIDTH = 640  # of each displayed frame
BACKGROUND_COLOR, TEXT_COLOR, CAPTION_COLOR = "#ffffff", "#1a1a1a", "#6a6a6a"


def draw_contact_sheet(source: Path, result: Path, plot: Image.Image | None, target: Path, num_rows: int = 3) -> None:
    """Write the PNG `target`; a row has both frames at one size and details of both.

    The last row is the mean over half a second, in which still objects are sharp if the camera is steady.
    """
    before, after = sample_frames(source, num_rows), sample_frames(result, num_rows)
    old_size, new_size = before[0].size, after[0].size
    frame_size = (FRAME_WIDTH, round(FRAME_WIDTH * old_size[1] / old_size[0]))
    detail_size = (frame_size[1] * 4 // 3, frame_size[1])
    titles = (f"Source, {old_size[0]} x {old_size[1]}", f"Result, {new_size[0]} x {new_size[1]}")
    strips = [draw_text([f"SteadyScale: {result.name}"], [0], 30, TEXT_COLOR)]
    step = frame_size[0] + GAP
    lefts = [0, step, 2 * step, 2 * step + detail_size[0] + GAP]
    strips.append(draw_text([*titles, "Source, detail", "Result, detail (1:1 pixels)"], lefts, 22, CAPTION_COLOR))
    strips += [draw_row(old, new, frame_size, detail_size) for old, new in zip(before, after, strict=True)]
    strips.append(draw_text(["The mean of half a second: sharp where the image is still"], [0], 22, CAPTION_COLOR))
    strips.append(draw_row(mean_frame(source), mean_frame(result), frame_size, detail_size))
    width = strips[-1].width  # strips of text are wider, but empty there
    if plot is not None:
        strips.append(draw_text(["The path of the camera, before and after"], [0], 22, CAPTION_COLOR))
        strips.append(plot.resize((width, round(plot.height * width / plot.width)), Image.Resampling.LANCZOS))

    size = (width + 2 * MARGIN, sum(strip.height + GAP for strip in strips) + 2 * MARGIN)
    sheet, top = Image.new("RGB", size, BACKGROUND_COLOR), MARGIN
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + GAP
    sheet.save(target)


def draw_row(
    old: Image.Image, new: Image.Image, frame_size: tuple[int, int], detail_size: tuple[int, int]
) -> Image.Image:
    """Source and result at one size, then their centers at the result's scale."""
    cells = [
        old.resize(frame_size, Image.Resampling.BICUBIC),
        new.resize(frame_size, Image.Resampling.LANCZOS),
        crop_center(old.resize(new.size, Image.Resampling.BICUBIC), detail_size),
        crop_center(new, detail_size),
    ]
    strip, left = Image.new("RGB", (sum(cell.width + GAP for cell in cells) - GAP, frame_size[1]), BACKGROUND_COLOR), 0
    for cell in cells:
        strip.paste(cell, (left, 0))
        left += cell.width + GAP
    return strip


def draw_text(labels: list[str], x_offsets: list[int], size: int, color: str) -> Image.Image:
    strip = Image.new("RGB", (x_offsets[-1] + 1200, size + 8), BACKGROUND_COLOR)
    for left, word in zip(x_offsets, labels, strict=True):
        ImageDraw.Draw(strip).text((left, 0), word, color, ImageFont.load_default(size))
    return strip


def crop_center(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The center of the image, padded with black if the image is smaller."""
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def sample_frames(path: Path, num_frames: int) -> list[Image.Image]:
    """Frames of a video, evenly spaced, ends excluded."""
    count = count_frames(path)
    wanted = [int((i + 0.5) * count / num_frames) for i in range(num_frames)]
    found = {index: frame.to_image() for index, frame in decode_frames(path, wanted[-1] + 1) if index in wanted}
    return [found[index] for index in wanted]


def mean_frame(path: Path) -> Image.Image:
    """The mean of the frames of half a second, in the middle of the video."""
    with av.open(str(path)) as container:
        span = max(1, round(float(container.streams.video[0].average_rate or 25) / 2))
    start = max(0, (count_frames(path) - span) // 2)
    total, count = np.zeros(()), 0
    for index, frame in decode_frames(path, start + span):
        if index >= start:
            total, count = total + frame.to_ndarray(format="rgb24").astype(np.float64), count + 1
    return Image.fromarray((total / count).round().astype(np.uint8))


def count_frames(path: Path) -> int:
    """Count the frames by decoding: the container's claim may be wrong."""
    count = sum(1 for _ in decode_frames(path))
    if not count:
        raise ValueError(f"{path} has no frames")
    return count


def decode_frames(path: Path, stop: int | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
    """The numbered frames before `stop`."""
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == stop:
                return
            yield index, frame
