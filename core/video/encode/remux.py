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
from ...runtime.atomic_write import appearing
from ..decode import demux
from .codecs import Container, created
from .matroska_aspect import mark_display, write_display
from .stream_copy import LAYOUTS, OtherTracks

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sound:
    """waveform: (C, S) float in [-1, 1], one row for each of 1 to 8 channels. rate: samples a second."""

    waveform: Tensor
    rate: int


def repack(
    source: str | Path,
    target: str | Path,
    *,
    container: Container,
    names: Mapping[str, str] | None = None,
    sound: Sound | None = None,
) -> None:
    """Copy the video file `source` to `target` without decoding its picture. Sound is re-encoded only where
    `container` cannot hold it.

    names: metadata to add, or to put in place of what `source` says by the same key. sound: becomes one more track,
    from the first frame on.
    `target` appears when all of it is written. Raises ClipError for what cannot be read, held or written.
    """
    source, target = Path(source), Path(target)
    with appearing(target) as partial, demux.opened(source) as picture, demux.opened(source) as others:
        try:
            with created(partial, container) as sink:
                stream = demux.video_stream(picture, source, demux.NO_LIMIT)
                copy = copied_stream(stream, sink)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                marked = mark_display(copy, container, aspect)
                tracks = OtherTracks(others, sink, container.fallback_audio, Fraction(0), hidden=True)
                sink.metadata.update(names or {})
                voice = _Voice(sink, sound, container.fallback_audio) if sound is not None else None
                for packet in _dated(picture.demux(stream)):
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
                write_display(partial, aspect)
        except (FFmpegError, OSError, ValueError) as e:
            raise ClipError(
                f"{target}: copying {source.name} into {container.muxer} failed: {demux.reason(e)}; "
                "choose another container, or check the disk"
            ) from e


def copied_stream(stream: VideoStream, sink: OutputContainer) -> VideoStream:
    """A stream of a new file that takes the packets of `stream` as they are."""
    copy = sink.add_stream_from_template(stream, opaque=True)  # or AV1 would need an encoder libdav1d
    if stream.codec_context.codec_tag == "hvc1":  # Apple's players do not open the other spelling, hev1
        copy.codec_context.codec_tag = "hvc1"
    copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
    if stream.metadata.get("alpha_mode") == "1":  # the muxer says so where the format has alpha
        copy.codec_context.pix_fmt = "yuva420p"
    return copy


def _dated(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The same packets, each with its decoding time. Matroska stores none, and FFmpeg does not guess the first ones."""
    undated: list[Packet] = []
    for packet in packets:
        if packet.size == 0:  # the end of the stream
            continue
        undated.append(packet)
        if packet.dts is not None:
            yield from _counted_back(undated, packet.dts)
            undated.clear()
    if undated:
        yield from _counted_back(undated, min(packet.pts or 0 for packet in undated))


def _counted_back(packets: list[Packet], last: int) -> Iterator[Packet]:
    """Decoding times that end with `last`, which is that of the last packet."""
    for behind, packet in zip(range(len(packets) - 1, -1, -1), packets, strict=True):
        packet.dts = last - behind * max(1, packet.duration or 0)
        yield packet


class _Voice:
    """A sound on its way into a file, a second at a time."""

    def __init__(self, sink: OutputContainer, sound: Sound, codec: str) -> None:
        channels = sound.waveform.shape[0]
        if channels not in LAYOUTS:
            raise ClipError(f"a sound of {channels} channels cannot be written; mix it to 1 to {max(LAYOUTS)} first")
        self._sink, self._packets = sink, _encoded(sink, sound, codec, LAYOUTS[channels])
        self._waiting: Packet | None = None

    def mux_until(self, seconds: Fraction | float) -> None:
        """Mux what belongs before that moment."""
        while (packet := self._waiting or next(self._packets, None)) is not None:
            if packet.dts is not None and packet.dts * packet.time_base > seconds:
                self._waiting = packet
                return
            self._waiting = None
            self._sink.mux(packet)


def _encoded(sink: OutputContainer, sound: Sound, codec: str, layout: str) -> Iterator[Packet]:
    rate = sound.rate if codec == "aac" and sound.rate in (44_100, 48_000) else 48_000
    # The stream has to be there before the first packet is muxed, so this is not left to the generator.
    stream = sink.add_stream(codec, rate=rate, layout=layout)
    stream.bit_rate = 96_000 * sound.waveform.shape[0]  # type: ignore[union-attr]
    formats = stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")]  # type: ignore[union-attr]
    resampler = av.AudioResampler(format=formats[0].name, layout=layout, rate=rate)

    def packets() -> Iterator[Packet]:
        for start in range(0, sound.waveform.shape[1], sound.rate):
            piece = sound.waveform[:, start : start + sound.rate].detach().float().cpu().numpy()
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = sound.rate, Fraction(1, sound.rate), start
            for resampled in resampler.resample(frame):
                yield from stream.encode(resampled)  # type: ignore[union-attr]
        for resampled in resampler.resample(None):
            yield from stream.encode(resampled)  # type: ignore[union-attr]
        yield from stream.encode(None)  # type: ignore[union-attr]

    return packets()
