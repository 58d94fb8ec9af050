"""Write a clip as numbered PNG files, with a multithreaded encoder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError

from ...clip import ClipError, Frames
from ...runtime.deprecation import renamed_arguments
from ...runtime.files.atomic_write import follow_link, temp_path
from ...runtime.threads.prefetch import chain_first, close, write_behind
from ...runtime.typed_av import encode_video
from ..decode.convert import PACKED_FORMATS, check_uniform, to_packed_frame
from ..decode.packets import demux
from .color_profile import ImageColor
from .sequence_paths import PRINTF_NUMBER, existing_outputs, folder_and_pattern, frame_filename

if TYPE_CHECKING:
    from av.packet import Packet

log = logging.getLogger(__name__)

# zlib's default, 6, takes two to five times as long for files that are up to 11 % smaller. The filter is set per row.
PNG_OPTIONS = {"compression_level": "4", "pred": "mixed"}
# Images that are compressed concurrently; each thread holds one.
MAX_ENCODER_THREADS = 4


def png_bits(bit_depth: int) -> int:
    """Return the bits per channel of PNG files, 8 or 16, that keep a bit depth."""
    return 8 if bit_depth <= 8 else 16


@renamed_arguments(where="path")
def write_images(path: str | Path, frames: Iterator[Frames], *, bits: int = 8, color: ImageColor | None = None) -> int:
    """Write frames as PNG files, numbered from 1.

    path: a folder (created where it does not exist; files are frame_000001.png and so on), a pattern such as
    shots/frame_%04d.png, or one name such as still.png for a clip of one frame. bits: 8 or 16 per channel. color: the
    color description that each file gets. Alpha is kept.
    The files appear when all are written; on any error or interrupt none does, and `frames` is closed. Files of an
    earlier run with the same pattern are replaced, and those with numbers beyond the last are removed. Frames are
    compressed while the next ones are computed.
    Returns the number of frames. Raises ClipError for no frames, another file type, a change of size, or errors of the
    disk.
    """
    with ExitStack() as stack:
        stack.callback(close, frames)  # Also on an early error, so that the threads behind `frames` end.
        if bits not in (8, 16):
            raise ClipError(f"{path}: PNG has 8 or 16 bits per channel, not {bits}")
        folder, pattern = folder_and_pattern(Path(path))
        if not PRINTF_NUMBER.search(pattern):
            target = follow_link(folder / pattern)
            folder, pattern = target.parent, target.name
        first = next(frames, None)
        if first is None or len(first) == 0:
            raise ClipError(f"{path}: there are no frames to write")
        shape = tuple(first.shape[1:])
        stream = chain_first([first], frames)
        del first  # Frames are large; this reference would live until the last frame is written.
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with temp_path(folder / pattern if folder.exists() else folder) as partial:
                partial.mkdir()
                writer = _PngWriter(partial, pattern, shape, bits, path, color)
                write_behind(stream, writer.write, depth=1, name="encode")
                writer.finish()
                if folder.exists():
                    _replace_outputs(partial, folder, pattern, writer.count)
                else:
                    partial.rename(folder)
        except (OSError, FFmpegError) as e:
            raise ClipError(
                f"{path}: writing failed: {demux.error_message(e)}; check the name, the permissions and the disk"
            ) from e
        return writer.count


class _PngWriter:
    """Writes frames of one shape (C, H, W) to a folder; `count` files are written."""

    def __init__(
        self,
        folder: Path,
        pattern: str,
        shape: tuple[int, ...],
        bits: int,
        path: str | Path,
        color: ImageColor | None,
    ) -> None:
        self._color = color or ImageColor()
        self.count, self._received = 0, 0
        self._folder, self._pattern, self._shape, self._high_bit_depth, self._path = (
            folder,
            pattern,
            shape,
            bits == 16,
            path,
        )
        channels, height, width = shape
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.time_base = width, height, Fraction(1)
        encoder.pix_fmt = PACKED_FORMATS[channels, bits == 16]
        encoder.options = PNG_OPTIONS
        encoder.thread_type, encoder.thread_count = "FRAME", min(MAX_ENCODER_THREADS, os.cpu_count() or 1)
        self._encoder = encoder

    def write(self, frames: Frames) -> None:
        check_uniform(frames, self._shape, self._received, self._path)
        for frame in frames:
            if self._received and not PRINTF_NUMBER.search(self._pattern):
                stem = Path(self._pattern).stem
                raise ClipError(
                    f"{self._path}: one file name cannot hold several frames; write {stem}_%04d.png instead"
                )
            packed = to_packed_frame(frame, high_bit_depth=self._high_bit_depth)
            packed.pts = self._received
            self._received += 1
            self._write_packets(encode_video(self._encoder, packed))

    def finish(self) -> None:
        """Write the frames that are still being compressed, and check their number."""
        self._write_packets(encode_video(self._encoder, None))
        if self.count != self._received:
            raise ClipError(
                f"{self._path}: {self._received} frames were received, but {self.count} images were encoded; try again"
            )

    def _write_packets(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            self.count += 1
            (self._folder / frame_filename(self._pattern, self.count)).write_bytes(
                self._color.insert_into(bytes(packet))
            )


def _replace_outputs(partial: Path, folder: Path, pattern: str, count: int) -> None:
    """Move the new images into `folder`, and remove those of an earlier, longer run.

    On any error the folder is restored.
    """
    images, earlier = sorted(partial.iterdir()), existing_outputs(folder, pattern)
    stale = [file for number, file in earlier.items() if not 1 <= number <= count]
    backup = partial / "earlier"
    backup.mkdir()
    with ExitStack() as undo:

        def move(file: Path, target: Path) -> None:
            os.replace(file, target)
            undo.callback(os.replace, target, file)

        for file in images:
            target = folder / file.name
            if os.path.lexists(target):
                move(target, backup / file.name)
            move(file, target)
        for file in stale:
            move(file, backup / file.name)
        undo.pop_all()
    if stale:
        log.warning("%s: %d images of an earlier run, numbered above %d, are removed", folder, len(stale), count)
