"""A pipeline gives the frames of its stages one by one, from one reading of the source, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from camera_simulation import make_shake_path, make_shaken_clip, make_texture, render_camera
from numbered_video import numbered_frames, read_numbers
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo, Frames, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.path.trajectory import Correction, Trajectory, correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.upscaling.postprocess import add_film_grain_rgba
from steadyscale.core.upscaling.settings import OutputSize, UpscaleSettings


class Network:
    """Upscales smoothly, and counts its input frames."""

    halo = 8

    def __init__(self, scale: int = 2) -> None:
        self.scale, self.frames = scale, 0

    def __call__(self, frames: Frames) -> Frames:
        self.frames += len(frames)
        return F.interpolate(frames, scale_factor=self.scale, mode="bicubic", align_corners=False).clamp(0, 1)


class CountedClip:
    """A clip that counts how often it is read, and how many frames are taken."""

    def __init__(self, clip: TensorClip) -> None:
        self.info, self._clip = clip.info, clip
        self.readings = self.frames_read = 0

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        self.readings += 1
        for frames in self._clip.frames(batch):
            self.frames_read += len(frames)
            yield frames


def shifts(count: int, info: ClipInfo, seed: int = 0) -> Correction:
    """Small moves, turns and zooms, another for each frame."""
    matrices = geometry.matrices_from_parameters(make_shake_path(count, seed, pixels=3, angle=0.02))
    return Correction(matrices, [slice(0, count)], info)


def smooth_clip(count: int = 4, width: int = 64, height: int = 48) -> TensorClip:
    scene = make_texture(2 * height, 2 * width, spectral_slope=2.2)
    return TensorClip(
        render_camera(scene, geometry.matrices_from_parameters(make_shake_path(count)), width, height), Fraction(25)
    )


def types_of(pipeline: Pipeline) -> list[type]:
    return [type(operation) for operation in pipeline.operations]


def all_of(clip) -> torch.Tensor:
    return torch.cat(list(clip.frames()))


def test_nothing_runs_until_frames_are_read():
    clip, network = CountedClip(smooth_clip()), Network()
    pipeline = Pipeline(clip).then(UpscaleOp(network)).then(WarpOp(shifts(4, clip.info), Border.BLACK, pad=6))
    assert pipeline.info == ClipInfo(140, 108, Fraction(25), 4)
    stream = pipeline.frames()
    assert (clip.readings, network.frames) == (0, 0)
    next(stream)
    assert network.frames == 1, "and then frame by frame"


def test_a_chain_of_three_reads_the_source_once_and_keeps_every_frame():
    clip, network = CountedClip(TensorClip(numbered_frames(12, 96, 64))), Network()
    still = Correction(np.tile(np.eye(3), (12, 1, 1)), [slice(0, 12)], clip.info)
    pipeline = (
        Pipeline(clip)
        .then(WarpOp(still))
        .then(UpscaleOp(network))
        .then(UpscaleOp(Network(), UpscaleSettings(OutputSize(factor=0.5))))
    )
    assert read_numbers(pipeline, batch=5) == list(range(12))
    assert (clip.readings, clip.frames_read, network.frames) == (1, 12, 12)
    assert read_numbers(pipeline) == list(range(12)), "reading starts again"


@pytest.mark.parametrize("border", [b for b in Border if b is not Border.FILL])
def test_upscaling_after_a_warp_is_done_before_it_with_the_same_result(border: Border):
    clip, network = smooth_clip(), Network()
    warp_op, upscale_op = WarpOp(shifts(4, clip.info), border), UpscaleOp(network)
    pipeline = Pipeline(clip).then(warp_op).then(upscale_op)
    assert types_of(pipeline) == [UpscaleOp, WarpOp]
    in_order = Pipeline(clip, (warp_op, upscale_op))
    assert pipeline.info == in_order.info
    ours, theirs = all_of(pipeline), all_of(in_order)
    assert ours.shape == theirs.shape == (4, 3, 96, 128)
    inner = (..., slice(16, -16), slice(16, -16))  # at the border bicubic kernels see other neighbours
    assert (ours - theirs)[inner].abs().max() < 0.02
    unmoved = all_of(Pipeline(clip, (upscale_op,)))
    assert (ours - unmoved)[inner].abs().max() > 0.05, "and the frames did move"


@pytest.mark.parametrize(
    ("pad", "target", "scaled"),
    [
        (5, OutputSize(), 10),
        (6, OutputSize(factor=1.5), 9),
        (8, OutputSize(size=(120, 96)), 12),
        (0, OutputSize(factor=1.37), 0),
    ],
)
def test_a_pad_grows_with_the_frames(pad: int, target: OutputSize, scaled: int):
    clip = smooth_clip()
    warp_op, upscale_op = WarpOp(shifts(4, clip.info), Border.EDGE, pad), UpscaleOp(Network(), UpscaleSettings(target))
    pipeline = Pipeline(clip).then(warp_op).then(upscale_op)
    first, second = pipeline.operations
    assert isinstance(first, UpscaleOp)
    assert isinstance(second, WarpOp)
    assert second.pad == scaled
    in_order = Pipeline(clip, (warp_op, upscale_op))
    assert pipeline.info == in_order.info
    inner = (..., slice(scaled + 16, -scaled - 16), slice(scaled + 16, -scaled - 16))
    assert (all_of(pipeline) - all_of(in_order))[inner].abs().max() < 0.02


@pytest.mark.parametrize(("pad", "target"), [(5, OutputSize(factor=1.5)), (0, OutputSize(size=(100, 100)))])
def test_the_order_stays_where_the_other_gives_another_result(pad: int, target: OutputSize):
    clip = smooth_clip()
    pipeline = (
        Pipeline(clip)
        .then(WarpOp(shifts(4, clip.info), Border.EDGE, pad))
        .then(UpscaleOp(Network(), UpscaleSettings(target)))
    )
    assert types_of(pipeline) == [WarpOp, UpscaleOp]
    assert all_of(pipeline).shape[-2:] == (pipeline.info.height, pipeline.info.width)


def test_upscaling_is_moved_before_several_warps():
    clip = smooth_clip()
    warp_op = WarpOp(shifts(4, clip.info), Border.EDGE, pad=2)
    small = Pipeline(clip).then(warp_op)
    twice = small.then(WarpOp(shifts(4, small.info, seed=1), Border.BLACK)).then(UpscaleOp(Network(3)))
    assert types_of(twice) == [UpscaleOp, WarpOp, WarpOp]
    assert twice.info == ClipInfo(204, 156, Fraction(25), 4)
    assert all_of(twice).shape == (4, 3, 156, 204)


def test_a_correction_of_another_shape_is_refused_at_once():
    clip = smooth_clip()
    with pytest.raises(ClipError, match="another shape"):
        Pipeline(clip).then(WarpOp(shifts(4, ClipInfo(48, 64, Fraction(25)))))


def test_the_stream_ends_with_an_error_where_frames_are_missing():
    clip = smooth_clip(4)
    with pytest.raises(ClipError, match="ended after 4 frames"):
        all_of(Pipeline(clip).then(WarpOp(shifts(5, clip.info))))


def test_motion_is_measured_on_the_source_and_stated_for_the_result():
    clip, _ = make_shaken_clip(8, 160, 120)
    network, counted = Network(), CountedClip(clip)
    large = Pipeline(counted).then(UpscaleOp(network, UpscaleSettings(OutputSize(factor=3.0))))
    flow = flow_model()
    motion, small = estimate_motion(large, flow), estimate_motion(clip, flow)
    assert network.frames == 0
    assert counted.readings == 1
    assert motion.info == large.info
    np.testing.assert_allclose(motion.steps, geometry.rescale(small.steps, 3, 3), atol=1e-9)
    assert np.abs(motion.steps[:, :2, 2]).max() > 5, "there was motion to find"


def test_a_stabilized_clip_is_measured_as_steady():
    clip, _ = make_shaken_clip(10, 160, 120)
    measured = Trajectory.of(estimate_motion(clip, flow_model()))
    fix = correction(measured, smooth(measured, seconds=20.0))
    network = Network()
    pipeline = Pipeline(clip).then(UpscaleOp(network)).then(WarpOp(fix.scaled(2), Border.MIRROR, pad=4))

    def jitter(clip) -> float:
        return float(np.abs(np.diff(estimate_motion(clip, flow_model()).steps[1:, :2, 2], axis=0)).max())

    assert pipeline.info.width == 328
    assert jitter(pipeline) < 2 * jitter(clip) / 4, "in pixels of twice the size"
    assert network.frames == 0


def test_deflickered_frames_differ_less_and_grain_comes_after():
    torch.manual_seed(0)
    still = torch.rand(1, 3, 48, 64).expand(12, -1, -1, -1)
    noisy = (still * 0.8 + 0.1 + 0.03 * torch.randn(12, 3, 48, 64)).clamp(0, 1)
    pipeline = Pipeline(TensorClip(noisy)).then(DeflickerOp(0.6))
    deflickered = torch.cat(list(pipeline.frames()))
    assert deflickered.shape == noisy.shape
    assert pipeline.info == TensorClip(noisy).info
    assert deflickered.diff(dim=0).std() < 0.6 * noisy.diff(dim=0).std()
    grained = torch.cat(list(Pipeline(TensorClip(noisy)).then(DeflickerOp(0.6, grain=0.5)).frames()))
    assert torch.equal(grained, add_film_grain_rgba(deflickered, 0.5, 0))


def test_motion_is_measured_before_deflickering():
    source = TensorClip(torch.rand(3, 3, 40, 64))
    greys = list(Pipeline(source).then(DeflickerOp(1.0)).luma_frames(64))
    assert np.array_equal(greys, list(Pipeline(source).luma_frames(64)))


def test_frames_are_deflickered_before_they_are_warped():
    fix = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], ClipInfo(64, 40, Fraction(24), 3))
    pipeline = Pipeline(TensorClip(torch.rand(3, 3, 40, 64))).then(WarpOp(fix)).then(DeflickerOp())
    assert [type(operation) for operation in pipeline.operations] == [DeflickerOp, WarpOp]
