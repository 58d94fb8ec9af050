"""Synthetic video frames, and references for conversions of pixel formats.

One is swscale, called as the package does; the other is in float64.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from steadyscale.core.video.decode import convert
from steadyscale.core.video.encode.output_format import SWS_MATRIX
from steadyscale.core.video.format.stream_format import BT709, FULL_RANGE, LIMITED_RANGE, bit_depth, has_alpha, is_rgb

Array = NDArray[np.float64]
# FFmpeg's names of chroma locations in the order of its constants, and where the first chroma sample is, (x, y).
LOCATIONS = {
    "unspecified": (0.5, 0.5),
    "left": (0.0, 0.5),
    "center": (0.5, 0.5),
    "topleft": (0.0, 0.0),
    "top": (0.5, 0.0),
    "bottomleft": (0.0, 1.0),
    "bottom": (0.5, 1.0),
}


def photo(width: int, height: int, channels: int = 3) -> torch.Tensor:
    """Return (C, H, W) in about 0.1 to 0.9: smooth shapes, fine texture, noise."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    noise = torch.randn(height, width, generator=torch.Generator().manual_seed(1))
    planes = [0.5 + 0.25 * torch.sin(x / (9 + c) + c) * torch.cos(y / (7 + c)) for c in range(channels)]
    return torch.stack(planes) + 0.05 * torch.sin(x * 1.3 + y * 0.7) + 0.02 * noise


def saturated_blocks(width: int, height: int, channels: int = 3) -> torch.Tensor:
    """Return (C, H, W) of random values 0 and 1, in blocks of 4 x 4 pixels."""
    shape = (channels, -(-height // 4), -(-width // 4))
    blocks = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)).float()
    return blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width].contiguous()


def frame_from_rgb(
    rgb: torch.Tensor,
    pixel_format: str,
    *,
    matrix: int = BT709,
    full_range: bool = False,
    size: tuple[int, int] | None = None,
    location: str = "center",
) -> VideoFrame:
    """Convert (C, H, W) with swscale, and set tags; its input is scaled so that white is right."""
    width, height = size or (rgb.shape[2], rgb.shape[1])
    color_range = FULL_RANGE if full_range else LIMITED_RANGE
    if bit_depth(pixel_format) > 8:
        empty = VideoFrame(2, 2, pixel_format)
        empty.color_range = color_range
        white, opaque = convert._levels_of_swscale(empty)
        rgb = rgb.clamp(0, 1) * (torch.tensor([white] * 3 + [opaque])[: len(rgb), None, None] / 65535)
    planar = convert.to_planar_frame(rgb, high_bit_depth=bit_depth(pixel_format) > 8, width=width, height=height)
    frame = VideoReformatter().reformat(
        set_parameters(planar, chroma_location=location),  # the result has that of its source
        format=pixel_format,
        dst_colorspace=None if is_rgb(pixel_format) else SWS_MATRIX[matrix],
        dst_color_range=color_range,
        src_color_range=FULL_RANGE,
        interpolation=convert.SWS_FLAGS,
        threads=1,
    )
    if not is_rgb(pixel_format):
        frame.colorspace, frame.color_range = matrix, color_range
    return frame


def read_with_swscale(frame: VideoFrame) -> Array:
    """Convert to RGB(A) with swscale: (C, H, W) in [0, 1]; white of more than 8 bits is 1.0 as in `convert`."""
    planes = np.stack(convert.to_planes(frame, VideoReformatter(), alpha=has_alpha(frame.format.name)))
    if bit_depth(frame.format.name) <= 8:
        return planes / 255
    levels = np.array([*[convert._levels_of_swscale(frame)[0]] * 3, convert._levels_of_swscale(frame)[1]])
    return (planes / levels[: len(planes), None, None]).clip(0, 1)


def read_as_clip(frame: VideoFrame) -> Array:
    """Convert to RGB(A) as `VideoClip.frames` does: (C, H, W) in [0, 1]."""
    planes = convert.to_level_planes(frame, VideoReformatter(), alpha=has_alpha(frame.format.name))
    return np.stack([plane / np.float64(level) for plane, level in planes])


def set_parameters(frame: VideoFrame, **parameters: str) -> VideoFrame:
    """Change tags that PyAV has no attributes for, with FFmpeg's filter `setparams`."""
    graph = Graph()
    source = graph.add("buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1")
    tags = graph.add("setparams", ":".join(f"{key}={value}" for key, value in parameters.items()))
    sink = graph.add("buffersink")
    source.link_to(tags)
    tags.link_to(sink)
    graph.configure()
    frame.pts = 0
    source.push(frame)
    result = sink.pull()
    assert isinstance(result, VideoFrame)
    result.colorspace, result.color_range = frame.colorspace, frame.color_range
    return result


def read_codes(frame: VideoFrame) -> dict[str, Array]:
    """Return the codes of each channel (h, w) of a YUV frame by name."""
    bits, wide = bit_depth(frame.format.name), bit_depth(frame.format.name) > 8
    names = ("Y", "UV") if len(frame.planes) == 2 else ("Y", "U", "V", "A")
    codes: dict[str, Array] = {}
    for plane, channels in zip(frame.planes, names, strict=False):
        width = frame.width if channels in "YA" else frame.format.chroma_width(frame.width)
        rows = np.frombuffer(memoryview(plane), np.uint16 if wide else np.uint8).reshape(plane.height, -1)
        for index, name in enumerate(channels):
            samples = rows[:, index :: len(channels)][:, :width].astype(np.float64)
            codes[name] = samples / 64 if frame.format.name == "p010le" else samples
        assert codes[channels[0]].max() < 1 << bits
    return codes


# ------------------------------------------------------------------------------------------------------- reference


def reference_rgb(
    codes: dict[str, Array],
    bits: int,
    kr: float,
    kb: float,
    *,
    full_range: bool,
    location: str = "center",
    clips_chroma: bool = False,
) -> Array:
    """Convert to RGB (3, H, W) in [0, 1], in float64.

    clips_chroma: clip chroma above the largest code between the two passes of upsampling, as swscale does.
    """
    steps = {name: values / (1 << (bits - 8)) for name, values in codes.items()}
    height, width = steps["Y"].shape
    full = (2**bits - 1) / 2 ** (bits - 8)
    black, luma, chroma = (0, full, full) if full_range else (16, 219, 224)
    upsampled = []
    for name in "UV":
        values = steps[name]
        h, w = values.shape
        x, y = LOCATIONS[location]
        if w != width:
            values = _interpolate(values, (np.arange(width) + 0.5) * w / width - (x + 0.5) / 2)
        if clips_chroma:
            values = values.clip(None, 255.99)
        if h != height:
            values = _interpolate(values.T, (np.arange(height) + 0.5) * h / height - (y + 0.5) / 2).T
        upsampled.append((values - 128) / chroma)
    yuv = np.stack([(steps["Y"] - black) / luma, *upsampled])
    rgb = np.einsum("ij,jhw->ihw", np.linalg.inv(_matrix(kr, kb)), yuv)
    return rgb.clip(0, 1)


def reference_yuv(
    rgb: Array, bits: int, kr: float, kb: float, *, full_range: bool, subsampling: tuple[int, int], location: str
) -> dict[str, Array]:
    """Convert (3, H, W) in [0, 1] to codes that are not rounded, in float64."""
    full = (2**bits - 1) / 2 ** (bits - 8)
    black, luma, chroma = (0, full, full) if full_range else (16, 219, 224)
    y, u, v = np.einsum("ij,jhw->ihw", _matrix(kr, kb), rgb.clip(0, 1))
    unit = 1 << (bits - 8)
    codes = {"Y": (black + luma * y) * unit}
    for name, values in (("U", u), ("V", v)):
        if subsampling[0] == 2:
            pairs = bits == 8 and LOCATIONS[location][0] == 0.5  # RGB of 8 bits: swscale averages two columns
            values = (values[:, ::2] + values[:, 1::2]) / 2 if pairs else _decimate(values, LOCATIONS[location][0])
        if subsampling[1] == 2:
            values = _decimate(values.T, LOCATIONS[location][1]).T
        codes[name] = (128 + chroma * values) * unit
    return {name: values.clip(0, (1 << bits) - 1) for name, values in codes.items()}


def _matrix(kr: float, kb: float) -> Array:
    """Return the matrix from RGB to luma in [0, 1] and chroma in [-0.5, 0.5]."""
    luma = np.array([kr, 1 - kr - kb, kb])
    blue, red = (np.array([0, 0, 1]) - luma) / (2 - 2 * kb), (np.array([1, 0, 0]) - luma) / (2 - 2 * kr)
    return np.stack([luma, blue, red])


def _cubic(x: Array) -> Array:
    """Mitchell-Netravali kernel with B = 0, C = 0.6."""
    b, c = 0, 0.6
    x = np.abs(x)
    near = ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b) / 6
    far = ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + 8 * b + 24 * c) / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _interpolate(values: Array, centers: Array) -> Array:
    """Interpolate rows (h, w) at positions in samples."""
    result = np.zeros((len(values), len(centers)))
    for k in range(-1, 3):
        index = np.floor(centers).astype(int) + k
        result += values[:, index.clip(0, values.shape[1] - 1)] * _cubic(index - centers)
    return result


def _decimate(values: Array, position: float) -> Array:
    """Filter rows (h, w) and keep w / 2 samples, the first at this position."""
    centers = 2 * np.arange(values.shape[1] // 2) + position
    result, total = np.zeros((len(values), len(centers))), 0
    for k in range(-5, 6):
        index = 2 * np.arange(len(centers)) + k
        weight = float(_cubic(np.array((k - position) / 2)))
        result += values[:, index.clip(0, values.shape[1] - 1)] * weight
        total += weight
    return result / total


def encode_and_decode(frame: VideoFrame, codec: str, path: str) -> VideoFrame:
    """Write one frame as a file and return what is read from it."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, 24)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(path) as container:
        return next(container.decode(video=0))


def write_ten_bit_ramp(path: Path) -> None:
    """Three frames, yuv420p10le, whose luma has each of the 877 codes from black to white."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("ffv1", 24)
        stream.width, stream.height, stream.pix_fmt = 880, 64, "yuv420p10le"
        for number in range(3):
            frame = av.VideoFrame(880, 64, "yuv420p10le")
            for index, plane in enumerate(frame.planes):
                rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
                rows[:, : plane.width] = np.clip(np.arange(plane.width) + 64, 64, 940) if index == 0 else 512
            frame.pts = number
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
