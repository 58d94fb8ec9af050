"""What reading and writing share: which files are opened, how a picture is turned upright, what its colours mean.

A video file is untrusted input for native code, so `opened` names the formats, decoders and protocols it accepts;
without that list FFmpeg follows a text file that calls itself .mp4 to any other file on the machine.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from .clip import ClipError, Frames

VIDEO_FORMATS = "mov,mp4,m4a,3gp,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,gif,apng,h264,hevc,obu,m4v,dv"
PICTURE_FORMATS = "png_pipe,tiff_pipe"
VIDEO_DECODERS = (
    "h264,hevc,vvc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4,msmpeg4v2,msmpeg4v1,h263,"
    "flv,wmv1,wmv2,wmv3,vc1,theora,mjpeg,prores,dnxhd,cfhd,ffv1,ffvhuff,huffyuv,utvideo,qtrle,dvvideo,rawvideo,v210,"
    "gif,apng,png,tiff,webp"
)
OTHER_DECODERS = (  # probing a file may decode a little sound to learn its layout
    "aac,aac_latm,mp1float,mp2,mp2float,mp3,mp3float,ac3,eac3,dca,truehd,mlp,alac,flac,opus,libopus,vorbis,wmav1,wmav2,"
    "wmapro,amrnb,amrwb,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8,"
    "pcm_s8,pcm_mulaw,pcm_alaw,pcm_bluray,pcm_dvd,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,srt,subrip,ass,ssa,webvtt,mov_text,"
    "pgssub,dvdsub,dvbsub,text"
)
# An 8K frame has 35 million pixels, and one float32 copy takes 425 MB. A 200 KB file can claim far more than that.
MAX_PIXELS = 50_000_000
NO_LIMIT = 2**31 - 1

# FFmpeg's numbers for colours (AVCOL_*). BT.601 goes by two of them, which share one matrix.
RGB, BT709, UNKNOWN, BT601, SMPTE170M, BT2020 = 0, 1, 2, 5, 6, 9
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
# Without these, a saturated patch comes back 3/255 wrong and chroma is repeated instead of interpolated.
ACCURATE = 0x4 | 0x40000 | 0x2000  # SWS_BICUBIC, ACCURATE_RND, FULL_CHR_H_INT; PyAV 17 has no names for the latter two
# Threads of a conversion. It takes milliseconds, and stages run side by side: more would cost time and memory in all.
ONE = 1


@contextmanager
def opened(path: str | os.PathLike[str], *, content: bytes | None = None) -> Iterator[InputContainer]:
    """The container at `path`, or in `content` (then `path` only serves messages); ClipError where it is unreadable."""
    pictures = content is not None
    if content is None:
        file = Path(path)
        if not file.exists():
            raise ClipError(f"{path}: there is no such file")
        if not file.is_file():
            raise ClipError(f"{path}: not a file")
        if file.stat().st_size == 0:
            raise ClipError(f"{path}: the file has 0 bytes; copy or export it again")
    allow = {
        "format_whitelist": PICTURE_FORMATS if pictures else VIDEO_FORMATS,
        "codec_whitelist": f"{VIDEO_DECODERS},{OTHER_DECODERS}",
    }
    if not pictures:
        allow["protocol_whitelist"] = "file"
    try:
        source = io.BytesIO(content) if content is not None else f"file:{os.fspath(path)}"
        container = av.open(source, "r", options=allow, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as e:
        kind = "picture" if pictures else "video"
        raise ClipError(
            f"{path}: not a {kind} that can be read ({reason(e)}); "
            f"it is cut off, of an unusual kind, or not a {kind} at all"
        ) from e
    with container:
        yield container


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says, without the file name that it adds."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def video_stream(container: InputContainer, path: object, max_pixels: int) -> VideoStream:
    """The first moving picture (cover art is none), checked against the decoders' list and the size limit."""
    cover = Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise ClipError(f"{path}: no video stream in this file, it holds {kinds}")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None:
        raise ClipError(f"{path}: no decoder for its video; convert it to H.264, HEVC, VP9 or AV1 first")
    if codec.codec.name not in VIDEO_DECODERS.split(","):
        raise ClipError(f"{path}: video in {codec.codec.name} is not read; convert it to H.264, HEVC, VP9 or AV1 first")
    if stream.width * stream.height > max_pixels:
        raise ClipError(
            f"{path}: frames of {stream.width}x{stream.height} exceed the limit of {max_pixels:,} pixels; "
            "raise max_pixels if you trust this file and have the memory"
        )
    # The decoder itself holds to the limit when a frame turns out larger than the header says.
    codec.options = {"max_pixels": str(max_pixels)}
    codec.thread_type = "AUTO"
    return stream


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames of `stream` in the order of display. Raises what PyAV raises."""
    if stream.metadata.get("alpha_mode") == "1" and stream.codec_context.codec.name in ("vp8", "vp9"):
        # FFmpeg's own VP8 and VP9 decoders drop the alpha plane, the ones of libvpx keep it.
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[stream.codec_context.codec.name]
        decoder = av.CodecContext.create(name, "r")
        decoder.extradata = stream.codec_context.extradata
        decoder.options = stream.codec_context.options
        for packet in container.demux(stream):
            yield from decoder.decode(packet)  # type: ignore[misc]
    else:
        yield from container.decode(stream)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes the one shown: first transpose, then mirror columns and rows."""

    transpose: bool = False
    mirror_columns: bool = False
    mirror_rows: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """From the display matrix: stored (x, y) is shown at (a x + c y, b x + d y)."""
        try:
            known = list(frame.side_data)
        except ValueError:  # PyAV 18 fails on kinds of side data that it has no name for, such as a picture's EXIF
            turns = round(frame.rotation / 90) % 4  # counter-clockwise; mirroring is not told this way
            return cls(turns % 2 == 1, turns in (2, 3), turns in (1, 2))
        for data in known:
            if isinstance(data, SideData) and data.type == SideDataType.DISPLAYMATRIX:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
                if math.hypot(b, c) > math.hypot(a, d):
                    return cls(True, c < 0, b < 0)
                return cls(False, a < 0, d < 0)
        return cls()

    def upright(self, picture: NDArray[np.generic]) -> NDArray[np.generic]:
        """(H, W) or (H, W, C) as stored -> the same as shown; a view."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.mirror_columns:
            picture = picture[:, ::-1]
        return picture[::-1] if self.mirror_rows else picture


def has_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in av.VideoFormat(pixel_format).components)


def is_rgb(pixel_format: str) -> bool:
    return av.VideoFormat(pixel_format).is_rgb


def depth(pixel_format: str) -> int:
    """Bits of the deepest component."""
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def matrix(colorspace: int, height: int) -> int:
    """The YUV matrix to use: the tagged one or, without a tag, what players assume for a picture of that height."""
    if colorspace in (UNKNOWN, RGB):
        return SMPTE170M if height <= 576 else BT709
    return colorspace


@dataclass(frozen=True)
class Stored:
    """How a video file stores its picture, for those who write one like it. Colours are FFmpeg's numbers."""

    codec: str
    pixel_format: str
    orientation: Orientation
    pixel_aspect: Fraction  # width of a pixel / its height, as shown
    matrix: int
    full_range: bool
    primaries: int
    transfer: int

    @classmethod
    def of(cls, stream: VideoStream, first: VideoFrame) -> Stored:
        orientation = Orientation.of(first)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return cls(
            codec=stream.codec_context.codec.name,
            pixel_format=first.format.name,
            orientation=orientation,
            pixel_aspect=1 / aspect if orientation.transpose else aspect,
            matrix=matrix(first.colorspace, first.height),
            full_range=not first.format.is_rgb and first.color_range == FULL,
            primaries=first.color_primaries,
            transfer=first.color_trc,
        )


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> NDArray[np.generic]:
    """A decoded frame -> (H, W, 3 or 4), uint8 or, for more than 8 bits, uint16; the stored orientation."""
    deep = depth(frame.format.name) > 8
    wanted = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    return _full_range(frame, reformatter, wanted).to_ndarray()


def to_planes(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> list[NDArray[np.generic]]:
    """The same as one (H, W) for each channel, which takes half the time."""
    rgb = _full_range(frame, reformatter, _planar(depth(frame.format.name) > 8, alpha))
    return [_plane(rgb, channel) for channel in range(4 if alpha else 3)]


def _full_range(frame: VideoFrame, reformatter: VideoReformatter, wanted: str) -> VideoFrame:
    if not frame.format.is_rgb:
        frame.colorspace = matrix(frame.colorspace, frame.height)
    return reformatter.reformat(frame, format=wanted, dst_color_range=FULL, interpolation=ACCURATE, threads=ONE)


def _planar(deep: bool, alpha: bool) -> str:
    return f"gbr{'a' if alpha else ''}p{'16le' if deep else ''}"


def _plane(frame: VideoFrame, channel: int) -> NDArray[np.generic]:
    """(H, W): R, G, B or A of a planar frame, whose memory it shares."""
    plane = frame.planes[(2, 0, 1, 3)[channel]]
    kind = np.dtype("<u2" if depth(frame.format.name) > 8 else np.uint8)
    return np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]


def to_grey(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded frame -> (height, width, 1) uint8 brightness, each pixel the mean of what it covers; as stored."""
    grey = reformatter.reformat(frame, width, height, format="gray", interpolation="AREA", threads=ONE)
    return grey.to_ndarray().astype(np.uint8, copy=False)[..., None]


def check_alike(frames: Frames, wanted: tuple[int, ...], number: int, where: object) -> None:
    """Raise ClipError unless frames, of which the first is `number`, have that shape (C, H, W) and finite values."""
    if tuple(frames.shape[1:]) != wanted:
        raise ClipError(
            f"{where}: frame {number} has (channels, height, width) {tuple(frames.shape[1:])}, "
            f"those before have {wanted}; all frames must be alike"
        )
    # A sum is not finite if any of its terms is not, and takes a tenth of the time of asking each.
    if not bool(torch.isfinite(frames.sum())) and not bool(torch.isfinite(frames).all()):
        number += int((~torch.isfinite(frames)).flatten(1).any(dim=1).nonzero()[0])
        raise ClipError(f"{where}: frame {number} holds values that are no numbers; compute it in float32")


def to_frame(frame: Tensor, *, deep: bool, width: int, height: int) -> VideoFrame:
    """(3 or 4, H, W) in [0, 1] -> full-range RGB(A) of 8 or, if `deep`, 16 bits.

    Where width x height is larger, the last column and row are repeated.
    """
    levels = (frame.detach().clamp(0, 1) * (65535 if deep else 255)).round_().permute(1, 2, 0)
    # By way of int32: torch has 16-bit unsigned numbers only in newer versions than we ask for.
    whole = levels.to("cpu", torch.int32 if deep else torch.uint8).numpy()
    right, below = width - whole.shape[1], height - whole.shape[0]
    if right or below:
        whole = np.pad(whole, ((0, below), (0, right), (0, 0)), mode="edge")
    alpha = whole.shape[2] == 4
    if deep:
        return VideoFrame.from_ndarray(whole.astype(np.uint16, order="C"), format="rgba64le" if alpha else "rgb48le")
    return VideoFrame.from_ndarray(whole.astype(np.uint8, order="C"), format="rgba" if alpha else "rgb24")


def to_planar_frame(frame: Tensor, *, deep: bool, width: int, height: int) -> VideoFrame:
    """The same as one plane for each channel, as encoders' converters take it: a sixth of the time."""
    channels, high, wide = frame.shape
    made = VideoFrame(width, height, _planar(deep, channels == 4))
    top = 65535 if deep else 255
    for channel in range(channels):
        plane = _plane(made, channel)
        plane[:high, :wide] = (frame[channel].detach() * top).round_().clamp_(0, top).cpu().numpy()
        plane[:high, wide:] = plane[:high, wide - 1 : wide]
        plane[high:] = plane[high - 1]
    return made
