from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling import tiles
from steadyscale.core.upscaling.tiles import (
    ALIGN,
    EXACT_ALIGN,
    FEATHER,
    MIN_CORE,
    Rect,
    Span,
    TilePlan,
    make_tiles,
    run_tiles,
    shrink_plan,
    split_axis,
    window_pixels,
)
from torch import nn

lengths = st.integers(1, 200)
sizes = st.integers(1, 220)
halos = st.integers(0, 70)
sides = st.integers(1, 60)


def nearest(x, scale=2):
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


class Exact(nn.Module):
    """3x3 convolutions with weights -1, 0, 1: on inputs of few bits every sum is exact in float32, in any order."""

    def __init__(self, layers, seed=0):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers))
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            for weights in layer.parameters():
                weights.data = torch.randint(-1, 2, weights.shape, generator=generator).float()

    @torch.no_grad()
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return nearest(x)


def few_bits(*shape, seed=0):
    return torch.randint(0, 16, shape, generator=torch.Generator().manual_seed(seed)).float() / 16


@settings(deadline=None)
@given(lengths, sizes, halos, st.sampled_from([ALIGN, EXACT_ALIGN]))
def test_cores_cover_an_axis_once_and_windows_reach_far_enough(length, size, halo, anchor):
    pieces = split_axis(length, size, halo, align=anchor)
    assert [i for piece in pieces for i in range(piece.core.start, piece.core.end)] == list(range(length))
    for piece in pieces:
        assert len(piece.core) <= size + ALIGN - 1
        assert piece.window.start <= max(0, piece.core.start - halo)
        assert piece.window.end >= min(length, piece.core.end + halo)
        assert piece.window.start >= 0
        assert piece.window.end <= length
        assert piece.window.start % anchor == 0
    assert len({len(piece.window) for piece in pieces}) == 1


@settings(deadline=None)
@given(lengths, sizes, halos, st.integers(1, 64))
def test_a_core_is_split_again_without_gaps(length, size, halo, less):
    for tile in split_axis(length, size, halo):
        parts = split_axis(length, less, halo, tile.core)
        assert parts[0].core.start == tile.core.start
        assert parts[-1].core.end == tile.core.end
        assert all(a.core.end == b.core.start for a, b in pairwise(parts))
        for part in parts:
            assert part.window.start <= max(0, part.core.start - halo)
            assert part.window.end >= min(length, part.core.end + halo)
            assert 0 <= part.window.start < part.window.end <= length


def test_cores_are_even_and_frames_in_order():
    assert [piece.core for piece in split_axis(480, 256, 18)] == [Span(0, 240), Span(240, 480)]
    tiles = make_tiles(3, 8, 480, TilePlan(2, 256), 18)
    assert [(tile.frames, tile.cols.core.start) for tile in tiles] == [
        (Span(0, 2), 0),
        (Span(0, 2), 240),
        (Span(2, 3), 0),
        (Span(2, 3), 240),
    ]


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 70), st.integers(0, 3), st.integers(0, 9), st.integers(1, 3))
def test_tiled_and_untiled_results_are_bit_identical(height, width, size, layers, extra, batch):
    net = Exact(layers)
    frames = few_bits(3, 3, height, width)
    out = torch.full((3, 3, height * 2, width * 2), torch.nan)
    plan = run_tiles(net, frames, out, scale=2, halo=layers + extra, plan=TilePlan(batch, size))
    assert plan == TilePlan(batch, size)
    assert torch.equal(out, net(frames))


def test_real_convolutions_agree_when_tiled():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 24, 3, padding=1), nn.PReLU(24), nn.Conv2d(24, 24, 3, padding=1), nn.PReLU(24)]
    net = nn.Sequential(*layers, nn.Conv2d(24, 12, 3, padding=1), nn.PixelShuffle(2)).requires_grad_(False)
    frames = torch.rand(1, 3, 150, 170)
    out = torch.zeros(1, 3, 300, 340)
    run_tiles(net, frames, out, scale=2, halo=3, plan=TilePlan(1, 64))
    torch.testing.assert_close(out, net(frames), atol=1e-6, rtol=0)


def test_a_halo_that_is_too_small_changes_the_result():
    net, frames = Exact(3), few_bits(1, 3, 64, 64)
    out = torch.zeros(1, 3, 128, 128)
    run_tiles(net, frames, out, scale=2, halo=0, plan=TilePlan(1, 32))
    assert not torch.equal(out, net(frames))


@pytest.mark.parametrize("fold", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (68, 100)])
def test_pixel_unshuffle_sees_the_same_blocks(fold, height, width):
    def net(x):
        folded = torch.nn.functional.pixel_unshuffle(x, fold)
        return torch.nn.functional.pixel_shuffle(folded.flip(1), fold).flip(1)

    frames = few_bits(1, 3, height, width)
    out = torch.zeros_like(frames)
    run_tiles(net, frames, out, scale=1, halo=5, plan=TilePlan(1, 24))
    assert torch.equal(out, net(frames))


class Limited:
    """Upscales, but runs out of memory above some pixels per call. `done`: pixels of the other calls."""

    def __init__(self, pixels, error=torch.cuda.OutOfMemoryError):
        self.pixels, self.error, self.done, self.refused = pixels, error, [], 0

    def __call__(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.pixels:
            self.refused += 1
            raise self.error("CUDA out of memory")
        self.done.append(x.shape[0] * x.shape[2] * x.shape[3])
        return nearest(x)


def test_out_of_memory_halves_batch_then_tile_and_computes_nothing_twice():
    net, frames = Limited(50 * 50), few_bits(3, 3, 96, 144)
    out = torch.zeros(3, 3, 192, 288)
    plan = run_tiles(net, frames, out, scale=2, halo=0, plan=TilePlan(3, 1000))
    assert torch.equal(out, nearest(frames))
    assert plan == TilePlan(1, 36)
    assert net.refused == 4  # 3 frames, 2 frames, 1 frame, 72: one call each, not one for each tile that is left
    assert sum(net.done) == 3 * 96 * 144


def test_tiles_computed_before_memory_ran_out_are_kept():
    calls = []

    def net(x):
        calls.append(x.shape[2] * x.shape[3])
        if len(calls) == 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return nearest(x)

    frames = few_bits(1, 3, 128, 128)
    out = torch.zeros(1, 3, 256, 256)
    assert run_tiles(net, frames, out, scale=2, halo=0, plan=TilePlan(1, 64)) == TilePlan(1, 32)
    assert torch.equal(out, nearest(frames))
    assert calls == [64 * 64] * 4 + [32 * 32] * 4


def test_out_of_memory_for_the_smallest_tile_is_an_error_with_numbers():
    frames = few_bits(1, 3, 200, 300)
    with pytest.raises(ClipError, match=r"300x200.*tiles of 32 pixels.*halo of 8"):
        run_tiles(Limited(1000), frames, torch.zeros(1, 3, 400, 600), scale=2, halo=8, plan=TilePlan(1, 300))


def test_plans_with_the_same_window_are_skipped():
    net = Limited(10)
    with pytest.raises(ClipError, match="100x100"):
        run_tiles(net, few_bits(1, 3, 100, 100), torch.zeros(1, 3, 200, 200), scale=2, halo=64, plan=TilePlan(1, 100))
    assert net.refused == 1


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), halos, st.integers(1, 4), st.integers(1, 600))
def test_each_smaller_plan_needs_less_and_the_sequence_ends(height, width, halo, frames, size):
    plan, needs = TilePlan(frames, size), frames * window_pixels(height, width, size, halo)
    while (less := shrink_plan(plan, height, width, halo)) is not None:
        assert less.core_size >= min(MIN_CORE, size)
        assert less.batch_size * window_pixels(height, width, less.core_size, halo) < needs
        plan, needs = less, less.batch_size * window_pixels(height, width, less.core_size, halo)


def test_other_errors_are_passed_on_at_once():
    calls = []

    def net(x):
        calls.append(x)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        run_tiles(net, few_bits(1, 3, 64, 64), torch.zeros(1, 3, 128, 128), scale=2, halo=0, plan=TilePlan(1, 32))
    assert len(calls) == 1


def test_a_wrong_scale_is_an_error():
    with pytest.raises(ClipError, match="scale of 4"):
        run_tiles(nearest, few_bits(1, 3, 8, 8), torch.zeros(1, 3, 32, 32), scale=4, halo=0, plan=TilePlan(1, 8))


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 70), st.integers(0, 3), st.sampled_from([ALIGN, EXACT_ALIGN]))
def test_a_network_that_supports_roi_computes_cores_only(height, width, size, layers, anchor):
    net, frames, computed = Exact(layers), few_bits(2, 3, height, width), []

    def network(window, roi, out):
        rows, cols = roi
        computed.append((rows.stop - rows.start) * (cols.stop - cols.start))
        return net(window)[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2]

    out = torch.full((2, 3, height * 2, width * 2), torch.nan)
    options = {"halo": layers, "plan": TilePlan(1, size), "align": anchor}
    run_tiles(network, frames, out, scale=2, supports_roi=True, **options)
    assert torch.equal(out, net(frames))
    assert sum(computed) == 2 * height * width


def test_a_network_that_supports_roi_may_write_into_the_result(monkeypatch):
    net, frames, places = Exact(3), few_bits(2, 3, 90, 70), []

    def network(window, roi, out):
        rows, cols = roi
        places.append(out.data_ptr())
        return out.copy_(net(window)[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2])

    monkeypatch.setattr(tiles, "_write_tile", None)  # Nothing is left to copy.
    out = torch.full((2, 3, 180, 140), torch.nan)
    run_tiles(network, frames, out, scale=2, halo=3, plan=TilePlan(1, 32), supports_roi=True, clamp=True)
    assert torch.equal(out, net(frames))
    assert all(0 <= place - out.data_ptr() < 4 * out.numel() for place in places)


def test_a_roi_result_of_the_wrong_size_is_an_error():
    with pytest.raises(
        ClipError, match=r"returned \(1, 3, 80, 80\) for a tile \(1, 3, 40, 40\), .* means \(1, 3, 64, 64\)"
    ):
        run_tiles(
            lambda window, roi, out: nearest(window),
            few_bits(1, 3, 64, 64),
            torch.zeros(1, 3, 128, 128),
            scale=2,
            halo=8,
            plan=TilePlan(1, 32),
            supports_roi=True,
        )


def test_results_are_clamped_only_in_the_rectangles_and_only_on_request():
    frames = few_bits(2, 3, 50, 70) * 3 - 1
    for dtype in (torch.float32, torch.float64):
        out = torch.full((2, 3, 100, 140), 7.0, dtype=dtype)
        box = Rect(Span(0, 32), Span(16, 48))
        run_tiles(nearest, frames, out, scale=2, halo=0, plan=TilePlan(1, 32), rects=[box], clamp=True)
        assert torch.equal(out[..., :64, 32:96], nearest(frames).clamp(0, 1)[..., :64, 32:96].to(dtype))
        assert bool((out[..., 64:, :] == 7).all())
        run_tiles(nearest, frames, out, scale=2, halo=0, plan=TilePlan(1, 32))
        assert torch.equal(out, nearest(frames).to(dtype))


@settings(deadline=None)
@given(lengths, st.integers(1, 90), st.integers(8, 70))
def test_blended_tiles_of_equal_results_are_that_result(length, size, halo):
    frames = torch.rand(1, 3, length, 20)
    out = torch.full((1, 3, 2 * length, 40), torch.nan)
    run_tiles(nearest, frames, out, scale=2, halo=halo, plan=TilePlan(1, size), feather=FEATHER)
    assert (out - nearest(frames)).abs().max() < 1e-6


def test_tiles_that_differ_are_blended_across_their_border():
    """The network returns the mean of its input, so the two tiles are 0 and 1 but for their halos."""

    def mean(x):
        return x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])

    frames = torch.cat([torch.zeros(1, 1, 32, 64), torch.ones(1, 1, 32, 64)], dim=3)
    hard, soft = torch.empty(2, 1, 1, 32, 128)
    run_tiles(mean, frames, hard, scale=1, halo=8, plan=TilePlan(1, 64))
    run_tiles(mean, frames, soft, scale=1, halo=8, plan=TilePlan(1, 64), feather=8)
    steps = soft[0, 0, 0].diff()
    assert hard[0, 0, 0].diff().abs().max() > 0.7
    assert steps.max() < 0.06
    assert steps.min() >= 0
    assert torch.equal(soft[..., :56], hard[..., :56])
    assert torch.equal(soft[..., 72:], hard[..., 72:])


def test_blending_survives_a_lack_of_memory():
    calls = []

    def network(x):
        calls.append(x.shape)
        if x.shape[-1] > 90:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return nearest(x)

    frames = torch.rand(1, 3, 100, 300)
    out = torch.empty(1, 3, 200, 600)
    run_tiles(network, frames, out, scale=2, halo=8, plan=TilePlan(1, 128), feather=FEATHER)
    assert len(calls) > 4
    assert (out - nearest(frames)).abs().max() < 1e-6
