"""Makes the icon and the banner of the Comfy Registry, in docs/, with the product itself.

    python scripts/brand.py

The icon is a path before and after smoothing; the banner is a moment of the sample clip, before and after.
"""

from __future__ import annotations

from pathlib import Path

import assets
import demo
import numpy as np
import steps
import torch
from bootstrap import NETWORK, PYTHON
from PIL import Image, ImageDraw, ImageFont
from steadyscale.core import Border, Smoothing, Trajectory, correction, estimate_motion, flow_model, open_clip, smooth
from steadyscale.core import upscale as upscaled
from steadyscale.core import warp as warped
from steadyscale.models import load_upscaler

FOLDER = steps.ROOT / "docs"
ICON, BANNER = 400, (1680, 720)  # pixels; the registry asks for a square of at most 800 x 400, and for 21 : 9
DARK, SHAKY, STEADY, WHITE = "#16171d", "#f08c3c", "#5aa5ff", "#ffffff"
OVERSIZE = 4  # drawn so much larger, and then made smaller, for smooth edges
LENGTH = 36  # frames of the clip that are worked on
MOMENT = 22


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    clip = open_clip(demo.sample_clip())
    path = Trajectory.of(estimate_motion(clip, flow_model()))
    glide = correction(path, smooth(path, Smoothing.KALMAN, seconds=3.0))
    _save(icon(path, path.corrected(glide)), FOLDER / "icon.png", colours=64)
    tripod = correction(path, smooth(path, Smoothing.LOCKED))
    small = torch.cat(list(clip.frames()))[:LENGTH]
    model = load_upscaler(str(assets.weights(NETWORK, PYTHON)))
    large = next(upscaled(iter([small[MOMENT : MOMENT + 1]]), model))
    steady = torch.cat([one.frames for one in warped(clip.frames(), tripod, Border.EDGE)])[:LENGTH]
    _save(banner(small, large[0], steady), FOLDER / "banner.jpg")


def icon(before: Trajectory, after: Trajectory) -> Image.Image:
    """The vertical position of the camera over time, shaky and smooth, on a rounded square."""
    side = ICON * OVERSIZE
    sheet = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle((0, 0, side - 1, side - 1), side // 6, fill=DARK)
    for line, colour, width in ((_track(before), SHAKY, 0.035), (_track(after), STEADY, 0.075)):
        x = np.linspace(0.12, 0.88, len(line)) * side
        y = (0.5 - 0.3 * line) * side
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        draw.line(points, fill=colour, width=round(width * side), joint="curve")
        radius = width * side / 2
        for px, py in (points[0], points[-1]):
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=colour)
    return sheet.resize((ICON, ICON), Image.Resampling.LANCZOS)


def _track(path: Trajectory) -> np.ndarray:
    """The camera's vertical position, with the range of a hand-held clip as -1 to 1."""
    track = np.asarray(path.path)[:LENGTH, 1]
    return (track - track.mean()) / 14.0


def banner(small: torch.Tensor, large: torch.Tensor, steady: torch.Tensor) -> Image.Image:
    """Three pictures: a source frame beside the enlarged one, and the mean of all frames before and after."""
    sheet = Image.new("RGB", BANNER, DARK)
    draw = ImageDraw.Draw(sheet)
    draw.text((56, 40), "SteadyScale", fill=WHITE, font=ImageFont.load_default(76))
    draw.text((58, 134), "Sharper and steadier video for ComfyUI", fill="#b9bcc8", font=ImageFont.load_default(34))
    height = 456
    width = (BANNER[0] - 2 * 56 - 24) // 2
    pairs = (
        (_cut(_picture(small[MOMENT]), 2.0), _cut(_picture(large), 2.0), ("source", "upscaled 4x")),
        (
            _cut(_picture(small.mean(0)), 1.0),
            _cut(_picture(steady.mean(0)), 1.0),
            ("the mean of 1.4 s", "the same, steady"),
        ),
    )
    for place, (left, right, words) in enumerate(pairs):
        x = 56 + place * (width + 24)
        for half, (picture, word) in enumerate(((left, words[0]), (right, words[1]))):
            box = (width // 2 - 2, height)
            factor = max(box[0] / picture.width, box[1] / picture.height)
            # The source is shown as a player would, its pixels smoothed.
            big = picture.resize(
                (round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC
            )
            dx, dy = (big.width - box[0]) // 2, (big.height - box[1]) // 2
            at = x + half * (width // 2 + 2)
            sheet.paste(big.crop((dx, dy, dx + box[0], dy + box[1])), (at, 208))
            font = ImageFont.load_default(24)
            b = draw.textbbox((at + 18, 208 + height - 46), word, font=font)
            draw.rounded_rectangle((b[0] - 10, b[1] - 8, b[2] + 10, b[3] + 8), 8, fill=DARK)
            draw.text((at + 18, 208 + height - 46), word, font=font, fill=WHITE)
    return sheet


def _cut(picture: Image.Image, zoom: float) -> Image.Image:
    """The middle of a picture, one zoom-th of its height, as wide as half of it is high."""
    height = picture.height / zoom
    width = min(picture.width, height * 0.87)
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    return picture.crop((round(left), round(top), round(left + width), round(top + height)))


def _picture(frame: torch.Tensor) -> Image.Image:
    """(3, H, W) in [0, 1]."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def _save(picture: Image.Image, path: Path, colours: int = 0) -> None:
    if colours:
        picture.quantize(colours, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    else:
        picture.save(path, quality=84, optimize=True)
    print(f"  {path.relative_to(steps.ROOT)}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    steps.program(main)
