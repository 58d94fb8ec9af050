"""Frames are bent by a mesh in one interpolation, in every format, with every border."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from camera_simulation import make_texture
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.path.mesh import MESH_SHAPE, mesh_vertices
from steadyscale.core.path.trajectory import Correction, inverse
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.slicing import render_piece
from steadyscale.core.pipeline.warp_op import WarpOp, union_fill_mask
from steadyscale.core.smoothing.transfer import undo
from steadyscale.core.video.format.stream_format import BT709, Orientation, StreamFormat
from steadyscale.core.warping.sampling_map import sampling_map
from steadyscale.core.warping.warp import warp
from steadyscale.core.warping.warp_yuv import warp_yuv

WIDTH, HEIGHT, COUNT = 160, 96, 3


def bend_at(points, i):
    """Offsets (..., 2) of frame `i`, smooth enough for linear interpolation between vertices."""
    x, y = points[..., 0] / WIDTH, points[..., 1] / HEIGHT
    return (1 + i) * np.stack([2 * np.sin(2 * x + y), 1.5 * np.cos(2 * y) * (1 + x)], axis=-1)


@pytest.fixture(scope="module")
def fix() -> Correction:
    mesh = np.stack([bend_at(mesh_vertices(WIDTH, HEIGHT), i) for i in range(COUNT)]).astype(np.float32)
    parameters = np.array([[3, -2, 0.02, 0.01], [-2, 1, -0.01, 0.0], [1, 1, 0.0, -0.01]])
    matrices = geometry.matrices_from_parameters(parameters)
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT)
    return Correction(matrices, [slice(0, COUNT)], info, matrices, mesh=mesh)


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    sharp = make_texture(HEIGHT * 4, WIDTH * 4)
    return torch.nn.functional.interpolate(sharp, (HEIGHT, WIDTH), mode="area").repeat(COUNT, 1, 1, 1)


def warped(frames, fix, border, **settings):
    out = list(warp(TensorClip(frames, Fraction(25)).frames(), fix, border, **settings))
    return torch.cat([w.frames for w in out]), torch.cat([w.fill_mask for w in out])


def pixel_points(step=1):
    y, x = np.meshgrid(np.arange(0, HEIGHT, step), np.arange(0, WIDTH, step), indexing="ij")
    return np.stack([x + 0.5 - WIDTH / 2, y + 0.5 - HEIGHT / 2], axis=-1).astype(float)


def exact_source(fix, i):
    """Source points (HEIGHT, WIDTH, 2) of the output pixels."""
    moved = geometry.transform_points(np.linalg.inv(fix.matrices[i]), pixel_points().reshape(-1, 2))
    return (moved + bend_at(moved, i)).reshape(HEIGHT, WIDTH, 2)


@pytest.mark.parametrize("factor", [1, 4])
def test_source_coords_are_those_of_the_mesh(fix, factor):
    large = fix.scaled(factor)
    buffers = np.empty((3, large.info.height, large.info.width), np.float32)
    for i in range(COUNT):
        x, y = sampling_map(large, i).source_coords(buffers)
        source = np.stack([x, y], axis=-1) - (np.array(large.info.size) - 1) / 2
        moved = geometry.transform_points(
            np.linalg.inv(large.matrices[i]),
            (np.argwhere(np.ones(x.shape))[:, ::-1] - (np.array(large.info.size) - 1) / 2),
        )
        exact = moved + factor * bend_at(moved / factor, i)
        assert np.abs(source.reshape(-1, 2) - exact).max() < 0.25 * factor, "linear between vertices"
        tensors = sampling_map(large, i).source_coords(torch.empty(3, *x.shape))
        assert np.abs(np.stack([t.numpy() for t in tensors]) - [x, y]).max() < 1e-4


def test_a_crop_of_the_map_is_a_part_of_it(fix):
    whole = sampling_map(fix, 1).source_coords(np.empty((3, HEIGHT, WIDTH), np.float32))
    part = sampling_map(fix, 1).crop(slice(20, 70), slice(30, 130)).source_coords(np.empty((3, 50, 100), np.float32))
    for a, b in zip(whole, part, strict=True):
        assert np.abs(a[20:70, 30:130] - b).max() < 0.05


def test_a_frame_without_offsets_is_warped_as_without_a_mesh(fix, frames):
    still = replace(fix, mesh=fix.mesh * np.array([0, 1, 0], np.float32)[:, None, None, None])
    bent, straight = (warped(frames, each, Border.MIRROR)[0] for each in (still, replace(fix, mesh=None)))
    assert torch.equal(bent[0], straight[0])
    assert torch.equal(bent[2], straight[2])
    assert not torch.allclose(bent[1], straight[1], atol=0.05)


def test_opencv_and_torch_agree(fix, frames, monkeypatch):
    expected, mask = warped(frames, fix, Border.EDGE)
    monkeypatch.setattr("steadyscale.core.warping.warp.optional_opencv", lambda: None)
    got, other_mask = warped(frames, fix, Border.EDGE)
    assert torch.equal(mask, other_mask)
    inside = slice(4, -4)
    assert (got - expected)[..., inside, inside].abs().mean() < 2e-3


def test_alpha_is_bent_with_the_colors(fix, frames):
    with_alpha = torch.cat([frames, frames[:, :1]], dim=1)
    moved, _ = warped(with_alpha, fix, Border.MIRROR)
    assert torch.equal(moved[:, 3], moved[:, 0])


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
def test_a_crop_contains_source_pixels_only(fix, border, inverted):
    gray = torch.full((COUNT, 3, HEIGHT, WIDTH), 0.7)
    moved, fill_mask = warped(gray, inverse(fix) if inverted else fix, border)
    assert not fill_mask.any()
    assert torch.allclose(moved, gray, atol=1e-5)


def test_the_fill_mask_is_that_of_the_bent_frame(fix):
    moved, fill_mask = warped(torch.ones(COUNT, 3, HEIGHT, WIDTH), fix, Border.BLACK)
    for i in range(COUNT):
        outside = (np.abs(exact_source(fix, i)) - np.array([WIDTH, HEIGHT]) / 2).max(axis=-1)
        assert fill_mask[i][torch.from_numpy(outside > 0.15)].all()
        assert not fill_mask[i][torch.from_numpy(outside < -0.15)].any()
    assert (moved[:, 0][fill_mask == 0] > 0.2).all()
    ever = union_fill_mask(WarpOp(fix, Border.BLACK), fix.info)[0]
    assert (ever >= fill_mask.amax(dim=0)).all()


def test_undo_restores_the_frame(fix, frames):
    steady, _ = warped(frames, fix, Border.MIRROR, pad=24)
    again, _ = warped(steady, undo(fix, Border.MIRROR, pad=24), Border.MIRROR, pad=-24)
    straight, _ = warped(steady, undo(replace(fix, mesh=None), Border.MIRROR, pad=24), Border.MIRROR, pad=-24)
    inside = (..., slice(8, -8), slice(8, -8))
    assert (again - frames)[inside].abs().mean() < 0.015, "two interpolations"
    assert (straight - frames)[inside].abs().mean() > 0.03
    assert not inverse(inverse(fix)).distorts_rows


def test_neighbors_fill_with_their_own_mesh(frames):
    """Content that a mesh holds still is filled from where the neighbor has it."""
    count, info = 6, ClipInfo(WIDTH, HEIGHT, Fraction(25), 6)
    mesh = np.zeros((count, *MESH_SHAPE, 2), np.float32)
    mesh[..., 0] = np.array([6, -6, 6, -6, 6, -6])[:, None, None]
    scene = make_texture(HEIGHT, WIDTH + 20)
    shaken = torch.cat([scene[..., 10 - k : 10 - k + WIDTH] for k in (6, -6, 6, -6, 6, -6)])
    still = np.tile(np.eye(3), (count, 1, 1))
    moved, fill_mask = warped(shaken, Correction(still, [slice(0, count)], info, still, mesh=mesh), Border.FILL)
    error = (moved - scene[..., 10 : 10 + WIDTH]).abs().mean(dim=1)
    assert fill_mask.sum() > 200
    assert error[fill_mask > 0].mean() < 0.02
    assert error[fill_mask == 0].mean() < 0.01


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p10le"])
def test_yuv_frames_are_bent_as_rgb_frames_are(fix, frames, pixel_format):
    stored = StreamFormat("h264", pixel_format, Orientation(), Fraction(1), BT709, False, BT709, BT709)
    gray = frames.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    native = []
    for frame in gray:
        rgb = VideoFrame.from_ndarray((frame.permute(1, 2, 0) * 255).round().byte().numpy(), "rgb24")
        native.append(VideoReformatter().reformat(rgb, format=pixel_format, dst_colorspace=1))
    depth = 4 if "10" in pixel_format else 1
    expected, _ = warped(gray, fix, Border.MIRROR)
    out = [f for batch in warp_yuv(cv2, ([f] for f in native), fix, Border.MIRROR, stored) for f in batch]
    for result, truth in zip(out, expected, strict=True):
        kind = "<u2" if depth > 1 else np.uint8
        luma = np.frombuffer(bytes(result.planes[0]), kind).reshape(HEIGHT, -1)[:, :WIDTH].astype(float)
        assert np.abs((luma / depth - 16) / 219 - truth[0].numpy()).mean() < 0.006


def test_a_piece_equals_the_whole_clip(fix, frames):
    plan, piece = Pipeline(TensorClip(frames, Fraction(25))).then(WarpOp(fix, Border.MIRROR)), range(1, 3)
    expected = torch.cat(list(plan.frames()))
    stream = (frames[i : i + 1] for i in piece)
    assert torch.equal(torch.cat(list(render_piece(plan, stream, piece, piece))), expected[1:3])


def test_a_gpu_gives_the_frames_of_the_cpu(gpu, fix, frames):
    expected, _ = warped(frames, fix, Border.MIRROR)
    results, _ = warped(frames, fix, Border.MIRROR, device="simgpu")
    straight, _ = warped(frames, replace(fix, mesh=None), Border.MIRROR)
    assert float((results - expected).abs().mean()) < 0.004
    assert float((straight - expected).abs().mean()) > 0.02
