"""Decode with the video decoder of a GPU, or in software where that does not work.

The result does not depend on it: H.264, HEVC, VP8, VP9 and AV1 are defined bit-exactly, frames are converted to the
pixel format of the software decoder without loss, and a device is only used for a clip whose first frame it decodes to
the same samples as the software decoder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ...clip import ClipError
from .corruption import decode_checked
from .corruption_report import CorruptionReport, OnDamage
from .packets import demux
from .semi_planar import SEMI_PLANAR, has_same_samples, to_planar

log = logging.getLogger(__name__)

HWACCELS = (
    "none", "auto", "cuda", "vaapi", "qsv", "vulkan", "videotoolbox", "d3d11va", "d3d12va", "dxva2"
)  # fmt: skip
"""Software only, the first device that works, or FFmpeg's name of one kind of device."""
_DEVICES_BY_PLATFORM = {
    "linux": ("cuda", "vaapi", "qsv"),
    "win32": ("cuda", "d3d11va", "qsv", "dxva2"),
    "darwin": ("videotoolbox",),
}
# By software decoder: FFmpeg's own decoder of that codec, which has the hardware configurations. Codecs whose result is
# not defined bit-exactly, such as MPEG-2, are absent.
_DECODERS = {"h264": "h264", "hevc": "hevc", "vp8": "vp8", "vp9": "vp9", "av1": "av1", "libdav1d": "av1"}
_SEPARATE_DECODERS = ("qsv",)  # devices that have decoders of their own, such as h264_qsv


class HardwareError(Exception):
    """A device cannot decode a stream. The message is the reason."""


@dataclass(frozen=True)
class HardwareDecoding:
    """A device that decodes a clip, and the frame format of its software decoder.

    pixel_format, width, height: of the frames, the same with both decoders.
    """

    device: str
    pixel_format: str
    width: int
    height: int

    def make_decoder(self, stream: VideoStream) -> HardwareDecoder:
        """Open the decoder. Raises HardwareError."""
        return HardwareDecoder(stream, self)


class HardwareDecoder:
    """A decoder on a device, whose frames are those of the software decoder.

    Raises HardwareError for everything that a software decoder might handle differently, corrupt frames too.
    """

    def __init__(self, stream: VideoStream, decoding: HardwareDecoding) -> None:
        self._decoding, self._reformatter = decoding, VideoReformatter()
        self._context = _explain(lambda: _open_context(stream, decoding.device))
        if not self._context.is_hwaccel:  # PyAV falls back silently if FFmpeg lacks the combination
            raise HardwareError(f"this build of FFmpeg cannot decode {stream.codec_context.codec.name} with it")

    def decode(self, packet: Packet[Any], /) -> list[VideoFrame]:
        frames = _explain(lambda: self._context.decode(packet))
        return [self._convert(frame) for frame in frames]

    def _convert(self, frame: VideoFrame) -> VideoFrame:
        expected, found = self._decoding, frame.format.name
        if frame.is_corrupt:
            raise HardwareError("a frame is corrupt")
        if (frame.width, frame.height) != (expected.width, expected.height):
            raise HardwareError(
                f"a frame is {frame.width}x{frame.height} instead of {expected.width}x{expected.height}"
            )
        if found == expected.pixel_format:
            return frame
        if found != SEMI_PLANAR.get(expected.pixel_format):
            raise HardwareError(f"its frames are {found}, which is not converted to {expected.pixel_format}")
        return to_planar(frame, self._reformatter, expected.pixel_format)


def check_hwaccel(name: str) -> str:
    """Return the name of a kind of device. Raises ClipError for an unknown one."""
    if name not in HWACCELS:
        raise ClipError(f"hwaccel '{name}' is unknown; choose one of {', '.join(HWACCELS)}")
    return name


def select_device(path: Path, hwaccel: str, first: VideoFrame, max_pixels: int) -> HardwareDecoding | None:
    """Return the first device that decodes a file like the software decoder.

    None where `hwaccel` is "none" or no device does; then the reason is logged. first: the first frame, decoded in
    software.
    """
    if hwaccel == "none":
        return None
    reasons: list[str] = []
    for device in _candidate_devices() if hwaccel == "auto" else (hwaccel,):
        decoding = HardwareDecoding(device, first.format.name, first.width, first.height)
        try:
            _check_first_frame(path, decoding, first, max_pixels)
        except Exception as e:  # PyAV and drivers raise errors of many types; software decoding can do without them
            reasons.append(f"{device}: {e}")
        else:
            log.info("%s: is decoded with %s", path, device)
            return decoding
    # Without a GPU, "auto" means software; the log is for those who look for the reason.
    level = logging.INFO if hwaccel == "auto" else logging.WARNING
    log.log(level, "%s: is decoded in software (%s)", path, "; ".join(reasons) or "no device is known for this system")
    return None


def _candidate_devices() -> tuple[str, ...]:
    return _DEVICES_BY_PLATFORM.get(sys.platform, ("vaapi", "vulkan"))


def _check_first_frame(path: Path, decoding: HardwareDecoding, first: VideoFrame, max_pixels: int) -> None:
    """Raise an error unless the device decodes the first frame to the same samples."""
    if decoding.device not in hwdevices_available():
        raise HardwareError("this build of FFmpeg does not support it")
    if decoding.pixel_format not in SEMI_PLANAR:
        raise HardwareError(f"frames of the format {decoding.pixel_format} are decoded in software only")
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, max_pixels)
        if stream.codec_context.codec.name not in _DECODERS:
            raise HardwareError(f"{stream.codec_context.codec.name} is decoded in software only")
        frames = decode_checked(
            path, container, stream, OnDamage.FAIL, CorruptionReport(), make_decoder=decoding.make_decoder
        )
        with closing(frames):
            found = next(frames, None)
    if found is None or not has_same_samples(found, first):
        raise HardwareError("its first frame is not that of the software decoder")


def _open_context(stream: VideoStream, device: str) -> VideoCodecContext:
    software = stream.codec_context
    name = _DECODERS[software.codec.name]
    if device in _SEPARATE_DECODERS:
        name = f"{name}_{device}"
    accel = HWAccel(device, allow_software_fallback=False)
    create = cast(Callable[..., VideoCodecContext], av.CodecContext.create)
    context = create(name, "r", hwaccel=accel)
    # What the container states about the stream, and how the software decoder is configured.
    context.extradata, context.options = software.extradata, dict(software.options)
    context.width, context.height = software.width, software.height
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc", "sample_aspect_ratio", "reorder_depth"):
        if (value := getattr(software, tag, None)) is not None:
            setattr(context, tag, value)
    context.thread_type = "SLICE"  # the device decodes; frame threads would hold more of its memory
    return context


def _explain(action: Callable[[], Any]) -> Any:
    """Return the result of an action; raise its error as HardwareError."""
    try:
        return action()
    except Exception as e:  # as in `select_device`
        raise HardwareError(demux.error_message(e)) from e
