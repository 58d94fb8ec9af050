from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest_upscaler import NearestUpscaler, random_frames, run_upscale
from steadyscale.core.upscaling import tile_size
from steadyscale.core.upscaling.settings import Tiling
from steadyscale.core.upscaling.tile_size import estimate_activation_bytes, plan_tiles
from steadyscale.core.upscaling.tiles import MIN_CORE, TilePlan, window_pixels
from torch import nn

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def free(monkeypatch):
    def is_free(count):
        monkeypatch.setattr(tile_size, "accelerator_for", lambda device: SimpleNamespace(free_memory=lambda: count))

    return is_free


def test_plan_on_a_cpu(free):
    free(1e12)
    plan = plan_tiles(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer_bytes=256.0)
    assert 1 << 24 < window_pixels(1080, 1920, plan.core_size, 18) * 256 < 1 << 25, "a layer's result is at most 32 MB"
    assert plan_tiles(361, 361, 8, 18, CPU, Tiling(), 1000.0, layer_bytes=256.0) == TilePlan(1, 361)
    assert plan_tiles(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer_bytes=1024.0).core_size < plan.core_size / 1.8
    assert plan_tiles(1080, 1920, 8, 64, CPU, Tiling(), 1000.0) == TilePlan(1, 1920)
    assert plan_tiles(1080, 1920, 8, 64, CPU, Tiling(size=77), 1000.0) == TilePlan(1, 77)
    assert plan_tiles(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, full_frames=True) == TilePlan(1, 1920)
    free(1e9)
    assert plan_tiles(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, full_frames=True).core_size < 1080


def test_plan_on_a_gpu(free):
    free(1e12)
    assert plan_tiles(270, 480, 64, 64, GPU, Tiling(), 1000.0) == TilePlan((1 << 20) // (270 * 480), 480)
    assert plan_tiles(270, 480, 2, 64, GPU, Tiling(), 1000.0) == TilePlan(2, 480)
    assert plan_tiles(2160, 3840, 2, 64, GPU, Tiling(), 1000.0).batch_size == 1


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 64), st.sampled_from([CPU, GPU]), st.floats(1, 1e12))
def test_the_automatic_plan_fits_into_free_memory(height, width, halo, device, available):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_size, "accelerator_for", lambda device: SimpleNamespace(free_memory=lambda: available))
        plan = plan_tiles(height, width, 4, halo, device, Tiling(), 100.0)
    needed = plan.batch_size * window_pixels(height, width, plan.core_size, halo) * 100.0
    assert needed < available or (plan.batch_size == 1 and plan.core_size <= MIN_CORE)


def test_the_memory_estimate_follows_the_widest_layer():
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 3, 3))
    net.scale = 4
    assert estimate_activation_bytes(net, 4) == 64 * 16 * 4 * 4
    net.activation_bytes = 12.0  # a declared value overrides it
    assert estimate_activation_bytes(net, 4) == 12.0


@pytest.mark.parametrize(("full_frames", "calls"), [(False, [(1, 3, 220, 220)] * 4), (True, [(1, 3, 400, 400)])])
def test_a_network_that_prefers_full_frames_is_not_tiled(free, full_frames, calls):
    free(1e12)
    model = NearestUpscaler()
    model.halo, model.prefers_full_frames = 18, full_frames
    run_upscale(random_frames(1, 3, 400, 400), model)
    assert model.calls == calls
