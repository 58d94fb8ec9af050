"""What a report and the progress say: known counts in, the same counts out."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from recorded_calls import RecordedCalls
from steadyscale.core import (
    ClipInfo,
    Encoding,
    Progress,
    TensorClip,
    TimeRange,
    VideoClip,
    stabilize_video,
    upscale_video,
)
from steadyscale.core.api.progress import ProgressTracker
from steadyscale.core.api.report import VideoReport
from steadyscale.core.jobs.run import JobResult
from steadyscale.core.motion.estimate import luma_frames, luma_range, second_pass
from steadyscale.core.stabilization_report import StabilizationReport
from steadyscale.core.upscaling.settings import UpscaleStats
from steadyscale.core.video.decode.corruption_report import CorruptionReport

API = "steadyscale.core.api.run"


class Network:
    """A 2x network that no test runs."""

    scale, halo = 2, 0


class Damage(CorruptionReport):
    """A report of three corrupt frames."""

    def __len__(self) -> int:
        return 3

    def __str__(self) -> str:
        return "3 damaged frames"

    def to_table(self, *_):
        return ["the table"]


def make_report(**changes) -> VideoReport:
    values = {
        "command": "upscale", "input": "in.mp4", "output": "out.mp4", "frames_in": 11, "frames_out": 12,
        "info": ClipInfo(64, 48, Fraction(25), 12), "seconds": 2.5, "peak_memory_mb": 90.5, "device": "cuda:1",
        "damage": CorruptionReport(), "stats": None,
    }  # fmt: skip
    return VideoReport(**{**values, **changes})


def test_json_values_are_those_of_the_report():
    stats = UpscaleStats(repeated_frames=2, tiles_reused=5, pixels=400, pixels_computed=100, engine="native")
    found = make_report(damage=Damage(), stats=stats).as_dict()
    assert found == {
        "command": "upscale", "input": "in.mp4", "output": "out.mp4", "frames_in": 11, "frames_out": 12, "width": 64,
        "height": 48, "fps": 25.0, "seconds": 2.5, "peak_memory_mb": 90.5, "device": "cuda:1", "engine": "native",
        "repeated_frames": 2, "tiles_reused": 5, "pixels_computed": 0.25, "damaged_frames": 3, "damage": ["the table"],
    }  # fmt: skip
    assert not {"engine", "pixels_computed"} & {*make_report().as_dict()}


def test_what_the_stabilizer_did_is_part_of_the_report():
    did = StabilizationReport(1.05, 1.1, 7, [30], 0.25, 0.125, 5.5, None)
    report = make_report(stabilization=did)
    assert report.as_dict()["stabilization"] == {
        "zoom_mean": 1.05, "zoom_max": 1.1, "zoom_frame": 7, "cuts": [30], "readout": 0.25, "doubtful_steps": 0.125,
        "jitter_before": 5.5, "jitter_after": None, "bars": None, "mesh": 0.0,
        "keyframes": 0, "field_of_view": None, "telemetry": None,
        "hold": "auto", "held": 1.0, "lost": [], "shot_bars": None,
    }  # fmt: skip
    assert "zoom 1.05, at most 1.10 (frame 7 needs most), 1 cut, readout 0.25 of a frame, 12.5% of the steps" in str(
        report
    )
    assert "stabilization" not in make_report().as_dict()


def test_the_line_of_a_report_has_what_was_reused_and_damaged():
    plain = "out.mp4: 12 frames, 64x48 at 25 fps, in 2.5 s on cuda:1"
    assert str(make_report()) == plain
    assert str(make_report(stats=UpscaleStats(engine="torch"))) == plain
    stats = UpscaleStats(repeated_frames=2, pixels=400, pixels_computed=100, engine="native")
    expected = f"{plain} by native; 75% of the pixels (2 whole frames) reused; 3 damaged frames"
    assert str(make_report(stats=stats, damage=Damage())) == expected


def test_progress_has_the_stage_its_counts_and_messages():
    calls: list[Progress] = []
    tracker = ProgressTracker(calls.append)
    assert list(tracker.track(iter([[1, 2], [3]]), "upscaling", 3)) == [[1, 2], [3]]
    tracker.notify("about 2 GB")
    assert calls == [
        Progress("upscaling", 0, 3),
        Progress("upscaling", 2, 3),
        Progress("upscaling", 3, 3),
        Progress("upscaling", 3, 3, "about 2 GB"),
    ]


@pytest.mark.parametrize("is_job", [False, True])
def test_a_part_of_a_file_is_processed_and_its_damage_reported(monkeypatch, clip_file: Path, is_job):
    calls, window = RecordedCalls(monkeypatch), TimeRange(0.25, 0.25)
    clip = VideoClip(clip_file, window=window)
    clip.damage = Damage()
    calls.replace(f"{API}.check_target")
    calls.replace(f"{API}.open_clip", clip)
    calls.replace(f"{API}.write_video", 6)
    calls.replace("steadyscale.core.jobs.state.folder.open_job", nullcontext("the job"))
    calls.replace("steadyscale.core.jobs.run.run_job", JobResult(6, 1, 0))
    report = upscale_video(clip, "out.mp4", model=Network(), encoding=Encoding("hevc"), device="cpu", resumable=is_job)
    if is_job:
        assert (calls.one("open_job")["source"], calls.one("open_job")["window"]) == (clip_file, window)
    else:
        assert (calls.one("write_video")["source"], calls.one("write_video")["window"]) == (clip_file, window)
    assert report.damage is clip.damage


def test_the_device_is_that_of_the_network_and_the_cpu_without_one(monkeypatch, clip_file: Path, tmp_path: Path):
    calls = RecordedCalls(monkeypatch)
    calls.replace(f"{API}.resolve_devices", "the device")
    calls.replace(f"{API}.write_video", 12)
    calls.replace(f"{API}.open_clip", VideoClip(clip_file))
    assert stabilize_video(clip_file, tmp_path / "out.mp4").device == "cpu"


def test_a_second_pass_is_a_stage_of_its_own_that_counts_all_its_parts():
    seen: list[Progress] = []
    clip = ProgressTracker(seen.append).track_clip(TensorClip(torch.zeros(5, 3, 8, 8), Fraction(25)), "measuring")
    list(luma_frames(clip, 8))
    again = second_pass(clip, 5)
    for first, stop in ((3, 5), (1, 3), (0, 1)):
        list(luma_range(again, 8, first, stop, None))
    assert seen == [
        *[Progress("measuring", done, 5) for done in range(6)],
        *[Progress("measuring again", done, 5) for done in range(1, 6)],
    ]
