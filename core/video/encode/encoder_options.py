"""Create the video stream of an output file and configure its encoder."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer

from ..decode.stream_format import FULL_RANGE, LIMITED_RANGE, bit_depth, is_rgb
from .codecs import Codec, Encoding
from .output_format import OutputFormat


def add_video_stream(
    sink: OutputContainer,
    output_format: OutputFormat,
    codec: Codec,
    encoding: Encoding,
    fps: Fraction,
    time_base: Fraction,
) -> av.VideoStream:
    """Add a video stream with a configured encoder to `sink`.

    fps: the nominal frame rate. time_base: unit of the timestamps.
    """
    options = dict(codec.options)
    crf, preset = (encoding.crf if encoding.crf is not None else codec.crf), encoding.preset or codec.preset
    if crf is not None:
        options["crf"] = str(crf)
    if preset is not None:
        options["preset"] = preset
    options |= _lookahead_option(codec.encoder, output_format, options)
    added = sink.add_stream(codec.encoder, rate=fps.limit_denominator(1_000_000), options=options)
    stream = cast(av.VideoStream, added)
    stream.width, stream.height = output_format.padded_size
    stream.pix_fmt = output_format.pixel_format
    stream.time_base = time_base
    context = stream.codec_context
    context.thread_type = "SLICE"  # Slice threads share one frame; each frame thread holds at least one.
    context.time_base = time_base
    context.sample_aspect_ratio = output_format.pixel_aspect
    if not is_rgb(output_format.pixel_format):
        context.colorspace = output_format.matrix_tag
        context.color_range = FULL_RANGE if output_format.full_range else LIMITED_RANGE
    context.color_primaries, context.color_trc = output_format.primaries, output_format.transfer
    if codec.encoder == "libx265" and sink.format.name in ("mp4", "mov"):
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


def _lookahead_option(encoder: str, output_format: OutputFormat, options: dict[str, str]) -> dict[str, str]:
    """Return the option that limits the lookahead to LOOKAHEAD_BYTES, if it is needed."""
    if encoder not in _LOOKAHEAD_OPTIONS:
        return {}
    option_group, option, minimum, default = _LOOKAHEAD_OPTIONS[encoder]
    width, height = output_format.padded_size
    frame_bytes = 3 * width * height * (2 if bit_depth(output_format.pixel_format) > 8 else 1)
    count = max(minimum, LOOKAHEAD_BYTES // frame_bytes)
    if count >= default:
        return {}
    return {option_group: ":".join(filter(None, [options.get(option_group), f"{option}={count}"]))}
