"""Small frames that are computed at once on a simulated GPU: the same frames, in the same chunks."""

from __future__ import annotations

import pytest
import torch
from nearest_upscaler import NearestUpscaler, random_frames, repeat_pixels
from steadyscale.core.upscaling import chunk_upscaler
from steadyscale.core.upscaling.model import batch_trial
from steadyscale.core.upscaling.settings import Alpha, Engine, Precision, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale

DEVICE = "simgpu"
FP32 = UpscaleSettings(precision=Precision.FP32)


class Recording(NearestUpscaler):
    """Records how many images it gets at once."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return super().forward(x)


@pytest.fixture
def seconds(monkeypatch):
    """Seconds that the trial measures for 1, 2, 4 and 8 images; by default 4 take the least for each."""
    values = [1.0, 1.8, 2.0, 8.0]
    monkeypatch.setattr(batch_trial, "_known_batches", {})
    monkeypatch.setattr(chunk_upscaler, "CHUNKS_BEFORE_TRIAL", 2)
    left = list(values)

    def measure(run, accelerator):
        run()
        return left.pop(0)

    monkeypatch.setattr(batch_trial, "measure_seconds", measure)
    return left


def run(frames, model, settings=FP32, **options):
    return list(upscale(iter(frames), model, settings, device=DEVICE, **options))


def assert_repeated(results, frames):
    assert [len(result) for result in results] == [len(frame) for frame in frames]
    for result, frame in zip(results, frames, strict=True):
        torch.testing.assert_close(result, repeat_pixels(frame.cpu()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_frames_are_computed_in_the_fastest_batch(gpu, seconds, place):
    model, frames = Recording(), [random_frames(1, seed=n).to(place) for n in range(13)]
    assert_repeated(run(frames, model), frames)
    assert seconds == []
    # The start with its check of memory, two frames, the trial, and eleven frames.
    assert model.batches[-3 - 4 - 2 :] == [1, 1, 1, 2, 4, 8, 4, 4, 3]
    model.batches.clear()
    assert_repeated(run(frames, model), frames)
    assert model.batches[-5:] == [1, 1, 4, 4, 3], "a second stream knows the result"


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_a_producer_may_use_its_memory_again(gpu, seconds, place):
    memory, expected = torch.empty(1, 3, 20, 24, device=place), random_frames(9, height=20, width=24).split(1)

    def produce():
        for frame in expected:
            yield memory.copy_(frame)

    assert_repeated(run(produce(), Recording()), expected)


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_repeats_are_found_in_groups_and_between_them(gpu, seconds, place):
    kinds = [0, 1, 2, 2, 3, 4, 4, 4, 4, 4, 5, 6, 6]  # groups of four begin with the third frame
    different, stats = [random_frames(1, seed=n).to(place) for n in range(7)], UpscaleStats()
    frames = [different[kind] for kind in kinds]
    assert_repeated(run(frames, Recording(), stats=stats), frames)
    assert stats.frames == len(kinds)
    assert stats.repeated_frames == len(kinds) - 7


def test_what_is_not_alike_is_not_put_together(gpu, seconds):
    seconds += seconds  # of the trial for the second size
    sizes = [(20, 24)] * 5 + [(16, 24)] * 4
    frames = [random_frames(1, seed=n, height=h, width=w) for n, (h, w) in enumerate(sizes)]
    frames += [random_frames(2, height=16, width=24), random_frames(1, channels=4, height=16, width=24)]
    for result, expected in zip(run(frames, Recording()), upscale(iter(frames), NearestUpscaler(), FP32), strict=True):
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("alpha", list(Alpha))
def test_alpha_is_kept(gpu, seconds, alpha):
    frames = random_frames(7, channels=4, height=20, width=24).split(1)
    settings = UpscaleSettings(precision=Precision.FP32, alpha=alpha)
    expected = list(upscale(iter(frames), NearestUpscaler(), settings))
    for result, truth in zip(run(frames, Recording(), settings), expected, strict=True):
        torch.testing.assert_close(result, truth, atol=1e-5, rtol=0)


def test_an_overflow_in_a_group_is_computed_again(gpu, seconds):
    class Bright(NearestUpscaler):
        """Overflows in float16 where a value is above a half."""

        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    frames = [random_frames(1, seed=n) * (0.4 if n != 5 else 1.0) for n in range(12)]
    results = run(frames, Bright(), UpscaleSettings())
    for result, frame in zip(results, frames, strict=True):
        torch.testing.assert_close(result, repeat_pixels(frame), atol=1e-3, rtol=0)


def test_running_out_of_memory_at_any_allocation_loses_nothing(gpu, seconds):
    memory, model = gpu.read_memory()[0], NearestUpscaler()
    frames = random_frames(8, height=16, width=64).split(1)
    settings = UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=64))  # which can be halved
    start = gpu.read_counters()

    def work():
        batch_trial._known_batches.clear()
        seconds[:] = [1.0, 1.8, 2.0, 8.0]
        assert_repeated(run(frames, model, settings), frames)

    work()
    allocations = (gpu.read_counters() - start).allocations
    assert allocations > 40
    for index in range(allocations):
        gpu.fail_allocation(index)
        work()
    assert gpu.read_memory()[0] == memory


@pytest.mark.parametrize(
    ("settings", "limit"),
    [(UpscaleSettings(precision=Precision.FP32, engine=Engine.TORCH), 200_000), (FP32, 20 * 24 - 1)],
)
def test_where_no_batches_are_tried(gpu, seconds, monkeypatch, settings, limit):
    monkeypatch.setattr(chunk_upscaler, "MAX_BATCHED_PIXELS", limit)
    model, frames = Recording(), random_frames(6, height=20, width=24).split(1)
    assert_repeated(run(frames, model, settings), frames)
    assert set(model.batches) == {1}
    assert len(seconds) == 4
