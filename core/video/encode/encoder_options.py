"""A stream of an open file with its encoder: told what it has to know, and to hold no more frames than it needs."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer

from ..decode.stream_format import FULL, LIMITED, depth, is_rgb
from .codecs import Codec, Encoding
from .output_format import Look


def added_stream(
    sink: OutputContainer, look: Look, codec: Codec, encoding: Encoding, fps: Fraction, base: Fraction
) -> av.VideoStream:
    options = dict(codec.options)
    crf, preset = (encoding.crf if encoding.crf is not None else codec.crf), encoding.preset or codec.preset
    if crf is not None:
        options["crf"] = str(crf)
    if preset is not None:
        options["preset"] = preset
    options |= _shorter_lookahead(codec.encoder, look, options)
    added = sink.add_stream(codec.encoder, rate=fps.limit_denominator(1_000_000), options=options)
    stream = cast(av.VideoStream, added)
    stream.width, stream.height = look.padded
    stream.pix_fmt = look.pixel_format
    stream.time_base = base
    context = stream.codec_context
    context.thread_type = "SLICE"  # Threads within a frame: those between frames hold one each, or more.
    context.time_base = base
    context.sample_aspect_ratio = look.pixel_aspect
    if not is_rgb(look.pixel_format):
        context.colorspace = look.tag
        context.color_range = FULL if look.full_range else LIMITED
    context.color_primaries, context.color_trc = look.primaries, look.transfer
    if codec.encoder == "libx265" and sink.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players do not open the other spelling, hev1
    return stream


# Encoders look at frames to come, 10 MB for each of 1080p and 40 MB for each of 4K. By encoder: where it is told how
# many, by which name, the fewest that serve, and how many it takes by itself. A quarter of them costs 1 to 5 % of size.
_LOOKAHEAD = {
    "libx264": ("x264-params", "rc-lookahead", 8, 40),
    "libx265": ("x265-params", "rc-lookahead", 8, 20),
    "libsvtav1": ("svtav1-params", "lookahead", 16, 33),
}
LOOKAHEAD_BYTES = 32_000_000


def _shorter_lookahead(encoder: str, look: Look, options: dict[str, str]) -> dict[str, str]:
    """The option that keeps what the encoder holds of frames to come near `LOOKAHEAD_BYTES`, where it needs one."""
    if encoder not in _LOOKAHEAD:
        return {}
    where, name, fewest, usual = _LOOKAHEAD[encoder]
    width, height = look.padded
    each = 3 * width * height * (2 if depth(look.pixel_format) > 8 else 1)
    count = max(fewest, LOOKAHEAD_BYTES // each)
    return {where: ":".join(filter(None, [options.get(where), f"{name}={count}"]))} if count < usual else {}
