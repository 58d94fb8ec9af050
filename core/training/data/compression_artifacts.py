"""Compression artifacts of JPEG and video codecs, produced in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...runtime.typed_av import decode_video, encode_video
from ...runtime.typed_torch import from_numpy
from ...video.format import stream_format
from ...video.format.scaler import REFORMAT_THREADS, SWS_FLAGS

# The pan that precedes the images that are encoded: its frames, and its motion per frame.
PAN_FRAMES, PAN_PIXELS = 2, 1

# name -> encoder, decoder, encoder options. One thread, and no macroblock tree (its decisions have been seen to differ
# between runs), so that results are reproducible.
ARTIFACT_CODECS = {
    "h264": ("libx264", "h264", {"preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}),
    "vp9": ("libvpx-vp9", "vp9", {"deadline": "realtime", "cpu-used": "8", "threads": "1", "lag-in-frames": "0"}),
}


def jpeg_round_trip(pixels: Tensor, quality: int, *, chroma_444: bool = False) -> Tensor:
    """Encode and decode images.

    (3, h, w) or (T, 3, h, w) in [0, 1] -> the same.
    quality: 1 to 95. chroma_444: without chroma subsampling.
    """
    if pixels.ndim == 4:
        return torch.stack([jpeg_round_trip(image, quality, chroma_444=chroma_444) for image in pixels])
    file = io.BytesIO()
    image = Image.fromarray(_to_uint8(pixels))
    image.save(file, format="JPEG", quality=quality, subsampling=0 if chroma_444 else 2)
    with Image.open(file) as decoded:
        return _to_tensor(np.asarray(decoded))


def video_round_trip(pixels: Tensor, codec: str, crf: int) -> Tensor:
    """Encode and decode images as the end of a clip.

    (3, h, w) or (T, 3, h, w) in [0, 1] -> the same. The clip starts with a pan over the first image, so that all
    results are inter-predicted, as most frames of most videos are. codec: a key of ARTIFACT_CODECS that is among
    `available_codecs`. crf: higher is worse.
    """
    if pixels.ndim == 3:
        return video_round_trip(pixels[None], codec, crf)[0]
    encoder_name, decoder_name, options = ARTIFACT_CODECS[codec]
    *_, height, width = pixels.shape
    # 4:2:0 needs even sides, and encoders a minimum size; the padding is cropped again below.
    down, right = max(16, height + height % 2) - height, max(16, width + width % 2) - width
    padded = F.pad(pixels, (0, right, 0, down), mode="replicate")

    encoder = cast(VideoCodecContext, av.CodecContext.create(encoder_name, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width + right, height + down, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {**options, "crf": str(crf), "b": "0"} if codec == "vp9" else {**options, "crf": str(crf)}
    packets: list[av.Packet[Any]] = []
    for number, image in enumerate((*_pan_to(padded[0]), *padded)):
        frame = av.VideoFrame.from_ndarray(_to_uint8(image), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=stream_format.BT709,
            dst_color_range=stream_format.LIMITED_RANGE,
            interpolation=SWS_FLAGS,
            threads=REFORMAT_THREADS,
        )
        frame.pts = number
        packets += encode_video(encoder, frame)
    packets += encode_video(encoder, None)

    decoder = cast(VideoCodecContext, av.CodecContext.create(decoder_name, "r"))
    decoder.thread_count = 1
    decoded = [frame for packet in (*packets, None) for frame in decode_video(decoder, packet)]
    return torch.stack([_to_rgb(frame)[:, :height, :width] for frame in decoded[-len(pixels) :]])


def _pan_to(image: Tensor) -> list[Tensor]:
    """Return the frames of a pan that ends one frame before the image (3, h, w)."""
    height, width = image.shape[-2:]
    margin = PAN_PIXELS * PAN_FRAMES
    padded = F.pad(image[None], (margin, 0, margin, 0), mode="replicate")[0]
    offsets = range(0, margin, PAN_PIXELS)
    return [padded[:, offset : offset + height, offset : offset + width] for offset in offsets]


def _to_rgb(frame: av.VideoFrame) -> Tensor:
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=stream_format.BT709,
        src_color_range=stream_format.LIMITED_RANGE,
        interpolation=SWS_FLAGS,
        threads=REFORMAT_THREADS,
    )
    return _to_tensor(np.asarray(rgb.to_ndarray(), np.uint8))


def available_codecs() -> tuple[str, ...]:
    """Return the keys of ARTIFACT_CODECS that this build of PyAV can encode."""
    return tuple(name for name, (encoder, _, _) in ARTIFACT_CODECS.items() if encoder in av.codecs_available)


def _to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """(3, h, w) in [0, 1] -> (h, w, 3), rounded."""
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _to_tensor(rgb: NDArray[np.uint8]) -> Tensor:
    return from_numpy(rgb.transpose(2, 0, 1).astype(np.float32) / 255)
