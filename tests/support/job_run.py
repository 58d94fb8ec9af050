"""Run a job in a child process: killed, limited or left alone.

With comparisons of results.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path
from numbered_video import make_video
from steadyscale.core import geometry
from steadyscale.core.crop.border import Border
from steadyscale.core.jobs.run import JobResult, ProgressStage, run_job
from steadyscale.core.jobs.state.folder import default_job_folder, open_job
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding

FRAME_COUNT, SEGMENT_COUNT = 36, 8  # frames of the source, and segments of its job


class SlowNearest:
    """Repeats pixels, slowly, and counts its calls in a file that survives a kill.

    pause: seconds per call. fail: called with the number of each call, and may raise.
    """

    scale, halo = 2, 0

    def __init__(self, counter_file: Path | None = None, pause: float = 0.0, fail: Callable[[int], None] | None = None):
        self._counter_file, self._pause, self._fail, self._calls = counter_file, pause, fail, 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        time.sleep(self._pause)
        if self._counter_file:
            with self._counter_file.open("ab", buffering=0) as file:
                file.write(b".")
        if self._fail:
            self._fail(self._calls)
        return frames.repeat_interleave(2, -1).repeat_interleave(2, -2)


def make_source(path: Path, count: int = FRAME_COUNT) -> Path:
    """Write numbered frames, unevenly spaced, 2.3 s in all, and a later tone."""
    gaps = [[40, 50, 100][number * 7 % 3] for number in range(count)]
    starts = np.cumsum([0, *gaps])[:count].tolist()
    return make_video(
        path, count, starts=starts, time_base=Fraction(1, 1000), audio_start=0.5, metadata={"title": "bars"}
    )


def make_pipeline(clip: VideoClip, model: SlowNearest, border: Border) -> Pipeline:
    """Upscale, then stabilize in two shots."""
    count = FRAME_COUNT if clip.info.length is None else clip.info.length
    poses = geometry.matrices_from_parameters(make_shake_path(count, pixels=2.0))
    cut = count * 5 // 9  # within a segment
    shots = [slice(0, cut), slice(cut, count)]
    return (
        Pipeline(clip)
        .then(UpscaleOp(model))
        .then(WarpOp(Correction(np.linalg.inv(poses), shots, clip.info, poses), border))
    )


def run_full_job(
    source: Path,
    target: Path,
    model: SlowNearest | None = None,
    *,
    seconds: float = 0.25,
    border: Border = Border.CROP,
    encoding: Encoding | None = None,
    progress: ProgressStage | None = None,
) -> JobResult:
    """Run the whole job."""
    with open_job(default_job_folder(target), source) as job:
        pipeline = make_pipeline(VideoClip(source), model or SlowNearest(), border)
        return run_job(job, pipeline, target, segment_seconds=seconds, encoding=encoding, progress=progress)


def run_in_child(source: Path, target: Path, counter_file: Path, pause: float, max_file_bytes: int = 0) -> None:
    """Run the job in a child process. max_file_bytes: limit for each file; 0 for none."""
    if max_file_bytes:
        import resource  # POSIX only, as the limit is

        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    torch.set_num_threads(1)
    # The parent reads the exit code; a traceback in the output of the tests would look like a failure.
    try:
        run_full_job(source, target, SlowNearest(counter_file, pause))
    except Exception as error:
        counter_file.with_suffix(".error").write_text(str(error))
        os._exit(1)


def start_process(function: Callable, *arguments: object) -> multiprocessing.Process:
    """Start a process that calls a function, forked from one that has all imports where the system can fork."""
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    if can_fork:
        context.set_forkserver_preload(["steadyscale.core.jobs.run", "cv2"])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def frame_hashes(path: Path) -> list[tuple[str, Fraction]]:
    """Return a hash and the timestamp of each decoded frame."""
    with av.open(str(path)) as container:
        frames = (f if f.format.name != "bgr0" else f.reformat(format="bgr24") for f in container.decode(video=0))
        return [(sha256(frame.to_ndarray().tobytes()).hexdigest(), frame.pts * frame.time_base) for frame in frames]


def audio_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    """Return the packets of the first audio track and their timestamps."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(bytes(packet), packet.pts * packet.time_base) for packet in packets if packet.size]


def has_same_content(target: Path, reference: Path) -> bool:
    return frame_hashes(target) == frame_hashes(reference) and audio_packets(target) == audio_packets(reference)


def run_interrupted(
    source: Path, target: Path, fail_at_call: int = 16, error: BaseException | None = None
) -> list[str]:
    """Interrupt a run at a call of the network, of which the plan makes one; return the files of the job folder."""

    def fail(calls: int) -> None:
        if calls == fail_at_call:
            raise error or KeyboardInterrupt

    with pytest.raises(type(error) if error else KeyboardInterrupt):
        run_full_job(source, target, SlowNearest(fail=fail))
    assert not target.exists()
    assert [p for p in target.parent.iterdir() if p.name.endswith(".partial")] == []
    folder = default_job_folder(target)
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
