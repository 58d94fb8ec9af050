"""Which files a name stands for: numbered pictures in a folder, behind a pattern, or one picture."""

from __future__ import annotations

import logging
import os
import re
from itertools import pairwise
from pathlib import Path

from ...clip import ClipError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
# Names of video files mean what they say, for instance movie [1080p].mp4.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mxf", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv"),
    *(".asf", ".ogv", ".3gp", ".nut", ".ivf", ".gif", ".dv"),
)
NUMBER = re.compile(r"%(0?)(\d*)d")  # frame_%04d.png


def is_sequence(where: Path) -> bool:
    """Whether a name means pictures rather than a video file: a folder, a pattern, a picture, or no ending at all."""
    if where.is_file():
        return where.suffix.lower() in SUFFIXES
    if where.is_dir() or where.suffix.lower() in ("", *SUFFIXES):
        return True
    return _is_pattern(where.name) and where.suffix.lower() not in VIDEO_SUFFIXES


def _is_pattern(name: str) -> bool:
    return bool(NUMBER.search(name)) or any(c in name for c in "*?[")


def files_of(where: Path) -> list[Path]:
    """The files that a name stands for, in natural order."""
    if where.is_file():
        return [where]
    if where.is_dir():
        files = [f for f in where.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        kinds = {f.suffix.lower().replace("jpeg", "jpg").replace("tiff", "tif") for f in files}
        if len(kinds) > 1:
            raise ClipError(
                f"{where}: pictures of several kinds ({', '.join(sorted(kinds))}); say which: {where}/*.png"
            )
    elif NUMBER.search(where.name):
        shape = name_shape(where.name)
        files = [f for f in _folder(where).iterdir() if shape.fullmatch(f.name)]
    elif _is_pattern(where.name):
        files = [f for f in _folder(where).glob(where.name) if f.is_file() and not f.name.startswith(".")]
    else:
        raise ClipError(f"{where}: there is no such file or folder")
    if not files:
        raise ClipError(f"{where}: no pictures there; {', '.join(SUFFIXES)} are read")
    return sorted(files, key=lambda f: _natural(f.name))


def _folder(where: Path) -> Path:
    if not where.parent.is_dir():
        raise ClipError(f"{where}: the folder {where.parent} does not exist")
    return where.parent


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that takes runs of digits as numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def warn_of_gaps(files: list[Path]) -> None:
    """Files in natural order."""
    numbers = [int(found[-1]) for f in files if (found := re.findall(r"\d+", f.stem))]
    for before, after in pairwise(numbers):
        if after > before + 1:
            log.warning("%s: the numbers go from %d to %d; a picture may be missing", files[0].parent, before, after)
            return


def folder_and_pattern(where: Path) -> tuple[Path, str]:
    """Where pictures that are written to that name go, and what they are called there. Raises ClipError."""
    folder, pattern = _named_for_writing(where)
    if folder.is_dir():
        for file in taken(folder, pattern).values():
            if file.is_dir() and not file.is_symlink():
                raise ClipError(f"{file}: this folder is in the way of a picture; choose another folder or name")
    return folder, pattern


def _named_for_writing(where: Path) -> tuple[Path, str]:
    name, number = where.name, NUMBER.search(where.name)
    if where.is_dir() or (not where.suffix and number is None):
        return where, "frame_%06d.png"
    if where.suffix.lower() != ".png":
        raise ClipError(f"{where}: pictures are written as .png, not as '{where.suffix}'")
    # Other signs that choose files for reading may well be in the name of one picture: still [1].png.
    if len(NUMBER.findall(name)) > 1 or ("*" in name and number is None):
        raise ClipError(f"{where}: a pattern for writing has one number, such as frame_%04d.png")
    if number and not number[1] and int(number[2] or 1) > 1:
        raise ClipError(f"{where}: {number[0]} fills up with spaces; write %0{number[2]}d for zeros")
    return where.parent, name


def name_shape(pattern: str) -> re.Pattern[str]:
    """The file names that a printf pattern stands for; the number is the group."""
    number = NUMBER.search(pattern)
    if number is None:
        return re.compile(f"({re.escape(pattern)})")
    digits = rf"(\d{{{number[2] or 1},}})"
    return re.compile(re.escape(pattern[: number.start()]) + digits + re.escape(pattern[number.end() :]))


def named(pattern: str, number: int) -> str:
    """The file name of that number."""
    # One substitution rather than `pattern % number`, so that other percent signs in the name stay as they are.
    return NUMBER.sub(lambda found: found[0] % number, pattern)


def first_written(where: Path) -> Path:
    """The first of the pictures that were written to that name."""
    folder, pattern = folder_and_pattern(where)
    return folder / named(pattern, 1)


def taken(folder: Path, pattern: str) -> dict[int, Path]:
    """What lies in the folder under the very names that writing gives, by number: %04d reads 000123 and never writes
    it.
    """
    if NUMBER.search(pattern) is None:
        return {1: folder / pattern} if os.path.lexists(folder / pattern) else {}
    shape = name_shape(pattern)
    alike = [(int(found[1]), file) for file in folder.iterdir() if (found := shape.fullmatch(file.name))]
    return {number: file for number, file in alike if file.name == named(pattern, number)}


def replaced(where: Path, files: list[Path]) -> list[Path]:
    """Those of the files that pictures written to `where` would replace, be it by way of a link."""
    folder, pattern = folder_and_pattern(where)
    shape, here = name_shape(pattern), folder.resolve()

    def lies_there(file: Path) -> bool:
        return file.parent.resolve() == here and bool(shape.fullmatch(file.name))

    return [f for f in files if lies_there(f) or lies_there(f.resolve())]
