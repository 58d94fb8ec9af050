"""Read which clips a batch has: a folder, a glob pattern, a CSV or JSON Lines."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, cast

from ..clip import ClipError
from ..storage.copies import local_source
from ..storage.location import Location, ObjectUrl, is_url, parse_location
from ..storage.object_storage import ObjectStorage
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
    Both may be URLs. A URL in place of a folder stands for all objects whose names begin with it.
    Raises ClipError with the line of a mistake, and where there are no clips.
    """
    path, results = parse_location(clips), _absolute(parse_location(folder))
    if isinstance(path, ObjectUrl):
        found = _list_objects(path, results)
    elif path.is_dir():
        found = _list_folder(path, results)
    elif path.suffix.lower() == ".csv":
        found = [_listed(row, path, line, results) for line, row in _read_csv(path)]
    elif path.suffix.lower() in JSON_LINES_SUFFIXES:
        found = [_listed(row, path, line, results) for line, row in _read_json_lines(path)]
    elif path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ClipError(f"{path}: this is no list; name a folder, a pattern such as *.mp4, a .csv or a .jsonl file")
        found = [_named(path, path.name, results)]
    else:
        found = _list_pattern(str(path), results)
    if not found:
        raise ClipError(f"{clips}: there are no video files; their types are {', '.join(VIDEO_SUFFIXES)}")
    return found


def _absolute(location: Location) -> Location:
    return location if isinstance(location, ObjectUrl) else Path(os.path.abspath(location))


def _resolve(name: str, folder: Location) -> Location:
    """A path or URL of a list, relative to the list's folder or URL."""
    if is_url(name):
        return parse_location(name)
    return folder / name if isinstance(folder, ObjectUrl) else Path(os.path.abspath(folder / name))


def _list_objects(url: ObjectUrl, folder: Location) -> list[ListedClip]:
    """The clips of a list in a store, of a pattern, or whose URLs begin with this one."""
    if url.suffix.lower() == ".csv" or url.suffix.lower() in JSON_LINES_SUFFIXES:
        with local_source(url) as copy:
            rows = [*(_read_csv(copy) if url.suffix.lower() == ".csv" else _read_json_lines(copy))]
        return [_listed(row, url, line, folder) for line, row in rows]
    if url.suffix.lower() in VIDEO_SUFFIXES and not glob.has_magic(url.name):
        return [_named(url, url.name, folder)]
    root, pattern = url, ""
    if glob.has_magic(url.url):
        parts = url.url.split("/")
        fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        root, pattern = ObjectUrl("/".join(parts[:fixed])), "/".join(parts[fixed:])
    storage = ObjectStorage(root)
    names = storage.match(pattern) if pattern else storage.names(recursive=True)
    is_visible = {name: not any(part.startswith(".") for part in name.split("/")) for name in names}
    videos = [name for name in names if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES and is_visible[name]]
    return [
        _named(root / name, name, folder)
        for name in videos
        if pattern or not f"{root / name}".startswith(f"{folder}/")  # earlier results
    ]


def _list_folder(path: Path, folder: Location) -> list[ListedClip]:
    """The video files of a folder, without hidden ones and earlier results."""
    files = (file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    visible = (file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts))
    results = folder if isinstance(folder, Path) else None
    sources = (f for f in visible if results is None or not Path(os.path.abspath(f)).is_relative_to(results))
    return [_named(file, str(file.relative_to(path)), folder) for file in sorted(sources)]


def _list_pattern(pattern: str, folder: Location) -> list[ListedClip]:
    files = sorted(file for file in glob.glob(pattern, recursive=True) if os.path.isfile(file))
    if not files:
        raise ClipError(f"{pattern}: there is no such file or folder, and no file matches it as a pattern")
    parts = Path(pattern).parts
    fixed = Path(*parts[: next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)])
    return [_named(Path(file), os.path.relpath(file, fixed), folder) for file in files]


def _named(source: Location, name: str, folder: Location) -> ListedClip:
    """A clip whose result is called after its source."""
    path = PurePath(name)
    if path.suffix.lower() in VIDEO_SUFFIXES and path.suffix.lower() not in CONTAINERS:
        path = path.with_suffix(".mp4")
    elif path.suffix.lower() not in CONTAINERS:  # a folder or pattern of images
        path = path.with_name(f"{path.name}.mp4")
    target = folder / path.as_posix() if isinstance(folder, ObjectUrl) else folder / path
    return ListedClip(str(_absolute(source)), str(target), place=str(source))


def _listed(row: Mapping[str, Any], path: Location, line: int, folder: Location) -> ListedClip:
    place = f"{path}, line {line}"
    for key in ("in", "out"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ClipError(f"{place}: {key} is {row[key]!r}; it has to be the name of a file")
    if not row.get("in"):
        raise ClipError(f"{place}: there is no source; give it as in")
    source = _resolve(row["in"], path.parent)
    settings: Any = row.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise ClipError(f'{place}: settings is {settings!r}; it has to be an object such as {{"scale": 2}}')
    named = str(_resolve(row["out"], folder)) if row.get("out") else _named(source, source.name, folder).target
    return ListedClip(str(source), named, cast("Mapping[str, Any]", settings), place)


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
