"""Test resumable runs: what is kept, what is reused, and when it is removed."""

from __future__ import annotations

import gc
import logging
import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from job_run import frame_hashes
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.video.decode.video_clip import VideoClip

SETTINGS = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "auto"}
STEADY = {"fps": 24.0, "smoothing": "gaussian", "seconds": 1.0, "max_zoom": 1.3, "border": "mirror"}
COUNT, SECONDS = 48, 0.5  # frames of the clip, and what a segment lasts here


class FrameCounter:
    """A counter that the replicas of a network share with it."""

    def __init__(self) -> None:
        self.count = 0


class Network(torch.nn.Module):
    """A 2x network that repeats pixels, counts its frames and fails at one of them."""

    scale, halo = 2, 2

    def __init__(self, weight: float = 1.0, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight), requires_grad=False)
        self.counter, self.fail_at = FrameCounter(), fail_at

    @property
    def num_frames(self) -> int:
        return self.counter.count

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.counter.count += len(frames)
        if self.fail_at is not None and self.num_frames > self.fail_at:
            raise KeyboardInterrupt
        return F.interpolate(frames, scale_factor=2, mode="nearest") * self.weight


@pytest.fixture(autouse=True)
def short_segments(fake_host, monkeypatch: pytest.MonkeyPatch):
    jobs = fake_host.import_("_video.resumable")
    original = jobs.run_job
    monkeypatch.setattr(jobs, "run_job", lambda *a, **named: original(*a, segment_seconds=SECONDS, **named))
    return jobs


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return make_video(tmp_path / "source.mp4", COUNT, audio_start=0.0)


def kept(tmp_path: Path) -> list[str]:
    root = tmp_path / "output" / "steadyscale_jobs"
    files = root.rglob("*") if root.exists() else []
    names = (f"{f.parent.name.partition('-')[0]}/{f.name}" for f in files if f.is_file())
    return sorted(re.sub("-[0-9a-f]{16}\\b", "-HASH", name) for name in names)


def upscaled(fake_host, frames, network, **settings):
    node = fake_host.import_("upscale").UpscaleFrames
    return node.execute(frames, upscale_model=network, **{**SETTINGS, "resumable": True, **settings}).result[0]


def test_segments_of_an_interrupted_run_are_reused(fake_host, clip_file, tmp_path, caplog):
    whole = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network(), resumable=False)
    whole.save_to(str(tmp_path / "undisturbed.mp4"))
    first = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network(fail_at=30))
    assert kept(tmp_path) == [], "planning writes nothing"
    with pytest.raises(KeyboardInterrupt):
        first.save_to(str(tmp_path / "out.mp4"))
    assert kept(tmp_path) == ["parts/00000-HASH.mp4", "parts/00000.json", "parts/00001-HASH.mp4", "parts/00001.json",
                              "video/plan.json"]  # fmt: skip
    del first
    gc.collect()
    assert len(kept(tmp_path)) == 5, "unfinished jobs are kept"
    network = Network()
    again = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    again.save_to(str(tmp_path / "out.mp4"))
    assert network.num_frames == 1 + 24, "the plan computes one"
    assert "resuming, 2 of 4 segments are finished" in caplog.text
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [*range(COUNT)]
    assert [time for _, time in frame_hashes(tmp_path / "out.mp4")] == [
        time for _, time in frame_hashes(tmp_path / "undisturbed.mp4")
    ]
    assert kept(tmp_path) == [], "the result is saved"
    assert fake_host.progress[-1][:2] == (24, 24)


def test_job_folder_is_kept_until_the_result_is_saved(fake_host, clip_file, tmp_path):
    video = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network())
    assert len(fake_host.files()) == 0
    video.get_stream_source()
    assert len(kept(tmp_path)) == 9, "the segments are in the output folder"
    network = Network()
    other = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    other.get_stream_source()
    assert network.num_frames == 1, "the segments are only joined"
    (tmp_path / "taken.mp4").mkdir()
    with pytest.raises(IsADirectoryError):
        other.save_to(str(tmp_path / "taken.mp4"))
    assert len(kept(tmp_path)) == 9
    other.save_to(str(tmp_path / "out.mp4"))
    assert kept(tmp_path) == []


def test_job_folder_is_removed_with_the_last_reference(fake_host, clip_file, tmp_path):
    video = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network())
    video.get_stream_source()
    assert kept(tmp_path)
    del video
    gc.collect()
    assert kept(tmp_path) == []


@pytest.mark.parametrize("change", ["weights", "settings", "source", "part"])
def test_other_source_network_or_settings_start_another_job(fake_host, clip_file, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network(fail_at=30)).get_stream_source()
    if change == "source":
        make_video(clip_file, COUNT)
    network = Network(0.5 if change == "weights" else 1.0)
    settings = {"resize_to": "factor", "factor": 1.5} if change == "settings" else {}
    source = fake_host.VideoFromFile(str(clip_file), window=(0.0, 1.5) if change == "part" else (0.0, 0.0))
    upscaled(fake_host, source, network, **settings).save_to(str(tmp_path / "out.mp4"))
    assert network.num_frames == 1 + (36 if change == "part" else COUNT)
    assert len(kept(tmp_path)) == 5, "the other job is still there"


def test_measured_motion_is_resumable(fake_host, clip_file, tmp_path, monkeypatch, short_segments):
    node = fake_host.import_("stabilize").StabilizeVideo
    original, frames = short_segments.measure_motion, []

    def measured(clip, settings, **named):
        def luma_range(*arguments, read=clip.luma_range):
            for luma in read(*arguments):
                frames.append(luma)
                if len(frames) == 30:
                    raise KeyboardInterrupt
                yield luma

        clip.luma_range = luma_range
        return original(clip, settings, segment_seconds=SECONDS, **named)

    def run(resumable=True):
        return node.execute(fake_host.VideoFromFile(str(clip_file)), method="farneback", resumable=resumable, **STEADY)

    plain = run(resumable=False).result[0]
    plain.save_to(str(tmp_path / "plain.mp4"))
    monkeypatch.setattr(short_segments, "measure_motion", measured)
    with pytest.raises(KeyboardInterrupt):
        run()
    parts = [name for name in kept(tmp_path) if "motion/" in name]
    assert len(parts) == 2
    frames[:] = [None] * 100
    video = run().result[0]
    assert [name for name in kept(tmp_path) if "motion/" in name] == [f"motion/0000{i}.json" for i in range(4)]
    frames[:] = [None] * 100
    run()
    assert len(frames) == 100, "nothing is left to be measured"
    video.save_to(str(tmp_path / "out.mp4"))
    assert [t for _, t in frame_hashes(tmp_path / "out.mp4")] == [t for _, t in frame_hashes(tmp_path / "plain.mp4")]
    pairs = zip(VideoClip(tmp_path / "out.mp4").frames(), VideoClip(tmp_path / "plain.mp4").frames(), strict=True)
    assert max(float((a - b).abs().mean()) for a, b in pairs) < 0.01
    assert kept(tmp_path) == [], "the measured motion is removed too"


def test_chain_is_resumable_if_one_node_is(fake_host, clip_file, tmp_path):
    first = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network(), resumable=True)
    second = upscaled(fake_host, first, Network(), resumable=False, resize_to="factor", factor=0.5)
    second.get_stream_source()
    assert len(kept(tmp_path)) == 9


def test_job_in_use_is_refused(fake_host, clip_file, tmp_path, short_segments):
    video = upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network())
    folder = short_segments._job_folder(
        "video", clip_file, None, video.plan.pipeline.operations, ".mp4", video._default_format.encoding
    )
    with short_segments.open_job(folder, clip_file), pytest.raises(ClipError, match=r"Upscale Frames.*is at work"):
        video.get_stream_source()


def test_resumable_frames_in_memory_run_with_a_warning(fake_host, tmp_path, caplog):
    images = numbered_frames(6).permute(0, 2, 3, 1)
    given = fake_host.VideoFromComponents(fake_host.Components(images, 24))
    video = upscaled(fake_host, given, Network())
    assert read_numbers(VideoClip(video.get_stream_source())) == [*range(6)]
    assert "only a VIDEO that comes from a file is resumable" in caplog.text
    assert upscaled(fake_host, images, Network()).shape == (6, 96, 128, 3)
    assert kept(tmp_path) == []


def test_stale_jobs_are_logged_and_kept(fake_host, clip_file, tmp_path, caplog):
    old = tmp_path / "output" / "steadyscale_jobs" / "video-old"
    old.mkdir(parents=True)
    (old / "segment-00000.mp4").write_bytes(bytes(2_000_000))
    os.utime(old, (1, 1))
    with caplog.at_level(logging.WARNING):
        upscaled(fake_host, fake_host.VideoFromFile(str(clip_file)), Network()).save_to(str(tmp_path / "out.mp4"))
    assert "1 unfinished jobs (2 MB) are older than a week" in caplog.text
    assert (old / "segment-00000.mp4").exists()
