import math

import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.format import format_duration
from steadyscale.core.upscaling import benchmark as module
from steadyscale.core.upscaling.benchmark import BenchmarkResult, benchmark, synthetic_frames
from steadyscale.core.upscaling.settings import Precision, Reuse, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from torch import nn


class Clock:
    """A time.perf_counter that advances only when a test advances it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Nearest(nn.Module):
    """Upscales by repeating pixels. Each call takes `seconds` on the clock, the first one `slow` more."""

    name, halo = "nearest", 4

    def __init__(self, scale=2, clock=None, seconds=0.0, slow=0.0):
        super().__init__()
        self.scale, self.clock, self.seconds, self.slow = scale, clock or Clock(), seconds, slow
        self.gain = nn.Parameter(torch.ones(1))
        self.inputs = []

    def forward(self, x):
        self.clock.now += self.seconds + (0 if self.inputs else self.slow)
        self.inputs.append(tuple(x.shape))
        return (x * self.gain).repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", clock)
    return clock


def test_frames_are_counted_and_the_first_is_not_timed(clock):
    model = Nearest(clock=clock, seconds=0.25, slow=7.0)
    found = benchmark(synthetic_frames(40, 24, 6), model)
    assert len(model.inputs) == 6
    assert (found.frames, found.seconds, found.first) == (5, 5 * 0.25, 7.25)
    assert (found.fps, found.seconds_per_frame) == (4.0, 0.25)
    assert found.estimate_seconds(60, 24) == 7.25 + 60 * 24 * 0.25
    assert (found.width, found.height, found.scale, found.model) == (40, 24, 2, "nearest")


def test_window_precision_and_engine_are_those_that_ran():
    untiled = benchmark(synthetic_frames(40, 24, 3), Nearest())
    assert (untiled.window, untiled.calls, untiled.precision) == ((40, 24), 1, "fp32")
    assert (untiled.engine, untiled.device) == ("torch", "cpu")
    model = Nearest()
    tiled = benchmark(synthetic_frames(64, 40, 3), model, UpscaleSettings(tiling=Tiling(size=32)))
    assert tiled.window == (36, 24), "a core of 32 x 20 and the halo of 4 on the one side where there is more frame"
    assert tiled.calls == 4
    assert len(model.inputs) == 3 * 4
    assert (
        benchmark(synthetic_frames(40, 24, 2), Nearest(), UpscaleSettings(precision=Precision.BF16)).precision == "bf16"
    )


def test_name_and_engine_of_a_wrapped_network_are_reported():
    class Wrapper:
        def __init__(self, model):
            self.model, self.scale = model, model.scale

        def __call__(self, x):
            return self.model(x)

    inner = Nearest()
    inner.engine = "native"
    found = benchmark(synthetic_frames(16, 16, 2), Wrapper(inner))
    assert (found.model, found.engine) == ("nearest", "native")
    assert "the native CPU engine" in str(found)


def test_synthetic_frames_do_not_repeat_and_resemble_photographs():
    frames = list(synthetic_frames(150, 90, 4))
    assert [frame.shape for frame in frames] == [(1, 3, 90, 150)] * 4
    assert torch.equal(frames[0], next(synthetic_frames(150, 90, 1))), "the same each time"
    stats = UpscaleStats()
    for _ in upscale(iter(frames), Nearest(), UpscaleSettings(reuse=Reuse(threshold=1)), stats=stats):
        pass
    assert (stats.repeated_frames, stats.tiles_reused) == (0, 0)
    every = torch.cat(frames)
    assert 0 < every.min() < every.max() < 1
    assert every.std() > 0.05
    neighbors = (every[..., 1:] - every[..., :-1]).abs().mean()
    assert neighbors < every.std() / 2, "smooth as photographs, unlike noise"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 1)])
def test_odd_sizes_are_benchmarked(width, height):
    found = benchmark(synthetic_frames(width, height, 2), Nearest())
    assert (found.width, found.height, found.frames) == (width, height, 1)


def test_memory_is_the_peak():
    class Hungry(Nearest):
        def forward(self, x):
            block = torch.ones(60_000_000)  # 240 MB, gone before the frame is done
            module.time.sleep(0.05)
            return super().forward(x) + 0 * block[0]

    found = benchmark(synthetic_frames(16, 16, 2), Hungry())
    assert 200e6 < found.grown < 400e6
    assert found.memory > found.grown


def test_too_few_frames_are_an_error_and_other_errors_are_passed_on():
    with pytest.raises(ClipError, match="it got 1 frames"):
        benchmark(synthetic_frames(8, 8, 1), Nearest())

    class Broken(Nearest):
        def forward(self, x):
            raise KeyError("cancelled")

    with pytest.raises(KeyError, match="cancelled"):
        benchmark(synthetic_frames(8, 8, 3), Broken())


def test_report_text_and_dictionary():
    found = BenchmarkResult(
        model="x4",
        width=640,
        height=360,
        scale=4,
        frames=8,
        seconds=4.0,
        first=1.0,
        memory=2_500_000_000,
        grown=1_200_000_000,
        precision="fp16",
        window=(292, 228),
        calls=6.0,
        engine="torch",
        device="GPU",
        machine="CPU, 2 threads",
    )
    assert str(found).splitlines() == [
        "x4: 640x360 to 2560x1440",
        "2 frames per second, 0.5 s a frame (8 timed, after 1 s to start)",
        "one minute at 24 fps takes 12 min 1 s",
        "memory: at most 2,500 MB, 1,200 MB of it new",
        "fp16, tiles of 292x228, 6 a frame, by torch",
        "GPU; CPU, 2 threads",
    ]
    facts = found.to_dict()
    assert math.isclose(facts["fps"] * facts["seconds_per_frame"], 1)
    assert facts["window"] == (292, 228)
    row = found.to_row()
    assert row == {
        "block": "benchmark",
        "status": "ok",
        "device": "GPU",
        "machine": "CPU, 2 threads",
        "network": "x4",
        "dtype": "fp16",
        "size": "640x360",
        "fps": 2.0,
    }
    assert row.items() <= facts.items()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (425, "7 min 5 s"),
        (3600, "1 h 0 min"),
        (7999, "2 h 13 min"),
    ],
)
def test_durations_are_formatted(seconds, words):
    assert format_duration(seconds) == words
