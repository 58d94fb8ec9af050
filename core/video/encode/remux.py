"""Remux a video file: change container, metadata or audio without decoding video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from ...clip import ClipError
from ...runtime.files.atomic_write import atomic_path
from ...runtime.typed_av import add_audio_stream, add_stream_from_template, encode_audio, mux
from ..decode.packets import demux
from .codecs import Container, open_output
from .logged_errors import logged_errors
from .matroska_aspect import reserve_display_size, write_display_size
from .stream_copy import CHANNEL_LAYOUTS, StreamCopier

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Audio samples. waveform: (C, S) float in [-1, 1], 1 to 8 channels; rate in Hz."""

    waveform: Tensor
    rate: int


def remux(
    source: str | Path,
    target: str | Path,
    *,
    container: Container,
    metadata: Mapping[str, str] | None = None,
    audio: AudioClip | None = None,
) -> None:
    """Copy the video file `source` to `target` without decoding the video.

    Audio is re-encoded only where `container` cannot hold it. metadata: entries to add or replace. audio: added as one
    more track, from the first frame on.
    `target` appears when it is complete. Raises ClipError for what cannot be read, held by the container, or written.
    """
    source, target = Path(source), Path(target)
    with atomic_path(target) as partial, demux.open_media(source) as video, demux.open_media(source) as other_streams:
        try:
            with logged_errors(), open_output(partial, container) as sink:
                stream = demux.video_stream(video, source, demux.NO_PIXEL_LIMIT)
                copy = add_stream_copy(stream, sink)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                has_reserved_size = reserve_display_size(copy, container, aspect)
                copier = StreamCopier(other_streams, sink, container.fallback_audio, Fraction(0), keep_skipped=True)
                sink.metadata.update(metadata or {})
                writer = _AudioWriter(sink, audio, container.fallback_audio) if audio is not None else None
                for packet in _fill_dts(video.demux(stream)):
                    now = (packet.dts or 0) * packet.time_base
                    copier.mux_until(now)
                    if writer:
                        writer.mux_until(now)
                    packet.stream = copy
                    mux(sink, packet)
                copier.finish()
                if writer:
                    writer.mux_until(float("inf"))
            if has_reserved_size:
                write_display_size(partial, aspect)
        except (FFmpegError, OSError, ValueError) as e:
            raise ClipError(
                f"{target}: copying {source.name} into {container.muxer} failed: {demux.error_message(e)}; "
                "choose another container, or check the disk"
            ) from e


def add_stream_copy(stream: VideoStream, sink: OutputContainer) -> VideoStream:
    """Add a stream to `sink` that takes the packets of `stream` unchanged."""
    copy = add_stream_from_template(sink, stream, opaque=True)  # or AV1 would need an encoder libdav1d
    if stream.codec_context.codec_tag == "hvc1":  # Apple's players do not open hev1
        copy.codec_context.codec_tag = "hvc1"
    copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
    if stream.metadata.get("alpha_mode") == "1":  # the muxer sets alpha_mode for a pixel format with alpha
        copy.codec_context.pix_fmt = "yuva420p"
    return copy


def _fill_dts(packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
    """Yield the packets with decoding timestamps.

    Matroska stores none, and FFmpeg does not estimate the first ones.
    """
    without_dts: list[Packet[Any]] = []
    for packet in packets:
        if packet.size == 0:  # the end of the stream
            continue
        without_dts.append(packet)
        if packet.dts is not None:
            yield from _assign_dts(without_dts, packet.dts)
            without_dts.clear()
    if without_dts:
        yield from _assign_dts(without_dts, min(packet.pts or 0 for packet in without_dts))


def _assign_dts(packets: list[Packet[Any]], last_dts: int) -> Iterator[Packet[Any]]:
    """Yield packets with decoding timestamps that end at `last_dts`."""
    for packets_left, packet in zip(range(len(packets) - 1, -1, -1), packets, strict=True):
        packet.dts = last_dts - packets_left * max(1, packet.duration or 0)
        yield packet


class _AudioWriter:
    """Encodes and muxes audio, a second at a time."""

    def __init__(self, sink: OutputContainer, audio: AudioClip, codec: str) -> None:
        channels = audio.waveform.shape[0]
        if channels not in CHANNEL_LAYOUTS:
            raise ClipError(
                f"audio of {channels} channels cannot be written; mix it down to 1 to {max(CHANNEL_LAYOUTS)} first"
            )
        self._sink, self._packets = sink, _encode_audio(sink, audio, codec, CHANNEL_LAYOUTS[channels])
        self._pending: Packet[Any] | None = None

    def mux_until(self, seconds: Fraction | float) -> None:
        """Mux the packets up to that moment."""
        while (packet := self._pending or next(self._packets, None)) is not None:
            if packet.dts is not None and packet.dts * packet.time_base > seconds:
                self._pending = packet
                return
            self._pending = None
            mux(self._sink, packet)


def _encode_audio(sink: OutputContainer, audio: AudioClip, codec: str, layout: str) -> Iterator[Packet[Any]]:
    rate = audio.rate if codec == "aac" and audio.rate in (44_100, 48_000) else 48_000
    # The stream must be added before the first packet is muxed, so not in the generator.
    stream = add_audio_stream(sink, codec, rate, layout)
    stream.bit_rate = 96_000 * audio.waveform.shape[0]
    formats = stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")]
    resampler = av.AudioResampler(format=formats[0].name, layout=layout, rate=rate)

    def packets() -> Iterator[Packet[Any]]:
        for start in range(0, audio.waveform.shape[1], audio.rate):
            samples = audio.waveform[:, start : start + audio.rate].detach().float().cpu().numpy()
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = audio.rate, Fraction(1, audio.rate), start
            for resampled in resampler.resample(frame):
                yield from encode_audio(stream, resampled)
        for resampled in resampler.resample(None):
            yield from encode_audio(stream, resampled)
        yield from encode_audio(stream, None)

    return packets()
