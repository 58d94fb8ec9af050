"""Networks that read several frames: which ones they get, at the ends of clips and shots and in parts of a clip."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frame_picker import frame_picker
from nearest_upscaler import repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.preview_frames import preview_frames
from steadyscale.core.pipeline.slicing import render_piece, resolve_zoom, source_range, unbatch
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.upscaling.frame_windows import mirror
from steadyscale.core.upscaling.model.model_traits import read_traits
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import Alpha, PostProcess, Reuse, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import TSPAN, TSPANConfig


def make_shot(count: int, seed: int, height: int = 24, width: int = 32) -> torch.Tensor:
    """Frames of one scene that get brighter: each is known by its brightness."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    scene = F.interpolate(coarse, (height, width), mode="bilinear") * 0.7
    return scene + torch.arange(count).view(-1, 1, 1, 1) * 0.01


SHOTS = torch.cat([make_shot(4, 1), make_shot(3, 2), make_shot(1, 3), make_shot(2, 4)])


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, [2, 1, 0, 1, 2, 3]),
        (1, [1, 0, 1, 2, 3, 4]),
        (2, [0, 1, 2, 3, 4, 5]),
        (3, [1, 2, 3, 4, 5, 4]),
        (4, [2, 3, 4, 5, 4, 3]),
    ],
)
def test_the_ends_of_a_clip_are_mirrored(position, expected):
    frames = make_shot(6, 0)
    result = run_upscale(list(frames.split([3, 1, 2])), frame_picker(position, frames=5))
    torch.testing.assert_close(result, repeat_pixels(frames[expected]))


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, [1, 0, 1, 2, 5, 4, 5, 7, 9, 8]), (2, [1, 2, 3, 2, 5, 6, 5, 7, 9, 8])],
)
def test_no_frame_of_another_shot_is_read(position, expected):
    result = run_upscale(list(SHOTS.split(1)), frame_picker(position))
    torch.testing.assert_close(result, repeat_pixels(SHOTS[expected]))


def test_a_fast_pan_is_no_cut():
    coarse = torch.rand(1, 3, 20, 60, generator=torch.Generator().manual_seed(5))
    scene = F.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)
    frames = torch.cat([scene[..., 12 * n : 12 * n + 200] for n in range(3)])
    assert torch.corrcoef(torch.stack([frames[0].flatten(), frames[1].flatten()]))[0, 1] < 0.3
    result = run_upscale(list(frames.split(1)), frame_picker(0))
    torch.testing.assert_close(result, repeat_pixels(frames[[1, 0, 1]]))


def test_results_come_in_chunks_no_larger_than_the_input():
    frames = make_shot(7, 0)
    for sizes, largest in (([1] * 7, 1), ([1, 1, 2, 2, 1], 2), ([7], 5)):
        chunks = list(upscale(iter(frames.split(sizes)), frame_picker(0, frames=5)))
        assert (sum(map(len, chunks)), max(map(len, chunks))) == (7, largest)
    assert list(upscale(iter([]), frame_picker(0))) == []


def test_a_producer_may_use_its_memory_again():
    frames, buffer = make_shot(5, 0), torch.empty(1, 3, 24, 32)
    chunks = list(upscale((buffer.copy_(frame) for frame in frames.split(1)), frame_picker(0)))
    torch.testing.assert_close(torch.cat(chunks), repeat_pixels(frames[[1, 0, 1, 2, 3]]))


@pytest.mark.parametrize("count", [1, 2])
def test_a_still_image_takes_the_place_of_all_frames(count):
    frames = make_shot(count, 0)
    result = run_upscale(frames, frame_picker(4, frames=5))
    torch.testing.assert_close(result, repeat_pixels(frames))  # mirrored twice, of two frames


def test_mirrored_indices_stay_within_the_shot():
    assert [mirror(i, 2, 4) for i in range(-2, 9)] == [2, 3, 4, 3, 2, 3, 4, 3, 2, 3, 4]
    assert {mirror(i, 3, 3) for i in range(9)} == {3}


def test_tiles_have_no_seams():
    torch.manual_seed(0)
    network = TSPAN(TSPANConfig(features=4, scale=2, frames=3)).eval()
    frames = make_shot(3, 0, 64, 80)
    whole, tiled = (run_upscale(frames, network, tiling=Tiling(size)) for size in (None, 32))
    assert whole.std() > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)


def test_the_frame_itself_is_blended_and_gives_alpha():
    frames = torch.cat([make_shot(3, 0), make_shot(3, 0)[:, :1] + 0.1], dim=1)
    last = frames[[1, 0, 1]]
    plain = run_upscale(frames, frame_picker(0), alpha=Alpha.NETWORK)
    torch.testing.assert_close(plain, repeat_pixels(last))
    result = run_upscale(frames, frame_picker(0), postprocess=PostProcess(strength=0.5))
    size = frames.shape[-1] * 2, frames.shape[-2] * 2
    expected = (repeat_pixels(last) + resize(frames, *size)) / 2
    torch.testing.assert_close(result[:, :3], expected[:, :3])
    torch.testing.assert_close(result[:, 3:], resize(frames[:, 3:], *size))


def test_only_repeated_windows_are_reused():
    frames = make_shot(8, 0)[[0, 0, 0, 0, 1, 1, 1, 1]]
    stats = UpscaleStats()
    settings = UpscaleSettings(reuse=Reuse())
    result = torch.cat(list(upscale(iter(frames.split(1)), frame_picker(0), settings, stats=stats)))
    torch.testing.assert_close(result, repeat_pixels(frames[[1, 0, 1, 2, 3, 4, 5, 6]]))
    assert stats.frames == 8
    assert stats.repeated_frames == 4  # 1, 2, 6 and 7: the windows of 3, 4 and 5 have a change


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_parts_of_a_clip_are_those_of_the_whole(size):
    torch.manual_seed(0)
    network = TSPAN(TSPANConfig(features=4, scale=2, frames=5)).eval()
    pipeline = resolve_zoom(Pipeline(TensorClip(SHOTS)).then(UpscaleOp(network)), len(SHOTS))
    whole = torch.cat(list(pipeline.frames(2)))
    for start in range(0, len(SHOTS), size):
        piece = range(start, min(start + size, len(SHOTS)))
        span = source_range(pipeline, piece, len(SHOTS))
        assert span == range(max(0, piece.start - 2), min(len(SHOTS), piece.stop + 2))
        part = render_piece(pipeline, unbatch(iter([SHOTS[span.start : span.stop]])), span, piece)
        assert torch.equal(torch.cat(list(part)), whole[piece.start : piece.stop])


def test_a_preview_looks_ahead():
    pipeline = Pipeline(TensorClip(make_shot(6, 0))).then(UpscaleOp(frame_picker(2)))
    whole, preview = torch.cat(list(pipeline.frames())), torch.cat(list(preview_frames(pipeline, range(2, 4))))
    assert torch.equal(preview, whole[2:4])


def test_estimates_count_the_frames_of_a_window():
    info = TensorClip(SHOTS).info
    network = frame_picker(0, frames=5)
    single = 2 * UpscaleOp(network).output_info(info).frame_bytes
    assert UpscaleOp(network).frame_memory(info) == single + 2 * 5 * info.frame_bytes


def test_several_devices_share_windows():
    result = torch.cat(list(upscale(iter(SHOTS.split(1)), frame_picker(0), device="cpu,cpu")))
    torch.testing.assert_close(result, repeat_pixels(SHOTS[[1, 0, 1, 2, 5, 4, 5, 7, 9, 8]]))


def test_only_networks_for_rgb_read_several_frames():
    network = frame_picker(0)
    network.in_channels = network.out_channels = 1
    with pytest.raises(ClipError, match="reads 1 frames before and 1 after each one, of 1 channels"):
        read_traits(network)
