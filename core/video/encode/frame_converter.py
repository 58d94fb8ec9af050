"""Convert frames to the pixel format of an encoder."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ...clip import ClipError, Frames
from ..decode.convert import check_uniform, to_level_planes, to_planar_frame
from ..format.chroma_location import chroma_subsampling, with_chroma_location
from ..format.scaler import REFORMAT_THREADS, SWS_FLAGS
from ..format.stream_format import FULL_RANGE, LIMITED_RANGE, NativeFrames, StreamFormat, bit_depth, is_rgb
from ..planes.layout import layout_for
from .codecs import CODECS, CONTAINERS
from .encoder_options import EncoderSetup
from .output_format import SWS_MATRIX, OutputFormat, has_transparency

if TYPE_CHECKING:
    from torch import Tensor

    from .device_planes import PlaneDownloader

log = logging.getLogger(__name__)

_ANY_TYPE = 0  # the encoder chooses


class TransparencyError(ClipError):
    """The frames have transparency, which the file cannot keep."""


class FrameConverter:
    """Converts frames of one file to the pixel format of its encoder, in order.

    path: of the file, for messages. source_format: how frames that are not RGB are stored.
    """

    def __init__(
        self, path: Path, output_format: OutputFormat, setup: EncoderSetup, source_format: StreamFormat | None
    ) -> None:
        self._path, self._output_format, self._setup, self._source_format = path, output_format, setup, source_format
        self._received = 0
        self._reformatter, self._planes_reformatter = VideoReformatter(), VideoReformatter()
        self._rgb_frame: VideoFrame | None = None  # 8 bits, tagged with the chroma location, used for every frame
        self._downloader: PlaneDownloader | None = None

    def convert(self, frames: Frames | NativeFrames) -> deque[VideoFrame]:
        """Convert frames (B, C, H, W), or as stored by the source.

        Frames on a device are transferred while the next ones are computed, and are in the next result.
        """
        output_format = self._output_format
        if isinstance(frames, list):
            return deque(self._convert_native(frame) for frame in frames)
        check_uniform(
            frames, (output_format.channels, output_format.height, output_format.width), self._received, self._path
        )
        if output_format.channels == 4 and not output_format.keeps_alpha:
            self._refuse_transparency(frames)
            frames = frames[:, :3]
        self._received += len(frames)
        if frames.device.type != "cpu":
            return self._download(frames)
        return self.finish() + deque(self._frame_from_tensor(frame) for frame in frames)

    def finish(self) -> deque[VideoFrame]:
        """Return the frames whose transfer was started and that are in no result yet."""
        return self._finish_downloaded(self._downloader, self._downloader.finish()) if self._downloader else deque()

    def _download(self, frames: Frames) -> deque[VideoFrame]:
        """Start to transfer frames on a device; return those of the last call."""
        from .device_planes import PlaneDownloader  # imports torch, which other frames do not need

        if self._downloader is None:
            self._downloader = PlaneDownloader(self._output_format, frames.device, self._path)
        return self._finish_downloaded(self._downloader, self._downloader.exchange(frames))

    def _finish_downloaded(self, downloader: PlaneDownloader, frames: Iterator[VideoFrame]) -> deque[VideoFrame]:
        if downloader.needs_reformat:
            return deque(self._reformat(frame, src_color_range=FULL_RANGE) for frame in frames)
        return deque(self._tag_color(frame) for frame in frames)

    def _refuse_transparency(self, frames: Frames) -> None:
        if has_transparency(frames):
            alternatives = [
                f"{name} ({', '.join(suffix for suffix, c in CONTAINERS.items() if name in c.codecs)})"
                for name, codec in CODECS.items()
                if codec.alpha_format
            ]
            raise TransparencyError(
                f"{self._path}: the frames have transparency, which {self._setup.name} with "
                f"{self._output_format.pixel_format} cannot keep; write {', '.join(alternatives)} or a folder of PNG"
            )
        if self._received == 0:
            log.info("%s: the alpha channel is opaque and is dropped", self._path)

    def _frame_from_tensor(self, frame: Tensor) -> VideoFrame:
        """Convert (C, H, W) to a frame in the encoder's pixel format."""
        output_format, size = self._output_format, self._output_format.padded_size
        is_high = bit_depth(output_format.pixel_format) > 8
        layout = output_format.layout
        # For these swscale, which is faster, is not exact; see `rgb_conversion`.
        if layout is not None and (is_high or (layout.has_chroma and layout.full_range)):
            from ..planes.frame_planes import frame_from_planes
            from ..planes.rgb_conversion import rgb_to_planes

            planes = rgb_to_planes(_with_alpha(frame, layout.has_alpha)[None], layout, size)
            return self._tag_color(frame_from_planes([plane[0] for plane in planes], layout, *size))
        target = None
        if not is_high and chroma_subsampling(output_format.pixel_format) != (1, 1):
            target = self._rgb_frame
        rgb = to_planar_frame(frame, high_bit_depth=is_high, width=size[0], height=size[1], target=target)
        if not is_high and target is None and chroma_subsampling(output_format.pixel_format) != (1, 1):
            rgb = self._rgb_frame = with_chroma_location(rgb, output_format.chroma_location)
        return self._reformat(rgb, src_color_range=FULL_RANGE)

    def _convert_native(self, frame: VideoFrame) -> VideoFrame:
        """Convert a frame as stored by the source to the encoder's pixel format."""
        source_format, output_format = self._source_format, self._output_format
        assert source_format is not None, "native frames need the source whose format they have"
        subsampling = chroma_subsampling(frame.format.name)
        is_same_chroma = subsampling == chroma_subsampling(output_format.pixel_format) and (
            subsampling == (1, 1) or output_format.chroma_location == source_format.chroma_location
        )
        is_same_size = (frame.width, frame.height) == output_format.padded_size
        is_same_range = is_rgb(frame.format.name) or source_format.full_range == output_format.full_range
        if frame.format.name == output_format.pixel_format and is_same_size and is_same_chroma and is_same_range:
            return self._tag_color(frame)
        is_same_depth = bit_depth(frame.format.name) == bit_depth(output_format.pixel_format)
        is_yuv = not is_rgb(frame.format.name) and not is_rgb(output_format.pixel_format)
        # swscale only shifts the codes of limited range, and so keeps those beyond black and white.
        has_exact_depth = is_same_depth or not source_format.full_range
        if not (is_yuv and is_same_range and is_same_chroma and is_same_size and has_exact_depth):
            return self._frame_from_tensor(self._tensor_from_native(frame, source_format))
        matrix, color_range = (
            SWS_MATRIX.get(source_format.matrix),
            FULL_RANGE if source_format.full_range else LIMITED_RANGE,
        )
        return self._reformat(frame, src_colorspace=matrix, src_color_range=color_range)

    def _tensor_from_native(self, frame: VideoFrame, source_format: StreamFormat) -> Tensor:
        """Convert a frame as stored by the source to (C, H, W) in [0, 1]."""
        from ...runtime.typed_torch import from_numpy
        from ..planes.frame_planes import frame_planes
        from ..planes.rgb_conversion import planes_to_rgb

        # Operations yield frames without tags.
        location = source_format.chroma_location
        layout = layout_for(frame.format.name, source_format.matrix, source_format.full_range, location)
        if layout is not None:
            return planes_to_rgb(frame_planes(frame), layout)[0]
        frame.colorspace = source_format.matrix
        frame.color_range = FULL_RANGE if source_format.full_range else LIMITED_RANGE
        planes = to_level_planes(frame, self._planes_reformatter, alpha=False, chroma_location=location)
        return from_numpy(np.stack([np.divide(plane, level, dtype=np.float32) for plane, level in planes]))

    def _reformat(self, frame: VideoFrame, **source_options: int | None) -> VideoFrame:
        output_format = self._output_format
        converted = self._reformatter.reformat(
            frame,
            format=output_format.pixel_format,
            dst_colorspace=None if is_rgb(output_format.pixel_format) else SWS_MATRIX[output_format.matrix],
            dst_color_range=FULL_RANGE if output_format.full_range else LIMITED_RANGE,
            interpolation=SWS_FLAGS,
            threads=REFORMAT_THREADS,
            **source_options,
        )
        return self._tag_color(converted)

    def _tag_color(self, frame: VideoFrame) -> VideoFrame:
        frame.pict_type = _ANY_TYPE  # the type of a decoded frame would force the encoder to use it
        if not is_rgb(self._output_format.pixel_format):
            frame.colorspace = self._output_format.matrix_tag
            frame.color_range = FULL_RANGE if self._output_format.full_range else LIMITED_RANGE
        frame.color_primaries, frame.color_trc = self._output_format.primaries, self._output_format.transfer
        return frame


def _with_alpha(frame: Tensor, has_alpha: bool) -> Tensor:
    """Add an opaque alpha channel to (3, H, W) where the format needs one."""
    if not has_alpha or len(frame) == 4:
        return frame
    import torch

    return torch.cat([frame, torch.ones_like(frame[:1])])
