"""Types of command-line arguments: numbers, sizes, rates, enums."""

from __future__ import annotations

import argparse
from enum import Enum
from fractions import Fraction
from typing import Any, TypeAlias

from ..core.bars import BarDetection, Bars
from ..core.clip import ClipError, parse_fps
from ..core.lens import Lens, LensDetection, parse_lens
from ..core.motion.camera.readout_time import RollingShutter

OptionGroup: TypeAlias = argparse._ArgumentGroup  # pyright: ignore[reportPrivateUsage]  # argparse has no public name


def add_enum_option(
    parser: argparse.ArgumentParser | OptionGroup,
    name: str,
    default: Enum,
    help_text: str,
    *,
    deprecated_name: str | None = None,
    **options: Any,
) -> None:
    """Add an option whose choices are the values of an enum.

    deprecated_name: a former name of the option, which is accepted and not displayed. options: more for `add_argument`.
    """
    options |= {"choices": [member.value for member in type(default)], "default": default.value}
    parser.add_argument(name, help=f"{help_text} (default {default.value})", **options)
    if deprecated_name is not None:
        parser.add_argument(deprecated_name, help=argparse.SUPPRESS, **options)


def positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def non_negative_float(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def unit_float(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def deflicker_strength(text: str) -> float | None:
    """Parse a strength from 0 to 1, or "auto", which stands for None."""
    return None if text == "auto" else unit_float(text)


def readout_time(text: str) -> RollingShutter | float:
    """Parse a word of `RollingShutter`, or the readout time per frame time."""
    if text in list(RollingShutter):
        return RollingShutter(text)
    number = float(text)
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between -1 and 1")
    return number


def bars(text: str) -> BarDetection | Bars:
    """Parse a word of `BarDetection`, or pixels at left, top, right and bottom."""
    if text in list(BarDetection):
        return BarDetection(text)
    pixels = text.split(",")
    if len(pixels) != 4 or not all(number.isdecimal() for number in pixels):
        raise argparse.ArgumentTypeError(
            f"{text} is no bar size; give auto, none, or left,top,right,bottom: 0,140,0,140"
        )
    return Bars(*map(int, pixels))


def lens(text: str) -> LensDetection | Lens:
    """Parse a word of `LensDetection`, a lens name, or a field of view in degrees."""
    try:
        return parse_lens(text)
    except ClipError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive_int(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, 0 or more")
    return int(text)


def change_threshold(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 255")
    return number


def zoom_factor(text: str) -> float:
    number = float(text)
    if not 1 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 1, which is no zoom at all")
    return number


def frame_rate(text: str) -> Fraction:
    try:
        return parse_fps(text)
    except ClipError:
        raise argparse.ArgumentTypeError(f"{text} is no frame rate; give 25, 23.976 or 24000/1001") from None


def frame_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is no size; give width x height, such as 1920x1080")
    return int(width), int(height)
