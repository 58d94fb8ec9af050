"""A video file once more, packet by packet: in another place, with more names in it, or with a sound that it lacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from ...clip import ClipError
from ...runtime.atomic_write import atomic_path
from ..decode import demux
from .codecs import Container, open_output
from .matroska_aspect import reserve_display_size, write_display_size
from .stream_copy import CHANNEL_LAYOUTS, StreamCopier

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class AudioClip:
    """waveform: (C, S) float in [-1, 1], one row for each of 1 to 8 channels. rate: samples a second."""

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
    """Copy the video file `source` to `target` without decoding its picture. Sound is re-encoded only where
    `container` cannot hold it.

    names: metadata to add, or to put in place of what `source` says by the same key. sound: becomes one more track,
    from the first frame on.
    `target` appears when all of it is written. Raises ClipError for what cannot be read, held or written.
    """
    source, target = Path(source), Path(target)
    with atomic_path(target) as partial, demux.open_media(source) as picture, demux.open_media(source) as others:
        try:
            with open_output(partial, container) as sink:
                stream = demux.video_stream(picture, source, demux.NO_PIXEL_LIMIT)
                copy = add_stream_copy(stream, sink)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                marked = reserve_display_size(copy, container, aspect)
                tracks = StreamCopier(others, sink, container.fallback_audio, Fraction(0), keep_skipped=True)
                sink.metadata.update(metadata or {})
                voice = _AudioWriter(sink, audio, container.fallback_audio) if audio is not None else None
                for packet in _fill_dts(picture.demux(stream)):
                    now = (packet.dts or 0) * packet.time_base
                    tracks.mux_until(now)
                    if voice:
                        voice.mux_until(now)
                    packet.stream = copy
                    sink.mux(packet)
                tracks.finish()
                if voice:
                    voice.mux_until(float("inf"))
            if marked:
                write_display_size(partial, aspect)
        except (FFmpegError, OSError, ValueError) as e:
            raise ClipError(
                f"{target}: copying {source.name} into {container.muxer} failed: {demux.error_message(e)}; "
                "choose another container, or check the disk"
            ) from e


def add_stream_copy(stream: VideoStream, sink: OutputContainer) -> VideoStream:
    """A stream of a new file that takes the packets of `stream` as they are."""
    copy = sink.add_stream_from_template(stream, opaque=True)  # or AV1 would need an encoder libdav1d
    if stream.codec_context.codec_tag == "hvc1":  # Apple's players do not open the other spelling, hev1
        copy.codec_context.codec_tag = "hvc1"
    copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
    if stream.metadata.get("alpha_mode") == "1":  # the muxer says so where the format has alpha
        copy.codec_context.pix_fmt = "yuva420p"
    return copy


def _fill_dts(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The same packets, each with its decoding time. Matroska stores none, and FFmpeg does not guess the first ones."""
    undated: list[Packet] = []
    for packet in packets:
        if packet.size == 0:  # the end of the stream
            continue
        undated.append(packet)
        if packet.dts is not None:
            yield from _assign_dts(undated, packet.dts)
            undated.clear()
    if undated:
        yield from _assign_dts(undated, min(packet.pts or 0 for packet in undated))


def _assign_dts(packets: list[Packet], last_dts: int) -> Iterator[Packet]:
    """Decoding times that end with `last`, which is that of the last packet."""
    for behind, packet in zip(range(len(packets) - 1, -1, -1), packets, strict=True):
        packet.dts = last_dts - behind * max(1, packet.duration or 0)
        yield packet


class _AudioWriter:
    """A sound on its way into a file, a second at a time."""

    def __init__(self, sink: OutputContainer, audio: AudioClip, codec: str) -> None:
        channels = audio.waveform.shape[0]
        if channels not in CHANNEL_LAYOUTS:
            raise ClipError(
                f"a sound of {channels} channels cannot be written; mix it to 1 to {max(CHANNEL_LAYOUTS)} first"
            )
        self._sink, self._packets = sink, _encode_audio(sink, audio, codec, CHANNEL_LAYOUTS[channels])
        self._pending: Packet | None = None

    def mux_until(self, seconds: Fraction | float) -> None:
        """Mux what belongs before that moment."""
        while (packet := self._pending or next(self._packets, None)) is not None:
            if packet.dts is not None and packet.dts * packet.time_base > seconds:
                self._pending = packet
                return
            self._pending = None
            self._sink.mux(packet)


def _encode_audio(sink: OutputContainer, audio: AudioClip, codec: str, layout: str) -> Iterator[Packet]:
    rate = audio.rate if codec == "aac" and audio.rate in (44_100, 48_000) else 48_000
    # The stream has to be there before the first packet is muxed, so this is not left to the generator.
    stream = sink.add_stream(codec, rate=rate, layout=layout)
    stream.bit_rate = 96_000 * audio.waveform.shape[0]  # type: ignore[union-attr]
    formats = stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")]  # type: ignore[union-attr]
    resampler = av.AudioResampler(format=formats[0].name, layout=layout, rate=rate)

    def packets() -> Iterator[Packet]:
        for start in range(0, audio.waveform.shape[1], audio.rate):
            piece = audio.waveform[:, start : start + audio.rate].detach().float().cpu().numpy()
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = audio.rate, Fraction(1, audio.rate), start
            for resampled in resampler.resample(frame):
                yield from stream.encode(resampled)  # type: ignore[union-attr]
        for resampled in resampler.resample(None):
            yield from stream.encode(resampled)  # type: ignore[union-attr]
        yield from stream.encode(None)  # type: ignore[union-attr]

    return packets()
