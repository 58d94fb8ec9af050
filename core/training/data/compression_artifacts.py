"""What JPEG and video codecs do to a picture: encoded and decoded again in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...video.decode import stream_format as stored

PAN_PIXELS = 1  # pixels that the camera moves between the frames of the little clip that a codec is shown

# name -> the encoder, the decoder, and the options that stand for a crf; one thread, so that results repeat.
ARTIFACT_CODECS = {
    "h264": ("libx264", "h264", {"preset": "veryfast", "threads": "1"}),
    "vp9": ("libvpx-vp9", "vp9", {"deadline": "realtime", "cpu-used": "8", "threads": "1", "lag-in-frames": "0"}),
}


def jpeg_round_trip(pixels: Tensor, quality: int, *, chroma_444: bool = False) -> Tensor:
    """(3, h, w) in [0, 1] -> the same after JPEG. quality: 1 to 95. fine_colour: colour at full size (4:4:4)."""
    stored = io.BytesIO()
    image = Image.fromarray(_to_uint8(pixels))
    image.save(stored, format="JPEG", quality=quality, subsampling=0 if chroma_444 else 2)
    with Image.open(stored) as decoded:
        return _to_tensor(np.asarray(decoded))


def video_round_trip(image: Tensor, codec: str, crf: int, frames: int = 3) -> Tensor:
    """(3, h, w) in [0, 1] -> the same as the last of a few frames of a video, over which the camera pans to it.

    So it is predicted from frames before, as most frames of most videos are. codec: a key of CODECS that this build of
    PyAV has (`available`). crf: the codec's scale, higher is worse.
    """
    encoder_name, decoder_name, options = ARTIFACT_CODECS[codec]
    _, height, width = image.shape
    # Colour at half size wants even sides, and codecs want some pixels; what is added is cut off again.
    down, right = max(16, height + height % 2) - height, max(16, width + width % 2) - width
    reach = PAN_PIXELS * (frames - 1)
    wide = F.pad(image[None], (reach, right, reach, down), mode="replicate")[0]

    encoder = cast(VideoCodecContext, av.CodecContext.create(encoder_name, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width + right, height + down, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options = {**options, "crf": str(crf), "b": "0"} if codec == "vp9" else {**options, "crf": str(crf)}
    packets = []
    for number in range(frames):
        offset = PAN_PIXELS * number
        shown = wide[:, offset : offset + height + down, offset : offset + width + right]
        frame = av.VideoFrame.from_ndarray(_to_uint8(shown), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=stored.BT709, dst_color_range=stored.LIMITED_RANGE
        )
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)

    decoder = cast(VideoCodecContext, av.CodecContext.create(decoder_name, "r"))
    decoder.thread_count = 1
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    rgb = decoded[-1].reformat(format="rgb24", src_colorspace=stored.BT709, src_color_range=stored.LIMITED_RANGE)
    return _to_tensor(np.asarray(rgb.to_ndarray(), np.uint8))[:, :height, :width]


def available_codecs() -> tuple[str, ...]:
    """The codecs that this build of PyAV can write."""
    return tuple(name for name, (encoder, _, _) in ARTIFACT_CODECS.items() if encoder in av.codecs_available)


def _to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """(3, h, w) in [0, 1] -> (h, w, 3), rounded."""
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _to_tensor(rgb: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32) / 255)
