"""Makes the pictures of the help pages, in web/docs/, from the sample clip: each is what the product itself puts out.

    python scripts/help_pictures.py

They are named after what they show, and the pages in every language share them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import assets
import numpy as np
import torch
from bootstrap import NETWORK
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
    flow_picture,
    open_clip,
    path_picture,
    smooth,
    upscale,
    warp,
)
from steadyscale.core.geometry import to_matrices
from steadyscale.core.visualize.crop_overlay import costliest, crop_picture
from steadyscale.core.visualize.flow_arrows import flow_arrows
from steadyscale.core.visualize.side_by_side import compared
from steadyscale.models import load_upscaler

FOLDER = Path(__file__).parents[1] / "web" / "docs"
RIDER, STREET = slice(80, 136), slice(190, 240)  # shots of the sample clip
DETAIL = slice(0, 110), slice(385, 535)  # rows and columns of the rider's head and shoulders
GAP, INK, PAPER = 6, "#1a1a1a", "#ffffff"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    clip = open_clip(assets.sample_clip())
    frames = torch.cat(list(clip.frames(16)))
    handheld = shaken(torch.cat([frames[RIDER], frames[STREET]]), clip)
    measured = Trajectory.of(estimate_motion(handheld, flow_model()))
    fix = correction(measured, smooth(measured, seconds=3.0))
    _save(path(measured, fix), "path.png")
    _save(borders(handheld, fix), "borders.jpg")
    _save(flow(frames[STREET][8:10]), "flow.jpg")
    _save(detail(frames[RIDER][40:41]), "upscale.jpg")
    _save(crop(handheld, fix), "crop.jpg")
    _save(arrows(frames[STREET][8:10]), "arrows.jpg")
    _save(comparison(frames[RIDER][40:41]), "compare.jpg")


def shaken(frames: Frames, clip: Clip) -> TensorClip:
    """The same frames as from a camera held by hand, a little smaller, so that no border of the shaking shows."""
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
    moved = replace(correction(still, still), matrices=to_matrices(sway))
    inner = torch.cat([one.frames for one in warp(held.frames(8), moved, Border.MIRROR)])[..., 24:-24, 56:-56]
    return TensorClip(inner.contiguous(), clip.info.fps)


def path(measured: Trajectory, fix: Correction) -> Image.Image:
    """The plot of Smooth Trajectory: a cut in the middle, the price of the crop below."""
    sheet = path_picture(measured, measured.corrected(fix), applied=fix, max_zoom=1.3)
    return _picture(sheet[0]).quantize(48, dither=Image.Dither.NONE)


def borders(clip: TensorClip, fix: Correction) -> Image.Image:
    """The frame that is moved farthest within the first shot, with each border, and the mask of what was made up."""
    first = fix.shots[0]
    worst = first.start + int(np.abs(fix.matrices[first, :2, 2]).sum(axis=1).argmax())
    shown = {border: next(islice(warp(clip.frames(1), fix, border), worst, None)) for border in Border}
    tiles = [(border.value, _picture(warped.frames[0])) for border, warped in shown.items()]
    mask = shown[Border.BLACK].invented[0].expand(3, -1, -1)
    return _sheet([*tiles, ("invented (mask)", _picture(mask))], columns=2)


def flow(pair: Frames) -> Image.Image:
    """What Estimate Flow draws of somebody who walks by."""
    grey = pair.mean(dim=1, keepdim=True)
    model = flow_model(FlowMethod.FARNEBACK)
    return _sheet([("frame", _picture(pair[0])), ("flow", _picture(flow_picture(model(grey[:1], grey[1:]))[0]))], 2)


def detail(frame: Frames) -> Image.Image:
    """A few pixels enlarged four times, plainly and by the network."""
    model = load_upscaler(assets.weights(NETWORK, Path(sys.executable)))
    piece = frame[..., DETAIL[0], DETAIL[1]]
    plain = _picture(piece[0])
    size = plain.width * 4, plain.height * 4
    large = _picture(next(upscale(iter([piece]), model))[0]).resize(size, Image.Resampling.LANCZOS)
    return _sheet([("plain resize, 4x", plain.resize(size, Image.Resampling.BICUBIC)), ("network, 4x", large)], 2, 400)


def crop(clip: TensorClip, fix: Correction) -> Image.Image:
    """What Preview Trajectory draws on the frame that costs most, for a border that crops and one that fills."""
    number = costliest(fix)
    frame = next(islice(clip.frames(1), number, None))
    tiles = [
        (border.value, _picture(crop_picture(frame, fix, number, border)[0])) for border in (Border.CROP, Border.FILL)
    ]
    return _sheet(tiles, 2, 400)


def arrows(pair: Frames) -> Image.Image:
    """What Preview Flow draws of somebody who walks by."""
    grey = pair.mean(dim=1, keepdim=True)
    drawn = flow_arrows(pair[:1], flow_model(FlowMethod.FARNEBACK)(grey[:1], grey[1:]))
    return _picture(drawn[0])


def comparison(frame: Frames) -> Image.Image:
    """What Compare Frames draws: a plain resize to the left of the line, the network to the right."""
    model = load_upscaler(assets.weights(NETWORK, Path(sys.executable)))
    piece = frame[..., DETAIL[0], DETAIL[1]]
    return _picture(compared(piece, next(upscale(iter([piece]), model)), split=0.27)[0])


def _picture(frame: Frames) -> Image.Image:
    """(3, H, W) in [0, 1] -> a picture."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _sheet(tiles: list[tuple[str, Image.Image]], columns: int, width: int = 320) -> Image.Image:
    """Pictures of one size side by side, each under its name."""
    font = ImageFont.load_default(15)
    height = round(tiles[0][1].height * width / tiles[0][1].width)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + 22 + GAP) - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (name, tile) in enumerate(tiles):
        left, top = number % columns * (width + GAP), number // columns * (height + 22 + GAP)
        draw.text((left, top + 2), name, fill=INK, font=font)
        sheet.paste(tile.resize((width, height), Image.Resampling.LANCZOS), (left, top + 22))
    return sheet


def _save(picture: Image.Image, name: str) -> None:
    picture.save(FOLDER / name, quality=82, optimize=True)


if __name__ == "__main__":
    main()
