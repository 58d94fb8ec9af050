"""Open and write clips by path: a video file or an image sequence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

from ..clip import Clip, ClipError, ClipInfo, Frames, clip_bit_depth
from ..runtime.files.atomic_write import follow_link
from .decode.corruption_report import OnDamage
from .decode.hwaccel import check_hwaccel
from .decode.packets import demux
from .decode.video_clip import VideoClip
from .encode.codecs import Encoding, codec_for, container_for
from .encode.stream_copy import warn_dropped_audio
from .encode.writer import write_video
from .format.source_description import IMAGE_FILES
from .format.stream_format import NativeFrames
from .images.color_profile import warn_dropped_color
from .images.image_clip import ImageClip
from .images.png_writer import png_bits, write_images
from .images.sequence_paths import (
    folder_and_pattern,
    is_image_sequence,
    is_image_source,
    list_image_files,
    overwritten_sources,
)


def open_clip(
    path: str | Path,
    *,
    fps: Fraction = Fraction(24),
    max_pixels: int = demux.MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
) -> Clip:
    """Open a video file or an image sequence as a clip.

    path: a video file, a folder of images, a pattern (frame_%04d.png, shots/*.png) or one image.
    fps: of an image sequence, whose files do not store one. max_pixels: the largest width * height accepted.
    on_damage, hwaccel: policy for corrupt frames of a video, and the device that decodes it; see `VideoClip`.
    Raises ClipError.
    """
    check_hwaccel(hwaccel)
    _check_length(path)
    if is_image_source(Path(path)):
        return ImageClip(path, fps, max_pixels=max_pixels)
    return VideoClip(path, max_pixels=max_pixels, on_damage=on_damage, hwaccel=hwaccel)


def check_target(path: str | Path, *, encoding: Encoding | None = None, source: str | Path | None = None) -> None:
    """Raise the ClipError that `write_clip` would raise for this path.

    Call it before any frame is computed.
    """
    check_name(path)
    path = _follow_link(Path(path))
    if source is not None and _is_same_file(path, Path(source)):
        raise ClipError(f"{path}: this is the source itself; choose another name for the result")
    if is_image_sequence(path):
        files = list_image_files(Path(source)) if source is not None and is_image_source(Path(source)) else []
        if overwritten := overwritten_sources(path, files):
            raise ClipError(
                f"{path}: this would replace {overwritten[0].name} of the source; choose another folder or name"
            )
        folder, _ = folder_and_pattern(path)
        _check_writable(path, next(parent for parent in (folder, *folder.absolute().parents) if parent.exists()))
        return
    codec_for(path, container_for(path), encoding or Encoding())
    if not path.parent.is_dir():
        raise ClipError(f"{path}: the folder {path.parent} does not exist; create it first")
    _check_writable(path, path.parent)


def check_name(path: str | Path) -> None:
    """Raise ClipError for a name that cannot be the name of a result."""
    name = str(path)
    if not name:
        raise ClipError("the name of the result is empty; name a video file, or a folder or pattern for PNG images")
    if name == "-":
        raise ClipError("-: results are written to a file; only stabilize --live writes to stdout, as Y4M")
    _check_length(path)


def _check_length(path: str | Path) -> None:
    try:
        os.lstat(path)
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            raise ClipError(f"{str(path)[:80]}...: the name is too long for this disk; use a shorter one") from e
    except ValueError as e:
        raise ClipError(f"{str(path)!r}: the name contains a NUL character; use another name") from e


def _follow_link(path: Path) -> Path:
    """The file that a link points to; raises ClipError for a link to itself."""
    try:
        path.stat()
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise ClipError(f"{path}: the link points to itself; remove it, or choose another name") from e
    return follow_link(path)


def _is_same_file(path: Path, source: Path) -> bool:
    """Whether both are one file, by name, by a link, or by a twin in another case."""
    try:
        return path.resolve() == source.resolve() or path.samefile(source)
    except OSError:  # one of them does not exist
        return False


def _check_writable(path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise ClipError(f"{path}: the folder {folder} cannot be written to; choose another name")


def write_clip(
    path: str | Path,
    frames: Iterator[Frames | NativeFrames],
    info: ClipInfo,
    *,
    encoding: Encoding | None = None,
    source: str | Path | None = None,
    bits: int | None = None,
) -> int:
    """Write a video file or, for a folder or a pattern, PNG images.

    frames: RGB or, for a video file, frames in the source's pixel format (`Pipeline.native_frames`).
    source: the file that the frames were computed from, frame by frame; where both files are videos, its audio and
    timestamps are copied. bits: per channel of PNG images, 8 or 16; by default 16 if the source has more than 8.
    Returns the number of frames. Raises ClipError, also where `path` is the source.
    """
    path = Path(path)
    check_target(path, encoding=encoding, source=source)
    clip = None if source is None else open_clip(source, max_pixels=demux.NO_PIXEL_LIMIT, on_damage=OnDamage.KEEP)
    depth = 8 if clip is None else clip_bit_depth(clip)
    if is_image_sequence(path):
        if isinstance(clip, VideoClip):
            warn_dropped_audio(path, clip.path)
        images, color = cast("Iterator[Frames]", frames), getattr(clip, "color", None)
        return write_images(path, images, bits=bits or png_bits(depth), color=color)
    warn_dropped_color(path, getattr(clip, "color", None))
    return write_video(
        path,
        frames,
        info,
        encoding=encoding,
        source=source if isinstance(clip, VideoClip) else None,
        bits=depth,
        description=IMAGE_FILES if isinstance(clip, ImageClip) else None,
    )
