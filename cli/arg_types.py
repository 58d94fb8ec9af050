"""Types of command-line arguments: numbers, sizes, rates, enums."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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


def number(text: str) -> float:
    return _parse_number(text, "a number", lambda value: value == value)


def positive_float(text: str) -> float:
    return _parse_number(text, "a number above 0", lambda value: 0 < value < float("inf"))


def non_negative_float(text: str) -> float:
    return _parse_number(text, "a number, 0 or more", lambda value: 0 <= value < float("inf"))


def unit_float(text: str) -> float:
    return _parse_number(text, "a number from 0 to 1", _is_unit)


def deflicker_strength(text: str) -> float | None:
    """Parse a strength from 0 to 1, or "auto", which stands for None."""
    return None if text == "auto" else _parse_number(text, "auto or a number from 0 to 1", _is_unit)


def readout_time(text: str) -> RollingShutter | float:
    """Parse a word of `RollingShutter`, or the readout time per frame time."""
    if text in list(RollingShutter):
        return RollingShutter(text)
    words = ", ".join(RollingShutter)
    return _parse_number(text, f"{words} or a number from -1 to 1", lambda value: -1 <= value <= 1)


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


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None


def change_threshold(text: str) -> float:
    return _parse_number(text, "a number from 0 to 255", lambda value: 0 <= value <= 255)


def zoom_factor(text: str) -> float:
    return _parse_number(text, "a number from 1 (no zoom)", lambda value: 1 <= value < float("inf"))


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


def _is_unit(value: float) -> bool:
    return 0 <= value <= 1


def _parse_number(text: str, requirement: str, is_valid: Callable[[float], bool]) -> float:
    """The number in a text; what argparse prints of a ValueError names a function.

    Raises ArgumentTypeError, with the requirement.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_valid(value):
        raise argparse.ArgumentTypeError(f"{text} is not {requirement}")
    return value
