"""Read which clips a batch has: a folder, a glob pattern, a CSV or JSON Lines."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..clip import ClipError
from ..video.encode.codecs import CONTAINERS
from ..video.images.sequence_paths import VIDEO_SUFFIXES

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class ListedClip:
    """A clip of a list.

    source, target: absolute paths. settings: of this clip alone, by name. place: where it is listed, for messages.
    """

    source: str
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""


def read_clip_list(clips: str | Path, folder: str | Path) -> list[ListedClip]:
    """Return the clips of a list, and where their results go.

    clips: a folder (its video files, and those of the folders in it), a glob pattern, a video file, or a list: CSV with
    the columns in, out and one for each setting, or JSON Lines of objects with the keys in, out and settings. Only "in"
    is needed. Paths of a list are relative to the list's folder.
    folder: where results go: under the name that a list states (out), or under the name of the source, as .mp4 where
    files of its type are not written. Folders within a folder, or below the fixed part of a pattern, are kept.
    Raises ClipError with the line of a mistake, and where there are no clips.
    """
    path, folder = Path(clips), Path(os.path.abspath(folder))
    if path.is_dir():
        found = _list_folder(path, folder)
    elif path.suffix.lower() == ".csv":
        found = [_listed(row, path, line, folder) for line, row in _read_csv(path)]
    elif path.suffix.lower() in JSON_LINES_SUFFIXES:
        found = [_listed(row, path, line, folder) for line, row in _read_json_lines(path)]
    elif path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ClipError(f"{path}: this is no list; name a folder, a pattern such as *.mp4, a .csv or a .jsonl file")
        found = [_named(path, path.name, folder)]
    else:
        found = _list_pattern(str(clips), folder)
    if not found:
        raise ClipError(f"{clips}: there are no video files; their types are {', '.join(VIDEO_SUFFIXES)}")
    return found


def _list_folder(path: Path, folder: Path) -> list[ListedClip]:
    """The video files of a folder, without hidden ones and earlier results."""
    files = (file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    visible = (file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts))
    sources = (file for file in visible if not Path(os.path.abspath(file)).is_relative_to(folder))
    return [_named(file, str(file.relative_to(path)), folder) for file in sorted(sources)]


def _list_pattern(pattern: str, folder: Path) -> list[ListedClip]:
    files = sorted(file for file in glob.glob(pattern, recursive=True) if os.path.isfile(file))
    if not files:
        raise ClipError(f"{pattern}: there is no such file or folder, and no file matches it as a pattern")
    parts = Path(pattern).parts
    fixed = Path(*parts[: next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)])
    return [_named(Path(file), os.path.relpath(file, fixed), folder) for file in files]


def _named(source: Path, name: str, folder: Path) -> ListedClip:
    """A clip whose result is called after its source."""
    target = folder / name
    if target.suffix.lower() in VIDEO_SUFFIXES and target.suffix.lower() not in CONTAINERS:
        target = target.with_suffix(".mp4")
    elif target.suffix.lower() not in CONTAINERS:  # a folder or pattern of images
        target = target.with_name(f"{target.name}.mp4")
    return ListedClip(os.path.abspath(source), str(target), place=str(source))


def _listed(row: Mapping[str, Any], path: Path, line: int, folder: Path) -> ListedClip:
    place = f"{path}, line {line}"
    for key in ("in", "out"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ClipError(f"{place}: {key} is {row[key]!r}; it has to be the name of a file")
    if not row.get("in"):
        raise ClipError(f"{place}: there is no source; give it as in")
    source = path.parent / row["in"]
    settings: Any = row.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise ClipError(f'{place}: settings is {settings!r}; it has to be an object such as {{"scale": 2}}')
    named = os.path.abspath(folder / row["out"]) if row.get("out") else _named(source, source.name, folder).target
    return ListedClip(os.path.abspath(source), named, cast("Mapping[str, Any]", settings), place)


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of each row.

    Columns other than in and out are settings, unless they are empty.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if "in" not in (reader.fieldnames or ()):
                raise ClipError(f"{path}: there is no column in; the first line has to name the columns: in,out,scale")
            for row in reader:
                if None in row or None in row.values():
                    raise ClipError(f"{path}, line {reader.line_num}: the number of columns is not that of line 1")
                settings = {key: value for key, value in row.items() if key not in ("in", "out") and value}
                yield reader.line_num, {"in": row["in"], "out": row.get("out"), "settings": settings}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ClipError(f"{path}, line {number}: this is not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise ClipError(f'{path}, line {number}: a line is an object such as {{"in": "a.mp4"}}, not {line[:40]}')
        row = cast("dict[str, Any]", row)
        if unknown := set(row) - {"in", "out", "settings"}:
            raise ClipError(f"{path}, line {number}: {min(unknown)} is not a key; the keys are in, out and settings")
        yield number, row


def _unreadable(path: Path, error: Exception) -> ClipError:
    reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
    return ClipError(f"{path}: the list cannot be read ({reason}); it has to be a text file in UTF-8")
