"""Motion, trajectories and corrections as JSON: to look at, to keep, to carry to another program and back.

{"format": "steadyscale-path", "version": 1, "kind": "motion", "clip": {"width": 640, "height": 360, "fps": "25/1",
"length": 150}, "shots": [[0, 150]], "steps": [[9 numbers, row by row], ...], "trust": [...]}

A trajectory has "poses", a correction "matrices" and, where they are known, "poses"; all as `geometry` and the types
themselves define them. Of a camera with a rolling shutter, a motion has its "readout", the others "rows", and a
correction that bends "bends": true. Numbers are written so that reading gives the very same ones back.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..atomic import appearing
from ..clip import ClipError, ClipInfo
from ..motion.estimate import Motion
from .rolling import ROWS
from .trajectory import Correction, Trajectory

FORMAT, VERSION = "steadyscale-path", 1

Savable: TypeAlias = Motion | Trajectory | Correction


def save_path(value: Savable, target: str | Path) -> None:
    """Write a Motion, Trajectory or Correction to the file `target`, which appears whole or not at all.

    Raises ClipError where it holds numbers that are not finite or the file cannot be written.
    """
    info = value.info
    clip = {"width": info.width, "height": info.height, "fps": str(info.fps), "length": info.length}
    shots = [[shot.start, shot.stop] for shot in value.shots]
    document = {"format": FORMAT, "version": VERSION, "kind": _kind(value), "clip": clip, "shots": shots}
    for name, numbers in _tables(value).items():
        if not np.isfinite(numbers).all():
            raise ClipError(f"{target}: the {name} hold numbers that are not finite, so they cannot be saved")
        document[name] = numbers.reshape(len(numbers), -1).tolist() if numbers.ndim > 1 else numbers.tolist()
    if isinstance(value, Motion) and value.readout:
        document["readout"] = value.readout
    if isinstance(value, Correction) and value.bends:
        document["bends"] = True
    try:
        with appearing(Path(target)) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        raise ClipError(f"{target}: cannot be written: {error.strerror or error}") from error


def load_path(source: str | Path) -> Savable:
    """Read what `save_path` wrote: a Motion, a Trajectory or a Correction, whichever the file holds.

    Raises ClipError for a file that cannot be read, is no such JSON, comes from a newer version or contradicts itself.
    """
    try:
        document = json.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipError(f"{source}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # bad JSON and bad UTF-8 alike
        raise ClipError(f"{source}: is not JSON ({error}): choose a file that SteadyScale saved") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ClipError(f'{source}: is JSON, but not of the format "{FORMAT}": choose a file that SteadyScale saved')
    if document.get("version") != VERSION:
        raise ClipError(
            f"{source}: is of version {document.get('version')!r}, and this SteadyScale reads version {VERSION}: "
            "update SteadyScale, or measure the clip again"
        )
    try:
        return _value(document)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ClipError(f"{source}: is damaged ({reason}): measure the clip again") from error


def _kind(value: Savable) -> str:
    return type(value).__name__.lower()


def _tables(value: Savable) -> dict[str, NDArray[np.float64]]:
    if isinstance(value, Motion):
        return {"steps": value.steps, "trust": value.trust}
    tables = {"poses": value.poses, "rows": value.rows}
    if isinstance(value, Correction):
        tables = {"matrices": value.matrices} | tables
    return {name: numbers for name, numbers in tables.items() if numbers is not None}


def _value(document: dict[str, Any]) -> Savable:
    clip, kind = document["clip"], document["kind"]
    info = ClipInfo(_size(clip["width"]), _size(clip["height"]), Fraction(clip["fps"]), clip["length"])
    if info.length is not None:
        _size(info.length)
    shots = [slice(start, stop) for start, stop in document["shots"]]
    edges = [0, *(shot.stop for shot in shots)]
    if any(shot.start != before or shot.stop <= before for shot, before in zip(shots, edges, strict=False)):
        raise ValueError("the shots do not follow one another")
    count = edges[-1]
    if kind == "motion":
        readout = float(_numbers(document, "readout", ())) if "readout" in document else 0.0
        if not -1 <= readout <= 1:
            raise ValueError(f"the readout {readout} is not between -1 and 1")
        motion = Motion(_matrices(document, "steps", count), _numbers(document, "trust", (count,)), info, readout)
        if np.flatnonzero(motion.trust == 0).tolist() != [shot.start for shot in shots]:
            raise ValueError("trust and shots do not agree on the cuts")
        return motion
    if kind == "trajectory":
        return Trajectory(_matrices(document, "poses", count), shots, info, _rows(document, count))
    if kind == "correction":
        poses = _matrices(document, "poses", count) if "poses" in document else None
        rows, bends = _rows(document, count), document.get("bends") is True
        return Correction(_matrices(document, "matrices", count), shots, info, poses, rows, bends)
    raise ValueError(f"kind {kind!r} is none of motion, trajectory, correction")


def _size(number: Any) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{number!r} is not a number of pixels or frames")
    return number


def _matrices(document: dict[str, Any], name: str, count: int) -> NDArray[np.float64]:
    matrices = _numbers(document, name, (count, 9)).reshape(count, 3, 3)
    if name != "steps" and not geometry.regular(matrices).all():  # steps that are not count as weak
        raise ValueError(f"{name} holds a matrix that has no inverse or mirrors the picture")
    return matrices


def _rows(document: dict[str, Any], count: int) -> NDArray[np.float64] | None:
    if "rows" not in document:
        return None
    return _numbers(document, "rows", (count, ROWS * 9)).reshape(count, ROWS, 3, 3)


def _numbers(document: dict[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    numbers = np.array(document[name], dtype=np.float64)
    if numbers.shape != shape:
        raise ValueError(f"{name} has the shape {numbers.shape} and needs {shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return numbers
