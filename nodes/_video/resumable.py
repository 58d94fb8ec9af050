"""Work on a VIDEO that a crash of ComfyUI does not undo: segments, kept in the output folder until the result is saved.

The folder of a job is named after all that its result depends on, so that the same graph finds it again in another
process. It goes when the finished video has been saved, or is not needed by anybody any more; a crash, a kill or a
cancel leave it, and what lies in ComfyUI's temp folder does not count.
"""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import folder_paths
from torch import Tensor

from ...core.clip import Clip, ClipError, Frames
from ...core.jobs.fingerprint import described, of_file
from ...core.jobs.folder import opened_job, remove_job
from ...core.jobs.motion_cache import kept_motion
from ...core.jobs.run import run_job
from ...core.motion.flow import FlowModel
from ...core.path.motion import Motion
from ...core.pipeline.pipeline import Recipe
from ...core.video.decode.timestamps import Window
from ...core.video.encode.codecs import Encoding

log = logging.getLogger(__name__)

FOLDER = "steadyscale_jobs"
FORGOTTEN = 7 * 24 * 3600.0  # seconds after which a job that nobody goes on with is pointed out


class KeptWork:
    """Folders of jobs whose result is there. They disappear with this object, or when `remove` says so."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.remove = weakref.finalize(self, _remove, tuple(folders))


def kept_run(
    recipe: Recipe,
    source: Path,
    window: Window | None,
    target: Path,
    encoding: Encoding,
    *,
    watch: Callable[[Iterator[Frames], int], Iterator[Frames]],
    earlier: Sequence[Path] = (),
) -> KeptWork:
    """Make the video `target`, from the segments that are there already and those that are not.

    earlier: folders of jobs that this one builds on; they go together with its own. watch: as `run_job` has it.
    Raises ClipError, which says what is kept.
    """
    folder = _folder("video", source, window, recipe.operations, target.suffix, encoding)
    with opened_job(folder, source, window) as job:
        finished = run_job(job, recipe, target, encoding=encoding, watch=watch, keep=True)
    if finished.kept:
        log.warning("%s: %d of %d segments were there already", folder, finished.kept, finished.segments)
    return KeptWork([folder, *earlier])


def kept_measuring(
    clip: Clip, recipe: Recipe, source: Path, window: Window | None, flow: FlowModel, side: int, mask: Tensor | None
) -> tuple[Motion, Path]:
    """What `estimate_motion` gives, measured now or by an earlier process; and the folder that keeps it.

    clip: reads what `recipe` gives of `source`. Raises ClipError.
    """
    folder = _folder("motion", source, window, recipe.operations, flow, side, mask)
    with opened_job(folder, source, window) as job:
        return kept_motion(job, clip, flow, side=side, mask=mask), folder


def _folder(kind: str, source: Path, window: Window | None, *settings: object) -> Path:
    root = Path(folder_paths.get_output_directory()) / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    told = [of_file(source), described(window), [described(setting) for setting in settings]]
    folder = root / f"{kind}-{sha256(json.dumps(told).encode()).hexdigest()[:16]}"
    _point_out(root, folder)
    return folder


def _point_out(root: Path, ours: Path) -> None:
    """Unfinished jobs cost space, and only people know whether they will go on with one."""
    before = time.time() - FORGOTTEN
    old = [path for path in root.iterdir() if path.is_dir() and path != ours and path.stat().st_mtime < before]
    if old:
        size = sum(file.stat().st_size for path in old for file in path.iterdir() if file.is_file()) / 1e6
        log.warning("%s: %d unfinished jobs (%.0f MB) are older than a week; delete what you will not go on with",
                    root, len(old), size)  # fmt: skip


def _remove(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        try:
            remove_job(folder)
        except ClipError as e:  # somebody else is at work there
            log.info("%s stays: %s", folder, e)
