import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from repeated import Nearest, clip, run
from steadyscale.core.upscaling import tile_size
from steadyscale.core.upscaling.settings import Tiling
from steadyscale.core.upscaling.tile_size import choose_cut, guessed_bytes
from steadyscale.core.upscaling.tiles import SMALLEST_CORE, Cut, window_pixels
from torch import nn

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def free(monkeypatch):
    def is_free(count):
        monkeypatch.setattr(tile_size, "free_memory", lambda device: count)

    return is_free


def test_the_policy_on_a_cpu(free):
    free(1e12)
    cut = choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer=256.0)
    assert 1 << 24 < window_pixels(1080, 1920, cut.size, 18) * 256 < 1 << 25, "a layer's result is at most 32 MB"
    assert choose_cut(361, 361, 8, 18, CPU, Tiling(), 1000.0, layer=256.0) == Cut(1, 361)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer=1024.0).size < cut.size / 1.8
    assert choose_cut(1080, 1920, 8, 64, CPU, Tiling(), 1000.0) == Cut(1, 1920)
    assert choose_cut(1080, 1920, 8, 64, CPU, Tiling(size=77), 1000.0) == Cut(1, 77)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, whole=True) == Cut(1, 1920)
    free(1e9)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, whole=True).size < 1080


def test_the_policy_on_a_card(free):
    free(1e12)
    assert choose_cut(270, 480, 64, 64, CARD, Tiling(), 1000.0) == Cut((1 << 20) // (270 * 480), 480)
    assert choose_cut(270, 480, 2, 64, CARD, Tiling(), 1000.0) == Cut(2, 480)
    assert choose_cut(2160, 3840, 2, 64, CARD, Tiling(), 1000.0).frames == 1


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 64), st.sampled_from([CPU, CARD]), st.floats(1, 1e12))
def test_the_automatic_cut_stays_below_what_is_free(height, width, halo, device, available):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_size, "free_memory", lambda device: available)
        cut = choose_cut(height, width, 4, halo, device, Tiling(), 100.0)
    needed = cut.frames * window_pixels(height, width, cut.size, halo) * 100.0
    assert needed < available or (cut.frames == 1 and cut.size <= SMALLEST_CORE)


def test_the_guess_at_memory_follows_the_widest_layer():
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 3, 3))
    assert guessed_bytes(net, 4) == 64 * 16 * 4 * 4
    net.activation_bytes = 12.0  # a network knows better
    assert guessed_bytes(net, 4) == 12.0
    assert tile_size.free_memory(CPU) > 1e6


@pytest.mark.parametrize(("whole", "calls"), [(False, [(1, 3, 220, 220)] * 4), (True, [(1, 3, 400, 400)])])
def test_a_network_that_keeps_its_memory_is_shown_whole_frames(free, whole, calls):
    free(1e12)
    model = Nearest()
    model.halo, model.whole_frames = 18, whole
    run(clip(1, 3, 400, 400), model)
    assert model.calls == calls
