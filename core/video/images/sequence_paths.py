"""Which files a name stands for: numbered pictures in a folder, behind a pattern, or one picture."""

from __future__ import annotations

import logging
import os
import re
from itertools import pairwise
from pathlib import Path

from ...clip import ClipError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
# Names of video files mean what they say, for instance movie [1080p].mp4.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mxf", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv"),
    *(".asf", ".ogv", ".3gp", ".nut", ".ivf", ".gif", ".dv"),
)
PRINTF_NUMBER = re.compile(r"%(0?)(\d*)d")  # frame_%04d.png


def is_image_sequence(path: Path) -> bool:
    """Whether a name means pictures rather than a video file: a folder, a pattern, a picture, or no ending at all."""
    if path.is_file():
        return path.suffix.lower() in IMAGE_SUFFIXES
    if path.is_dir() or path.suffix.lower() in ("", *IMAGE_SUFFIXES):
        return True
    return _is_pattern(path.name) and path.suffix.lower() not in VIDEO_SUFFIXES


def _is_pattern(name: str) -> bool:
    return bool(PRINTF_NUMBER.search(name)) or any(c in name for c in "*?[")


def list_image_files(path: Path) -> list[Path]:
    """The files that a name stands for, in natural order."""
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
        kinds = {f.suffix.lower().replace("jpeg", "jpg").replace("tiff", "tif") for f in files}
        if len(kinds) > 1:
            raise ClipError(f"{path}: pictures of several kinds ({', '.join(sorted(kinds))}); say which: {path}/*.png")
    elif PRINTF_NUMBER.search(path.name):
        shape = pattern_regex(path.name)
        files = [f for f in _existing_parent(path).iterdir() if shape.fullmatch(f.name)]
    elif _is_pattern(path.name):
        files = [f for f in _existing_parent(path).glob(path.name) if f.is_file() and not f.name.startswith(".")]
    else:
        raise ClipError(f"{path}: there is no such file or folder")
    if not files:
        raise ClipError(f"{path}: no pictures there; {', '.join(IMAGE_SUFFIXES)} are read")
    return sorted(files, key=lambda f: _natural_sort_key(f.name))


def _existing_parent(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ClipError(f"{path}: the folder {path.parent} does not exist")
    return path.parent


def _natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that takes runs of digits as numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def warn_about_gaps(files: list[Path]) -> None:
    """Files in natural order."""
    numbers = [int(found[-1]) for f in files if (found := re.findall(r"\d+", f.stem))]
    for before, after in pairwise(numbers):
        if after > before + 1:
            log.warning("%s: the numbers go from %d to %d; a picture may be missing", files[0].parent, before, after)
            return


def folder_and_pattern(path: Path) -> tuple[Path, str]:
    """Where pictures that are written to that name go, and what they are called there. Raises ClipError."""
    folder, pattern = _split_output_path(path)
    if folder.is_dir():
        for file in existing_outputs(folder, pattern).values():
            if file.is_dir() and not file.is_symlink():
                raise ClipError(f"{file}: this folder is in the way of a picture; choose another folder or name")
    return folder, pattern


def _split_output_path(path: Path) -> tuple[Path, str]:
    name, number = path.name, PRINTF_NUMBER.search(path.name)
    if path.is_dir() or (not path.suffix and number is None):
        return path, "frame_%06d.png"
    if path.suffix.lower() != ".png":
        raise ClipError(f"{path}: pictures are written as .png, not as '{path.suffix}'")
    # Other signs that choose files for reading may well be in the name of one picture: still [1].png.
    if len(PRINTF_NUMBER.findall(name)) > 1 or ("*" in name and number is None):
        raise ClipError(f"{path}: a pattern for writing has one number, such as frame_%04d.png")
    if number and not number[1] and int(number[2] or 1) > 1:
        raise ClipError(f"{path}: {number[0]} fills up with spaces; write %0{number[2]}d for zeros")
    return path.parent, name


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """The file names that a printf pattern stands for; the number is the group."""
    number = PRINTF_NUMBER.search(pattern)
    if number is None:
        return re.compile(f"({re.escape(pattern)})")
    digits = rf"(\d{{{number[2] or 1},}})"
    return re.compile(re.escape(pattern[: number.start()]) + digits + re.escape(pattern[number.end() :]))


def frame_filename(pattern: str, number: int) -> str:
    """The file name of that number."""
    # One substitution rather than `pattern % number`, so that other percent signs in the name stay as they are.
    return PRINTF_NUMBER.sub(lambda found: found[0] % number, pattern)


def first_output(path: Path) -> Path:
    """The first of the pictures that were written to that name."""
    folder, pattern = folder_and_pattern(path)
    return folder / frame_filename(pattern, 1)


def existing_outputs(folder: Path, pattern: str) -> dict[int, Path]:
    """What lies in the folder under the very names that writing gives, by number: %04d reads 000123 and never writes
    it.
    """
    if PRINTF_NUMBER.search(pattern) is None:
        return {1: folder / pattern} if os.path.lexists(folder / pattern) else {}
    shape = pattern_regex(pattern)
    alike = [(int(found[1]), file) for file in folder.iterdir() if (found := shape.fullmatch(file.name))]
    return {number: file for number, file in alike if file.name == frame_filename(pattern, number)}


def overwritten_sources(path: Path, files: list[Path]) -> list[Path]:
    """Those of the files that pictures written to `where` would replace, be it by way of a link."""
    folder, pattern = folder_and_pattern(path)
    shape, here = pattern_regex(pattern), folder.resolve()

    def is_overwritten(file: Path) -> bool:
        return file.parent.resolve() == here and bool(shape.fullmatch(file.name))

    return [f for f in files if is_overwritten(f) or is_overwritten(f.resolve())]
