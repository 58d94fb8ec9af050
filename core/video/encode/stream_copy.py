"""Copy audio, subtitles, chapters and metadata from a source to an output file."""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from ...clip import ClipError
from ...runtime.typed_av import add_audio_stream, add_stream_from_template, encode_audio, mux
from ..decode.packets.demux import (
    NO_PIXEL_LIMIT,
    IgnoreDecodeErrors,
    demux_packets,
    error_message,
    is_edit_list_skipped,
    open_media,
    packet_duration,
    video_stream,
)
from ..decode.packets.joins import Shifts
from .track_language import stored_language

if TYPE_CHECKING:
    from av.container.core import Chapter

log = logging.getLogger(__name__)

# Metadata of the old file that would be wrong in the new one; the muxer writes its own.
_DROPPED_METADATA = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "rotate",
}
# The layouts of Opus, also assumed for channels without a layout.
CHANNEL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_PCM_SAMPLE_BYTES = 24  # of each channel: whole samples of 1, 2, 3, 4 and 8 bytes
_MUXERS_WITHOUT_EDIT_LISTS = ("matroska", "webm")
_STREAM_METADATA_KEYS = ("language", "title", "handler_name")


def list_audio_tracks(path: Path) -> list[dict[str, str | int | None]]:
    """Return codec, sample rate, channels and language of each audio track of a file."""
    with open_media(path) as container:
        return [
            {"codec": s.codec_context.name, "rate": s.rate, "channels": s.channels, "language": s.language}
            for s in container.streams.audio
            if s.codec_context is not None  # pyright: ignore[reportUnnecessaryComparison]  # None for an unknown codec
        ]


def warn_dropped_audio(target: Path, source: Path) -> None:
    """Log that images do not keep the audio of a video."""
    count = len(list_audio_tracks(source))
    if count:
        tracks, pronoun = ("1 audio track is", "it") if count == 1 else (f"{count} audio tracks are", "them")
        log.warning("%s: %s not kept in images; write a video file to keep %s", target, tracks, pronoun)


class StreamCopier:
    """Copies the audio and subtitle packets of a source, with its timestamps.

    origin: seconds of the source's clock that are 0 in the new file. trim_duration: seconds of the new file to which
    they are trimmed; None copies all. An audio packet is copied if it starts within; a subtitle that is visible at the
    start is shortened. shifts: of the parts of joined recordings. keep_skipped: whether audio is copied that an edit
    list skips, even where the new file has no edit list, so that it would be played. Create it before the first packet
    is muxed; call `mux_until` as the video advances, so that the muxer buffers little audio, and `finish` at the end.
    """

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        fallback_audio: str,
        origin: Fraction,
        trim_duration: Fraction | float | None = None,
        *,
        shifts: Shifts | None = None,
        keep_skipped: bool = False,
    ) -> None:
        self._keep_skipped = keep_skipped or target.format.name not in _MUXERS_WITHOUT_EDIT_LISTS
        self._source_name = source.name.removeprefix("file:")
        self._target, self._origin, self._trim_duration = target, origin, trim_duration
        self._shifts = {index: deque(rows) for index, rows in (shifts or {}).items()}
        self._packet_counts: dict[int, int] = {}
        self._shift: dict[int, Fraction] = {}
        self._last_dts: dict[int, int] = {}
        self._outputs: dict[int, Stream | _Transcoder] = {}
        for stream in source.streams:
            output = _add_output_stream(stream, target, fallback_audio)
            if output is not None:
                self._outputs[stream.index] = output
        copy_metadata(source.metadata, target)
        _copy_chapters(source, target, origin, trim_duration)
        if source.streams.video:
            copy_video_metadata(video_stream(source, source.name, NO_PIXEL_LIMIT).metadata, target)
        streams = [source.streams[i] for i in self._outputs]
        self._packets: Iterator[Packet[Any]] = (
            demux_packets(source, *streams, observer=IgnoreDecodeErrors()) if streams else iter(())
        )
        self._pending: Packet[Any] | None = None

    def mux_until(self, seconds: Fraction | float) -> None:
        """Mux the packets up to that moment of the new file's clock."""
        while (packet := self._next_packet()) is not None:
            if packet.dts is not None and packet.dts * packet.time_base > seconds:
                self._pending = packet
                return
            output = self._outputs[packet.stream.index]
            with _wrap_mux_errors(packet, self._source_name):
                if isinstance(output, _Transcoder):
                    mux(self._target, *output.transcode(packet))
                elif packet.size:  # an empty packet flushes an encoder; a stream copy has nothing to flush
                    packet.stream = output
                    mux(self._target, packet)

    def finish(self) -> None:
        self.mux_until(float("inf"))

    def _next_packet(self) -> Packet[Any] | None:
        packet, self._pending = self._pending, None
        while packet is None:
            with suppress(FFmpegError):  # the rest of the file cannot be read
                packet = next(self._packets, None)
            if packet is None:
                return None
            if packet.size:
                self._shift_timestamps(packet)
            if packet.stream.type == "audio":
                packet.duration = packet_duration(packet)
            if packet.size and not self._should_copy(packet):
                packet = None
        return packet

    def _shift_timestamps(self, packet: Packet[Any]) -> None:
        """Set the timestamps of the new file, whose decoding timestamps must ascend."""
        index = packet.stream_index
        number = self._packet_counts.get(index, 0)
        self._packet_counts[index] = number + 1
        rows = self._shifts.get(index)
        while rows and rows[0][0] <= number:
            self._shift[index] = rows.popleft()[1]
        shift = round((self._shift.get(index, Fraction(0)) - self._origin) / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        last = self._last_dts.get(index)
        if packet.stream.type == "audio" and packet.dts is not None:
            if last is not None and packet.dts <= last:  # rounding, or packets that overlap
                packet.dts = last + 1
                packet.pts = max(packet.dts, packet.pts if packet.pts is not None else packet.dts)
            self._last_dts[index] = packet.dts

    def _should_copy(self, packet: Packet[Any]) -> bool:
        if self._trim_duration is not None and not _trim_packet(packet, self._trim_duration):
            return False
        return self._keep_skipped or packet.stream.type != "audio" or not is_edit_list_skipped(packet)


@contextmanager
def _wrap_mux_errors(packet: Packet[Any], source_name: str) -> Generator[None, None, None]:
    """Name file and track in errors, so that they are not taken for video errors."""
    track = f"{packet.stream.type} track {packet.stream_index}"
    moment = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.3f} s"
    try:
        yield
    except (FFmpegError, OSError, ValueError) as e:
        advice = "check the disk, or convert that track first"
        raise ClipError(f"{source_name}: {track} cannot be copied{moment}: {error_message(e)}; {advice}") from e


def _trim_packet(packet: Packet[Any], trim_duration: Fraction | float) -> bool:
    """Whether a packet is kept; a subtitle that starts before 0 is shortened."""
    if packet.pts is None or packet.pts * packet.time_base >= trim_duration:
        return False
    if packet.pts < 0 and packet.stream.type == "subtitle" and packet.pts + (packet.duration or 0) > 0:
        packet.duration = (packet.duration or 0) + packet.pts
        packet.pts = packet.dts = 0
    return packet.pts >= 0


class _Transcoder:
    """Re-encodes an audio track that the container cannot hold as it is.

    Raises ClipError for what cannot be decoded or encoded; for an encoder that refuses its settings, when it is
    created.
    """

    def __init__(self, stream: av.AudioStream, target: OutputContainer, codec: str) -> None:
        # Opus supports few sample rates; every encoder supports 48 kHz.
        rate = stream.rate if codec == "aac" and stream.rate in (44_100, 48_000) else 48_000
        channels = stream.layout.nb_channels
        layout = stream.layout.name
        if codec == "libopus" or _lacks_layout(stream):
            layout = CHANNEL_LAYOUTS.get(channels, layout)
        self._track_and_codec = f"audio track {stream.index} ({stream.codec_context.name})", codec
        with self._wrap_errors():
            self.stream = add_audio_stream(target, codec, rate, layout)
            self.stream.bit_rate = 96_000 * channels
            formats = self.stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")]
            self._resampler = av.AudioResampler(format=formats[0].name, layout=layout, rate=rate)
            self.stream.codec_context.open()

    def transcode(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Return packets for the new file; an empty packet flushes the encoder."""
        encoded: list[Packet[Any]] = []
        with self._wrap_errors():
            for frame in cast("list[av.AudioFrame]", packet.decode()):
                for resampled in self._resampler.resample(frame):
                    encoded += encode_audio(self.stream, resampled)
            if not packet.size:
                for resampled in self._resampler.resample(None):
                    encoded += encode_audio(self.stream, resampled)
                encoded += encode_audio(self.stream, None)
        return encoded

    @contextmanager
    def _wrap_errors(self) -> Generator[None, None, None]:
        """Name the audio track in errors, so that they are not taken for video errors."""
        try:
            yield
        except (FFmpegError, ValueError) as e:
            track, codec = self._track_and_codec
            raise ClipError(
                f"{track} cannot be re-encoded to {codec}: {error_message(e)}; convert that track first"
            ) from e


def _add_output_stream(stream: Stream, target: OutputContainer, fallback_audio: str) -> Stream | _Transcoder | None:
    """Add an output stream for the packets of `stream`; None where it is not copied."""
    kind = f"{stream.type} track {stream.index}"
    if stream.type not in ("audio", "subtitle"):
        if stream.type != "video":
            log.info("%s is not copied: only audio and subtitles are", kind)
        return None
    if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]  # None for an unknown codec
        log.warning("%s is not copied: its codec is unknown", kind)
        return None
    name = stream.codec_context.name
    try:
        _check_muxable(stream, target.format.name)
        output = _add_copy(target, stream)
    except (ValueError, FFmpegError):
        if stream.type == "subtitle":
            log.warning("%s (%s) is not copied: %s cannot hold it", kind, name, target.format.name)
            return None
        log.warning("%s: %s cannot hold %s, so it is re-encoded to %s", kind, target.format.name, name, fallback_audio)
        transcoder = _Transcoder(cast("av.AudioStream", stream), target, fallback_audio)
        _copy_stream_metadata(stream, transcoder.stream, target.format.name)
        return transcoder
    _copy_stream_metadata(stream, output, target.format.name)
    return output


def _check_muxable(stream: Stream, muxer: str) -> None:
    """Raise what the muxer raises where it cannot hold such a stream.

    Some report it only when the header is written: MOV for FLAC and Opus, MP4 for TrueHD. MP4 reports a channel layout
    that it cannot store with PCM only when the index is written, and only if there is a packet.
    """
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        output = _add_copy(container, stream)
        container.start_encoding()
        if isinstance(stream, av.AudioStream) and stream.codec_context.name.startswith("pcm_"):
            silence = Packet(bytes(_PCM_SAMPLE_BYTES * max(1, stream.channels)))
            silence.pts = silence.dts = 0
            silence.time_base, silence.stream = Fraction(1, stream.rate or 1), output
            mux(container, silence)


def _add_copy(target: OutputContainer, stream: Stream) -> Stream:
    """Add an output stream for the packets of `stream`.

    AVI and Matroska store no channel layout of PCM; it becomes the usual one of so many channels, as players assume.
    """
    output = add_stream_from_template(target, stream)
    if isinstance(stream, av.AudioStream) and isinstance(output, av.AudioStream) and _lacks_layout(stream):
        output.codec_context.layout = CHANNEL_LAYOUTS.get(stream.channels, stream.layout)
    return output


def _lacks_layout(stream: av.AudioStream) -> bool:
    return stream.layout.name == f"{stream.layout.nb_channels} channels"


def _copy_stream_metadata(stream: Stream, output: Stream, muxer: str) -> None:
    output.disposition = stream.disposition
    for key in _STREAM_METADATA_KEYS:
        if key in stream.metadata:
            value = stream.metadata[key]
            output.metadata[key] = stored_language(value, muxer) if key == "language" else value


def copy_video_metadata(metadata: Mapping[str, str], target: OutputContainer) -> None:
    """Copy language and title of the video track."""
    if not target.streams.video:
        return
    output = target.streams.video[0]
    if "language" in metadata:
        output.metadata["language"] = stored_language(metadata["language"], target.format.name)
    if title := metadata.get("title") or metadata.get("name"):  # MP4 and MOV call it name
        if output.metadata.get("title", title) != title:  # see `matroska_aspect`
            log.warning("the title of the video track is not kept beside its pixel aspect ratio: %s", title)
        else:
            output.metadata["title"] = title


def copy_metadata(metadata: Mapping[str, str], target: OutputContainer) -> None:
    """Copy the metadata of a file, without what describes the old file only."""
    target.metadata.update({k: v for k, v in metadata.items() if k.lower() not in _DROPPED_METADATA})


def _copy_chapters(
    source: InputContainer, target: OutputContainer, origin: Fraction, trim_duration: Fraction | float | None
) -> None:
    chapters = source.chapters()
    if trim_duration is not None:
        chapters = [c for chapter in chapters if (c := _trim_chapter(chapter, origin, trim_duration))]
    if chapters:
        target.set_chapters(chapters)


def _trim_chapter(chapter: Chapter, origin: Fraction, trim_duration: Fraction | float) -> Chapter | None:
    """Return the part of a chapter that is kept; None where nothing is."""
    time_base = Fraction(chapter["time_base"] or 1)
    start, end = (chapter[key] * time_base - origin for key in ("start", "end"))
    start, end = max(start, Fraction(0)), min(end, trim_duration)
    if start >= end:
        return None
    return {**chapter, "start": round(start / time_base), "end": round(end / time_base)}
