"""A job as a child process runs it: killed, limited or left alone; and what a result shows, as something to compare."""

from __future__ import annotations

import multiprocessing
import os
import resource
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
from steadyscale.core.jobs.folder import default_job_folder, open_job
from steadyscale.core.jobs.run import JobResult, ProgressStage, run_job
from steadyscale.core.path.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding

FRAME_COUNT, SEGMENT_COUNT = 72, 9  # frames of the source, and the segments that its job is done in
CUT_FRAME = 41  # where the second shot of the recipe begins


class SlowNearest:
    """Repeats pixels. Each call is counted in the file `tally`, by a byte that survives a kill, and takes `pause`."""

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
    """Numbered frames, unevenly spaced, 4.5 s in all, and a tone that begins later than they do."""
    gaps = [[40, 50, 100][number * 7 % 3] for number in range(count)]
    starts = np.cumsum([0, *gaps])[:count].tolist()
    return make_video(
        path, count, starts=starts, time_base=Fraction(1, 1000), audio_start=0.5, metadata={"title": "bars"}
    )


def make_pipeline(clip: VideoClip, model: SlowNearest, border: Border) -> Pipeline:
    """Enlarged, then steadied in two shots."""
    count = FRAME_COUNT if clip.info.length is None else clip.info.length
    poses = geometry.matrices_from_parameters(make_shake_path(count, pixels=2.0))
    shots = [slice(0, CUT_FRAME), slice(CUT_FRAME, count)]
    return (
        Pipeline(clip)
        .then(UpscaleOp(model))
        .then(WarpOp(Correction(np.linalg.inv(poses), shots, clip.info, poses), border))
    )


def run_full_job(
    origin: Path,
    target: Path,
    model: SlowNearest | None = None,
    *,
    seconds: float = 0.5,
    border: Border = Border.CROP,
    encoding: Encoding | None = None,
    watch: ProgressStage | None = None,
) -> JobResult:
    """The whole job."""
    with open_job(default_job_folder(target), origin) as job:
        made = make_pipeline(VideoClip(origin), model or SlowNearest(), border)
        return run_job(job, made, target, segment_seconds=seconds, encoding=encoding, progress=watch)


def run_in_child(origin: Path, target: Path, counter_file: Path, pause: float, max_file_bytes: int = 0) -> None:
    """What a child process does. largest: bytes that a file may have there; 0 for any."""
    if max_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    torch.set_num_threads(1)
    # The parent learns from the exit code; a traceback in the middle of its report would look like a failure.
    try:
        run_full_job(origin, target, SlowNearest(counter_file, pause))
    except Exception as error:
        counter_file.with_suffix(".error").write_text(str(error))
        os._exit(1)


def start_process(function: Callable, *arguments: object) -> multiprocessing.Process:
    """A process, started, that calls do(*arguments). It is forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["steadyscale.core.jobs.run", "cv2"])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def frame_hashes(path: Path) -> list[tuple[str, Fraction]]:
    """A hash of each decoded frame, and when it is shown."""
    with av.open(str(path)) as container:
        frames = (f if f.format.name != "bgr0" else f.reformat(format="bgr24") for f in container.decode(video=0))
        return [(sha256(frame.to_ndarray().tobytes()).hexdigest(), frame.pts * frame.time_base) for frame in frames]


def audio_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    """The packets of the first track of sound, and when they are played."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(bytes(packet), packet.pts * packet.time_base) for packet in packets if packet.size]


def has_same_content(target: Path, reference: Path) -> bool:
    return frame_hashes(target) == frame_hashes(reference) and audio_packets(target) == audio_packets(reference)


def run_interrupted(
    origin: Path, target: Path, fail_at_call: int = 30, error: BaseException | None = None
) -> list[str]:
    """Stop a run at that call of the network, and give what its folder holds then."""

    def fail(calls: int) -> None:
        if calls == fail_at_call:
            raise error or KeyboardInterrupt

    with pytest.raises(type(error) if error else KeyboardInterrupt):
        run_full_job(origin, target, SlowNearest(fail=fail))
    assert not target.exists()
    assert [p for p in target.parent.iterdir() if p.name.endswith(".partial")] == []
    return sorted(p.name for p in default_job_folder(target).iterdir())
