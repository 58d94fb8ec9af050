"""An image sequence as a clip."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.deprecation import renamed_arguments
from ..decode.convert import to_rgb
from ..decode.packets import demux
from ..format.stream_format import Orientation, has_alpha
from .color_profile import read_image_color
from .metadata import read_image_metadata, without_exif
from .sequence_paths import list_image_files, warn_about_gaps

log = logging.getLogger(__name__)


class ImageClip:
    """Numbered images: PNG, JPEG, WebP or TIFF, 8 or 16 bits per channel, with alpha.

    path: a folder, a glob pattern (shots/*.png), a printf pattern (shots/frame_%04d.png) or one image. Files are in
    natural
    order: frame 9 comes before frame 10. fps: images do not store one. max_pixels: the largest width * height accepted.
    bit_depth, color: of the first image, 8 or 16 bits per channel, and its color description.
    Of a file with several images, the first is read. Raises ClipError where there are no images, they differ in type or
    size, one cannot be read, or `path` is one file with several frames (an animated WebP, pages of a TIFF).
    """

    @renamed_arguments(where="path")
    def __init__(self, path: str | Path, fps: Fraction = Fraction(24), *, max_pixels: int = demux.MAX_PIXELS) -> None:
        self.files = list_image_files(Path(path))
        self._max_pixels = max_pixels
        first = read_image(self.files[0], max_pixels)
        warn_about_gaps(self.files)
        _check_multi_image(self.files[0], is_sequence=not Path(path).is_file())
        self._channels, self.bit_depth = first.shape[2], 16 if first.dtype == np.uint16 else 8
        self.color = read_image_color(self.files[0].read_bytes(), self.files[0])
        self.info = ClipInfo(first.shape[1], first.shape[0], fps, len(self.files))

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all images in order, (<= batch, 3 or 4, H, W), float32 in [0, 1].

        Each call starts anew.
        """
        for start in range(0, len(self.files), batch):
            yield self._read_batch(self.files[start : start + batch])

    def _read_batch(self, files: list[Path]) -> Frames:
        from ...runtime.typed_torch import from_numpy

        frames = np.ones((len(files), self._channels, self.info.height, self.info.width), np.float32)
        for frame, file in zip(frames, files, strict=True):
            image = read_image(file, self._max_pixels)
            self._check_shape(file, image)
            max_level = 65535 if image.dtype == np.uint16 else 255
            np.divide(image.transpose(2, 0, 1), np.float32(max_level), out=frame[: image.shape[2]])
        return from_numpy(frames)

    def _check_shape(self, file: Path, image: NDArray[np.generic]) -> None:
        height, width, channels = image.shape
        if (width, height) != (self.info.width, self.info.height):
            raise ClipError(
                f"{file}: {width}x{height}, but {self.files[0].name} is {self.info.width}x{self.info.height}; "
                "all images of a clip must have one size"
            )
        if channels > self._channels:
            raise ClipError(
                f"{file}: has alpha, but {self.files[0].name} has none; save all images with or all without alpha"
            )


def read_image(file: Path, max_pixels: int = demux.MAX_PIXELS) -> NDArray[np.generic]:
    """Read one image as (H, W, 3 or 4), uint8 or uint16, in display orientation.

    Raises ClipError.
    """
    try:
        content = file.read_bytes()
    except OSError as e:
        raise ClipError(f"{file}: {demux.error_message(e)}") from e
    if not content:
        raise ClipError(f"{file}: the file has 0 bytes; copy or export it again")
    # FFmpeg keeps the 16 bits of PNG and TIFF, which Pillow reduces to 8; for JPEG and WebP, Pillow is the reference.
    # FFmpeg decodes JPEG within TIFF as black.
    metadata = read_image_metadata(content)
    if metadata.is_jpeg and metadata.bit_depth > 8:
        raise ClipError(
            f"{file}: JPEG of {metadata.bit_depth} bits within a TIFF is not supported; save it without compression"
        )
    if content.startswith((b"\x89PNG", b"II", b"MM")) and not metadata.is_jpeg:
        return _decode_ffmpeg(file, without_exif(content), max_pixels, metadata.orientation)
    return _decode_pillow(file, content, max_pixels)


def _check_multi_image(file: Path, *, is_sequence: bool) -> None:
    """Raise ClipError for frames that are the whole source; log other images."""
    metadata = read_image_metadata(file.read_bytes())
    if metadata.has_frames and not is_sequence:
        raise ClipError(
            f"{file}: the file has several frames, of which only the first could be read; "
            "convert it to a video, GIF or APNG, or save each frame as a file of its own in a folder"
        )
    if metadata.is_multi_image:
        log.warning("%s: the file has several images; only the first is read", file)


def _decode_ffmpeg(file: Path, content: bytes, max_pixels: int, orientation: Orientation | None) -> NDArray[np.generic]:
    """Decode with FFmpeg.

    orientation: from the metadata, because FFmpeg does not read mirroring.
    """
    with demux.open_media(file, content=content) as container:
        stream = demux.video_stream(container, file, max_pixels)
        try:
            frame = next(container.decode(stream), None)
        except FFmpegError as e:
            raise ClipError(f"{file}: cannot be decoded ({demux.error_message(e)}); save it again") from e
        if frame is None or frame.is_corrupt:
            raise ClipError(f"{file}: the image is truncated or damaged; save it again")
        alpha = has_alpha(frame.format.name) or _has_transparent_palette(frame)
        rgb = to_rgb(frame, VideoReformatter(), alpha=alpha)
        return (orientation or Orientation.of(frame, stream.codec_context.codec.name)).apply(rgb)


def _has_transparent_palette(frame: VideoFrame) -> bool:
    """Whether the frame has a palette with a color that is not opaque.

    The pixel format, pal8, is the same with and without transparency.
    """
    if frame.format.name != "pal8":
        return False
    _, palette = frame.to_ndarray()  # (256, 4): alpha, red, green, blue
    return bool((palette[:, 0] < 255).any())


def _decode_pillow(file: Path, content: bytes, max_pixels: int) -> NDArray[np.generic]:
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", UserWarning)  # of damaged tags
            image = stack.enter_context(Image.open(io.BytesIO(content), formats=("JPEG", "WEBP", "TIFF")))
            if image.width * image.height > max_pixels:
                raise ClipError(
                    f"{file}: {image.width}x{image.height} exceeds the limit of {max_pixels:,} pixels; "
                    "raise max_pixels (--max-pixels) if you trust this file and have the memory"
                )
            upright = _apply_exif_orientation(image, file)
            return np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise ClipError(f"{file}: cannot be read as an image ({type(e).__name__}); save it again as PNG") from e


def _apply_exif_orientation(image: Image.Image, file: Path) -> Image.Image:
    """The image upright; as it is stored where its EXIF is damaged."""
    image.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return ImageOps.exif_transpose(image)
    except Exception as error:  # a damaged tag can make Pillow raise anything
        log.warning("%s: the EXIF data is damaged (%s), so its orientation is ignored", file, type(error).__name__)
        return image
