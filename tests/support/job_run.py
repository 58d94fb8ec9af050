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
from counting import make_video
from footage import shake
from steadyscale.core import geometry
from steadyscale.core.jobs.folder import folder_for, opened_job
from steadyscale.core.jobs.run import Finished, Watch, run_job
from steadyscale.core.path.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.pipeline import Recipe
from steadyscale.core.pipeline.upscale_op import Enlarge
from steadyscale.core.pipeline.warp_op import Steady
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding

COUNT, SEGMENTS = 72, 9  # frames of the source, and the segments that its job is done in
CUT = 41  # where the second shot of the recipe begins


class Nearest:
    """Repeats pixels. Each call is counted in the file `tally`, by a byte that survives a kill, and takes `pause`."""

    scale, halo = 2, 0

    def __init__(self, tally: Path | None = None, pause: float = 0.0, fail: Callable[[int], None] | None = None):
        self._tally, self._pause, self._fail, self._calls = tally, pause, fail, 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        time.sleep(self._pause)
        if self._tally:
            with self._tally.open("ab", buffering=0) as file:
                file.write(b".")
        if self._fail:
            self._fail(self._calls)
        return frames.repeat_interleave(2, -1).repeat_interleave(2, -2)


def source(path: Path, count: int = COUNT) -> Path:
    """Numbered frames, unevenly spaced, 4.5 s in all, and a tone that begins later than they do."""
    gaps = [[40, 50, 100][number * 7 % 3] for number in range(count)]
    starts = np.cumsum([0, *gaps])[:count].tolist()
    return make_video(path, count, starts=starts, base=Fraction(1, 1000), audio_at=0.5, metadata={"title": "bars"})


def recipe(clip: VideoClip, model: Nearest, border: Border) -> Recipe:
    """Enlarged, then steadied in two shots."""
    count = COUNT if clip.info.length is None else clip.info.length
    poses = geometry.to_matrices(shake(count, pixels=2.0))
    shots = [slice(0, CUT), slice(CUT, count)]
    return (
        Recipe(clip)
        .then(Enlarge(model))
        .then(Steady(Correction(np.linalg.inv(poses), shots, clip.info, poses), border))
    )


def run(
    origin: Path,
    target: Path,
    model: Nearest | None = None,
    *,
    seconds: float = 0.5,
    border: Border = Border.CROP,
    encoding: Encoding | None = None,
    watch: Watch | None = None,
) -> Finished:
    """The whole job."""
    with opened_job(folder_for(target), origin) as job:
        made = recipe(VideoClip(origin), model or Nearest(), border)
        return run_job(job, made, target, segment_seconds=seconds, encoding=encoding, watch=watch)


def in_child(origin: Path, target: Path, tally: Path, pause: float, largest: int = 0) -> None:
    """What a child process does. largest: bytes that a file may have there; 0 for any."""
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    torch.set_num_threads(1)
    # The parent learns from the exit code; a traceback in the middle of its report would look like a failure.
    try:
        run(origin, target, Nearest(tally, pause))
    except Exception as error:
        tally.with_suffix(".error").write_text(str(error))
        os._exit(1)


def child(do: Callable, *arguments: object) -> multiprocessing.Process:
    """A process, started, that calls do(*arguments). It is forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["steadyscale.core.jobs.run", "cv2"])
    process = context.Process(target=do, args=arguments)
    process.start()
    return process


def shown(path: Path) -> list[tuple[str, Fraction]]:
    """A hash of each decoded frame, and when it is shown."""
    with av.open(str(path)) as container:
        frames = (f if f.format.name != "bgr0" else f.reformat(format="bgr24") for f in container.decode(video=0))
        return [(sha256(frame.to_ndarray().tobytes()).hexdigest(), frame.pts * frame.time_base) for frame in frames]


def heard(path: Path) -> list[tuple[bytes, Fraction]]:
    """The packets of the first track of sound, and when they are played."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(bytes(packet), packet.pts * packet.time_base) for packet in packets if packet.size]


def same(target: Path, undisturbed: Path) -> bool:
    return shown(target) == shown(undisturbed) and heard(target) == heard(undisturbed)


def stopped(origin: Path, target: Path, at: int = 30, error: BaseException | None = None) -> list[str]:
    """Stop a run at that call of the network, and give what its folder holds then."""

    def fail(calls: int) -> None:
        if calls == at:
            raise error or KeyboardInterrupt

    with pytest.raises(type(error) if error else KeyboardInterrupt):
        run(origin, target, Nearest(fail=fail))
    assert not target.exists()
    assert [p for p in target.parent.iterdir() if p.name.endswith(".partial")] == []
    return sorted(p.name for p in folder_for(target).iterdir())
