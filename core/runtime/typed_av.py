"""Methods of PyAV that it annotates incompletely, with complete types.

Each does the same as the method that it calls.
"""

from __future__ import annotations

from typing import Any, TypeVar

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

S = TypeVar("S", bound=Stream)


def mux(sink: OutputContainer, *packets: Packet[Any]) -> None:
    """Write packets to a container."""
    sink.mux(packets)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # packets of any stream


def encode_video(encoder: VideoCodecContext | VideoStream, frame: VideoFrame | None) -> list[Packet[Any]]:
    """Encode a frame; None flushes the encoder."""
    return encoder.encode(frame)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # packets of any stream


def encode_audio(encoder: AudioStream, frame: AudioFrame | None) -> list[Packet[Any]]:
    """Encode samples; None flushes the encoder."""
    return encoder.encode(frame)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # packets of any stream


def decode_video(decoder: VideoCodecContext, packet: Packet[Any] | None) -> list[VideoFrame]:
    """Decode a packet; None flushes the decoder."""
    return decoder.decode(packet)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # packets of any stream


def add_audio_stream(sink: OutputContainer, codec: str, rate: int, layout: str) -> AudioStream:
    """Add an audio stream with an encoder."""
    stream = sink.add_stream(codec, rate=rate, layout=layout)  # pyright: ignore[reportUnknownMemberType]  # **kwargs has no type
    assert isinstance(stream, AudioStream), f"{codec} is no audio encoder"
    return stream


def add_stream_from_template(sink: OutputContainer, template: S, opaque: bool | None = None) -> S:
    """Add a stream for packets copied from another one."""
    return sink.add_stream_from_template(template, opaque)  # pyright: ignore[reportUnknownMemberType]  # **kwargs has no type
