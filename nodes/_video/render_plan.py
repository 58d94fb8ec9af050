"""What a VIDEO is made of, as long as nobody has asked for its pixels; and the run that makes it a file."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import av
import folder_paths
import torch
from comfy_api.latest import Input, InputImpl

from ...core.clip import ClipError, Frames, TensorClip
from ...core.pipeline.estimate import announced
from ...core.pipeline.operation import Operation
from ...core.pipeline.pipeline import Recipe
from ...core.pipeline.slicing import part_of
from ...core.pipeline.upscale_op import Enlarge
from ...core.pipeline.warp_op import Steady
from ...core.upscaling.tile_size import guessed_bytes
from ...core.video.decode import stream_format
from ...core.video.decode.corruption import OnDamage
from ...core.video.decode.timestamps import Window
from ...core.video.decode.video_clip import VideoClip
from ...core.video.encode.codecs import Encoding, container_for
from ...core.video.encode.remux import Sound, repack
from ...core.video.encode.writer import write_video
from .._comfy.adapter import make_room, to_clip, watched
from .._comfy.node_text import teller
from .._comfy.preview_target import running_node
from .resumable import KeptWork, kept_run

log = logging.getLogger(__name__)

ROOM = 512 * 512  # input pixels that room is asked for: larger tiles are hardly faster, and other models stay loaded
GENTLE = 8  # crf at which a file that the host has to write for us looks like what it is made of


class TempFile:
    """A name in ComfyUI's temp folder. What is there disappears with this object."""

    def __init__(self, suffix: str) -> None:
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"steadyscale_{uuid4().hex}{suffix}"
        weakref.finalize(self, self.path.unlink, missing_ok=True)


@dataclass(frozen=True, eq=False)
class Plan:
    """A recipe, and what else the finished video has.

    source: the file whose sound, times and colours the result keeps, or None. sound: of a clip that came without a
    file. owned: temporary files, and videos that have some, which must stay while the plan lives. nodes: who planned
    it, for messages. place: the id of the last of them, which shows the frame in work. jobs: where a run is to survive
    a crash, the folders of the jobs that it builds on; else None.
    """

    recipe: Recipe
    source: Path | None = None
    sound: Sound | None = None
    owned: tuple[object, ...] = ()
    nodes: tuple[str, ...] = ()
    place: str = ""
    jobs: tuple[Path, ...] | None = None

    def then(self, operation: Operation, node: str) -> Plan:
        """With one more operation, planned by the node of that display name. Raises ClipError as `Recipe.then` does."""
        recipe, place = self.recipe.then(operation), running_node() or ""
        return replace(self, recipe=recipe, nodes=(*self.nodes, node), place=place)

    def resumable(self, *jobs: Path) -> Plan:
        """The same plan, whose run goes on where one before it was killed."""
        return replace(self, jobs=(*(self.jobs or ()), *jobs))

    @property
    def name(self) -> str:
        """Whose plan it is: a video runs in somebody else's node, where its errors need an address."""
        return f"SteadyScale ({', '.join(dict.fromkeys(self.nodes))})" if self.nodes else "SteadyScale"

    @property
    def window(self) -> Window | None:
        """The part of the source that is read; None for all of it."""
        return getattr(self.recipe.source, "window", None)

    def part(self, window: Window) -> Plan | None:
        """The plan of that part of its result alone; None where it would have to read what lies in memory."""
        if not isinstance(self.recipe.source, VideoClip):
            return None
        return replace(self, recipe=part_of(self.recipe, window))

    @property
    def has_alpha(self) -> bool:
        clip = self.recipe.source
        if isinstance(clip, VideoClip):
            return stream_format.has_alpha(clip.stored.pixel_format)
        return isinstance(clip, TensorClip) and clip.channels == 4

    @property
    def colour_space(self) -> str:
        """In ComfyUI's words: sRGB, HDR (HLG) or HDR PQ."""
        clip = self.recipe.source
        transfer = clip.stored.transfer if isinstance(clip, VideoClip) else stream_format.UNKNOWN
        return {stream_format.HLG: "HDR", stream_format.PQ: "HDR PQ"}.get(transfer, "sRGB")


def plan_of(video: Input.Video) -> Plan:
    """A VIDEO as it comes in, whoever made it; `LazyVideo` is the one that already has a plan.

    A trim that the host has not carried out yet is read from the file, frame by frame. A crop or another edit is
    carried out here, by the host. Damaged frames are kept as the host keeps them, and the log says which. Raises
    ClipError for a file that is no video.
    """
    if _in_memory(video):
        return _of_components(video)
    if _has_edits(video):
        file = TempFile(".mp4")
        options = {"crf": GENTLE} if "crf" in inspect.signature(video.save_to).parameters else {}
        video.save_to(str(file.path), **options)
        return _of_file(file)
    source, window = video.get_stream_source(), _window(video)
    if isinstance(source, BytesIO):
        file = TempFile(".video")
        file.path.write_bytes(source.getbuffer())
        return _of_file(file, window)
    return Plan(Recipe(VideoClip(source, on_damage=OnDamage.KEEP, window=window)), Path(source), owned=(video,))


def _of_file(file: TempFile, window: Window | None = None) -> Plan:
    return Plan(Recipe(VideoClip(file.path, on_damage=OnDamage.KEEP, window=window)), file.path, owned=(file,))


def _window(video: Input.Video) -> Window | None:
    """The part of its file that it stands for; None for all of it. Old hosts know no parts."""
    start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    return Window(start, duration) if start or duration else None


def _in_memory(video: Input.Video) -> bool:
    """Whether its pixels lie in memory as we take them. HDR, the host has to write into a file that says so."""
    colours = getattr(video, "get_color_space", lambda: "auto")()
    return isinstance(video, InputImpl.VideoFromComponents) and colours in ("auto", "sRGB")


def _has_edits(video: Input.Video) -> bool:
    """Whether the frames of its file are not those that it stands for. Old hosts know no edits."""
    if isinstance(video, InputImpl.VideoFromComponents):
        return True
    pending = getattr(video, "has_pending_frame_edits", None)
    if pending is not None:
        return bool(pending())
    if not hasattr(video, "as_cropped"):
        return False
    # For some versions hosts cropped without a way to ask: there the size tells.
    with av.open(video.get_stream_source()) as container:
        stream = container.streams.video[0]
        return tuple(video.get_dimensions()) != (stream.width, stream.height)


def _of_components(video: Input.Video) -> Plan:
    parts: Any = video.get_components()
    images, alpha = parts.images, getattr(parts, "alpha", None)
    if alpha is not None:
        images = torch.cat([images[..., :3], alpha.reshape(*images.shape[:3], 1)], dim=-1)
    recipe, sound = Recipe(to_clip(images, float(parts.frame_rate))), None
    if parts.audio:
        rate = int(parts.audio["sample_rate"])
        # As in ComfyUI's own Save Video, the sound ends with the picture.
        length = ceil(rate * len(images) / Fraction(parts.frame_rate))
        sound = Sound(parts.audio["waveform"][0, :, :length], rate)
    return Plan(recipe, sound=sound)


def room_for(recipe: Recipe) -> None:
    """Ask ComfyUI for the memory that running a recipe needs on its devices: for its networks, and for its warps."""
    for operation, before in recipe.steps():
        if isinstance(operation, Enlarge):
            size = guessed_bytes(operation.model, int(operation.model.scale))
            pixels = min(before.width * before.height, ROOM)
            make_room(operation.model, size * pixels, torch.device(operation.device or "cpu"))
        elif isinstance(operation, Steady):
            make_room(None, operation.memory(before), torch.device(operation.device))


def run(plan: Plan, target: Path, encoding: Encoding) -> KeptWork | None:
    """Carry it out: decode, all operations, encode, frame by frame, with progress on the node that waits for it.

    On any error or cancel there is no file. What it returns keeps the work of a resumable run until that is saved.
    Raises ClipError with the plan's name.
    """
    if plan.jobs is not None and plan.source is not None:
        return _run_kept(plan, plan.source, target, encoding)
    if plan.jobs is not None:
        log.warning("%s: only a VIDEO that comes from a file is resumable; this one lies in memory", plan.name)
    silent = TempFile(target.suffix).path if plan.sound else target
    try:
        room_for(plan.recipe)
        info = plan.recipe.info
        # Closed here: what a cancel leaves open would keep the network on its device as long as its traceback lives.
        with closing(cast(Any, plan.recipe.pictures() or plan.recipe.frames())) as frames:
            frames = announced(frames, plan.recipe, teller(plan.name))
            stream = watched(frames, info.length, len, show=lambda batch: batch, place=plan.place)
            write_video(silent, stream, info, encoding=encoding, source=plan.source, window=plan.window)
        if plan.sound:
            repack(silent, target, container=container_for(target), sound=plan.sound)
        return None
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
    finally:
        if silent != target:
            silent.unlink(missing_ok=True)


def _run_kept(plan: Plan, source: Path, target: Path, encoding: Encoding) -> KeptWork:
    info = plan.recipe.info

    def watch(frames: Iterator[Frames], kept: int) -> Iterator[Frames]:
        left = max(0, (info.length or 0) - kept)
        return watched(frames, left, len, show=lambda batch: batch, place=plan.place)

    try:
        room_for(plan.recipe)
        return kept_run(plan.recipe, source, plan.window, target, encoding, watch=watch, earlier=plan.jobs or ())
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
