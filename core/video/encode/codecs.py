"""Which video files can be written: tables of codecs and containers, and the choice among them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from ...clip import ClipError
from ..decode.demux import file_url


@dataclass(frozen=True)
class Codec:
    """One row of the table of codecs: which encoder writes it, and with what when nobody says otherwise."""

    encoder: str
    pixel_format: str
    alpha_format: str | None = None  # the pixel format that keeps alpha, where there is one
    crf: int | None = None  # constant quality: lower is better and larger; None where the codec has no such scale
    max_crf: int = 51  # the other end of crf; 0 is the best
    preset: str | None = None
    options: dict[str, str] = field(default_factory=dict)


# To add a codec: a row here, and its name in the containers that can hold it.
CODECS = {
    "h264": Codec("libx264", "yuv420p", crf=16, preset="medium"),
    "hevc": Codec("libx265", "yuv420p", crf=18, preset="medium", options={"x265-params": "log-level=error"}),
    "av1": Codec("libsvtav1", "yuv420p10le", crf=24, max_crf=63, preset="8"),
    "vp9": Codec("libvpx-vp9", "yuv420p", "yuva420p", crf=20, max_crf=63, options={"row-mt": "1", "cpu-used": "2"}),
    "prores": Codec("prores_ks", "yuv422p10le", "yuva444p10le", options={"vendor": "apl0"}),
    "ffv1": Codec("ffv1", "bgr0", "bgra", options={"level": "3", "slices": "4", "slicecrc": "1"}),
}


@dataclass(frozen=True)
class Container:
    """What a file name's ending stands for. The first codec is the one used when nobody asks for another."""

    muxer: str
    codecs: tuple[str, ...]
    fallback_audio: str = "aac"  # for sound that the container cannot hold as it is
    options: dict[str, str] = field(default_factory=dict)


_MOV_OPTIONS = {"movflags": "+faststart+use_metadata_tags"}  # playable while it loads, and free-form names are kept
CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "hevc", "av1"), options=_MOV_OPTIONS),
    ".m4v": Container("mp4", ("h264", "hevc"), options=_MOV_OPTIONS),
    ".mov": Container("mov", ("h264", "hevc", "prores"), options=_MOV_OPTIONS),
    ".mkv": Container("matroska", tuple(CODECS), fallback_audio="libopus"),
    ".webm": Container("webm", ("vp9", "av1"), fallback_audio="libopus"),
}


@dataclass(frozen=True)
class Encoding:
    """How a video file is written. None means: what suits the file name's ending, the codec and the frames.

    codec: a key of CODECS. crf: constant quality, lower is better. preset: the encoder's own word for speed.
    pixel_format: FFmpeg's name; yuv420p plays everywhere.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pixel_format: str | None = None


def container_for(path: Path) -> Container:
    """What the file name's ending stands for."""
    if path.suffix.lower() not in CONTAINERS:
        raise ClipError(f"{path}: video files are written as {', '.join(CONTAINERS)}, not as '{path.suffix}'")
    return CONTAINERS[path.suffix.lower()]


def open_output(path: Path, container: Container) -> OutputContainer:
    """The file, open for writing; nothing is in it yet. Raises what PyAV raises."""
    return av.open(file_url(path), "w", format=container.muxer, container_options=container.options)


def codec_for(path: Path, container: Container, encoding: Encoding) -> Codec:
    """The codec that was asked for, or the container's first, if it fits. Raises ClipError."""
    name = encoding.codec or container.codecs[0]
    if name not in container.codecs:
        homes = [suffix for suffix, c in CONTAINERS.items() if name in c.codecs]
        known = f"write {' or '.join(homes)} instead" if homes else f"the codecs are {', '.join(CODECS)}"
        raise ClipError(f"{path}: {path.suffix} holds {', '.join(container.codecs)}, not {name}; {known}")
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
        os.environ.setdefault("SVT_LOG", "1")  # errors alone; it writes a page about itself past everybody's log
    if encoding.preset is not None and codec.preset is not None and not _has_preset(name, encoding.preset):
        raise ClipError(f"{path}: {codec.encoder} has no preset '{encoding.preset}'; the usual one is {codec.preset}")
    return codec


def check_pixel_format(path: Path, codec: Codec, pixel_format: str) -> None:
    """Raises ClipError for a pixel format that the encoder does not take."""
    formats = [f.name for f in av.Codec(codec.encoder, "w").video_formats or []]
    if pixel_format not in formats:
        raise ClipError(f"{path}: {codec.encoder} does not write {pixel_format}; it writes {', '.join(formats)}")


@lru_cache(maxsize=16)
def _has_preset(name: str, preset: str) -> bool:
    """Only the encoder knows its words, and says so when it is opened."""
    codec = CODECS[name]
    trial = cast(VideoCodecContext, av.CodecContext.create(codec.encoder, "w"))
    trial.width, trial.height, trial.pix_fmt, trial.time_base = 64, 64, codec.pixel_format, Fraction(1, 24)
    trial.options = {**codec.options, "preset": preset}
    try:
        trial.open()
    except (FFmpegError, ValueError):
        return False
    return True
