"""Table of the hardware encoders of GPUs, and the choice of an encoder.

Codec, quality, preset and pixel format mean the same for every encoder: they are the settings of the software encoder,
translated for the hardware encoder. So the software encoder can always take its place.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ...clip import ClipError
from ...runtime.typed_av import encode_video
from ..decode.packets.demux import error_message
from ..decode.semi_planar import SEMI_PLANAR
from .codecs import SVT_AV1_PRESETS, X264_PRESETS, Codec, Encoding
from .encoder_options import EncoderSetup, check_software_size, software_setup

log = logging.getLogger(__name__)

_QP2LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA: the unit of global_quality where the flag qscale is set
_KEY_FRAME_INTERVAL = {"g": "250"}  # as x264; by default these encoders use 12, or no limit


@dataclass(frozen=True)
class HardwareEncoder:
    """One hardware encoder, and how it is configured.

    encoder: FFmpeg's name. quality_options: options that take the constant quality, a whole number from `best` to
    `worst`, at least `minimum` and times `unit`. options: for every file. presets: options for seven presets, the
    fastest first.
    """

    encoder: str
    quality_options: tuple[str, ...]
    worst: int
    presets: tuple[Mapping[str, str], ...]
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    best: int = 0
    minimum: int = 1
    unit: int = 1

    def quality(self, crf: int, max_crf: int) -> dict[str, str]:
        """Return the options for a constant rate factor between 0 and `max_crf`."""
        level = max(self.minimum, round(self.best + crf / max_crf * (self.worst - self.best)))
        return dict.fromkeys(self.quality_options, str(level * self.unit))


def _presets(option: str, *values: str) -> tuple[Mapping[str, str], ...]:
    return tuple({option: value} for value in values)


_NVENC_PRESETS = _presets("preset", "p1", "p2", "p3", "p4", "p5", "p6", "p7")
_QSV_PRESETS = _presets("preset", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_AMF_PRESETS = _presets("quality", "speed", "speed", "balanced", "balanced", "balanced", "quality", "quality")
_VIDEOTOOLBOX_PRESETS: tuple[Mapping[str, str], ...] = ({"prio_speed": "1"}, {"prio_speed": "1"}, {}, {}, {}, {}, {})

_NVENC_OPTIONS = {"rc": "vbr", "b": "0"}  # without a bit rate of 0, the quality is limited by the default of 2 Mbit/s
_AMF_OPTIONS = {"rc": "cqp"}
_VIDEOTOOLBOX_OPTIONS = {"flags": "+qscale"}


def _nvenc(codec: str, worst: int) -> HardwareEncoder:
    return HardwareEncoder(f"{codec}_nvenc", ("cq",), worst, _NVENC_PRESETS, _NVENC_OPTIONS)  # a cq of 0 is "automatic"


def _qsv(codec: str) -> HardwareEncoder:
    return HardwareEncoder(f"{codec}_qsv", ("global_quality",), 51, _QSV_PRESETS)  # a quality of 0 is "not set"


def _amf(codec: str, worst: int, *options: str) -> HardwareEncoder:
    return HardwareEncoder(f"{codec}_amf", options, worst, _AMF_PRESETS, _AMF_OPTIONS, minimum=0)


def _videotoolbox(codec: str) -> HardwareEncoder:
    """A quality of 100 is the best."""
    return HardwareEncoder(
        f"{codec}_videotoolbox",
        ("global_quality",),
        0,
        _VIDEOTOOLBOX_PRESETS,
        _VIDEOTOOLBOX_OPTIONS,
        best=100,
        unit=_QP2LAMBDA,
    )


# By codec and family. To add an encoder: a row here, and a new family in `ENCODERS` too.
HARDWARE_ENCODERS: dict[tuple[str, str], HardwareEncoder] = {
    ("h264", "nvenc"): _nvenc("h264", 51),
    ("hevc", "nvenc"): _nvenc("hevc", 51),
    ("av1", "nvenc"): _nvenc("av1", 63),
    ("h264", "qsv"): _qsv("h264"),
    ("hevc", "qsv"): _qsv("hevc"),
    ("av1", "qsv"): _qsv("av1"),
    ("h264", "amf"): _amf("h264", 51, "qp_i", "qp_p", "qp_b"),
    ("hevc", "amf"): _amf("hevc", 51, "qp_i", "qp_p"),
    ("av1", "amf"): _amf("av1", 255, "qp_i", "qp_p", "qp_b"),
    ("h264", "videotoolbox"): _videotoolbox("h264"),
    ("hevc", "videotoolbox"): _videotoolbox("hevc"),
}
_FAMILIES_BY_PLATFORM = {
    "linux": ("nvenc", "qsv", "amf"),
    "win32": ("nvenc", "amf", "qsv"),
    "darwin": ("videotoolbox",),
}

# Presets of the software encoders -> index of `HardwareEncoder.presets`.
_X264_PRESETS = dict(zip(X264_PRESETS, (0, 0, 1, 2, 2, 3, 4, 5, 6, 6), strict=True))
_SVT_AV1_PRESETS = dict(zip(SVT_AV1_PRESETS, (6, 6, 6, 5, 5, 4, 3, 3, 3, 2, 2, 1, 0, 0), strict=True))
_PRESET_INDEX = {"h264": _X264_PRESETS, "hevc": _X264_PRESETS, "av1": _SVT_AV1_PRESETS}


class _UnavailableError(Exception):
    """An encoder cannot be used. The message is the reason."""


def choose_encoder(
    path: Path, codec_name: str, codec: Codec, encoding: Encoding, pixel_format: str, size: tuple[int, int]
) -> EncoderSetup:
    """Return the requested encoder or, where it does not work, the software one.

    A hardware encoder works if it encodes a blank frame; the reason why it does not is logged. codec: the entry of
    `codec_name` in CODECS. pixel_format, size: of the file.
    Raises ClipError for a preset that hardware encoders do not have, and where `encoding.encoder` is the name of one
    encoder, which has no replacement.
    """
    software = software_setup(codec, encoding, pixel_format, size)
    if encoding.encoder == "software":
        check_software_size(path, codec, size)
        return software
    reasons: list[str] = []
    for name, row in _candidates(codec_name, encoding.encoder):
        try:
            if row is None:
                raise _UnavailableError(f"there is none for {codec_name}")
            setup = _hardware_setup(path, codec_name, codec, encoding, pixel_format, size, row)
            _encode_blank_frame(setup, size)
        except _UnavailableError as e:
            reasons.append(f"{name}: {e}")
        else:
            log.info("%s: is encoded with %s", path, setup.name)
            return setup
    reason = "; ".join(reasons) or "no hardware encoder is known for this system"
    if encoding.encoder not in (*_families(), "auto"):
        raise ClipError(f"{path}: {reason}; run again where this encoder works, or choose another encoder")
    check_software_size(path, codec, size)
    # Without a GPU, "auto" means software; the log is for those who look for the reason.
    level = logging.INFO if encoding.encoder == "auto" else logging.WARNING
    log.log(level, "%s: is encoded with %s (%s)", path, software.name, reason)
    return software


def _families() -> set[str]:
    return {family for _, family in HARDWARE_ENCODERS}


def _candidates(codec_name: str, requested: str) -> list[tuple[str, HardwareEncoder | None]]:
    """Return (name for messages, row or None) of the encoders to try."""
    families = (requested,)
    if requested == "auto":
        families = _FAMILIES_BY_PLATFORM.get(sys.platform, ())
    elif requested not in _families():
        rows = [row for (codec, _), row in HARDWARE_ENCODERS.items() if (codec, row.encoder) == (codec_name, requested)]
        return [(requested, rows[0] if rows else None)]
    rows = [(family, HARDWARE_ENCODERS.get((codec_name, family))) for family in families]
    return [(row.encoder if row else family, row) for family, row in rows]


def _hardware_setup(
    path: Path,
    codec_name: str,
    codec: Codec,
    encoding: Encoding,
    pixel_format: str,
    size: tuple[int, int],
    row: HardwareEncoder,
) -> EncoderSetup:
    # Some list planar formats too, and copy them into semi-planar ones; all take those.
    formats = _input_formats(row.encoder)
    accepted = [f for f in (SEMI_PLANAR.get(pixel_format), pixel_format) if f in formats]
    if not accepted:
        raise _UnavailableError(f"it does not write {pixel_format}")
    crf = encoding.crf if encoding.crf is not None else codec.crf
    preset = encoding.preset or codec.preset
    assert crf is not None, "each codec of HARDWARE_ENCODERS has a crf"
    assert preset is not None, "each codec of HARDWARE_ENCODERS has presets"
    if preset not in _PRESET_INDEX[codec_name]:
        known = ", ".join(_PRESET_INDEX[codec_name])
        raise ClipError(f"{path}: {row.encoder} has no preset '{preset}'; choose one of {known} (--preset)")
    options = {
        **_KEY_FRAME_INTERVAL,
        **row.options,
        **row.quality(crf, codec.max_crf),
        **row.presets[_PRESET_INDEX[codec_name][preset]],
    }
    return EncoderSetup(row.encoder, accepted[0], options, is_hardware=True)


def _input_formats(encoder: str) -> list[str]:
    if encoder not in av.codecs_available:
        raise _UnavailableError("this build of FFmpeg does not have it")
    return [f.name for f in av.Codec(encoder, "w").video_formats or []]


def _encode_blank_frame(setup: EncoderSetup, size: tuple[int, int]) -> None:
    """Raise _UnavailableError unless the encoder can be opened and returns a packet."""
    try:
        context = cast(VideoCodecContext, av.CodecContext.create(setup.name, "w"))
        context.width, context.height = size
        context.pix_fmt, context.framerate, context.time_base = setup.pixel_format, Fraction(24), Fraction(1, 24)
        context.options = dict(setup.options)
        frame = VideoFrame(*size, setup.pixel_format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        has_packet = bool([*encode_video(context, frame), *encode_video(context, None)])
    except Exception as e:  # PyAV and drivers raise errors of many types; the software encoder can do without them
        raise _UnavailableError(f"it cannot be opened for {size[0]}x{size[1]}: {error_message(e)}") from e
    if not has_packet:
        raise _UnavailableError("it returns no data")
