"""One stream on several GPUs, simulated."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import simulated_gpu
import torch
from nearest_upscaler import Cancelled, CancellingModel, NearestUpscaler, random_frames, repeat_pixels
from numbered_video import make_video, read_numbers
from steadyscale.core import Encoding, Precision, TensorClip, open_clip, upscale_video, write_clip
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.device.device_names import resolve_devices
from steadyscale.core.upscaling.settings import OutputSize, PostProcess, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from streams import list_our_threads

DEVICES = f"{simulated_gpu.DEVICE}:0,{simulated_gpu.DEVICE}:1"
FP32 = UpscaleSettings(precision=Precision.FP32)


@pytest.fixture
def gpus() -> Iterator[simulated_gpu.SimulatedGPU]:
    """Two simulated GPUs."""
    if not simulated_gpu.can_build():
        pytest.skip("the simulated GPU needs Linux and a C++ compiler")
    with simulated_gpu.enabled(2) as enabled:
        yield enabled
    assert list_our_threads() == []


def small_network() -> Upscaler:
    torch.manual_seed(1)
    return Upscaler(RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=2)), "small", "rrdb")


class Recording(NearestUpscaler):
    """Records the device of each call; replicas share the counters."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: Counter[str] = Counter()

    def forward(self, x):
        self.devices[str(x.device)] += 1
        self.work(x.device.index)
        return super().forward(x)

    def work(self, device: int) -> None: ...


def run(frames, model, settings=FP32, **options):
    return list(upscale(iter(frames), model, settings, device=DEVICES, **options))


def assert_repeated(results, frames):
    assert len(results) == len(frames)
    for result, frame in zip(results, frames, strict=True):
        assert (result.device.type, result.dtype) == ("cpu", torch.float32)
        torch.testing.assert_close(result, repeat_pixels(frame), atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", range(8))
def test_frames_are_the_same_and_in_order(gpus, count):
    frames, model = random_frames(count, height=20, width=24).split(1) if count else [], small_network()
    expected = list(upscale(iter(frames), model, FP32))
    results = run(frames, model)
    assert len(results) == count
    for result, truth in zip(results, expected, strict=True):
        torch.testing.assert_close(result, truth, atol=1e-5, rtol=0)


def test_both_devices_do_half_of_the_work_at_the_same_time(gpus):
    together = threading.Barrier(2)

    class Paired(Recording):
        def work(self, device):
            together.wait(30)

    model, frames, stats = Paired(), random_frames(8).split(1), UpscaleStats()
    assert_repeated(run(frames, model, stats=stats), frames)
    assert model.devices[f"{simulated_gpu.DEVICE}:0"] == model.devices[f"{simulated_gpu.DEVICE}:1"]
    assert model.devices.total() >= 8
    assert all(gpus.read_memory(device)[1] > 0 for device in (0, 1))
    assert (stats.frames, stats.pixels, stats.mode, stats.engine) == (8, 8 * 10 * 14, "fp32", "torch")


def test_a_slow_device_delays_no_more_than_its_own_frames(gpus):
    class Uneven(Recording):
        def work(self, device):
            time.sleep(0.05 * device)

    model, frames = Uneven(), random_frames(24).split(1)
    assert_repeated(run(frames, model), frames)
    assert model.devices[f"{simulated_gpu.DEVICE}:0"] > model.devices[f"{simulated_gpu.DEVICE}:1"]


def test_all_memory_is_released(gpus):
    before = [gpus.read_memory(device)[0] for device in (0, 1)]
    run(random_frames(5).split(1), small_network())
    stream = upscale(iter(random_frames(9).split(1)), small_network(), FP32, device=DEVICES)
    next(stream)
    stream.close()
    del stream
    assert [gpus.read_memory(device)[0] for device in (0, 1)] == before


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_on_one_device_is_raised_once_and_stops_the_other(gpus, broken):
    class Broken(Recording):
        def work(self, device):
            if device == broken and self.devices[f"{simulated_gpu.DEVICE}:{broken}"] == 3:
                raise ValueError("broken GPU")

    model, read = Broken(), []
    before = [gpus.read_memory(device)[0] for device in (0, 1)]
    stream = upscale((read.append(n) or random_frames(1, seed=n) for n in range(500)), model, FP32, device=DEVICES)
    with pytest.raises(ValueError, match="broken GPU"):
        list(stream)
    assert list(stream) == []
    assert len(read) < 500
    assert list_our_threads() == []
    assert [gpus.read_memory(device)[0] for device in (0, 1)] == before


def test_cancelling_stops_both(gpus):
    model, read = CancellingModel(NearestUpscaler(), max_calls=6), []
    stream = upscale((read.append(n) or random_frames(1, seed=n) for n in range(500)), model, FP32, device=DEVICES)
    with pytest.raises(Cancelled):
        list(stream)
    assert len(read) <= 24


def test_a_wrong_frame_is_named_by_its_number_in_the_clip(gpus):
    frames = [random_frames(1, seed=n) for n in range(9)]
    frames[7][0, 0, 0, 0] = torch.nan
    with pytest.raises(ClipError, match="frame 7 "):
        run(frames, small_network())


def test_little_memory_on_one_device_means_smaller_tiles_there(gpus):
    model, frames = small_network(), random_frames(4, height=120, width=160).split(1)
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=160, halo=8))
    expected = list(upscale(iter(frames), model, settings))
    gpus.set_memory_limit(3 << 20, device=1)
    for result, truth in zip(run(frames, model, settings), expected, strict=True):
        torch.testing.assert_close(result, truth, atol=1e-5, rtol=0)
    assert gpus.cache_releases > 0


def test_running_out_of_memory_at_any_allocation_loses_nothing(gpus):
    model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), "small", "srvgg")
    frames = random_frames(4, height=40, width=72).split(1)
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=64, halo=4))
    expected = list(upscale(iter(frames), model, settings))
    start = gpus.read_counters()
    run(frames, model, settings)
    allocations = (gpus.read_counters() - start).allocations
    for index in range(0, allocations, max(1, allocations // 30)):
        gpus.fail_allocation(index)
        for result, truth in zip(run(frames, model, settings), expected, strict=True):
            torch.testing.assert_close(result, truth, atol=1e-5, rtol=0)


def test_repeated_frames_are_reused_among_the_frames_of_a_device(gpus):
    frame, stats = random_frames(1), UpscaleStats()
    assert_repeated(run([frame.clone() for _ in range(12)], NearestUpscaler(), stats=stats), [frame] * 12)
    assert stats.frames == 12
    assert 10 <= stats.repeated_frames <= 11


def test_frames_on_a_device_are_accepted(gpus):
    frames = random_frames(5).split(1)
    assert_repeated(run([frame.to(f"{simulated_gpu.DEVICE}:1") for frame in frames], NearestUpscaler()), frames)


def test_a_model_without_a_module_runs_on_one_device_only(gpus):
    class Plain:
        scale = 2

        def __call__(self, x):
            return repeat_pixels(x)

    with pytest.raises(ClipError, match=r"Plain holds no torch module.* choose one"):
        run(random_frames(2).split(1), Plain())


def test_lists_of_devices_are_checked(gpus):
    name = simulated_gpu.DEVICE
    assert resolve_devices(f"{name}:1, {name}:0") == f"{name}:1,{name}:0"
    assert resolve_devices() == name
    with pytest.raises(ClipError, match=f"contain {name}:1 twice"):
        resolve_devices(f"{name}:1,{name}:0,{name}:1")
    with pytest.raises(ClipError, match=f"contain {name}:0 twice"):
        resolve_devices(f"{name},{name}:0")
    with pytest.raises(ClipError, match="the last one is"):
        resolve_devices(f"{name}:0,{name}:2")


def test_a_video_is_that_of_the_cpu(gpus, tmp_path: Path):
    """Grain depends on the number of the frame in the clip."""
    clip = TensorClip(torch.nn.functional.interpolate(random_frames(7, height=8, width=12), (64, 96), mode="bilinear"))
    write_clip(tmp_path / "in.mkv", clip.frames(), clip.info, encoding=Encoding("ffv1"))
    settings = UpscaleSettings(OutputSize(factor=2), precision=Precision.FP32, postprocess=PostProcess(grain=0.3))
    for name, device in (("gpus.mkv", DEVICES), ("cpu.mkv", "cpu")):
        report = upscale_video(
            tmp_path / "in.mkv",
            tmp_path / name,
            model=NearestUpscaler(),
            settings=settings,
            deflicker=0.5,
            encoding=Encoding("ffv1"),
            device=device,
        )
        assert (report.frames_in, report.frames_out, report.device) == (7, 7, device)
    ours, theirs = (torch.cat(list(open_clip(tmp_path / name).frames())) for name in ("gpus.mkv", "cpu.mkv"))
    assert float((ours - theirs).abs().max()) <= 1.01 / 255
    assert float(ours.std()) > 0.05


@pytest.mark.parametrize("options", [[], ["--resumable", "--segment-seconds", "0.2"]])
def test_the_command_line_takes_a_list(gpus, run_cli, weights: Path, tmp_path: Path, options):
    source = make_video(tmp_path / "source.mkv", 12)
    target = tmp_path / "out.mkv"
    code, _, err = run_cli("upscale", source, target, "--model", weights, "--device", DEVICES, *options)
    assert code == 0, err
    assert read_numbers(open_clip(target)) == list(range(12))
    assert all(gpus.read_memory(device)[1] > 0 for device in (0, 1))
