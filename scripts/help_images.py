"""Render the images of the help pages, in web/docs/, from the sample clip.

    python scripts/help_images.py

Each is an output of SteadyScale. The pages of all languages share them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import assets
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from steadyscale.core import (
    Border,
    Clip,
    Correction,
    FlowMethod,
    Frames,
    TensorClip,
    Trajectory,
    correction,
    estimate_motion,
    flow_model,
    flow_to_image,
    open_clip,
    plot_trajectory,
    smooth,
    upscale,
    warp,
)
from steadyscale.core.geometry import matrices_from_parameters
from steadyscale.core.visualize.crop_overlay import draw_crop_overlay, find_max_zoom_frame
from steadyscale.core.visualize.flow_arrows import draw_flow_arrows
from steadyscale.core.visualize.side_by_side import compare_frames
from steadyscale.models import load_upscaler
from steadyscale.models.zoo.bundled import select_bundled

OUTPUT_FOLDER = Path(__file__).parents[1] / "web" / "docs"
RIDER_FRAMES, STREET_FRAMES = slice(80, 136), slice(190, 240)  # shots of the sample clip
DETAIL_REGION = slice(0, 110), slice(385, 535)  # rows and columns of the rider's head and shoulders
GAP, TEXT_COLOR, BACKGROUND_COLOR = 6, "#1a1a1a", "#ffffff"


def main() -> None:
    OUTPUT_FOLDER.mkdir(parents=True, exist_ok=True)
    clip = open_clip(assets.get_sample_clip())
    frames = torch.cat(list(clip.frames(16)))
    handheld = add_shake(torch.cat([frames[RIDER_FRAMES], frames[STREET_FRAMES]]), clip)
    measured = Trajectory.of(estimate_motion(handheld, flow_model()))
    fix = correction(measured, smooth(measured, seconds=3.0))
    _save(draw_path(measured, fix), "path.png")
    _save(draw_borders(handheld, fix), "borders.jpg")
    _save(draw_flow(frames[STREET_FRAMES][8:10]), "flow.jpg")
    _save(draw_detail(frames[RIDER_FRAMES][40:41]), "upscale.jpg")
    _save(draw_crop(handheld, fix), "crop.jpg")
    _save(draw_arrows(frames[STREET_FRAMES][8:10]), "arrows.jpg")
    _save(draw_comparison(frames[RIDER_FRAMES][40:41]), "compare.jpg")


def add_shake(frames: Frames, clip: Clip) -> TensorClip:
    """Simulate a hand-held camera, cropped so that no border is visible."""
    random = np.random.default_rng(3)
    seconds = np.arange(len(frames)) / float(clip.info.fps)
    sway = np.zeros((len(frames), 4))
    for axis, size in enumerate((7.0, 5.0, 0.012)):
        for hertz in (0.9, 1.7, 2.9, 4.3):
            sway[:, axis] += (
                size / hertz**0.6 * random.normal() * np.sin(2 * np.pi * (hertz * seconds + random.random()))
            )
    held = TensorClip(frames, clip.info.fps)
    still = Trajectory.of(estimate_motion(TensorClip(frames[:1].expand_as(frames), clip.info.fps), flow_model()))
    moved = replace(correction(still, still), matrices=matrices_from_parameters(sway))
    inner = torch.cat([one.frames for one in warp(held.frames(8), moved, Border.MIRROR)])[..., 24:-24, 56:-56]
    return TensorClip(inner.contiguous(), clip.info.fps)


def draw_path(measured: Trajectory, fix: Correction) -> Image.Image:
    """The plot of Smooth Trajectory, with a cut in the middle and the zoom below."""
    sheet = plot_trajectory(measured, measured.corrected(fix), applied=fix, max_zoom=1.3)
    return _to_image(sheet[0]).quantize(48, dither=Image.Dither.NONE)


def draw_borders(clip: TensorClip, fix: Correction) -> Image.Image:
    """The most displaced frame of the first shot, with each border, and its mask."""
    first = fix.shots[0]
    worst = first.start + int(np.abs(fix.matrices[first, :2, 2]).sum(axis=1).argmax())
    results = {border: next(islice(warp(clip.frames(1), fix, border), worst, None)) for border in Border}
    tiles = [(border.value, _to_image(warped.frames[0])) for border, warped in results.items()]
    mask = results[Border.BLACK].fill_mask[0].expand(3, -1, -1)
    return _draw_sheet([*tiles, ("fill mask", _to_image(mask))], columns=2)


def draw_flow(pair: Frames) -> Image.Image:
    """The output of Estimate Flow for a person who walks by."""
    gray = pair.mean(dim=1, keepdim=True)
    model = flow_model(FlowMethod.FARNEBACK)
    return _draw_sheet(
        [("frame", _to_image(pair[0])), ("flow", _to_image(flow_to_image(model(gray[:1], gray[1:]))[0]))], 2
    )


def draw_detail(frame: Frames) -> Image.Image:
    """A detail upscaled four times, by a bicubic resize and by the network."""
    model = load_upscaler(select_bundled(4).path)
    piece = frame[..., DETAIL_REGION[0], DETAIL_REGION[1]]
    plain = _to_image(piece[0])
    size = plain.width * 4, plain.height * 4
    large = _to_image(next(upscale(iter([piece]), model))[0]).resize(size, Image.Resampling.LANCZOS)
    return _draw_sheet(
        [("plain resize, 4x", plain.resize(size, Image.Resampling.BICUBIC)), ("network, 4x", large)], 2, 400
    )


def draw_crop(clip: TensorClip, fix: Correction) -> Image.Image:
    """The output of Preview Trajectory for the most zoomed frame, for two borders."""
    number = find_max_zoom_frame(fix)
    frame = next(islice(clip.frames(1), number, None))
    tiles = [
        (border.value, _to_image(draw_crop_overlay(frame, fix, number, border)[0]))
        for border in (Border.CROP, Border.FILL)
    ]
    return _draw_sheet(tiles, 2, 400)


def draw_arrows(pair: Frames) -> Image.Image:
    """The output of Preview Flow for a person who walks by."""
    gray = pair.mean(dim=1, keepdim=True)
    sheet = draw_flow_arrows(pair[:1], flow_model(FlowMethod.FARNEBACK)(gray[:1], gray[1:]))
    return _to_image(sheet[0])


def draw_comparison(frame: Frames) -> Image.Image:
    """The output of Compare Frames for a plain resize and the network."""
    model = load_upscaler(select_bundled(4).path)
    piece = frame[..., DETAIL_REGION[0], DETAIL_REGION[1]]
    return _to_image(compare_frames(piece, next(upscale(iter([piece]), model)), split=0.27)[0])


def _to_image(frame: Frames) -> Image.Image:
    """Convert (3, H, W) in [0, 1] to an image."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _draw_sheet(tiles: list[tuple[str, Image.Image]], columns: int, width: int = 320) -> Image.Image:
    """Arrange images of one size in columns, each under its name."""
    font = ImageFont.load_default(15)
    height = round(tiles[0][1].height * width / tiles[0][1].width)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + 22 + GAP) - GAP), BACKGROUND_COLOR)
    draw = ImageDraw.Draw(sheet)
    for number, (name, tile) in enumerate(tiles):
        left, top = number % columns * (width + GAP), number // columns * (height + 22 + GAP)
        draw.text((left, top + 2), name, fill=TEXT_COLOR, font=font)
        sheet.paste(tile.resize((width, height), Image.Resampling.LANCZOS), (left, top + 22))
    return sheet


def _save(image: Image.Image, name: str) -> None:
    image.save(OUTPUT_FOLDER / name, quality=82, optimize=True)


if __name__ == "__main__":
    main()
