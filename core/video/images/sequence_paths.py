"""Image sequences by name: a folder, a pattern, or one image file."""

from __future__ import annotations

import logging
import os
import re
from itertools import pairwise
from pathlib import Path

from ...clip import ClipError
from .metadata import is_animated_png

log = logging.getLogger(__name__)

_PNG_HEADER_BYTES = 4_000_000  # what precedes the pixels of a PNG file; color profiles may be large

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
# A name with one of these is a video file even if it looks like a pattern, for instance movie [1080p].mp4.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mxf", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv"),
    *(".asf", ".ogv", ".3gp", ".nut", ".ivf", ".gif", ".dv"),
)
# The number in frame_%04d.png. %d before a letter is part of a name, as in 100%done.png.
PRINTF_NUMBER = re.compile(r"%(0?)(\d*)(?:(?<=\d)d|d(?![^\W\d_]))")


def is_image_sequence(path: Path) -> bool:
    """Whether a path means images rather than a video file.

    Such paths are a folder, a pattern, an image file, or a name without an extension.
    """
    if path.is_file():
        return path.suffix.lower() in IMAGE_SUFFIXES
    if path.is_dir() or path.suffix.lower() in ("", *IMAGE_SUFFIXES):
        return True
    return _is_pattern(path.name) and path.suffix.lower() not in VIDEO_SUFFIXES


def is_image_source(path: Path) -> bool:
    """Whether a path is read as images rather than as a video.

    As `is_image_sequence`, but an animated PNG is a video: browsers and phones save APNG with the extension .png.
    """
    if not is_image_sequence(path):
        return False
    if not path.is_file() or path.suffix.lower() != ".png":
        return True
    with path.open("rb") as file:
        return not is_animated_png(file.read(_PNG_HEADER_BYTES))


def _is_pattern(name: str) -> bool:
    return bool(PRINTF_NUMBER.search(name)) or any(c in name for c in "*?[")


def list_image_files(path: Path) -> list[Path]:
    """Return the files of an image sequence, in natural order. Raises ClipError."""
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
        types = {f.suffix.lower().replace("jpeg", "jpg").replace("tiff", "tif") for f in files}
        if len(types) > 1:
            raise ClipError(f"{path}: images of several types ({', '.join(sorted(types))}); choose one: {path}/*.png")
    elif PRINTF_NUMBER.search(path.name):
        regex = pattern_regex(path.name)
        files = [f for f in _existing_parent(path).iterdir() if regex.fullmatch(f.name)]
    elif _is_pattern(path.name):
        files = [f for f in _existing_parent(path).glob(path.name) if f.is_file() and not f.name.startswith(".")]
    else:
        raise ClipError(f"{path}: there is no such file or folder")
    if not files:
        raise ClipError(f"{path}: no images found; supported types are {', '.join(IMAGE_SUFFIXES)}")
    return sorted(files, key=lambda f: _natural_sort_key(f.name))


def _existing_parent(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ClipError(f"{path}: the folder {path.parent} does not exist")
    return path.parent


def _natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key in which runs of digits compare as numbers."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]


def warn_about_gaps(files: list[Path]) -> None:
    """Warn if numbers are missing in a list of files in natural order."""
    numbers = [int(found[-1]) for f in files if (found := re.findall(r"\d+", f.stem))]
    for before, after in pairwise(numbers):
        if after > before + 1:
            log.warning("%s: the numbers go from %d to %d; an image may be missing", files[0].parent, before, after)
            return


def folder_and_pattern(path: Path) -> tuple[Path, str]:
    """Return the folder and the file name pattern of images written to a path.

    Raises ClipError.
    """
    folder, pattern = _split_output_path(path)
    if folder.is_dir():
        for file in existing_outputs(folder, pattern).values():
            if file.is_dir() and not file.is_symlink():
                raise ClipError(
                    f"{file}: this folder has the name of an image to be written; choose another folder or name"
                )
    return folder, pattern


def _split_output_path(path: Path) -> tuple[Path, str]:
    name, number = path.name, PRINTF_NUMBER.search(path.name)
    if path.is_dir() or (not path.suffix and number is None):
        return path, "frame_%06d.png"
    if path.suffix.lower() != ".png":
        raise ClipError(f"{path}: images are written as .png, not as '{path.suffix}'")
    # The other wildcards of patterns for reading may be a part of a file name: still [1].png.
    if len(PRINTF_NUMBER.findall(name)) > 1 or ("*" in name and number is None):
        raise ClipError(f"{path}: a pattern for writing needs exactly one number, such as frame_%04d.png")
    if number and not number[1] and int(number[2] or 1) > 1:
        raise ClipError(f"{path}: {number[0]} pads with spaces; write %0{number[2]}d for zeros")
    return path.parent, name


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Return a regex for the file names of a printf pattern; its group is the number."""
    number = PRINTF_NUMBER.search(pattern)
    if number is None:
        return re.compile(f"({re.escape(pattern)})")
    digits = rf"(\d{{{number[2] or 1},}})"
    return re.compile(re.escape(pattern[: number.start()]) + digits + re.escape(pattern[number.end() :]))


def frame_filename(pattern: str, number: int) -> str:
    """Return the file name of a frame."""
    # One substitution rather than `pattern % number`, so that other percent signs in the name stay as they are.
    return PRINTF_NUMBER.sub(lambda found: found[0] % number, pattern)


def first_output(path: Path) -> Path:
    """Return the first of the images that are written to a path."""
    folder, pattern = folder_and_pattern(path)
    return folder / frame_filename(pattern, 1)


def existing_outputs(folder: Path, pattern: str) -> dict[int, Path]:
    """Return the files that writing a sequence could overwrite, by frame number.

    Only names that `frame_filename` returns count: with the pattern %04d, 000123.png is read but never written.
    """
    if PRINTF_NUMBER.search(pattern) is None:
        return {1: folder / pattern} if os.path.lexists(folder / pattern) else {}
    regex = pattern_regex(pattern)
    matches = [(int(match[1]), file) for file in folder.iterdir() if (match := regex.fullmatch(file.name))]
    return {number: file for number, file in matches if file.name == frame_filename(pattern, number)}


def overwritten_sources(path: Path, files: list[Path]) -> list[Path]:
    """Return those of the files that images written to `path` would replace.

    Symbolic links, hard links and names that differ in case only are resolved.
    """
    folder, pattern = folder_and_pattern(path)
    regex, resolved_folder = pattern_regex(pattern), folder.resolve()
    existing = existing_outputs(folder, pattern).values() if folder.is_dir() else ()
    outputs = {identity for file in existing if (identity := _file_identity(file))}

    def is_overwritten(file: Path) -> bool:
        if match := re.fullmatch(regex.pattern, file.name, re.IGNORECASE):
            # Where the disk ignores case, Frame_0001.PNG is also frame_0001.png.
            number = int(match[1]) if PRINTF_NUMBER.search(pattern) else 1
            twin = folder / frame_filename(pattern, number)
            if (identity := _file_identity(twin)) and identity == _file_identity(file):
                return True
        return file.parent.resolve() == resolved_folder and bool(regex.fullmatch(file.name))

    return [f for f in files if is_overwritten(f) or is_overwritten(f.resolve()) or _file_identity(f) in outputs]


def _file_identity(file: Path) -> tuple[int, int] | None:
    """Identify a file, also behind hard links and links; None if it does not exist."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
