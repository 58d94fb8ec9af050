import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.upscaling.model.model_runner import ModelRunner
from steadyscale.core.upscaling.model.model_traits import ModelTraits
from steadyscale.core.upscaling.model.precision import ComputeMode
from steadyscale.core.upscaling.regions import change_detection
from steadyscale.core.upscaling.regions.dirty_rects import TILE_SIZE
from steadyscale.core.upscaling.regions.reuse import REUSE_TIMEOUT_FRAMES, RegionReuse, ReuseState
from steadyscale.core.upscaling.settings import OutputSize, Reuse, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from steadyscale.models.native import build_library
from steadyscale.models.native.bindings import INPUT_CONV, Arena, NativeLibrary
from steadyscale.models.native.compiler import find_compiler
from torch import nn

OFF = Reuse(enabled=False)
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler on this machine")


@pytest.fixture(scope="module", autouse=True)
def engine():
    """Build the engine if there is a compiler; each test selects whether it is used."""
    if find_compiler() is not None:
        build_library()


def nearest(x, scale=2):
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


class Reaching(nn.Module):
    """Has a receptive field of exactly `halo` pixels, and sums that are exact in float32 for 8-bit images:
    each pixel becomes itself plus fractions of those `halo` away. `pixels` counts the input pixels."""

    scale = 2

    def __init__(self, halo=3, channels=3):
        super().__init__()
        self.halo, self.in_channels, self.pixels, self.calls = halo, channels, 0, 0
        self.gain = nn.Parameter(torch.ones(1))
        self.eval()  # In training mode a replica would run, with counters of its own.

    def forward(self, x):
        self.pixels += x.shape[0] * x.shape[2] * x.shape[3]
        self.calls += 1
        h = self.halo
        wide = nn.functional.pad(x, (h, h, h, h))
        down, right = wide[..., 2 * h :, h : x.shape[-1] + h], wide[..., h : x.shape[-2] + h, 2 * h :]
        up, left = wide[..., : x.shape[-2], h : x.shape[-1] + h], wide[..., h : x.shape[-2] + h, : x.shape[-1]]
        return nearest((x + down + right * 2 + up * 4 + left * 8) / 16)


def still(frames, channels=3, height=200, width=300, seed=0):
    """The same 8-bit image in all frames, with values that float32 adds without rounding."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (1, channels, height, width), generator=generator) / 256
    return image.repeat(frames, 1, 1, 1)


def run(frames, model, chunk=1, **settings):
    stats = UpscaleStats()
    result = torch.cat(list(upscale(iter(frames.split(chunk)), model, UpscaleSettings(**settings), stats=stats)))
    return result, stats


def test_repeated_frames_are_not_computed_and_are_identical():
    frames = still(6)
    frames[3:] = still(3, seed=1)
    for chunk in (1, 2, 4, 6):
        model = Reaching()
        result, stats = run(frames, model, chunk)
        assert torch.equal(result, run(frames, Reaching(), chunk, reuse=OFF)[0])
        assert model.calls == 2
        assert (stats.frames, stats.repeated_frames, stats.tiles_reused, stats.computed_fraction) == (6, 4, 0, 2 / 6)


def test_with_a_wide_halo_only_whole_frames_are_reused():
    frames = still(4)
    frames[2:, :, 7, 9] = 0.0
    model = Reaching(halo=40)
    result, stats = run(frames, model)
    assert torch.equal(result, run(frames, Reaching(40), reuse=OFF)[0])
    assert (stats.repeated_frames, stats.tiles_reused, stats.computed_fraction) == (2, 0, 0.5)
    assert model.pixels == 2 * 200 * 300


@pytest.mark.parametrize("halo", [0, 1, 18, 32])
@pytest.mark.parametrize("pixel", [(0, 0), (63, 63), (64, 128), (81, 30), (199, 299), (110, 145)])
def test_one_changed_pixel_computes_the_tiles_within_the_halo(halo, pixel):
    frames = still(3)
    frames[1:, 1, pixel[0], pixel[1]] += 1 / 256
    model = Reaching(halo)
    result, stats = run(frames, model)
    truth = run(frames, Reaching(halo), reuse=OFF)[0]
    assert not torch.equal(truth[0], truth[1])
    assert torch.equal(result, truth)
    tiles = 17, 25
    near = [
        sum(TILE_SIZE * i - halo <= at < TILE_SIZE * (i + 1) + halo for i in range(count))
        for at, count in zip(pixel, tiles, strict=True)
    ]
    assert stats.tiles_computed == tiles[0] * tiles[1] + near[0] * near[1]
    assert stats.tiles_reused == tiles[0] * tiles[1] - near[0] * near[1]
    assert stats.repeated_frames == 1
    assert model.pixels < 200 * 300 * (1 + 0.7)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_results_with_and_without_reuse_are_identical(data):
    """For random sizes, halos, chunks, channels, tiles and changed rectangles."""
    height, width = data.draw(st.integers(1, 260)), data.draw(st.integers(1, 260))
    halo, channels = data.draw(st.sampled_from([0, 2, 7, 18, 32])), data.draw(st.sampled_from([1, 3, 4]))
    frames = still(6, data.draw(st.sampled_from([3, 4])), height, width)
    for n in range(1, 6):
        frames[n] = frames[n - 1]
        for _ in range(data.draw(st.integers(0, 3))):
            top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
            rows, cols = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 200))
            frames[n, :, top : top + rows, left : left + cols] = data.draw(st.integers(0, 255)) / 256
    size = data.draw(st.sampled_from([None, 32, 50, 128]))
    target = data.draw(st.sampled_from([OutputSize(), OutputSize(factor=1.5)]))
    options = {"tiling": Tiling(size), "size": target}
    result, stats = run(frames, Reaching(halo, channels), data.draw(st.integers(1, 6)), **options)
    assert torch.equal(result, run(frames, Reaching(halo, channels), reuse=OFF, **options)[0])
    assert stats.frames == 6
    assert stats.tiles_computed + stats.tiles_reused == (6 - stats.repeated_frames) * -(-height // TILE_SIZE) * -(
        -width // TILE_SIZE
    )


def test_a_real_network_with_reuse_agrees_with_torch():
    torch.manual_seed(0)
    model = SRVGGNetCompact(SRVGGConfig(features=16, convs=4, scale=2)).eval()
    frames = torch.rand(1, 3, 180, 250).repeat(5, 1, 1, 1)
    frames[1, :, 20:40, 30:90], frames[2:, :, 20:40, 30:90] = torch.rand(2, 3, 20, 60)
    frames[3:, :, 150:, 200:] = 0.5
    result, stats = run(frames, model)
    torch.testing.assert_close(result, run(frames, model, reuse=OFF)[0], atol=1e-6, rtol=0)
    assert stats.repeated_frames == 1
    assert 0.2 < stats.computed_fraction < 0.7


@pytest.mark.parametrize(("native", "convs", "max_fraction"), [(False, 16, 0.37), (True, 5, 0.25), (True, 16, 0.48)])
def test_a_screen_with_a_video_window_takes_half_of_the_work(monkeypatch, native, convs, max_fraction):
    """An eighth of the frame changes, which with the halos is a third of it. The engine rounds blocks of pixels
    together, which reaches further; results are bit-identical nevertheless."""
    monkeypatch.setenv("STEADYSCALE_NATIVE", "1" if native else "0")
    torch.manual_seed(0)
    model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=convs, scale=2)), "compact", "compact")
    frames = torch.rand(1, 3, 270, 480).repeat(4, 1, 1, 1)
    for n in range(1, 4):
        frames[n, :, 83:183, 177:337] = torch.rand(3, 100, 160)
    stats, result, computed = UpscaleStats(), [], []
    for frame in upscale(iter(frames.split(1)), model, stats=stats):
        result.append(frame)
        computed.append(stats.pixels_computed)
    result = torch.cat(result)
    truth = run(frames, model, reuse=OFF)[0]
    assert torch.equal(result, truth)
    assert float((truth[1] - truth[2]).abs().max()) > 0.05
    assert (computed[3] - computed[2]) / computed[0] <= max_fraction
    assert computed[2] < 2.5 * computed[0]  # The first half of the network fills the cache for the full frame.


@needs_compiler
@settings(max_examples=15, deadline=None)
@given(data=st.data(), convs=st.integers(0, 4), tile=st.sampled_from([None, 32, 50]))
def test_native_results_with_and_without_reuse_are_bit_identical(data, convs, tile):
    """Even and odd numbers of layers, untiled and tiled frames; single (also very bright) pixels and rectangles."""
    height, width = data.draw(st.integers(1, 170)), data.draw(st.integers(1, 170))
    torch.manual_seed(convs)
    frames = torch.rand(1, 3, height, width).repeat(5, 1, 1, 1)
    for n in range(1, 5):
        frames[n] = frames[n - 1]
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        rows, cols = data.draw(st.sampled_from([(1, 1), (2, 30), (40, 3), (25, 25), (170, 170)]))
        frames[n, :, top : top + rows, left : left + cols] = data.draw(st.sampled_from([0.5, 0.123, 9.0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_NATIVE", "1")
        model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=convs, scale=2)), "compact", "compact")
        truth = run(frames, model, reuse=OFF, tiling=Tiling(size=None))[0]
        result = run(frames, model, data.draw(st.sampled_from([1, 5])), tiling=Tiling(size=None))[0]
        assert model.engine == "native"
        assert torch.equal(result, truth)
        if tile is not None:  # Tiles equal the untiled frame as far as their halo allows, with and without reuse.
            tiled = run(frames, model, tiling=Tiling(size=tile))[0]
            torch.testing.assert_close(tiled, truth, atol=1e-5, rtol=0)


@needs_compiler
def test_counted_pixels_are_those_that_the_engine_computes(monkeypatch):
    """Windows, a cursor, a line of text and a corner; averaged over the layers, in blocks."""
    monkeypatch.setenv("STEADYSCALE_NATIVE", "1")
    torch.manual_seed(0)
    model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=9, scale=2)), "compact", "compact")
    frames = torch.rand(1, 3, 270, 480).repeat(7, 1, 1, 1)
    changes = [(90, 180, 150, 280), (100, 180, 150, 290)]
    changes += [(10, 26, 300, 310), (140, 152, 30, 450), (200, 270, 380, 480), (0, 270, 0, 200)]
    for n, (top, bottom, left, right) in enumerate(changes, start=1):
        frames[n] = frames[n - 1]
        frames[n, :, top:bottom, left:right] = torch.rand(3, bottom - top, right - left)
    plain, steps = NativeLibrary.run, []

    def run(library, ops, *rest):
        steps.extend(op for op in ops if op.kind != INPUT_CONV)
        plain(library, ops, *rest)

    monkeypatch.setattr(NativeLibrary, "run", run)
    blocks, counted, stats = [], [], UpscaleStats()
    for _ in upscale(iter(frames.split(1)), model, stats=stats):
        blocks.append(sum(-(-(op.bottom - op.top) // 6) * -(-(op.right - op.left) // 6) for op in steps))
        counted.append(stats.pixels_computed - sum(counted))
        steps.clear()
    assert model.engine == "native"
    assert 0.02 < counted[3] / counted[0] < 0.06
    for result, expected in zip(blocks, counted, strict=True):
        assert abs(result / blocks[0] / (expected / counted[0]) - 1) < 0.12


@needs_compiler
@pytest.mark.parametrize(("length", "dropped"), [(3, 3), (30, 3 + REUSE_TIMEOUT_FRAMES)])
def test_cached_activations_are_released_with_the_stream_and_in_camera_footage(monkeypatch, length, dropped):
    monkeypatch.setenv("STEADYSCALE_NATIVE", "1")
    model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=5, scale=2)), "compact", "compact")
    frames = torch.rand(length, 3, 60, 80)
    frames[1:3] = frames[0]
    frames[1, :, 20:30, 20:30], frames[2, :, 20:30, 20:30] = 0.5, 0.6
    drops, drop, result = [], Arena.release, 0
    monkeypatch.setattr(Arena, "release", lambda store: drops.append(result) or drop(store))
    for _ in upscale(iter(frames.split(1)), model):
        result += 1
    assert drops == [dropped]


def test_alpha_changes_in_frames_that_repeat_for_the_network():
    """Alpha is resized beside the network, so that it may change in a frame that repeats for the network."""
    frames = still(2, 4)
    frames[:, 3] = 1.0
    frames[1, 3, 50:, :] = 0.5
    result, stats = run(frames, Reaching())
    assert stats.repeated_frames == 1
    assert float(result[0, 3].min()) == 1.0
    assert abs(float(result[1, 3, 200:].mean()) - 0.5) < 1e-6


def test_a_consumer_may_modify_frames():
    frames, result = still(3), []
    for out in upscale(iter(frames.split(1)), Reaching()):
        result.append(out.clone())
        out.zero_()
    assert torch.equal(result[0], result[1])
    assert torch.equal(result[1], result[2])
    assert float(result[2].amax()) > 0.5


def test_a_producer_may_reuse_the_memory_of_frames():
    truth, buffer = still(4), torch.empty(1, 3, 200, 300)
    truth[2:, :, 10:20, 10:20] = 0.25

    def decoder():
        for frame in truth:
            buffer.copy_(frame)
            yield buffer

    result = torch.cat(list(upscale(decoder(), Reaching())))
    assert torch.equal(result, run(truth, Reaching(), reuse=OFF)[0])


def test_a_change_of_size_resets_reuse():
    frames = [still(1), still(1), still(1, height=100), still(1)]
    stats = UpscaleStats()
    result = list(upscale(iter(frames), Reaching(), stats=stats))
    assert [tuple(m.shape[-2:]) for m in result] == [(400, 600), (400, 600), (200, 600), (400, 600)]
    assert stats.repeated_frames == 1
    assert torch.equal(result[0], result[3])


def test_camera_footage_is_detected_from_few_rows(monkeypatch):
    frames = torch.rand(4, 3, 270, 480, generator=torch.Generator().manual_seed(0))
    model, compare, compared = Reaching(), change_detection.difference_mask, []

    def counted(frame, reference, threshold):
        compared.append(frame.numel())
        return compare(frame, reference, threshold)

    monkeypatch.setattr(change_detection, "difference_mask", counted)
    runner = ModelRunner(model, torch.device("cpu"), (ComputeMode.FP32,))
    reuse = RegionReuse(Reuse(), stats := UpscaleStats(), ModelTraits(scale=2), runner, halo=3)
    assert [reuse.plan(frame[None]) for frame in frames] == [None] * 4
    assert 0 < sum(compared) <= 3 * frames[0].numel() / 15
    assert stats.computed_fraction == 1.0
    result, stats = run(frames, model)
    assert stats.tiles_reused == 0
    assert torch.equal(result, run(frames, Reaching(), reuse=OFF)[0])


# --- the threshold


def test_threshold_is_the_largest_change_in_8_bit_steps():
    first = torch.randint(0, 250, (1, 3, 70, 70), generator=torch.Generator().manual_seed(0)) / 255
    for steps, threshold, repeats in ((1, 0, 0), (1, 1, 1), (2, 1, 0), (2, 2, 1), (3, 2.5, 0)):
        second = first.clone()
        second[0, 2, 35, 36] += steps / 255  # one value of 14,700, which a mean would hide
        stats = run(torch.cat([first, second]), Reaching(), reuse=Reuse(threshold=threshold))[1]
        assert stats.repeated_frames == repeats, (steps, threshold)
        everywhere = torch.cat([first, first + steps / 255])
        assert run(everywhere, Reaching(), reuse=Reuse(threshold=threshold))[1].repeated_frames == repeats


def test_a_slow_drift_does_not_add_up():
    frames = torch.stack([torch.full((3, 200, 300), (50 + n) / 255) for n in range(30)])
    frames[:, :, 64:128, 64:128] += torch.rand(30, 1, 64, 64, generator=torch.Generator().manual_seed(0)) / 2
    model = Reaching(halo=2)
    result, stats = run(frames, model, reuse=Reuse(threshold=2))
    truth = run(frames, Reaching(halo=2), reuse=OFF)[0]
    assert stats.computed_fraction < 0.8
    assert float((result - truth).abs().max()) < 2.02 / 255


# --- cached activations


@needs_compiler
def test_updates_within_a_threshold_are_the_result_of_the_reference(monkeypatch):
    monkeypatch.setenv("STEADYSCALE_NATIVE", "1")
    torch.manual_seed(0)
    model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=6, scale=2)), "compact", "compact")
    frames = torch.rand(1, 3, 150, 210).repeat(8, 1, 1, 1)
    frames = (frames + 0.002 * torch.rand_like(frames)).clamp(0, 1)
    for n in range(8):
        frames[n, :, 20:60, 30 + 5 * n : 80 + 5 * n] = torch.rand(3, 40, 50)
    references, states, stages, plan_frame = [], [], [], RegionReuse.plan

    def watched(reuse, frame):
        states.append(reuse.state)
        plan = plan_frame(reuse, frame)
        references.append(reuse.reference.clone())
        stages.append(plan and len(plan.stage_rects))
        return plan

    monkeypatch.setattr(RegionReuse, "plan", watched)
    result = run(frames, model, reuse=Reuse(threshold=1.5))[0]
    assert stages == [None, 1, *[2] * 6]
    full, partial, cached = ReuseState.FULL, ReuseState.PARTIAL, ReuseState.CACHED
    assert states == [full, full, partial, *[cached] * 5], "as the frame before has left it"
    with torch.no_grad():
        assert torch.equal(result, torch.cat([model(frame) for frame in references]))
    assert 0 < float((torch.cat(references) - frames).abs().max()) <= 1.51 / 255
