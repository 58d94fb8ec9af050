"""Open media files and read their packets and frames.

A video file is untrusted input for native code, so `open_media` lists the formats, decoders and protocols that it
accepts; without that list FFmpeg follows a text file named .mp4 to any other file on the machine.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ....clip import ClipError

log = logging.getLogger(__name__)

VIDEO_FORMATS = "mov,mp4,m4a,3gp,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,gif,apng,h264,hevc,obu,m4v,dv"
IMAGE_FORMATS = "png_pipe,tiff_pipe,apng"
VIDEO_DECODERS = (
    "h264,hevc,vvc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4,msmpeg4v2,msmpeg4v1,h263,"
    "flv,wmv1,wmv2,wmv3,vc1,theora,mjpeg,prores,dnxhd,cfhd,ffv1,ffvhuff,huffyuv,utvideo,qtrle,dvvideo,rawvideo,v210,"
    "gif,apng,png,tiff,webp"
)
AUDIO_SUBTITLE_DECODERS = (  # probing a file may decode some audio to find its layout
    "aac,aac_latm,mp1float,mp2,mp2float,mp3,mp3float,ac3,eac3,dca,truehd,mlp,alac,flac,opus,libopus,vorbis,wmav1,wmav2,"
    "wmapro,amrnb,amrwb,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8,"
    "pcm_s8,pcm_mulaw,pcm_alaw,pcm_bluray,pcm_dvd,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,srt,subrip,ass,ssa,webvtt,mov_text,"
    "pgssub,dvdsub,dvbsub,text"
)
# An 8K frame has 35 million pixels, and one float32 copy takes 425 MB. A 200 KB file can claim far more than that.
MAX_PIXELS = 50_000_000
NO_PIXEL_LIMIT = 2**31 - 1
_MAX_PACKET_SECONDS = 3600
MAX_CONSECUTIVE_ERRORS = 32  # demuxer errors in a row after which the file counts as ended


@contextmanager
def open_media(path: str | os.PathLike[str], *, content: bytes | None = None) -> Generator[InputContainer, None, None]:
    """Open the container at `path`, or the image in `content`.

    With `content`, `path` is used in messages only. Raises ClipError where it cannot be read.
    """
    is_image = content is not None
    if content is None:
        file = Path(path)
        if not file.exists():
            raise ClipError(f"{path}: there is no such file")
        if not file.is_file():
            raise ClipError(f"{path}: not a file")
        if file.stat().st_size == 0:
            raise ClipError(f"{path}: the file has 0 bytes; copy or export it again")
    options = {
        "format_whitelist": IMAGE_FORMATS if is_image else VIDEO_FORMATS,
        "codec_whitelist": f"{VIDEO_DECODERS},{AUDIO_SUBTITLE_DECODERS}",
    }
    if not is_image:
        options["protocol_whitelist"] = "file"
    try:
        source = io.BytesIO(content) if content is not None else file_url(path)
        container = av.open(source, "r", options=options, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as e:
        kind = "image" if is_image else "video"
        raise ClipError(
            f"{path}: cannot be read as {kind} ({error_message(e)}); "
            f"it is truncated, in an unsupported format, or not a {kind} at all"
        ) from e
    with container:
        yield container


def file_url(path: str | os.PathLike[str]) -> str:
    """Return the FFmpeg URL of a path.

    FFmpeg would parse what precedes a colon in a plain path as a protocol.
    """
    return f"file:{os.fspath(path)}"


def error_message(error: BaseException) -> str:
    """Return the message of FFmpeg or the system, without the file name that it adds.

    It ends with the line that FFmpeg logged for the error, where PyAV has it.
    """
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # Level, component and line; PyAV's annotation is another one.
    logged = cast("tuple[int, str, str] | None", error.log) if isinstance(error, FFmpegError) else None
    return f"{message} ({logged[2].strip()})" if logged else message


def video_stream(container: InputContainer, path: object, max_pixels: int) -> VideoStream:
    """Return the video stream that players choose; every reader calls this.

    It is the stream flagged as default or, with none or several such, the largest of them, but never cover art. The
    choice among several is logged once per file. Its decoder and size are checked against VIDEO_DECODERS and
    `max_pixels`. Raises ClipError.
    """
    cover_art = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & cover_art]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise ClipError(f"{path}: the file has no video stream, only {kinds}")
    known = [s for s in streams if s.codec_context is not None]  # pyright: ignore[reportUnnecessaryComparison]  # None for an unknown codec
    if not known:
        raise ClipError(f"{path}: there is no decoder for its video; convert it to H.264, HEVC, VP9 or AV1 first")
    flagged = [s for s in known if s.disposition & Disposition.default] or known
    stream = max(flagged, key=lambda s: s.width * s.height)
    if len(streams) > 1:
        _log_choice(str(path).removeprefix("file:"), len(streams), stream.index, stream.width, stream.height)
    codec = stream.codec_context
    if codec.codec.name not in VIDEO_DECODERS.split(","):
        raise ClipError(
            f"{path}: the codec {codec.codec.name} is not supported; convert the file to H.264, HEVC, VP9 or AV1 first"
        )
    if stream.width * stream.height > max_pixels:
        raise ClipError(
            f"{path}: frames of {stream.width}x{stream.height} exceed the limit of {max_pixels:,} pixels; "
            "raise max_pixels (--max-pixels) if you trust this file and have the memory"
        )
    # The decoder enforces the limit where a frame is larger than the header says.
    codec.options = {"max_pixels": str(max_pixels)}
    codec.thread_type = "AUTO"
    return stream


@lru_cache(maxsize=64)
def _log_choice(path: str, count: int, index: int, width: int, height: int) -> None:
    """Log a choice among several tracks; the cache makes that once per file."""
    log.warning(
        "%s: it has %d video tracks; track %d (%dx%d) is read, and the others are left out", path, count, index, width,
        height,
    )  # fmt: skip


class DecodeObserver(Protocol):
    """Receives each packet before it is decoded, and each error."""

    def on_packet(self, packet: Packet[Any]) -> None: ...

    def on_error(self, error: FFmpegError) -> None:
        """Handle an error of the demuxer or decoder; raise to stop."""
        ...


class IgnoreDecodeErrors:
    """A `DecodeObserver` that continues after every error.

    For readers that need no pixels.
    """

    def on_packet(self, packet: Packet[Any]) -> None:
        pass

    def on_error(self, error: FFmpegError) -> None:
        pass


def demux_packets(
    container: InputContainer, *streams: Stream, observer: DecodeObserver | None = None
) -> Iterator[Packet[Any]]:
    """Yield all packets of the streams, and an empty one at the end of each.

    observer: receives demuxer errors, after which reading continues; None raises the first one.
    """
    errors = 0
    while True:
        try:
            for packet in container.demux(*streams):
                errors = 0
                yield packet
            return
        except FFmpegError as e:
            errors += 1
            if observer is None or errors > MAX_CONSECUTIVE_ERRORS:
                raise
            observer.on_error(e)


def sized_packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Yield the packets of the streams that have data, as far as they can be read."""
    with suppress(FFmpegError):
        yield from (p for p in demux_packets(container, *streams, observer=IgnoreDecodeErrors()) if p.size)


def packet_duration(packet: Packet[Any]) -> int:
    """Return the duration of an audio packet; 0 where it is unknown or invalid.

    The unit is the packet's time base. FFmpeg's Ogg demuxer reports almost 2^32 for a last packet that is trimmed by
    more than it holds.
    """
    duration = packet.duration or 0
    return duration if 0 <= duration * packet.time_base < _MAX_PACKET_SECONDS else 0


def is_edit_list_skipped(packet: Packet[Any]) -> bool:
    """Whether an audio packet is not played because the edit list skips it.

    It ends before the moment at which the edit list starts.
    """
    return packet.is_discard and packet.pts is not None and packet.pts + packet_duration(packet) <= 0


class Decoder(Protocol):
    """A decoder of video packets, such as a codec context of PyAV."""

    def decode(self, packet: Packet[Any], /) -> list[VideoFrame]: ...


def software_decoder(stream: VideoStream) -> Decoder:
    """Return the decoder of the stream; for VP8 and VP9 with alpha that of libvpx.

    FFmpeg's native VP8 and VP9 decoders drop the alpha plane.
    """
    if stream.metadata.get("alpha_mode") != "1" or stream.codec_context.codec.name not in ("vp8", "vp9"):
        return stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[stream.codec_context.codec.name]
    decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    decoder.extradata = stream.codec_context.extradata
    decoder.options = stream.codec_context.options
    return decoder


def decode_frames(
    container: InputContainer,
    stream: VideoStream,
    observer: DecodeObserver | None = None,
    make_decoder: Callable[[VideoStream], Decoder] = software_decoder,
    is_last: Callable[[Packet[Any]], bool] | None = None,
) -> Iterator[VideoFrame]:
    """Yield all frames of `stream` in presentation order.

    make_decoder: called once, when the first frame is requested. is_last: whether a packet is the last one to decode.
    Raises what PyAV raises, unless an `observer` is given, which receives the errors.
    """
    decoder = make_decoder(stream)
    packets = demux_packets(container, stream, observer=observer)
    for packet in packets if is_last is None else _until(packets, is_last):
        if observer:
            observer.on_packet(packet)
        try:
            frames = decoder.decode(packet)
        except FFmpegError as e:
            if observer is None:
                raise
            observer.on_error(e)
            continue
        yield from frames


def _until(packets: Iterator[Packet[Any]], is_last: Callable[[Packet[Any]], bool]) -> Iterator[Packet[Any]]:
    """Yield packets up to the last one, then an empty one, which flushes the decoder."""
    for packet in packets:
        is_end = bool(packet.size) and is_last(packet)  # before the decoder changes its timestamp
        yield packet
        if is_end:
            yield Packet()
            return
