"""Upscaling on a GPU, simulated: results, faults, and budgets for synchronizations, launches and transfers."""

from __future__ import annotations

import logging
import os
import threading

import pytest
import torch
from frame_picker import frame_picker
from nearest_upscaler import Cancelled, CancellingModel, NearestUpscaler, random_frames, repeat_pixels
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.settings import (
    Alpha,
    ColorCorrection,
    OutputSize,
    PostProcess,
    Precision,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler, load_upscaler, zoo

DEVICE = os.environ.get("STEADYSCALE_TEST_DEVICE", "simgpu")  # see the fixture `gpu`
FP32 = UpscaleSettings(precision=Precision.FP32)


def small_network(kind: str = "srvgg") -> Upscaler:
    torch.manual_seed(1)
    if kind == "rrdb":
        return Upscaler(RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=2)), "small", "rrdb")
    return Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), "small", "srvgg")


def run(frames, model, settings=FP32, **options):
    return list(upscale(iter(frames), model, settings, device=DEVICE, **options))


def on_cpu(frames, model, settings=FP32):
    return list(upscale(iter(frames), model, settings))


def assert_equal_frames(results, expected, tolerance=1e-5):
    assert [tuple(r.shape) for r in results] == [tuple(e.shape) for e in expected]
    for result, truth in zip(results, expected, strict=True):
        assert (result.device.type, result.dtype) == ("cpu", torch.float32)
        assert float(truth.std()) > 0.01
        torch.testing.assert_close(result, truth, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", ["srvgg", "rrdb"])
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "auto"])
def test_models_run_however_they_were_loaded(gpu, kind, loaded, used, precision):
    """ComfyUI loads and runs in inference mode, whose tensors do not count versions."""
    frames = random_frames(3, height=20, width=24).split(1)
    with torch.inference_mode(loaded):
        model = small_network(kind)
    expected = on_cpu(frames, small_network(kind))
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    with torch.inference_mode(used):
        results = run(frames, model, UpscaleSettings(precision=Precision(precision)))
    assert_equal_frames(results, expected, {"fp32": 1e-5, "bf16": 0.03}.get(precision, 3e-3))
    for name, tensor in model.model.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("on_device", [False, True])
def test_windows_of_frames_are_read_on_the_device(gpu, on_device):
    frames = random_frames(1, height=24, width=32) * 0.8 + torch.arange(4).view(-1, 1, 1, 1) * 0.01
    results = run(frames.split(1), frame_picker(0), on_device=on_device)
    assert (results[0].device.type == "cpu") is not on_device
    torch.testing.assert_close(torch.cat([chunk.cpu() for chunk in results]), repeat_pixels(frames[[1, 0, 1, 2]]))


def test_the_bundled_network_runs_in_half_precision(gpu):
    model, stats = load_upscaler(zoo.find_weights("steadyscale-2x")), UpscaleStats()
    frames = random_frames(2, height=24, width=32).split(1)
    results = run(frames, model, UpscaleSettings(), stats=stats)
    assert_equal_frames(results, on_cpu(frames, model), 4 / 255)
    assert stats.mode == "fp16"
    assert "within 1/255" in stats.mode_check


def test_streams_run_in_several_threads(gpu):
    model, frames = small_network(), random_frames(4, height=20, width=24).split(1)
    expected, results = on_cpu(frames, model), {}

    def work(n):
        results[n] = run(frames, model)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(3):
        assert_equal_frames(results[n], expected)


def test_all_memory_is_released(gpu):
    start = gpu.read_memory()[0]
    run(random_frames(2).split(1), small_network())
    stream = upscale(iter(random_frames(3).split(1)), small_network(), FP32, device=DEVICE)
    next(stream)
    stream.close()
    del stream
    assert gpu.read_memory()[0] == start


def test_running_out_of_memory_at_any_allocation_loses_nothing(gpu):
    """Each allocation of a small run fails once, in the first frame and in a later one; the frames are the same."""
    memory = gpu.read_memory()[0]
    model, frames = small_network(), random_frames(2, height=40, width=72).split(1)
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=64, halo=4))
    expected = on_cpu(frames, model, settings)
    start = gpu.read_counters()
    run(frames, model, settings)
    allocations = (gpu.read_counters() - start).allocations
    assert allocations > 40
    for index in range(allocations):
        gpu.fail_allocation(index)
        assert_equal_frames(run(frames, model, settings), expected)
    assert gpu.read_memory()[0] == memory


def test_little_memory_means_smaller_tiles(gpu):
    model, frames = small_network(), random_frames(2, height=120, width=160).split(1)
    gpu.set_memory_limit(3 << 20)
    results = run(frames, model, UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=160, halo=4)))
    assert gpu.cache_releases > 0
    assert_equal_frames(results, on_cpu(frames, model))


def test_a_dtype_without_kernels_is_not_used():
    import simulated_gpu

    if not simulated_gpu.can_build() or DEVICE != simulated_gpu.DEVICE:
        pytest.skip("the simulated GPU needs Linux and a C++ compiler, and to be the device of this run")
    with simulated_gpu.enabled(unsupported=torch.float16):
        model, frames, stats = small_network(), random_frames(2).split(1), UpscaleStats()
        assert_equal_frames(run(frames, model, UpscaleSettings(), stats=stats), on_cpu(frames, model))
        assert stats.mode == "fp32"


class Bright(NearestUpscaler):
    """Overflows in float16 where a value is above a half."""

    def forward(self, x):
        return super().forward(x * 60000 * 2) / 120000


def test_an_overflow_later_in_the_clip_is_computed_again(gpu, caplog):
    frames = [random_frames(1, seed=n) * (0.4 if n < 3 else 1.0) for n in range(6)]
    stats = UpscaleStats()
    with caplog.at_level(logging.WARNING):
        results = run(frames, Bright(), UpscaleSettings(), stats=stats)
    assert stats.frames == len(frames), "a frame that is computed again counts once"
    assert_equal_frames(results, [repeat_pixels(frame) for frame in frames], 1e-3)
    assert caplog.text.count("fp16 is not safe") == 1
    for last in ([*frames[:3], frames[4]], [frames[5]]):
        assert_equal_frames(run(last, Bright(), UpscaleSettings()), [repeat_pixels(f) for f in last], 1e-3)
    with pytest.raises(ClipError, match="fp16 is not finite"):
        run(frames, Bright(), UpscaleSettings(precision=Precision.FP16))


def test_a_repeat_of_an_overflow_is_computed_again(gpu):
    frames = [random_frames(1) * 0.4, *[random_frames(1, seed=1).to(DEVICE)] * 3]
    results = run(frames, Bright(), UpscaleSettings())
    assert_equal_frames(results, [repeat_pixels(frame.cpu()) for frame in frames], 1e-3)


def test_frames_that_are_not_finite_are_refused(gpu):
    for place in ("cpu", DEVICE):
        frames = [random_frames(1).to(place) for _ in range(4)]
        frames[2][0, 0, 0, 0] = torch.nan
        with pytest.raises(ClipError, match="frame 2 "):
            run(frames, small_network())


class StaticResult(NearestUpscaler):
    """As captured graphs do, writes every result of a shape into the same memory, which the next call overwrites."""

    def __init__(self):
        super().__init__()
        self.results = {}

    def forward(self, x):
        result, key = super().forward(x), (x.shape, x.dtype)
        if key in self.results:
            self.results[key].fill_(torch.nan)
        # Stored in the module's shared dictionary: its replicas have the same.
        return self.results.setdefault(key, torch.empty_like(result)).copy_(result)


def test_results_that_die_at_the_next_call_are_not_used_after_it(gpu):
    frames = random_frames(4, height=20, width=24).split(1)
    for settings in (UpscaleSettings(), UpscaleSettings(tiling=Tiling(size=12)), FP32):
        assert_equal_frames(run(frames, StaticResult(), settings), [repeat_pixels(f) for f in frames], 1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        UpscaleSettings(precision=Precision.FP32, postprocess=PostProcess(strength=0.5, grain=0.3)),
        UpscaleSettings(precision=Precision.FP32, postprocess=PostProcess(color_correction=ColorCorrection.WAVELET)),
        UpscaleSettings(precision=Precision.FP32, size=OutputSize(size=(50, 30))),
        UpscaleSettings(
            precision=Precision.FP32, size=OutputSize(size=(50, 30)), postprocess=PostProcess(linear_light=True)
        ),
    ],
)
def test_postprocessing_gives_the_result_of_the_cpu(gpu, settings):
    frames, model = random_frames(3, height=20, width=24).split(1), small_network()
    assert_equal_frames(run(frames, model, settings), on_cpu(frames, model, settings), 1e-4)


@pytest.mark.parametrize("alpha", list(Alpha))
def test_alpha_is_kept(gpu, alpha):
    frames, model = random_frames(3, channels=4, height=20, width=24).split(1), small_network()
    settings = UpscaleSettings(precision=Precision.FP32, alpha=alpha)
    assert_equal_frames(run(frames, model, settings), on_cpu(frames, model, settings))


def test_batches_run_at_once(gpu):
    model, frames = small_network(), random_frames(6, height=20, width=24)
    assert_equal_frames(run(frames.split(3), model), on_cpu(frames.split(3), model))


def test_a_model_that_is_on_the_device_is_used_in_place(gpu):
    """ComfyUI's model patcher has moved it there."""
    calls = []

    class Recording(NearestUpscaler):
        def forward(self, x):
            calls.append(self)
            return super().forward(x)

    start = gpu.read_memory()[0]
    model = Recording().to(DEVICE)
    before = gpu.read_memory()[0]
    stream = upscale(iter(random_frames(2).split(1)), model, FP32)
    next(stream)
    assert all(call is model for call in calls)
    assert before - start == 512
    stream.close()


def test_cancelling_stops_within_a_tile(gpu):
    start = gpu.read_memory()[0]
    model = CancellingModel(NearestUpscaler(), max_calls=7)
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=32, halo=0))
    with pytest.raises(Cancelled):
        run(random_frames(3, height=64, width=96).split(1), model, settings)
    assert gpu.read_memory()[0] == start


def test_unchanged_frames_are_not_computed(gpu):
    frame, stats = random_frames(1), UpscaleStats()
    frames = [frame, frame.clone(), frame.clone(), random_frames(1, seed=1)]
    model = NearestUpscaler()
    results = run(frames, model, FP32, stats=stats)
    assert_equal_frames(results, [repeat_pixels(f) for f in frames])
    assert stats.repeated_frames == 2
    on_gpu = frame.to(DEVICE)
    stats = UpscaleStats()
    results = run([on_gpu, on_gpu, on_gpu], model, FP32, stats=stats)
    assert stats.repeated_frames == 2
    changed = on_gpu.clone()
    stats = UpscaleStats()

    def rewritten():
        yield changed
        changed.mul_(0.5)  # The same memory, with another frame.
        yield changed

    results = run(rewritten(), model, FP32, stats=stats)
    assert stats.repeated_frames == 0
    assert_equal_frames(results, [repeat_pixels(frame), repeat_pixels(frame * 0.5)])


def count_per_frame(gpu, frames, model, **options):
    """(counters per frame of a long stream, launches by name per frame), without those of its start."""
    runs = []
    for count in (4, 12):
        before = gpu.read_counters()
        assert len(run(frames(count), model, UpscaleSettings(), **options)) == count
        runs.append(gpu.read_counters() - before)
    difference = runs[1] - runs[0]
    return {name: value / 8 for name, value in vars(difference).items()}


def test_budget_from_memory_to_memory(gpu):
    """Frames of IMAGE: float32 up, the dtype of the network down, all through pinned memory, no synchronization."""

    def frames(count):
        return [random_frames(1, height=40, width=60, seed=n) for n in range(count)]

    counts = count_per_frame(gpu, frames, small_network())
    assert counts["synchronizations"] == 0, "the simulated GPU is never behind, so no event is waited for"
    assert counts["pageable_bytes"] == 0
    assert counts["bytes_to_device"] == 40 * 60 * 3 * 4
    assert counts["bytes_to_host"] == 80 * 120 * 3 * 2 + 4
    # 4 convolutions, 3 activations, pixel shuffle, skip connection; input, clamp, output, checksum
    assert counts["launches"] <= 20


def test_budget_on_the_device(gpu):
    def frames(count):
        return [random_frames(1, height=40, width=60, seed=n).to(DEVICE) for n in range(count)]

    def discard(count):
        start = gpu.read_counters()
        results = upscale(iter(frames(count)), small_network(), UpscaleSettings(), device=DEVICE, on_device=True)
        for n, result in enumerate(results):
            assert result.device.type == DEVICE
            assert result.dtype == torch.float16
            if n == 3:
                start = gpu.read_counters()
        return gpu.read_counters() - start

    used = discard(12)
    assert used.synchronizations == 0
    assert 0 < used.bytes_to_host <= 8 * 4, "the checksum"
    assert used.bytes_to_device == 0
