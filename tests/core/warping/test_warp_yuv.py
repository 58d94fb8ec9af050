"""YUV frames warped plane by plane equal integer shifts, transposed frames and the warp in RGB."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from camera_simulation import make_shake_path, make_texture
from numbered_video import make_video
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.video.decode.convert import to_rgb
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.format.stream_format import BT709, Orientation, StreamFormat
from steadyscale.core.warping.warp import warp
from steadyscale.core.warping.warp_yuv import can_warp_yuv, warp_yuv

WIDTH, HEIGHT = 64, 48
FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p16le"]
STREAM_FORMAT = StreamFormat("h264", "yuv420p", Orientation(), Fraction(1), BT709, False, BT709, BT709)


def planes(frame: VideoFrame) -> list[np.ndarray]:
    kind = (
        np.uint8
        if len(bytes(frame.planes[0])) == frame.planes[0].line_size * frame.height
        and (frame.format.components[0].bits == 8)
        else np.dtype("<u2")
    )
    return [np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width] for p in frame.planes]


def noise(pixel_format: str, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> VideoFrame:
    """Random samples in every plane, within the bit depth of the format."""
    frame = VideoFrame(width, height, pixel_format)
    random, bits = np.random.default_rng(seed), frame.format.components[0].bits
    for plane in frame.planes:
        values = random.integers(0, 1 << bits, (plane.height, plane.line_size // (1 if bits == 8 else 2)))
        plane.update(values.astype(np.uint8 if bits == 8 else "<u2").tobytes())
    return frame


def fix_of(path, width: int = WIDTH, height: int = HEIGHT) -> Correction:
    matrices = geometry.matrices_from_parameters(np.atleast_2d(path))
    shots = [slice(0, len(matrices))]
    return Correction(matrices, shots, ClipInfo(width, height, Fraction(25), len(matrices)), matrices)


def warped(frames: list[VideoFrame], path, border: Border, stored: StreamFormat = STREAM_FORMAT) -> list[VideoFrame]:
    stored = replace(stored, pixel_format=frames[0].format.name, full_range="j" in frames[0].format.name)
    turned = stored.orientation.transpose
    size = (frames[0].height, frames[0].width) if turned else (frames[0].width, frames[0].height)
    assert can_warp_yuv(stored, *size, border)
    out = warp_yuv(cv2, ([p] for p in frames), fix_of(path, *size), border, stored)
    return [frame for batch in out for frame in batch]


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("border", [b for b in Border if b is not Border.FILL])
def test_identity_changes_no_sample(pixel_format: str, border: Border):
    frame = noise(pixel_format)
    (same,) = warped([frame], [0, 0, 0, 0], border)
    assert same.format.name == pixel_format
    for before, after in zip(planes(frame), planes(same), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_integer_shift_and_borders(pixel_format: str):
    frame = noise(pixel_format)
    bits = frame.format.components[0].bits
    for border in (Border.MIRROR, Border.WRAP, Border.EDGE, Border.BLACK):
        (moved,) = warped([frame], [4, 2, 0, 0], border)
        for index, (before, after) in enumerate(zip(planes(frame), planes(moved), strict=True)):
            across, down = 4 * before.shape[1] // WIDTH, 2 * before.shape[0] // HEIGHT
            gray = 1 << (bits - 1) if index else 0 if "j" in pixel_format else 16 << (bits - 8)
            mode = {Border.MIRROR: "symmetric", Border.WRAP: "wrap", Border.EDGE: "edge", Border.BLACK: "constant"}
            color = {"constant_values": gray} if border is Border.BLACK else {}
            wide = np.pad(before, ((down, 0), (across, 0)), mode=mode[border], **color)  # type: ignore[call-overload]
            assert np.array_equal(after, wide[: before.shape[0], : before.shape[1]]), (border, index)


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE, Border.MIRROR, Border.EDGE])
def test_result_equals_the_warp_in_rgb(border: Border):
    count, path = 4, make_shake_path(4, pixels=5.0, angle=0.03, zoom=0.02)
    sharp = make_texture(HEIGHT * 4, WIDTH * 4)
    frames = torch.nn.functional.interpolate(sharp, (HEIGHT, WIDTH), mode="area").expand(count, -1, -1, -1)
    rgb = [VideoFrame.from_ndarray((f.permute(1, 2, 0) * 255).round().byte().numpy(), "rgb24") for f in frames]
    stored = [VideoReformatter().reformat(f, format="yuv444p", dst_colorspace=1) for f in rgb]
    for frame in stored:
        frame.colorspace = BT709
    seen = np.stack([to_rgb(p, VideoReformatter(), alpha=False) for p in stored])
    clip = TensorClip(torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255)
    expected = torch.cat([w.frames for w in warp(clip.frames(), fix_of(path), border)])
    for result, truth in zip(warped(stored, path, border), expected, strict=True):
        result.colorspace = BT709
        got = torch.from_numpy(to_rgb(result, VideoReformatter(), alpha=False)).permute(2, 0, 1) / 255
        assert float((got - truth).abs().mean()) < 1 / 255
        assert float((got - truth).abs().max()) < 6 / 255


@pytest.mark.parametrize("turn", [Orientation(*ways) for ways in product([False, True], repeat=3)], ids=str)
def test_output_frames_are_upright(turn: Orientation):
    frame = noise("yuv420p")
    (upright,) = warped([frame], [0, 0, 0, 0], Border.EDGE, replace(STREAM_FORMAT, orientation=turn))
    luma, *chroma = planes(upright)
    assert np.array_equal(luma, turn.apply(planes(frame)[0]))
    assert [c.shape for c in chroma] == [tuple(n // 2 for n in luma.shape)] * 2


def test_chroma_stays_aligned_with_luma_under_rotation():
    """A red square on gray: after a rotation of the camera and of the file, chroma and luma coincide."""
    frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane, (ground, mark) in zip(frame.planes, [(126, 80), (128, 90), (128, 240)], strict=True):
        values = np.full((plane.height, plane.line_size), ground, np.uint8)
        factor = WIDTH // plane.width
        values[8 // factor : 24 // factor, 16 // factor : 40 // factor] = mark
        plane.update(values.tobytes())
    for turn in (Orientation(), Orientation(True, True, False), Orientation(False, True, True)):
        (moved,) = warped([frame], [6, -4, 0.15, 0], Border.EDGE, replace(STREAM_FORMAT, orientation=turn))
        luma, _, red = planes(moved)
        dark = (np.float32(126) - luma).reshape(luma.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) / (126 - 80)
        assert np.abs(dark - (red - np.float32(128)) / (240 - 128)).mean() < 0.02


def test_overshoot_at_edges_is_clamped_to_ten_bits():
    frame = noise("yuv420p10le")
    (moved,) = warped([frame], [0.5, 0.5, 0.1, 0], Border.MIRROR)
    assert max(int(plane.max()) for plane in planes(moved)) == 1023


@pytest.mark.parametrize("there", [3, 5])
def test_wrong_frame_count_is_an_error(there: int):
    frames = [noise("yuv420p")] * there
    with pytest.raises(ClipError, match="more than the 4" if there == 5 else "after 3 frames"):
        warped(frames, np.zeros((4, 4)), Border.EDGE)


@pytest.mark.parametrize(
    ("pixel_format", "size", "border"),
    [
        ("yuv420p", (WIDTH, HEIGHT), Border.FILL),
        ("yuv420p", (WIDTH + 1, HEIGHT), Border.CROP),
        ("yuv420p", (WIDTH, HEIGHT + 1), Border.CROP),
        ("yuv410p", (WIDTH, HEIGHT), Border.CROP),
        ("yuva420p", (WIDTH, HEIGHT), Border.CROP),
        ("nv12", (WIDTH, HEIGHT), Border.CROP),
        ("p010le", (WIDTH, HEIGHT), Border.CROP),
        ("yuv420p10be", (WIDTH, HEIGHT), Border.CROP),
        ("gbrp", (WIDTH, HEIGHT), Border.CROP),
        ("rgb24", (WIDTH, HEIGHT), Border.CROP),
        ("gray", (WIDTH, HEIGHT), Border.CROP),
    ],
)
def test_unsupported_formats_are_warped_in_rgb(pixel_format: str, size: tuple[int, int], border: Border):
    assert not can_warp_yuv(replace(STREAM_FORMAT, pixel_format=pixel_format), *size, border)


def test_transposed_422_is_not_supported():
    turned = replace(STREAM_FORMAT, pixel_format="yuv422p", orientation=Orientation(transpose=True))
    assert not can_warp_yuv(turned, WIDTH, HEIGHT, Border.CROP)


def test_pipeline_has_native_frames_only_if_no_operation_needs_rgb(tmp_path: Path):
    clip = VideoClip(make_video(tmp_path / "in.mp4", 3))
    steady = WarpOp(fix_of(np.zeros((3, 4)), clip.info.width, clip.info.height), Border.EDGE)
    assert Pipeline(clip).then(steady).native_frames() is not None
    for other in (
        Pipeline(clip),
        Pipeline(clip).then(replace(steady, pad=2)),
        Pipeline(clip).then(replace(steady, border=Border.FILL)),
        Pipeline(clip).then(replace(steady, device="cuda")),
        Pipeline(clip).then(steady).then(DeflickerOp()),
        Pipeline(TensorClip(torch.rand(3, 3, 48, 64))).then(steady),
    ):
        assert other.native_frames() is None


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_file_from_native_frames_equals_file_from_rgb_frames(tmp_path: Path, rotation: int, name: str):
    clip = VideoClip(make_video(tmp_path / "in.mp4", 6, rotation=rotation))
    path = make_shake_path(6, pixels=3.0, angle=0.02)
    recipe = Pipeline(clip).then(WarpOp(fix_of(path, clip.info.width, clip.info.height), Border.MIRROR))
    frames = recipe.native_frames()
    assert frames is not None
    for stream, file in ((frames, tmp_path / name), (recipe.frames(), tmp_path / f"by-rgb-{name}")):
        assert write_video(file, stream, clip.info, source=clip.path) == 6
    actual, expected = (VideoClip(file) for file in (tmp_path / name, tmp_path / f"by-rgb-{name}"))
    assert actual.stream_format == expected.stream_format
    for a, b in zip(actual.frames(), expected.frames(), strict=True):
        assert float((a - b).abs().mean()) < 2.5 / 255
