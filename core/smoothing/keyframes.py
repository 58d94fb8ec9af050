"""Keyframes: strength, largest zoom and center of the crop over time.

    [{"time": 0, "max_zoom": 1.1}, {"time": 4.5, "max_zoom": 1.4, "center": [0.4, 0.5]}, {"time": 6, "strength": 0.5}]

A TOML file has the same entries as tables `[[keyframes]]`. Each value goes smoothly from one keyframe that gives it to
the next, without exceeding both, and stays as it is before the first and after the last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from ..crop.zoom import ADAPTIVE_SECONDS, upper_envelope
from ..path.trajectory import Correction

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Array = NDArray[np.float64]

FADE_STRENGTH = 0.25  # below, changes of a planned correction fade out; it needs little zoom there


@dataclass(frozen=True)
class Keyframe:
    """Values of the stabilization at one time.

    None leaves a value to the other keyframes.

    time: in seconds after the first frame of the clip, by its timestamps. strength: the share of the shake that is
    removed, 0 to 1, in addition to that of each axis. max_zoom: the largest magnification of the crop, 1 or more.
    center: of the crop, as shares of the frame's width and height from the left and the top; (0.5, 0.5) is the middle.
    Raises ClipError for a value outside its range, and for a keyframe without any value.
    """

    time: float
    strength: float | None = None
    max_zoom: float | None = None
    center: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.time) or self.time < 0:
            raise ClipError(f"time is {self.time!r}; it is a number of seconds, 0 or more")
        if self.strength is not None and not (_is_number(self.strength) and 0 <= self.strength <= 1):
            raise ClipError(f"strength is {self.strength!r}; it goes from 0 (keep the shake) to 1")
        if self.max_zoom is not None and not (_is_number(self.max_zoom) and self.max_zoom >= 1):
            raise ClipError(f"max_zoom is {self.max_zoom!r}; it is a magnification of 1 or more (1.2 is 20 %)")
        if self.center is not None:
            given = cast("Any", self.center)
            center = cast("Sequence[Any]", given) if isinstance(given, (list, tuple)) else ()
            if len(center) != 2 or not all(_is_number(share) and 0 <= share <= 1 for share in center):
                raise ClipError(f"center is {given!r}; it is x and y, each from 0 to 1: [0.5, 0.5] is the middle")
            object.__setattr__(self, "center", (float(center[0]), float(center[1])))  # a list becomes a tuple
        if self.strength is None and self.max_zoom is None and self.center is None:
            raise ClipError(f"the keyframe at {self.time:g} s sets nothing; give it strength, max_zoom or center")


NAMES = tuple(field.name for field in fields(Keyframe))


def read_keyframes(source: str | Path) -> tuple[Keyframe, ...]:
    """Read keyframes from a JSON file or, by its suffix, a TOML file.

    Raises ClipError for a file that cannot be read, and as `parse_keyframes` does.
    """
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ClipError(f"{source}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ClipError(f"{source}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return parse_keyframes(text, str(source), is_toml=Path(source).suffix.lower() == ".toml")


def parse_keyframes(text: str, source: str = "keyframes", *, is_toml: bool = False) -> tuple[Keyframe, ...]:
    """Parse keyframes from JSON or TOML; empty text has none.

    source: what errors call the text. Raises ClipError that names the entry, counted from 1, and its value.
    """
    if not text.strip():
        return ()
    kind, example = ("TOML", "[[keyframes]]") if is_toml else ("JSON", '[{"time": 0, "max_zoom": 1.2}]')
    try:
        document: Any = tomllib.loads(text) if is_toml else json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and lists in lists
        raise ClipError(f"{source}: is not valid {kind} ({error}); write {example}") from error
    entries = cast("Mapping[str, Any]", document).get("keyframes") if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        raise ClipError(f"{source}: has no list of keyframes; write {example}")
    return check_keyframes(
        [
            _parse_entry(entry, f"{source}, entry {number}")
            for number, entry in enumerate(cast("list[Any]", entries), 1)
        ],
        source,
    )


def _parse_entry(entry: Any, place: str) -> Keyframe:
    if not isinstance(entry, Mapping):
        raise ClipError(f'{place}: is {entry!r}; it has to be an object such as {{"time": 0, "max_zoom": 1.2}}')
    values = cast("Mapping[str, Any]", entry)
    if unknown := sorted(set(values) - set(NAMES)):
        raise ClipError(f"{place}: {unknown[0]} is not a key; the keys are {', '.join(NAMES)}")
    if "time" not in values:
        raise ClipError(f"{place}: there is no time; give it in seconds")
    try:
        return Keyframe(**values)
    except ClipError as error:
        raise ClipError(f"{place}: {error}") from error


def check_keyframes(keyframes: Sequence[Keyframe], source: str = "keyframes") -> tuple[Keyframe, ...]:
    """Return the keyframes as a tuple.

    Raises ClipError unless their times increase.
    """
    for number, (first, second) in enumerate(pairwise(keyframes), 2):
        if second.time <= first.time:
            raise ClipError(
                f"{source}, entry {number}: time is {second.time:g} and that of the entry before {first.time:g}; "
                "the times have to increase"
            )
    return tuple(keyframes)


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False


def has_value(keyframes: Sequence[Keyframe], name: str) -> bool:
    """Whether a keyframe gives the value of this name."""
    return any(getattr(keyframe, name) is not None for keyframe in keyframes)


def interpolate_keyframes(keyframes: Sequence[Keyframe], name: str, seconds: Array) -> Array:
    """Interpolate the value of this name at times (N,) in seconds.

    Returns (N,), or (N, 2) for the center. A cubic curve through the keyframes that give it, with a continuous speed
    and without overshoot (Fritsch and Butland, 1984). At least one keyframe must give it.
    """
    given = [keyframe for keyframe in keyframes if getattr(keyframe, name) is not None]
    times = np.array([keyframe.time for keyframe in given], np.float64)
    values = np.array([getattr(keyframe, name) for keyframe in given], np.float64)
    if len(given) == 1:
        return np.repeat(values, len(seconds), axis=0)
    columns = values.reshape(len(times), -1).T
    curves = [_monotone_cubic(times, column, seconds) for column in columns]
    return np.stack(curves, axis=-1).reshape(len(seconds), *values.shape[1:])


def _monotone_cubic(times: Array, values: Array, at: Array) -> Array:
    lengths, slopes = np.diff(times), np.diff(values) / np.diff(times)
    before, after = slopes[:-1], slopes[1:]
    product, total = before * after, before + after
    is_monotone = product > 0
    speeds = np.zeros(len(times))  # at rest at both ends and at turning points
    speeds[1:-1][is_monotone] = 2 * product[is_monotone] / total[is_monotone]
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(lengths) - 1)
    t = np.clip((at - times[i]) / lengths[i], 0, 1)
    bend = lengths[i] * ((speeds[i] - slopes[i]) * (1 - t) - (speeds[i + 1] - slopes[i]) * t) * t * (1 - t)
    return values[i] * (1 - t) + values[i + 1] * t + bend


def largest_zoom(keyframes: Sequence[Keyframe], max_zoom: float) -> float:
    """Return the largest zoom that any frame may need."""
    return max((k.max_zoom for k in keyframes if k.max_zoom is not None), default=max_zoom)


def zoom_limits(keyframes: Sequence[Keyframe], max_zoom: float, correction: Correction) -> float | Array:
    """Return the zoom that each frame may need.

    (N,); without keyframes of it, `max_zoom` for all.

    A zoom that adapts changes over `ADAPTIVE_SECONDS`: before a lower limit it has to be lower already.
    """
    if not has_value(keyframes, "max_zoom"):
        return max_zoom
    limits = interpolate_keyframes(keyframes, "max_zoom", _seconds(correction))
    radius = ADAPTIVE_SECONDS * float(correction.info.fps) / 4
    for shot in correction.shots:
        limits[shot] = -upper_envelope(-limits[shot], correction.frame_times[shot], radius, hold=4, means=0)
    return limits


def apply_keyframes(correction: Correction, keyframes: Sequence[Keyframe], max_zoom: float | Array) -> Correction:
    """Follow the strength and the center over time.

    max_zoom: as from `zoom_limits`; the center moves no farther than a crop of this zoom can without a border.
    """
    matrices, info = correction.matrices, correction.info
    if has_value(keyframes, "strength"):
        strength = interpolate_keyframes(keyframes, "strength", _seconds(correction))
        matrices = geometry.matrices_from_tangents(geometry.to_tangents(matrices) * strength[:, None])
    if has_value(keyframes, "center"):
        room = np.broadcast_to((1 - 1 / np.asarray(max_zoom)) / 2, len(matrices))[:, None]
        shift = np.clip(interpolate_keyframes(keyframes, "center", _seconds(correction)) - 0.5, -room, room)
        shifts = np.tile(np.eye(3), (len(matrices), 1, 1))
        shifts[:, :2, 2] = -shift * [info.width, info.height]
        matrices = geometry.normalize(shifts @ matrices)
    return replace(correction, matrices=matrices)


def fade_changes(changed: Correction, planned: Correction, keyframes: Sequence[Keyframe]) -> Correction:
    """Take back what was changed in frames whose strength over time is 0.

    changed: `planned` with a smaller zoom, a mesh or exact rotations, all of which also move frames that are to stay
    where they are. The correction of a rolling shutter is taken back as well. From 0 to `FADE_STRENGTH`, more and more
    of the change remains.
    """
    if not has_value(keyframes, "strength"):
        return changed
    share = np.clip(interpolate_keyframes(keyframes, "strength", _seconds(changed)) / FADE_STRENGTH, 0, 1)
    if (share == 1).all():
        return changed
    rows = changed.rows
    if rows is not None:
        rows = geometry.matrices_from_tangents(geometry.to_tangents(rows) * share[:, None, None])
    change = geometry.to_tangents(geometry.inverse(planned.matrices) @ changed.matrices) * share[:, None]
    faded = geometry.normalize(planned.matrices @ geometry.matrices_from_tangents(change))
    matrices = np.where((share < 1)[:, None, None], faded, changed.matrices)
    mesh = None if changed.mesh is None else changed.mesh * share[:, None, None, None].astype(np.float32)
    return replace(changed, matrices=matrices, rows=rows, mesh=mesh)


def _seconds(correction: Correction) -> Array:
    return correction.frame_times / float(correction.info.fps)
