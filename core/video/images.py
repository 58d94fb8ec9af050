"""A folder of pictures as a clip, and a clip as a folder of pictures."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..atomic import scratch
from ..clip import ClipError, ClipInfo, Frames
from . import media
from .numbered import NUMBER, files_of, folder_and_pattern, name_shape
from .pixels import check_alike, to_frame, to_rgb
from .stored import Orientation, has_alpha

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


class ImageClip:
    """Numbered pictures, read one after the other: PNG, JPEG, WebP or TIFF, of 8 or 16 bits per channel, with alpha.

    where: a folder, a glob pattern (shots/*.png), a printf pattern (shots/frame_%04d.png) or one picture. The order is
    natural: frame 9 comes before frame 10. fps: pictures do not know theirs. max_pixels: the largest width * height
    accepted.
    Raises ClipError where there are no pictures, they are of several kinds or sizes, or one cannot be read.
    """

    def __init__(self, where: str | Path, fps: Fraction = Fraction(24), *, max_pixels: int = media.MAX_PIXELS) -> None:
        self.files = files_of(Path(where))
        self._max_pixels = max_pixels
        first = read_picture(self.files[0], max_pixels)
        self._channels = first.shape[2]
        self.info = ClipInfo(first.shape[1], first.shape[0], fps, len(self.files))

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all pictures in order, (<= batch, 3 or 4, H, W), float32 in [0, 1]. Starts anew at each call."""
        import torch

        for start in range(0, len(self.files), batch):
            yield torch.stack([self._frame(file) for file in self.files[start : start + batch]])

    def _frame(self, file: Path) -> Tensor:
        import torch

        picture = read_picture(file, self._max_pixels)
        height, width, channels = picture.shape
        if (width, height) != (self.info.width, self.info.height):
            raise ClipError(
                f"{file}: {width}x{height}, but {self.files[0].name} is {self.info.width}x{self.info.height}; "
                "all pictures of a clip must have one size"
            )
        if channels > self._channels:
            raise ClipError(f"{file}: has alpha, but {self.files[0].name} has none; save all pictures alike")
        top = 65535 if picture.dtype == np.uint16 else 255
        frame = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / top)
        if channels < self._channels:
            frame = torch.cat([frame, torch.ones(1, height, width)])
        return frame


def write_images(where: str | Path, frames: Iterator[Frames], *, bits: int = 8) -> int:
    """Write frames as PNG, and return how many: where/frame_000001.png and on, or as a printf pattern says, from 1 on.

    where: a folder (made when it does not exist), a pattern such as shots/frame_%04d.png, or one name such as still.png
    for a clip of one frame. bits: 8 or 16 per channel. Alpha is kept.
    The pictures appear when all are written; on any error or interrupt none does. Pictures of an earlier run under the
    same pattern are replaced, also those with numbers beyond the last.
    Raises ClipError for no frames, another kind of file, a change of size, or whatever the disk refuses.
    """
    if bits not in (8, 16):
        raise ClipError(f"{where}: PNG has 8 or 16 bits per channel, not {bits}")
    folder, pattern = folder_and_pattern(Path(where))
    first = next(frames, None)
    if first is None or len(first) == 0:
        raise ClipError(f"{where}: there are no frames to write")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder / pattern if folder.exists() else folder) as partial:
            partial.mkdir()
            count = _write_all(partial, pattern, first, frames, bits, where)
            if folder.exists():
                _move_in(partial, folder, pattern, count)
            else:
                partial.rename(folder)
    except (OSError, FFmpegError) as e:
        raise ClipError(f"{where}: writing failed: {media.reason(e)}; check the name, the rights and the disk") from e
    return count


def read_picture(file: Path, max_pixels: int = media.MAX_PIXELS) -> NDArray[np.generic]:
    """One picture as (H, W, 3 or 4), uint8 or uint16, upright. Raises ClipError."""
    try:
        content = file.read_bytes()
    except OSError as e:
        raise ClipError(f"{file}: {media.reason(e)}") from e
    if not content:
        raise ClipError(f"{file}: the file has 0 bytes; copy or export it again")
    # FFmpeg keeps the 16 bits of PNG and TIFF, which Pillow cuts to 8; for JPEG and WebP, Pillow is the reference.
    if content.startswith((b"\x89PNG", b"II", b"MM")):
        return _by_ffmpeg(file, content, max_pixels)
    return _by_pillow(file, content, max_pixels)


def _by_ffmpeg(file: Path, content: bytes, max_pixels: int) -> NDArray[np.generic]:
    with media.opened(file, content=content) as container:
        stream = media.video_stream(container, file, max_pixels)
        try:
            frame = next(container.decode(stream), None)
        except FFmpegError as e:
            raise ClipError(f"{file}: cannot be decoded ({media.reason(e)}); save it again") from e
        if frame is None or frame.is_corrupt:
            raise ClipError(f"{file}: the picture is cut off or damaged; save it again")
        rgb = to_rgb(frame, VideoReformatter(), alpha=has_alpha(frame.format.name))
        return Orientation.of(frame, stream.codec_context.codec.name).upright(rgb)


def _by_pillow(file: Path, content: bytes, max_pixels: int) -> NDArray[np.generic]:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "WEBP")) as image:
            if image.width * image.height > max_pixels:
                raise ClipError(
                    f"{file}: {image.width}x{image.height} exceeds the limit of {max_pixels:,} pixels; "
                    "raise max_pixels if you trust this file and have the memory"
                )
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise ClipError(f"{file}: not a picture that can be read ({type(e).__name__}); save it again as PNG") from e


def _write_all(folder: Path, pattern: str, first: Frames, rest: Iterator[Frames], bits: int, where: str | Path) -> int:
    _, channels, height, width = first.shape
    count = 0
    for frames in chain([first], rest):
        check_alike(frames, (channels, height, width), count, where)
        for frame in frames:
            count += 1
            if count > 1 and not NUMBER.search(pattern):
                raise ClipError(f"{where}: one name for several frames; write {Path(pattern).stem}_%04d.png instead")
            # One substitution rather than `pattern % count`, so that other percent signs in the name stay as they are.
            name = NUMBER.sub(lambda number, n=count: number[0] % n, pattern)
            (folder / name).write_bytes(_png(frame, bits))
    return count


def _png(frame: Tensor, bits: int) -> bytes:
    """(3 or 4, H, W) in [0, 1] -> a PNG file."""
    _, height, width = frame.shape
    picture = to_frame(frame, deep=bits == 16, width=width, height=height)
    encoder = cast(VideoCodecContext, av.CodecContext.create("png", "w"))
    if bits == 16:
        picture = picture.reformat(format=picture.format.name.replace("le", "be"))
    encoder.width, encoder.height, encoder.pix_fmt = width, height, picture.format.name
    encoder.time_base = Fraction(1)
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def _move_in(partial: Path, folder: Path, pattern: str, count: int) -> None:
    """Put the new pictures among what the folder holds already, and remove those of an earlier, longer run."""
    for file in sorted(partial.iterdir()):
        os.replace(file, folder / file.name)
    shape = name_shape(pattern)
    stale = [f for f in folder.iterdir() if NUMBER.search(pattern) and _is_stale(shape.fullmatch(f.name), count)]
    for file in stale:
        file.unlink()
    if stale:
        log.warning("%s: %d pictures of an earlier run, numbered above %d, are removed", folder, len(stale), count)


def _is_stale(match: re.Match[str] | None, count: int) -> bool:
    return match is not None and (int(match[1]) > count or int(match[1]) == 0)
