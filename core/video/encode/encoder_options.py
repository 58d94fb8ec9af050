"""Create the video stream of an output file and configure its encoder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer

from ...clip import ClipError
from ..format.chroma_location import LOCATION_NAMES, UNSPECIFIED_LOCATION
from ..format.stream_format import FULL_RANGE, LIMITED_RANGE, bit_depth, is_rgb
from .codecs import Codec, Encoding
from .output_format import OutputFormat

_MIN_CUTREE_WIDTH = 64  # pixels; x265's cutree writes beyond its buffers if frames are narrower than 50
_SVT_BLOCK, _MIN_SVT_SIDE = 64, 26  # pixels; SVT-AV1 waits forever for threads without a block


@dataclass(frozen=True)
class EncoderSetup:
    """An encoder and its options.

    name: FFmpeg's name. pixel_format: the format of input frames, which may only order samples otherwise than the
    file's.
    """

    name: str
    pixel_format: str
    options: dict[str, str]
    is_hardware: bool = False


def check_software_size(path: Path, codec: Codec, size: tuple[int, int]) -> None:
    """Raise ClipError for a (width, height) with which the encoder would never return."""
    if codec.encoder == "libsvtav1" and max(size) > _SVT_BLOCK and min(size) < _MIN_SVT_SIDE:
        raise ClipError(
            f"{path}: SVT-AV1 cannot encode {size[0]}x{size[1]}: if one side has more than {_SVT_BLOCK} pixels, "
            f"the other needs {_MIN_SVT_SIDE} or more; choose another codec, such as vp9 or hevc, or a larger size"
        )


def software_setup(codec: Codec, encoding: Encoding, pixel_format: str, size: tuple[int, int]) -> EncoderSetup:
    """Return the software encoder of a codec. size: (width, height) of the file."""
    options = dict(codec.options)
    crf, preset = (encoding.crf if encoding.crf is not None else codec.crf), encoding.preset or codec.preset
    if crf is not None:
        options["crf"] = str(crf)
    if preset is not None:
        options["preset"] = preset
    options |= _lookahead_option(codec.encoder, pixel_format, size, options)
    if codec.encoder == "libx265" and size[0] < _MIN_CUTREE_WIDTH:
        options["x265-params"] = _join_options(options.get("x265-params"), "cutree=0")
    return EncoderSetup(codec.encoder, pixel_format, options)


def add_video_stream(
    sink: OutputContainer, output_format: OutputFormat, setup: EncoderSetup, fps: Fraction, time_base: Fraction
) -> av.VideoStream:
    """Add a video stream with a configured encoder to `sink`.

    fps: the nominal frame rate. time_base: unit of the timestamps.
    """
    options = dict(setup.options)
    if output_format.chroma_location != UNSPECIFIED_LOCATION:
        options["chroma_sample_location"] = LOCATION_NAMES[output_format.chroma_location]
    stream = cast(
        av.VideoStream,
        sink.add_stream(setup.name, fps.limit_denominator(1_000_000), options),  # pyright: ignore[reportUnknownMemberType]  # **kwargs has no type
    )
    stream.width, stream.height = output_format.padded_size
    stream.pix_fmt = setup.pixel_format
    stream.time_base = time_base
    context = stream.codec_context
    context.thread_type = "SLICE"  # Slice threads share one frame; each frame thread holds at least one.
    context.time_base = time_base
    context.sample_aspect_ratio = output_format.pixel_aspect
    if not is_rgb(output_format.pixel_format):
        context.colorspace = output_format.matrix_tag
        context.color_range = FULL_RANGE if output_format.full_range else LIMITED_RANGE
    context.color_primaries, context.color_trc = output_format.primaries, output_format.transfer
    if setup.name.startswith(("libx265", "hevc_")) and sink.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players do not open hev1
    return stream


# Lookahead of encoders holds 10 MB per frame of 1080p and 40 MB per frame of 4K. By encoder: option group, option,
# minimum and default number of frames. A quarter of the default makes files 1 to 5 % larger.
_LOOKAHEAD_OPTIONS = {
    "libx264": ("x264-params", "rc-lookahead", 8, 40),
    "libx265": ("x265-params", "rc-lookahead", 8, 20),
    "libsvtav1": ("svtav1-params", "lookahead", 16, 33),
}
LOOKAHEAD_BYTES = 32_000_000


def _lookahead_option(
    encoder: str, pixel_format: str, size: tuple[int, int], options: dict[str, str]
) -> dict[str, str]:
    """Return the option that limits the lookahead to LOOKAHEAD_BYTES, if it is needed."""
    if encoder not in _LOOKAHEAD_OPTIONS:
        return {}
    option_group, option, minimum, default = _LOOKAHEAD_OPTIONS[encoder]
    frame_bytes = 3 * size[0] * size[1] * (2 if bit_depth(pixel_format) > 8 else 1)
    count = max(minimum, LOOKAHEAD_BYTES // frame_bytes)
    if count >= default:
        return {}
    return {option_group: _join_options(options.get(option_group), f"{option}={count}")}


def _join_options(group: str | None, option: str) -> str:
    """Add an option to a group of options of an encoder, such as x265-params."""
    return f"{group}:{option}" if group else option
