"""Render the icon and the banner of the Comfy Registry, in docs/.

    python scripts/registry_images.py

The icon is a camera path before and after smoothing; the banner has frames of the sample clip before and after.
"""

from __future__ import annotations

from pathlib import Path

import assets
import demo
import numpy as np
import script_support
import torch
from bootstrap import DEFAULT_NETWORK, PYTHON
from PIL import Image, ImageDraw, ImageFont
from steadyscale.core import (
    Border,
    Smoothing,
    Trajectory,
    correction,
    estimate_motion,
    flow_model,
    open_clip,
    smooth,
    upscale,
    warp,
)
from steadyscale.models import load_upscaler

OUTPUT_FOLDER = script_support.REPO_ROOT / "docs"
ICON_SIZE, BANNER_SIZE = 400, (1680, 720)  # pixels; the registry asks for a square of at most 800 x 400, and for 21 : 9
BACKGROUND_COLOR, SHAKY_COLOR, STEADY_COLOR, TEXT_COLOR = "#16171d", "#f08c3c", "#5aa5ff", "#ffffff"
SUPERSAMPLING = 4  # the icon is drawn at this scale and reduced, for smooth edges
MAX_FRAMES = 36  # of the clip that are used
FRAME_INDEX = 22


def main() -> None:
    OUTPUT_FOLDER.mkdir(exist_ok=True)
    clip = open_clip(demo.get_shaken_clip())
    path = Trajectory.of(estimate_motion(clip, flow_model()))
    smoothed = correction(path, smooth(path, Smoothing.KALMAN, seconds=3.0))
    _save(draw_icon(path, path.corrected(smoothed)), OUTPUT_FOLDER / "icon.png", max_colors=64)
    locked = correction(path, smooth(path, Smoothing.LOCKED))
    small = torch.cat(list(clip.frames()))[:MAX_FRAMES]
    model = load_upscaler(str(assets.get_weights(DEFAULT_NETWORK, PYTHON)))
    large = next(upscale(iter([small[FRAME_INDEX : FRAME_INDEX + 1]]), model))
    steady = torch.cat([one.frames for one in warp(clip.frames(), locked, Border.EDGE)])[:MAX_FRAMES]
    _save(draw_banner(small, large[0], steady), OUTPUT_FOLDER / "banner.jpg")


def draw_icon(before: Trajectory, after: Trajectory) -> Image.Image:
    """The camera's vertical position over time, shaky and smooth, on a rounded square."""
    side = ICON_SIZE * SUPERSAMPLING
    sheet = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle((0, 0, side - 1, side - 1), side // 6, fill=BACKGROUND_COLOR)
    for line, color, width in (
        (_vertical_track(before), SHAKY_COLOR, 0.035),
        (_vertical_track(after), STEADY_COLOR, 0.075),
    ):
        x = np.linspace(0.12, 0.88, len(line)) * side
        y = (0.5 - 0.3 * line) * side
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.line(points, fill=color, width=round(width * side), joint="curve")
        radius = width * side / 2
        for px, py in (points[0], points[-1]):
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=color)
    return sheet.resize((ICON_SIZE, ICON_SIZE), Image.Resampling.LANCZOS)


def _vertical_track(path: Trajectory) -> np.ndarray:
    """The camera's vertical position, scaled so that a hand-held clip fills -1 to 1."""
    track = np.asarray(path.path)[:MAX_FRAMES, 1]
    return (track - track.mean()) / 14.0


def draw_banner(small: torch.Tensor, large: torch.Tensor, steady: torch.Tensor) -> Image.Image:
    """A source frame beside the upscaled one, and mean frames before and after."""
    sheet = Image.new("RGB", BANNER_SIZE, BACKGROUND_COLOR)
    draw = ImageDraw.Draw(sheet)
    draw.text((56, 40), "SteadyScale", fill=TEXT_COLOR, font=ImageFont.load_default(76))
    draw.text((58, 134), "Sharper and steadier video for ComfyUI", fill="#b9bcc8", font=ImageFont.load_default(34))
    height = 456
    width = (BANNER_SIZE[0] - 2 * 56 - 24) // 2
    pairs = (
        (
            _crop_center(_to_image(small[FRAME_INDEX]), 2.0),
            _crop_center(_to_image(large), 2.0),
            ("source", "upscaled 4x"),
        ),
        (
            _crop_center(_to_image(small.mean(0)), 1.0),
            _crop_center(_to_image(steady.mean(0)), 1.0),
            ("the mean of 1.4 s", "the same, steady"),
        ),
    )
    for column, (left, right, labels) in enumerate(pairs):
        x = 56 + column * (width + 24)
        for half, (image, label) in enumerate(((left, labels[0]), (right, labels[1]))):
            box = (width // 2 - 2, height)
            factor = max(box[0] / image.width, box[1] / image.height)
            # Bicubic, as a video player displays the source.
            big = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
            dx, dy = (big.width - box[0]) // 2, (big.height - box[1]) // 2
            at = x + half * (width // 2 + 2)
            sheet.paste(big.crop((dx, dy, dx + box[0], dy + box[1])), (at, 208))
            font = ImageFont.load_default(24)
            b = draw.textbbox((at + 18, 208 + height - 46), label, font=font)
            draw.rounded_rectangle((b[0] - 10, b[1] - 8, b[2] + 10, b[3] + 8), 8, fill=BACKGROUND_COLOR)
            draw.text((at + 18, 208 + height - 46), label, font=font, fill=TEXT_COLOR)
    return sheet


def _crop_center(image: Image.Image, zoom: float) -> Image.Image:
    """The center of an image, 1 / zoom of its height, at the banner's aspect ratio."""
    height = image.height / zoom
    width = min(image.width, height * 0.87)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.crop((round(left), round(top), round(left + width), round(top + height)))


def _to_image(frame: torch.Tensor) -> Image.Image:
    """Convert (3, H, W) in [0, 1] to an image."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _save(image: Image.Image, path: Path, max_colors: int = 0) -> None:
    if max_colors:
        image.quantize(max_colors, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    else:
        image.save(path, quality=84, optimize=True)
    print(
        f"  {path.relative_to(script_support.REPO_ROOT)}: "
        f"{image.width} x {image.height}, {path.stat().st_size // 1000} kB"
    )


if __name__ == "__main__":
    script_support.run_main(main)
