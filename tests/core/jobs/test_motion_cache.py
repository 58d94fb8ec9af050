"""Motion measured in a job equals motion measured at once, and is measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from camera_simulation import make_shaken_clip
from steadyscale.core.bars import BarDetection, Bars
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.hold import Region
from steadyscale.core.jobs import motion_pieces
from steadyscale.core.jobs.motion_cache import cached_motion, measure_share
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.jobs.state.layout import JobFolder
from steadyscale.core.lens import Lens
from steadyscale.core.motion.estimate import LINK_FRAMES, estimate_motion
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.path.motion import Motion
from steadyscale.core.stabilize import StabilizeSettings, measure_motion, with_known_bars
from steadyscale.core.stabilize import measure as measure_module
from steadyscale.core.storage.location import parse_location
from steadyscale.core.video.decode import video_clip
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

SEGMENT_SECONDS = 0.2  # 5 frames


class CountingFlow:
    """Counts its calls, and can fail."""

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


@pytest.fixture(scope="module")
def shaken_clip(tmp_path_factory: pytest.TempPathFactory) -> VideoClip:
    """24 frames at 25 a second, with a cut in the middle."""
    path = tmp_path_factory.mktemp("shaken") / "shaken.mp4"
    first, second = (make_shaken_clip(12, 128, 96, seed)[0] for seed in (1, 2))
    frames = torch.cat([*first.frames(12), *second.frames(12)])
    clip = TensorClip(frames, first.info.fps)
    write_video(path, clip.frames(), clip.info)
    return VideoClip(path)


@pytest.fixture(scope="module")
def truth(shaken_clip: VideoClip) -> Motion:
    """Its motion, measured at once."""
    return estimate_motion(shaken_clip, flow_model())


def test_motion_is_bit_identical_and_is_not_measured_again(shaken_clip: VideoClip, truth: Motion, tmp_path: Path):
    assert len(truth.shots) == 2
    for expected in (True, False):
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            flow = CountingFlow()
            motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS)
        np.testing.assert_array_equal(motion.steps, truth.steps)
        np.testing.assert_array_equal(motion.confidence, truth.confidence)
        assert motion.info == truth.info
        assert (flow.calls > 0) == expected


def test_an_interrupted_run_is_resumed(
    shaken_clip: VideoClip, truth: Motion, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    flow = CountingFlow()
    with pytest.raises(KeyboardInterrupt), open_job(tmp_path / "job", shaken_clip.path) as job:
        cached_motion(job, shaken_clip, CountingFlow(fail_at=16), segment_seconds=SEGMENT_SECONDS)
    assert "finished motions are kept" in caplog.text
    with open_job(tmp_path / "job", shaken_clip.path) as job:
        motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS)
    assert "resuming, motion of 3 of 5 segments is known" in caplog.text
    assert flow.calls <= 24 - 15 + 1
    np.testing.assert_array_equal(motion.steps, truth.steps)


def test_other_settings_are_measured_again(shaken_clip: VideoClip, truth: Motion, tmp_path: Path):
    mask = torch.zeros(24, 96, 128)
    mask[:, :, 64:] = 1
    small, masked = (
        estimate_motion(shaken_clip, flow_model(), **settings).steps for settings in ({"side": 64}, {"mask": mask})
    )
    for settings, steps in (
        ({}, truth.steps),
        ({"side": 64}, small),
        ({"mask": mask}, masked),
        ({"mask": mask[:1]}, masked),
    ):
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            flow = CountingFlow()
            motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS, **settings)
        assert flow.calls > 0
        np.testing.assert_array_equal(motion.steps, steps)


def test_a_segment_whose_file_was_changed_is_measured_again(shaken_clip: VideoClip, truth: Motion, tmp_path: Path):
    for calls in (24, 6):  # of 23 and 5 steps, and the link across the cut
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            flow = CountingFlow()
            motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS)
            piece = tmp_path / "job" / "motion" / "00002.json"
            piece.write_text(piece.read_text().replace("1", "2"))
        assert flow.calls == calls
    np.testing.assert_array_equal(motion.steps, truth.steps)


@pytest.mark.parametrize(("place", "warm_up", "calls"), [("disk", 128, 0), ("disk", 6, 11), ("store", 6, 11)])
def test_shares_of_several_processes_are_merged_bit_identically(
    place: str, warm_up: int, calls: int, shaken_clip: VideoClip, truth: Motion, tmp_path: Path, monkeypatch, caplog
):
    """A warm-up that is too short is noticed: 10 steps and the link across the cut are measured again.

    The cut ends the wrong state of piece 2; the last steps of that piece are a part of the state of piece 3.
    """
    monkeypatch.setattr(motion_pieces, "WARM_UP_FRAMES", warm_up)
    folder = parse_location(tmp_path / "job" if place == "disk" else "memory://bucket/job")
    measured: list[int] = []
    for index in (1, 0):
        with open_job(folder, shaken_clip.path, is_shared=True) as job:
            share = measure_share(job, shaken_clip, CountingFlow(), index, 2, segment_seconds=SEGMENT_SECONDS)
        measured += share.computed
    assert (measured, share.frames, share.missing, share.pieces) == ([2, 3, 4, 0, 1], 10, 0, 5)
    assert "from the start" not in caplog.text
    assert JobFolder(folder).measured_pieces() == {f"motion/0000{index}.json" for index in range(5)}
    with open_job(folder, shaken_clip.path) as job:
        flow = CountingFlow()
        motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS)
    assert flow.calls == calls
    for name in ("steps", "confidence"):
        np.testing.assert_array_equal(getattr(motion, name), getattr(truth, name))
    JobFolder(folder).remove()
    assert [*tmp_path.iterdir()] == []
    assert JobFolder(folder).measured_pieces() == set()


def test_a_share_that_was_killed_goes_on_where_it_was(shaken_clip: VideoClip, truth: Motion, tmp_path: Path):
    def measure(flow: CountingFlow) -> list[int]:
        with open_job(tmp_path / "job", shaken_clip.path, is_shared=True) as job:
            return measure_share(job, shaken_clip, flow, 0, 1, segment_seconds=SEGMENT_SECONDS).computed

    with pytest.raises(KeyboardInterrupt):
        measure(CountingFlow(fail_at=12))
    assert measure(CountingFlow()) == [2, 3, 4]
    assert measure(CountingFlow()) == []
    with open_job(tmp_path / "job", shaken_clip.path) as job:
        motion = cached_motion(job, shaken_clip, CountingFlow(fail_at=1), segment_seconds=SEGMENT_SECONDS)
    np.testing.assert_array_equal(motion.steps, truth.steps)


def test_another_clip_than_the_source_is_an_error(shaken_clip: VideoClip, tmp_path: Path):
    short = TensorClip(torch.cat([*shaken_clip.frames(24)])[:20], shaken_clip.info.fps)
    with pytest.raises(ClipError, match="ended after 20 frames"), open_job(tmp_path / "job", shaken_clip.path) as job:
        cached_motion(job, short, flow_model())


def test_residuals_are_measured_in_parts_as_at_once(shaken_clip: VideoClip, tmp_path: Path):
    expected = estimate_motion(shaken_clip, flow_model(), with_residuals=True)
    assert expected.residuals is not None
    assert expected.residuals.any()
    for calls in (24, 0):
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            flow = CountingFlow()
            motion = cached_motion(job, shaken_clip, flow, segment_seconds=SEGMENT_SECONDS, with_residuals=True)
        assert flow.calls == calls
        np.testing.assert_array_equal(motion.steps, expected.steps)
        np.testing.assert_array_equal(motion.residuals, expected.residuals)


def test_the_view_of_a_detected_lens_is_measured_once(shaken_clip: VideoClip, tmp_path: Path, monkeypatch):
    """The job keeps both passes, and continues the second one where it was interrupted."""
    frames: list[np.ndarray] = []
    read = VideoClip.luma_range
    monkeypatch.setattr(VideoClip, "luma_range", lambda *a: (frames.append(f) or f for f in read(*a)))
    settings, motions = StabilizeSettings(bars=BarDetection.NONE), []

    def measure(fov: float, flow: CountingFlow) -> int:
        """The number of frames that are decoded."""
        frames.clear()
        monkeypatch.setattr(measure_module, "estimate_lens", lambda *_: Lens(fov))
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            motion = measure_motion(shaken_clip, settings, flow=flow, job=job, segment_seconds=SEGMENT_SECONDS)
        motions.append(motion.steps)
        return len(frames)

    with pytest.raises(KeyboardInterrupt):
        measure(100, CountingFlow(fail_at=24 + 16))  # the first pass has 24 calls
    assert 24 < len(frames) < 48
    assert measure(100, CountingFlow()) == 24 - 15 + LINK_FRAMES, "15 frames are known, the last of them are read again"
    assert measure(100, CountingFlow()) == 0
    np.testing.assert_array_equal(motions[0], motions[1])
    assert measure(120, CountingFlow()) == 24, "through another lens, and the first pass is kept"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All frames that are decoded from files."""
    frames: list[object] = []
    for owner, name in ((video_clip, "decode_range"), (VideoClip, "_decode")):  # from a key frame, and from the start
        decode = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, decode=decode: (frames.append(f) or f for f in decode(*a)))
    return frames


def test_what_is_held_is_measured_once(shaken_clip: VideoClip, tmp_path: Path, decoded: list[object]):
    def measure(**changed: object) -> Motion:
        decoded.clear()
        settings = StabilizeSettings(bars="none", lens="off", **changed)
        with open_job(tmp_path / "job", shaken_clip.path) as job:
            return measure_motion(shaken_clip, settings, job=job, segment_seconds=SEGMENT_SECONDS)

    first = measure(hold="background")
    assert len(decoded) == 48, "for the camera, and for what is held"
    again = measure(hold="background")
    assert len(decoded) == 0
    for name in ("steps", "confidence", "held"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.hold is first.hold
    direct = measure_motion(shaken_clip, StabilizeSettings(bars="none", lens="off", hold="background"))
    np.testing.assert_array_equal(again.steps, direct.steps)
    box = Region(30, 20, 60, 50)
    subject = measure(hold="region", region=box)
    assert len(decoded) == 12, "the shot of the region; the camera is known"
    assert not np.array_equal(subject.steps, first.steps)
    measure(hold="region", region=box)
    assert len(decoded) == 0
    measure(hold="region", region=box, hold_strength=0.5)
    assert len(decoded) == 12, "another strength is another motion"


def test_changing_bars_are_measured_once(tmp_path: Path, decoded: list[object]):
    first, second = (make_shaken_clip(16, 128, 96, seed)[0] for seed in (1, 2))
    barred = torch.cat([*second.frames(16)])
    barred[:, :, :16] = barred[:, :, 80:] = 0
    frames = torch.cat([*first.frames(16), barred])
    path = tmp_path / "bars.mp4"
    write_video(path, iter([frames]), TensorClip(frames, first.info.fps).info)
    clip = VideoClip(path)
    settings = with_known_bars(StabilizeSettings(lens="off", hold="background"), clip)

    def measure() -> Motion:
        decoded.clear()
        with open_job(tmp_path / "job", path) as job:
            return measure_motion(clip, settings, job=job, segment_seconds=SEGMENT_SECONDS)

    one = measure()
    assert one.shot_bars == (Bars(), Bars(top=16, bottom=16))
    assert len(decoded) == 4 * 32, "for the camera, the bars, the camera inside them, and for what is held"
    two = measure()
    assert len(decoded) == 0
    direct = measure_motion(clip, settings)
    for motion in (two, direct):
        np.testing.assert_array_equal(motion.steps, one.steps)
        assert (motion.shot_bars, motion.hold) == (one.shot_bars, one.hold)
    JobFolder(tmp_path / "job").remove()
    assert not (tmp_path / "job").exists()
