"""Tables of codecs and containers that can be written, and the choice among them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from ...clip import ClipError
from ..decode.packets.demux import file_url


@dataclass(frozen=True)
class Codec:
    """One codec: its encoder and the defaults for it."""

    encoder: str
    pixel_format: str
    alpha_format: str | None = None  # the pixel format with alpha, where there is one
    crf: int | None = None  # constant rate factor, lower is better; None where the codec has none
    max_crf: int = 51  # the worst value; 0 is the best
    preset: str | None = None
    options: dict[str, str] = field(default_factory=dict[str, str])
    has_full_range: bool = True  # whether a file can say that its YUV has the full range


# A key frame that `writer` asks for, at the end, must be decoded last, which only an IDR frame is.
_HEVC_OPTIONS = {"x265-params": "log-level=error", "forced-idr": "1"}

# To add a codec: a row here, and its name in the containers that can hold it.
CODECS = {
    "h264": Codec("libx264", "yuv420p", crf=16, preset="medium"),
    "hevc": Codec("libx265", "yuv420p", crf=18, preset="medium", options=_HEVC_OPTIONS),
    "av1": Codec("libsvtav1", "yuv420p10le", crf=24, max_crf=63, preset="8"),
    "vp9": Codec("libvpx-vp9", "yuv420p", "yuva420p", crf=20, max_crf=63, options={"row-mt": "1", "cpu-used": "2"}),
    "prores": Codec("prores_ks", "yuv422p10le", "yuva444p10le", options={"vendor": "apl0"}, has_full_range=False),
    "ffv1": Codec("ffv1", "bgr0", "bgra", options={"level": "3", "slices": "4", "slicecrc": "1"}),
}

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
"""Presets of x264 and x265, the fastest first; both accept their numbers, too."""
SVT_AV1_PRESETS = tuple(map(str, range(14)))
"""Presets of SVT-AV1, the slowest first."""
_PRESETS = {"h264": X264_PRESETS, "hevc": X264_PRESETS, "av1": SVT_AV1_PRESETS}


@dataclass(frozen=True)
class Container:
    """One container; the first of its codecs is the default."""

    muxer: str
    codecs: tuple[str, ...]
    fallback_audio: str = "aac"  # codec for audio that the container cannot hold as a stream copy
    options: dict[str, str] = field(default_factory=dict[str, str])


_MOV_OPTIONS = {"movflags": "+faststart+use_metadata_tags"}  # playable while it downloads, and keeps free-form metadata
_MATROSKA_OPTIONS = {"fflags": "+bitexact"}  # no random numbers: equal frames give equal files
CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "hevc", "av1"), options=_MOV_OPTIONS),
    ".m4v": Container("mp4", ("h264", "hevc"), options=_MOV_OPTIONS),
    ".mov": Container("mov", ("h264", "hevc", "prores"), options=_MOV_OPTIONS),
    ".mkv": Container("matroska", tuple(CODECS), fallback_audio="libopus", options=_MATROSKA_OPTIONS),
    ".webm": Container("webm", ("vp9", "av1"), fallback_audio="libopus", options=_MATROSKA_OPTIONS),
}


ENCODERS = ("software", "auto", "nvenc", "qsv", "amf", "videotoolbox")
"""The encoder of CODECS, the first hardware encoder that works, or one family of hardware encoders."""


@dataclass(frozen=True)
class Encoding:
    """Settings of a video file; None means the default.

    Defaults depend on the container, the codec and the frames. codec: a key of CODECS. crf: constant rate factor, lower
    is better. preset: the software encoder's name of a speed. pixel_format: FFmpeg's name; yuv420p plays everywhere.
    encoder: one of ENCODERS. A hardware encoder gets the same settings, translated; where it does not work, the
    software encoder takes its place, and the reason is logged. FFmpeg's name of one hardware encoder, such as
    h264_nvenc, allows no replacement. Raises ClipError for a value of another type.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None
    encoder: str = "software"

    def __post_init__(self) -> None:
        values: dict[str, object] = vars(self)
        if values["crf"] is not None and not isinstance(values["crf"], Real):
            raise ClipError(f"crf is {values['crf']!r}; it has to be a number, of which a lower one is better")
        for name in ("codec", "preset", "pixel_format", "encoder"):
            if values[name] is not None and not isinstance(values[name], str):
                raise ClipError(f"{name} is {values[name]!r}; it has to be a name")


def container_for(path: Path) -> Container:
    """Return the container for the extension of a file name. Raises ClipError."""
    if path.suffix.lower() not in CONTAINERS:
        raise ClipError(f"{path}: video files are written as {', '.join(CONTAINERS)}, not as '{path.suffix}'")
    return CONTAINERS[path.suffix.lower()]


def open_output(path: Path, container: Container) -> OutputContainer:
    """Open a new file for writing. Raises what PyAV raises."""
    return av.open(file_url(path), "w", format=container.muxer, container_options=container.options)


def codec_name(container: Container, encoding: Encoding) -> str:
    """Return the key of the requested codec, or of the container's default."""
    return encoding.codec or container.codecs[0]


def codec_for(path: Path, container: Container, encoding: Encoding) -> Codec:
    """Return the requested codec, or the container's default.

    Raises ClipError where the codec, or a setting for it, is not available in the container.
    """
    name = codec_name(container, encoding)
    if encoding.encoder not in ENCODERS and not encoding.encoder.endswith(
        tuple(f"_{family}" for family in ENCODERS[2:])
    ):
        raise ClipError(f"{path}: the encoder '{encoding.encoder}' is unknown; choose one of {', '.join(ENCODERS)}")
    if name not in container.codecs:
        suffixes = [suffix for suffix, c in CONTAINERS.items() if name in c.codecs]
        advice = f"write {' or '.join(suffixes)} instead" if suffixes else f"the codecs are {', '.join(CODECS)}"
        raise ClipError(f"{path}: {path.suffix} holds {', '.join(container.codecs)}, not {name}; {advice}")
    codec = CODECS[name]
    if encoding.crf is not None and codec.crf is None:
        raise ClipError(f"{path}: {name} has no crf; leave it out")
    if encoding.crf is not None and not 0 <= encoding.crf <= codec.max_crf:
        raise ClipError(f"{path}: crf {encoding.crf} is outside 0 (best) to {codec.max_crf} (worst) of {name}")
    if codec.encoder not in av.codecs_available:
        raise ClipError(
            f"{path}: this build of PyAV has no {codec.encoder}; choose another of {', '.join(container.codecs)}"
        )
    if encoding.pixel_format is not None:
        check_pixel_format(path, codec, encoding.pixel_format)
    if codec.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 prints its settings to stderr, not to a log
    if encoding.preset is not None and codec.preset is not None and not _has_preset(name, encoding.preset):
        raise ClipError(
            f"{path}: {codec.encoder} has no preset '{encoding.preset}'; choose one of {', '.join(_PRESETS[name])} "
            f"(--preset; the default is {codec.preset})"
        )
    return codec


def check_pixel_format(path: Path, codec: Codec, pixel_format: str) -> None:
    """Raise ClipError unless the encoder supports the pixel format."""
    formats = [f.name for f in av.Codec(codec.encoder, "w").video_formats or []]
    if pixel_format not in formats:
        raise ClipError(f"{path}: {codec.encoder} does not write {pixel_format}; it writes {', '.join(formats)}")


@lru_cache(maxsize=16)
def _has_preset(name: str, preset: str) -> bool:
    """Whether the encoder accepts a preset; most only report it when opened."""
    if name == "h264":  # x264 prints that it is invalid to stderr, past FFmpeg's log
        return preset.lower() in X264_PRESETS or preset in map(str, range(len(X264_PRESETS)))
    codec = CODECS[name]
    context = cast(VideoCodecContext, av.CodecContext.create(codec.encoder, "w"))
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, codec.pixel_format, Fraction(1, 24)
    context.options = {**codec.options, "preset": preset}
    try:
        context.open()
    except (FFmpegError, ValueError):
        return False
    return True
