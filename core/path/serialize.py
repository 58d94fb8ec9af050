"""Save and load motions, trajectories and corrections as JSON.

{"format": "steadyscale-path", "version": 1, "kind": "motion", "clip": {"width": 640, "height": 360, "fps": "25/1",
"length": 150}, "shots": [[0, 150]], "steps": [[9 numbers, row by row], ...], "trust": [...]}

A trajectory has "poses", a correction "matrices" and, if known, "poses"; see geometry.py and the types. For a rolling
shutter, a motion has its "readout", the others "rows"; "bends": true stands for `Correction.distorts_rows`, and "trust"
for `Motion.confidence`. "times", in seconds, are written where the timestamps are uneven; without them, the frames are
1 / fps apart. "dissolves" of a motion are like "shots". "residuals" of a motion and the "mesh" of a correction are
written where they exist, 2 numbers for each vertex, row by row. "bars" are pixels at the left, top, right and bottom;
"clip" is then the area inside. "shot_bars" are those of each shot, where they differ; "clip" is then the frame.
"agreement" and "links" are those of `Motion`, in a part of a clip that is still measured. A "lens" has its horizontal
field of view in degrees and then its coefficients, see `Lens`. "hold" and "held" are there where a motion is not that
of the camera. "level" is the roll of each frame from level, where gravity shows it. Numbers are written so that reading
them is exact.
"""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..bars import Bars
from ..clip import ClipError, ClipInfo, parse_fps
from ..hold import Hold
from ..lens import Lens
from ..runtime.files.atomic_write import atomic_path
from .mesh import MESH_SHAPE, MeshOffsets
from .motion import Motion
from .rolling_shutter import ROW_SAMPLES
from .trajectory import Correction, Trajectory

FORMAT, FORMAT_VERSION = "steadyscale-path", 1
_MAX_REASON = 200  # characters of an error, which may quote a value of the file
MIN_STEP_SECONDS, MAX_SECONDS = 1e-6, 1e7  # between frames, and of a clip: beyond these, times are refused

Savable: TypeAlias = Motion | Trajectory | Correction


def save_path(value: Savable, target: str | Path) -> None:
    """Write a Motion, Trajectory or Correction to the file `target`, atomically.

    Raises ClipError if a number is not finite or the file cannot be written.
    """
    info = value.info
    clip = {"width": info.width, "height": info.height, "fps": str(info.fps), "length": info.length}
    shots = [[shot.start, shot.stop] for shot in value.shots]
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": _kind(value),
        "clip": clip,
        "shots": shots,
    }
    for name, numbers in _to_arrays(value).items():
        if not np.isfinite(numbers).all():
            raise ClipError(f"{target}: the {name} hold numbers that are not finite, so they cannot be saved")
        document[name] = [row.ravel().tolist() for row in numbers] if numbers.ndim > 1 else numbers.tolist()
    if isinstance(value, Motion) and value.readout:
        document["readout"] = value.readout
    if isinstance(value, Motion) and value.dissolves:
        document["dissolves"] = [[mixed.start, mixed.stop] for mixed in value.dissolves]
    if isinstance(value, Motion) and value.hold is not Hold.AUTO:
        document["hold"] = value.hold.value
    if isinstance(value, Correction) and value.distorts_rows:
        document["bends"] = True
    if not isinstance(value, Trajectory) and value.bars is not None:
        document["bars"] = list(astuple(value.bars))
    if not isinstance(value, Trajectory) and value.shot_bars is not None:
        document["shot_bars"] = [list(astuple(bars)) for bars in value.shot_bars]
    if value.lens is not None:
        document["lens"] = [value.lens.fov, *value.lens.coefficients]
    try:
        with atomic_path(Path(target)) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        raise ClipError(f"{target}: cannot be written: {error.strerror or error}") from error


def load_path(source: str | Path) -> Savable:
    """Read a Motion, Trajectory or Correction from a file of `save_path`.

    Raises ClipError for a file that cannot be read, has another format or version, or is inconsistent.
    """
    try:
        document = json.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipError(f"{source}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 alike
        raise ClipError(f"{source}: is not JSON ({error}): choose a file that SteadyScale saved") from error
    document = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if document.get("format") != FORMAT:
        raise ClipError(f'{source}: is JSON, but not of the format "{FORMAT}": choose a file that SteadyScale saved')
    if document.get("version") != FORMAT_VERSION:
        raise ClipError(
            f"{source}: has version {document.get('version')!r}, this SteadyScale reads version {FORMAT_VERSION}: "
            "update SteadyScale, or measure the clip again"
        )
    try:
        return _parse_document(document)
    except (ClipError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:_MAX_REASON]
        raise ClipError(f"{source}: is damaged ({reason}): measure the clip again") from error


def _kind(value: Savable) -> str:
    return type(value).__name__.lower()


def _to_arrays(value: Savable) -> dict[str, NDArray[np.float64]]:
    tables: dict[str, NDArray[np.float64] | None]
    if isinstance(value, Motion):
        tables = {"steps": value.steps, "trust": value.confidence, "agreement": value.agreement, "links": value.links}
        tables["held"] = value.held
    else:
        tables = {"poses": value.poses, "rows": value.rows}
    if not isinstance(value, Correction):
        tables["level"] = value.level
    if isinstance(value, Correction):
        tables = {"matrices": value.matrices} | tables | {"mesh": _as_float64(value.mesh)}
    elif isinstance(value, Motion):
        tables["residuals"] = _as_float64(value.residuals)
    tables["times"] = value.times
    return {name: numbers for name, numbers in tables.items() if numbers is not None}


def _as_float64(offsets: MeshOffsets | None) -> NDArray[np.float64] | None:
    return None if offsets is None else offsets.astype(np.float64)


def _parse_document(document: dict[str, Any]) -> Savable:
    clip, kind = document["clip"], document["kind"]
    info = ClipInfo(_parse_count(clip["width"]), _parse_count(clip["height"]), parse_fps(clip["fps"]), clip["length"])
    if info.length is not None:
        _parse_count(info.length)
    shots = [slice(start, stop) for start, stop in document["shots"]]
    starts = [0, *(shot.stop for shot in shots)]
    if any(shot.start != start or shot.stop <= start for shot, start in zip(shots, starts, strict=False)):
        raise ValueError("the shots are not consecutive")
    count = starts[-1]
    times, lens = _parse_times(document, count), _parse_lens(document)
    level = _parse_array(document, "level", (count,)) if "level" in document else None
    if kind == "motion":
        readout = float(_parse_array(document, "readout", ())) if "readout" in document else 0.0
        if not -1 <= readout <= 1:
            raise ValueError(f"the readout {readout} is not between -1 and 1")
        motion = Motion(
            _parse_matrices(document, "steps", count), _parse_array(document, "trust", (count,)), info, readout, times,
            bars=_parse_bars(document), dissolves=_parse_dissolves(document, count),
            residuals=_parse_mesh(document, "residuals", count), lens=lens,
            shot_bars=_parse_shot_bars(document, info, shots), level=level,
        )  # fmt: skip
        if "agreement" in document:
            links = np.array(document.get("links", []), dtype=np.float64).reshape(-1, 12)
            motion = replace(motion, agreement=_parse_array(document, "agreement", (count,)), links=links)
        if "hold" in document:
            motion = replace(motion, hold=Hold(document["hold"]), held=_parse_array(document, "held", (count,)))
        if np.flatnonzero(motion.confidence == 0).tolist() != [shot.start for shot in shots]:
            raise ValueError("trust and shots have different cuts")
        return motion
    if kind == "trajectory":
        rows = _parse_rows(document, count)
        return Trajectory(_parse_matrices(document, "poses", count), shots, info, rows, times, lens, level)
    if kind == "correction":
        poses = _parse_matrices(document, "poses", count) if "poses" in document else None
        rows, distorts_rows = _parse_rows(document, count), document.get("bends") is True
        matrices, bars = _parse_matrices(document, "matrices", count), _parse_bars(document)
        mesh = _parse_mesh(document, "mesh", count)
        if mesh is not None and np.abs(mesh).max() > max(info.size):
            raise ValueError(f"the mesh moves a vertex by {np.abs(mesh).max():g} pixels")
        shot_bars = _parse_shot_bars(document, info, shots)
        return Correction(matrices, shots, info, poses, rows, distorts_rows, times, bars, mesh, lens, shot_bars)
    raise ValueError(f"kind {kind!r} is not motion, trajectory or correction")


def _parse_dissolves(document: dict[str, Any], count: int) -> list[slice]:
    ranges = [(_parse_count(start), _parse_count(stop)) for start, stop in document.get("dissolves", [])]
    if any(not start < stop <= count for start, stop in ranges):
        raise ValueError("the dissolves are not frames of the clip")
    return [slice(start, stop) for start, stop in ranges]


def _parse_bars(document: dict[str, Any]) -> Bars | None:
    if "bars" not in document:
        return None
    return _bars_of(_parse_array(document, "bars", (4,)))


def _parse_shot_bars(document: dict[str, Any], info: ClipInfo, shots: list[slice]) -> tuple[Bars, ...] | None:
    if "shot_bars" not in document:
        return None
    found = tuple(_bars_of(pixels) for pixels in _parse_array(document, "shot_bars", (len(shots), 4)))
    for bars in found:
        bars.active_info(info)  # which refuses bars that leave nothing
    return found


def _bars_of(pixels: NDArray[np.float64]) -> Bars:
    if (pixels != np.rint(pixels)).any():
        raise ValueError(f"bars are {pixels.tolist()} and not whole numbers of pixels")
    return Bars(*map(int, pixels))


def _parse_lens(document: dict[str, Any]) -> Lens | None:
    if "lens" not in document:
        return None
    fov, *coefficients = map(float, document["lens"])
    if not np.isfinite(coefficients).all():
        raise ValueError("lens holds numbers that are not finite")
    return Lens(fov, tuple(coefficients))


def _parse_count(number: Any) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"{number!r} is not a number of pixels or frames")
    return number


def _parse_matrices(document: dict[str, Any], name: str, count: int) -> NDArray[np.float64]:
    matrices = _parse_array(document, name, (count, 9)).reshape(count, 3, 3)
    if name != "steps" and not geometry.is_regular(matrices).all():  # irregular steps are interpolated
        raise ValueError(f"{name} holds a matrix that has no inverse or mirrors the frame")
    return matrices


def _parse_rows(document: dict[str, Any], count: int) -> NDArray[np.float64] | None:
    if "rows" not in document:
        return None
    return _parse_array(document, "rows", (count, ROW_SAMPLES * 9)).reshape(count, ROW_SAMPLES, 3, 3)


def _parse_mesh(document: dict[str, Any], name: str, count: int) -> MeshOffsets | None:
    if name not in document:
        return None
    rows, columns = MESH_SHAPE
    numbers = _parse_array(document, name, (count, rows * columns * 2))
    return numbers.astype(np.float32).reshape(count, rows, columns, 2)


def _parse_times(document: dict[str, Any], count: int) -> NDArray[np.float64] | None:
    if "times" not in document:
        return None
    times = _parse_array(document, "times", (count,))
    if (np.diff(times) < MIN_STEP_SECONDS).any():
        number = int((np.diff(times) < MIN_STEP_SECONDS).argmax()) + 1
        raise ValueError(
            f"the times do not increase: frame {number} is at {times[number]:g} s, the one before at "
            f"{times[number - 1]:g} s"
        )
    if (np.abs(times) > MAX_SECONDS).any():
        raise ValueError(f"the times go from {times[0]:g} to {times[-1]:g} s, beyond {MAX_SECONDS:g} s")
    return times


def _parse_array(document: dict[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    numbers = np.array(document[name], dtype=np.float64)
    if numbers.shape != shape:
        raise ValueError(f"{name} has the shape {numbers.shape} and needs {shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return numbers
