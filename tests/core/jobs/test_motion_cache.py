"""Motion that is measured in pieces and kept is the motion that is measured at once, and is not measured twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from camera_simulation import make_shaken_clip
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.jobs.folder import open_job
from steadyscale.core.jobs.motion_cache import cached_motion
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.flow import flow_model
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

PIECE = 0.2  # seconds: 5 frames


class Flow:
    """Counts what it measures, and may fail."""

    def __init__(self, fail_at: int = 0) -> None:
        self._flow, self._calls, self._fail_at = flow_model(), 0, fail_at

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        if self._calls == self._fail_at:
            raise KeyboardInterrupt
        return self._flow(first, second)

    @property
    def calls(self) -> int:
        return self._calls


@pytest.fixture
def shaken(tmp_path: Path) -> VideoClip:
    """24 frames at 25 a second, with a cut in the middle."""
    first, second = (make_shaken_clip(12, 128, 96, seed)[0] for seed in (1, 2))
    frames = torch.cat([*first.frames(12), *second.frames(12)])
    clip = TensorClip(frames, first.info.fps)
    write_video(tmp_path / "shaken.mp4", clip.frames(), clip.info)
    return VideoClip(tmp_path / "shaken.mp4")


def test_in_pieces_it_is_the_same_and_the_second_time_nothing_is_measured(shaken: VideoClip, tmp_path: Path):
    truth = estimate_motion(shaken, flow_model())
    assert len(truth.shots) == 2
    for expected in (True, False):
        with open_job(tmp_path / "job", shaken.path) as job:
            flow = Flow()
            motion = cached_motion(job, shaken, flow, segment_seconds=PIECE)
        np.testing.assert_array_equal(motion.steps, truth.steps)
        np.testing.assert_array_equal(motion.confidence, truth.confidence)
        assert motion.info == truth.info
        assert (flow.calls > 0) == expected


def test_stopped_it_goes_on_where_it_was(shaken: VideoClip, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    truth, flow = estimate_motion(shaken, flow_model()), Flow()
    with pytest.raises(KeyboardInterrupt), open_job(tmp_path / "job", shaken.path) as job:
        cached_motion(job, shaken, Flow(fail_at=15), segment_seconds=PIECE)
    assert "finished motions are kept" in caplog.text
    with open_job(tmp_path / "job", shaken.path) as job:
        motion = cached_motion(job, shaken, flow, segment_seconds=PIECE)
    assert "going on, motion is known in 3 parts of 5" in caplog.text
    assert flow.calls <= 24 - 15 + 1
    np.testing.assert_array_equal(motion.steps, truth.steps)


def test_other_settings_are_measured_anew(shaken: VideoClip, tmp_path: Path):
    mask = torch.zeros(24, 96, 128)
    mask[:, :, 64:] = 1
    for settings in ({}, {"side": 64}, {"mask": mask}, {"mask": mask[:1]}):
        with open_job(tmp_path / "job", shaken.path) as job:
            flow = Flow()
            motion = cached_motion(job, shaken, flow, segment_seconds=PIECE, **settings)
        assert flow.calls > 0
        np.testing.assert_array_equal(motion.steps, estimate_motion(shaken, flow_model(), **settings).steps)


def test_a_file_that_was_changed_is_measured_again(shaken: VideoClip, tmp_path: Path):
    for calls in (23, 5):
        with open_job(tmp_path / "job", shaken.path) as job:
            flow = Flow()
            motion = cached_motion(job, shaken, flow, segment_seconds=PIECE)
            piece = tmp_path / "job" / "motion-00002.json"
            piece.write_text(piece.read_text().replace("1", "2"))
        assert flow.calls == calls
    np.testing.assert_array_equal(motion.steps, estimate_motion(shaken, flow_model()).steps)


def test_another_clip_than_the_source_is_noticed(shaken: VideoClip, tmp_path: Path):
    short = TensorClip(torch.cat([*shaken.frames(24)])[:20], shaken.info.fps)
    with pytest.raises(ClipError, match="ended after 20 frames"), open_job(tmp_path / "job", shaken.path) as job:
        cached_motion(job, short, flow_model())
