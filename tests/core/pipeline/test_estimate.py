from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from steadyscale.core import ClipError, OutputSize, TensorClip, Tiling, UpscaleSettings
from steadyscale.core.pipeline import estimate
from steadyscale.core.pipeline.estimate import check_memory, describe_run, estimate_memory, with_estimate
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from torch import nn


class Net(nn.Module):
    """Takes 1000 bytes for each input pixel, as it states."""

    scale, halo, activation_bytes = 2, 0, 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 3, 3, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.repeat_interleave(2, -1).repeat_interleave(2, -2)


def make_pipeline(frames: int = 12, tile: int = 64, side: int = 64) -> Pipeline:
    clip = TensorClip(torch.rand(1, 3, side, side).expand(frames, -1, -1, -1), Fraction(25))
    return Pipeline(clip).then(UpscaleOp(Net(), UpscaleSettings(tiling=Tiling(tile))))


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(estimate, "time", clock)
    return clock


def run(clock: Clock, frames: int, waits: list[float], **more: int) -> tuple[int, list[str]]:
    """How many frames passed, and the messages, when each frame takes as long as `waits` says."""
    messages: list[str] = []

    def slow_frames():
        for wait in itertools.islice(itertools.chain(waits, itertools.repeat(waits[-1])), frames):
            clock.now += wait
            yield torch.zeros(1, 3, 4, 4)

    passed = sum(len(f) for f in with_estimate(slow_frames(), make_pipeline(frames), messages.append, **more))
    return passed, messages


def test_the_plan_names_frames_and_sizes():
    line = describe_run(make_pipeline())
    assert line.startswith("12 frames, 64x64 to 128x128, about ")
    assert line.endswith("MB of memory")
    assert describe_run(Pipeline(make_pipeline().source)).startswith("12 frames, 64x64, ")


def test_memory_grows_with_the_input_of_the_network():
    full, quarter = estimate_memory(make_pipeline(tile=64)), estimate_memory(make_pipeline(tile=32))
    assert full - quarter == pytest.approx(1000 * (64 * 64 - 32 * 32))
    clip = make_pipeline().source.info
    assert estimate_memory(make_pipeline(frames=600)) == estimate_memory(make_pipeline(frames=12)), (
        "a stream does not hold its frames"
    )
    assert full > 1000 * 64 * 64 + 12 * clip.width * clip.height * 4


def test_an_image_batch_is_held_in_memory():
    def megabytes(line: str) -> float:
        return float(line.split("about ")[1].split()[0])

    one, other = (
        megabytes(describe_run(make_pipeline(frames=1000), in_memory=in_memory)) for in_memory in (False, True)
    )
    assert other - one == pytest.approx(1000 * 128 * 128 * 12 / 1e6, abs=15)


def test_the_time_follows_from_the_finished_frames(clock: Clock):
    """The first takes 3 s and the others 1 s: after the fourth, 4 + 2 of 12 s are behind, and 8 s are left."""
    passed, messages = run(clock, 12, [3.0, 1.0])
    assert passed == 12
    assert len(messages) == 2
    assert "about 14 s in all, at 1 s a frame" in messages[1]


def test_a_slow_first_frame_gives_a_first_estimate(clock: Clock):
    _, messages = run(clock, 10, [60.0, 20.0])
    assert [line.split("; ")[1] for line in messages[1:]] == [
        "by the first frame, which also loads, at most about 10 min 0 s in all",
        "about 4 min 0 s in all, at 20 s a frame",
    ]


def test_a_short_run_is_described_once(clock: Clock):
    passed, messages = run(clock, 20, [0.05])
    assert (passed, len(messages)) == (20, 1)


def test_frames_of_an_earlier_run_are_not_in_the_estimate(clock: Clock):
    _, messages = run(clock, 12, [1.0], frames_done=6)
    assert "about 6.0 s in all" in messages[1]


def test_nothing_is_reported_before_it_is_read():
    messages: list[str] = []
    with_estimate(iter([]), make_pipeline(), messages.append)
    assert messages == []


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(monkeypatch: pytest.MonkeyPatch):
    def upscale_to(width: int, height: int) -> Pipeline:
        clip = TensorClip(torch.rand(1, 3, 64, 64))
        return Pipeline(clip).then(UpscaleOp(Net(), UpscaleSettings(OutputSize(size=(width, height)))))

    monkeypatch.setattr(estimate, "free_main_memory", lambda: 16e9)
    with pytest.raises(ClipError, match=r"32768x32768 need about 64.4 GB .* 16.0 GB are free") as error:
        check_memory(upscale_to(32768, 32768))
    assert "at most 16328x16328" in str(error.value)
    check_memory(upscale_to(16328, 16328))
    with pytest.raises(ClipError):
        check_memory(upscale_to(16340, 16340))
