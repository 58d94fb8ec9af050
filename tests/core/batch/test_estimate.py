"""Estimates are sums and products of what a short run took."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from numbered_video import make_video
from steadyscale.core import ClipInfo, OutputSize, UpscaleSettings, api
from steadyscale.core.batch import estimate
from steadyscale.core.batch.errors import BatchFailed
from steadyscale.core.batch.estimate import BatchEstimate, Prices, Rates, RowsError, estimate_batch, estimate_clip
from steadyscale.core.batch.tasks import ClipTask

RATES = Rates(seconds=36e-6, core_seconds=72e-6, gpu_seconds=18e-6, bytes=0.5, area=4.0)


def test_a_clip_is_its_pixels_times_the_rates() -> None:
    info = ClipInfo(100, 50, Fraction(24), 1000)
    found = estimate_clip("a.mp4", info, RATES, Prices(core_hour=2.0, gpu_hour=10.0, gigabyte=1000.0))
    assert (found.frames, found.width, found.height) == (1000, 100, 50)
    assert (found.hours, found.core_hours, found.gpu_hours) == pytest.approx((0.05, 0.1, 0.025))
    assert found.bytes == pytest.approx(10e6)
    assert found.cost == pytest.approx(0.1 * 2 + 0.025 * 10 + 0.01 * 1000)
    stated = Rates(36e-6, 72e-6, 0.0, 0.5, 4.0, size=(10, 20))
    assert estimate_clip("a.mp4", info, stated, Prices()).bytes == pytest.approx(1000 * 200 * 0.5)


def test_the_time_of_a_list_is_divided_among_workers() -> None:
    one = estimate_clip("a.mp4", ClipInfo(100, 100, Fraction(24), 10_000), RATES, Prices())
    both = BatchEstimate([one, one], workers=4)
    assert one.hours == pytest.approx(1.0)
    assert both.hours == pytest.approx(0.5)
    assert both.as_dict()["core_hours"] == pytest.approx(4.0)
    assert str(both).splitlines()[-1].split() == ["all,", "by", "4", "workers", "20000", "0.5", "4", "1", "0.4", "0"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A run takes 1 s, 2 s more the first time, and 0.25 s and 1000 bytes for each frame; the frames of each run."""
    counts: list[int] = []

    def upscale_video(source, target, **arguments) -> SimpleNamespace:
        count = sum(len(frames) for frames in source.frames())
        seconds = 1.0 + 0.25 * count + 2.0 * (not counts)
        counts.append(count)
        Path(target).write_bytes(b"x" * 1000 * count)
        info = ClipInfo(source.info.width * 2, source.info.height * 2, Fraction(24))
        return SimpleNamespace(frames_out=count, seconds=seconds, info=info, model=arguments.get("model"))

    monkeypatch.setattr(api, "upscale_video", upscale_video)
    return counts


def test_loading_and_starting_are_not_counted_for_each_frame(calls: list[int], tmp_path: Path) -> None:
    source = str(make_video(tmp_path / "a.mp4", 12))
    found = estimate_batch([ClipTask(source, "a.mp4", "upscale")], device="cpu", frames=8)
    assert calls == [4, 4, 8]
    assert found.hours == pytest.approx(12 * 0.25 / 3600)
    assert found.total("bytes") == pytest.approx(12_000)
    assert found.total("gpu_hours") == 0


def test_each_group_of_settings_is_measured_once(calls: list[int], tmp_path: Path) -> None:
    source = str(make_video(tmp_path / "a.mp4", 6))
    other = {"settings": UpscaleSettings(OutputSize(size=(16, 12)))}
    clips = [ClipTask(source, f"{n}.mp4", "upscale", other if n == 3 else {}) for n in range(5)]
    found = estimate_batch(clips, device="cpu", frames=4)
    assert calls == [2, 2, 4] * 2
    sizes = [round(clip.bytes) for clip in found.clips]
    assert sizes == [6000, 6000, 6000, round(6 * 16 * 12 * 1000 / (128 * 96)), 6000]


def test_a_clip_of_one_frame_is_measured_as_a_whole(calls: list[int], tmp_path: Path) -> None:
    source = str(make_video(tmp_path / "a.mp4", 1))
    found = estimate_batch([ClipTask(source, "a.mp4", "upscale")], device="cpu")
    assert found.hours == pytest.approx(1.25 / 3600)


def test_a_broken_clip_is_named_and_the_others_are_estimated(calls: list[int], tmp_path: Path) -> None:
    good = str(make_video(tmp_path / "a.mp4", 4))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    found = estimate_batch([ClipTask(p, p, "upscale") for p in (str(tmp_path / "b.mp4"), good)], device="cpu")
    assert "cannot be read as video" in str(found.clips[0].error)
    with pytest.raises(BatchFailed) as raised:
        found.check()
    assert str(raised.value).count(found.clips[0].source) == 1
    assert found.clips[1].hours > 0


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = [
        {"block": "machine", "device": "H200"},
        {"network": "steadyscale-2x", "size": "64x48", "fps": 200.0, "status": "ok", "device": "NVIDIA H200"},
        {"network": "steadyscale-2x", "size": "64x48", "fps": 400.0, "status": "ok", "device": "NVIDIA H200"},
        {"network": "steadyscale-2x", "size": "1920x1080", "fps": 9.0, "status": "ok", "device": "NVIDIA H200"},
        {"network": "other", "size": "64x48", "fps": 1e6, "status": "ok", "device": "NVIDIA H200"},
        {"network": "steadyscale-2x", "size": "64x48", "status": "failed", "device": "NVIDIA H200"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_rows_of_another_machine_replace_the_network(calls, rows: Path, tmp_path: Path, monkeypatch) -> None:
    networks = []
    sample = estimate._Sample.take.__func__

    def take(cls, operation, clip, frames, arguments, device, folder):
        networks.append((type(arguments["model"]).__name__, device))
        return sample(cls, operation, clip, frames, arguments, device, folder)

    monkeypatch.setattr(estimate._Sample, "take", classmethod(take))
    source = str(make_video(tmp_path / "a.mp4", 12))
    arguments = {"model": "steadyscale-2x"}
    found = estimate_batch([ClipTask(source, "a.mp4", "upscale", arguments)], rows=rows)
    assert networks == [("_Resize", "cpu")] * 3
    assert found.total("gpu_hours") == pytest.approx(12 / 400 / 3600)
    assert found.hours == pytest.approx(12 * 0.25 / 3600), "the other stages take longer than the network"


def test_rows_without_the_network_end_the_estimate(calls, rows: Path, tmp_path: Path) -> None:
    task = ClipTask(str(make_video(tmp_path / "a.mp4", 4)), "a.mp4", "upscale", {"model": "steadyscale-4x"})
    with pytest.raises(RowsError, match="the rows are of other, steadyscale-calm-2x, not of steadyscale-calm-4x"):
        estimate_batch([task], rows=rows)
    rows.write_text('{"block": "machine"}')
    with pytest.raises(RowsError, match="no row with network, size and fps"):
        estimate_batch([task], rows=rows)


def test_noise_of_the_machine_makes_no_estimate_of_no_time(tmp_path, monkeypatch) -> None:
    def take(cls, operation, clip, frames, arguments, device, folder):
        return cls(frames, 2.0, 1.0, 1000 * frames, clip.info.size)  # as long for half of the frames

    monkeypatch.setattr(estimate._Sample, "take", classmethod(take))
    source = str(make_video(tmp_path / "a.mp4", 12))
    (clip,) = estimate_batch([ClipTask(source, "a.mp4", "stabilize", {})], device="cpu", frames=8).clips
    assert clip.hours == pytest.approx(12 * 2.0 / 8 / 3600)
    assert clip.core_hours == pytest.approx(12 * 1.0 / 8 / 3600)


def test_a_real_network_is_measured(tmp_path: Path, weights: Path) -> None:
    source = str(make_video(tmp_path / "a.mp4", 6))
    found = estimate_batch([ClipTask(source, "a.mp4", "upscale", {"model": str(weights)})], device="cpu", frames=6)
    (clip,) = found.clips
    assert clip.error is None
    assert (clip.frames, clip.width, clip.height) == (6, 64, 48)
    assert clip.bytes > 100
    assert clip.core_hours > 0
