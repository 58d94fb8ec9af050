"""What there is to learn from, out of a clip or a folder: files, and one picture that shows how far a run is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...clip import Clip, ClipError, Frames
from ...runtime.atomic_write import temp_path
from ...video.images.png_writer import write_images
from ...video.images.sequence_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..errors import TrainingError

MAX_FRAMES = 64  # of a clip that are learnt from, evenly spread; neighbours show the same things
HELD_OUT_SIDE = 384  # pixels a side of the picture that shows how far it is


@dataclass(frozen=True)
class TrainingSources:
    """What there is to learn from. train: files. held_out: the file that is measured on. unseen: whether it is not
    learnt from. smallest: the shorter side of the smallest picture, in pixels, where that is known. digest: the same
    for the same material.
    """

    train: tuple[str, ...]
    held_out: str
    held_out_unseen: bool
    min_side: int | None
    digest: str


def sources_from_clip(clip: Clip, cache_folder: Path) -> TrainingSources:
    """Up to FRAMES pictures of a clip, kept in a folder within `store`; the middle one is held out where there are
    several. Raises TrainingError, and what the clip raises."""
    cache_folder.mkdir(parents=True, exist_ok=True)
    every = max(1, -(-(clip.info.length or MAX_FRAMES) // MAX_FRAMES))
    with temp_path(cache_folder / "frames") as holder:
        fresh = holder / "frames"
        write_images(fresh, _sample_frames(clip, every))
        digest = hash_parts(file.read_bytes() for file in sorted(fresh.glob("*.png")))
        folder = cache_folder / f"frames-{digest}"
        if not folder.exists():
            os.replace(fresh, folder)
    files = sorted(folder.glob("frame_*.png"))
    middle = files[len(files) // 2]
    unseen = len(files) > 2
    held_out = _write_held_out(middle, folder)
    learnt = tuple(os.fspath(file) for file in files if file != middle or not unseen)
    return TrainingSources(learnt, os.fspath(held_out), unseen, min(clip.info.width, clip.info.height), digest)


def _sample_frames(clip: Clip, stride: int) -> Iterator[Frames]:
    return islice((frame[:, :3] for number, frame in enumerate(clip.frames()) if number % stride == 0), MAX_FRAMES)


def sources_from_folder(source: Path, cache_folder: Path) -> TrainingSources:
    """The pictures and videos in `source` and its folders; the first picture is held out where there are several, as a
    copy of its middle in `store`. Raises TrainingError where there are none."""
    found = sorted(file for file in source.rglob("*") if file.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    pictures = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise TrainingError(f"there are no pictures or videos in {source}")
    facts = (f"{file.relative_to(source)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in found)
    digest = hash_parts(fact.encode() for fact in facts)
    shown = (pictures or found)[0]
    unseen = len(pictures) > 2
    held_out = _write_held_out(shown, cache_folder / f"folder-{digest}")
    learnt = tuple(os.fspath(file) for file in found if file != shown or not unseen)
    return TrainingSources(learnt, os.fspath(held_out), unseen, None, digest)


def _write_held_out(source: Path, folder: Path) -> Path:
    """The middle of a picture, as a file of its own: large pictures would be measured for longer than learnt from."""
    target = folder / "held_out.png"
    if not target.exists():
        try:
            frame = next(open_clip(source).frames())[:, :3]
        except ClipError as error:
            raise TrainingError(str(error)) from error
        height, width = (min(HELD_OUT_SIDE, side) for side in frame.shape[-2:])
        top, left = (frame.shape[-2] - height) // 2, (frame.shape[-1] - width) // 2
        folder.mkdir(parents=True, exist_ok=True)
        write_images(target, iter([frame[..., top : top + height, left : left + width]]))
    return target


def hash_parts(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]
