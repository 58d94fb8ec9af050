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
from ...core.pipeline.estimate import with_estimate
from ...core.pipeline.operation import Operation
from ...core.pipeline.pipeline import Pipeline
from ...core.pipeline.slicing import trim_pipeline
from ...core.pipeline.upscale_op import UpscaleOp
from ...core.pipeline.warp_op import WarpOp
from ...core.upscaling.tile_size import estimate_activation_bytes
from ...core.video.decode import stream_format
from ...core.video.decode.corruption import OnDamage
from ...core.video.decode.timestamps import TimeRange
from ...core.video.decode.video_clip import VideoClip
from ...core.video.encode.codecs import Encoding, container_for
from ...core.video.encode.remux import AudioClip, remux
from ...core.video.encode.writer import write_video
from .._comfy.adapter import free_device_memory, to_clip, with_progress
from .._comfy.node_text import make_notifier
from .._comfy.preview_target import running_node_id
from .resumable import JobFolders, run_resumable

log = logging.getLogger(__name__)

MAX_RESERVED_PIXELS = (
    512 * 512
)  # input pixels that room is asked for: larger tiles are hardly faster, and other models stay loaded
NEAR_LOSSLESS_CRF = 8  # crf at which a file that the host has to write for us looks like what it is made of


class TempFile:
    """A name in ComfyUI's temp folder. What is there disappears with this object."""

    def __init__(self, suffix: str) -> None:
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"steadyscale_{uuid4().hex}{suffix}"
        weakref.finalize(self, self.path.unlink, missing_ok=True)


@dataclass(frozen=True, eq=False)
class RenderPlan:
    """A recipe, and what else the finished video has.

    source: the file whose sound, times and colours the result keeps, or None. sound: of a clip that came without a
    file. owned: temporary files, and videos that have some, which must stay while the plan lives. nodes: who planned
    it, for messages. place: the id of the last of them, which shows the frame in work. jobs: where a run is to survive
    a crash, the folders of the jobs that it builds on; else None.
    """

    pipeline: Pipeline
    source: Path | None = None
    audio: AudioClip | None = None
    resources: tuple[object, ...] = ()
    node_names: tuple[str, ...] = ()
    preview_node_id: str = ""
    job_folders: tuple[Path, ...] | None = None

    def then(self, operation: Operation, node_name: str) -> RenderPlan:
        """With one more operation, planned by the node of that display name. Raises ClipError as `Recipe.then` does."""
        recipe, place = self.pipeline.then(operation), running_node_id() or ""
        return replace(self, recipe=recipe, nodes=(*self.node_names, node_name), place=place)

    def as_resumable(self, *job_folders: Path) -> RenderPlan:
        """The same plan, whose run goes on where one before it was killed."""
        return replace(self, jobs=(*(self.job_folders or ()), *job_folders))

    @property
    def name(self) -> str:
        """Whose plan it is: a video runs in somebody else's node, where its errors need an address."""
        return f"SteadyScale ({', '.join(dict.fromkeys(self.node_names))})" if self.node_names else "SteadyScale"

    @property
    def time_range(self) -> TimeRange | None:
        """The part of the source that is read; None for all of it."""
        return getattr(self.pipeline.source, "window", None)

    def trim(self, time_range: TimeRange) -> RenderPlan | None:
        """The plan of that part of its result alone; None where it would have to read what lies in memory."""
        if not isinstance(self.pipeline.source, VideoClip):
            return None
        return replace(self, recipe=trim_pipeline(self.pipeline, time_range))

    @property
    def has_alpha(self) -> bool:
        clip = self.pipeline.source
        if isinstance(clip, VideoClip):
            return stream_format.has_alpha(clip.stream_format.pixel_format)
        return isinstance(clip, TensorClip) and clip.channels == 4

    @property
    def color_space(self) -> str:
        """In ComfyUI's words: sRGB, HDR (HLG) or HDR PQ."""
        clip = self.pipeline.source
        transfer = clip.stream_format.transfer if isinstance(clip, VideoClip) else stream_format.UNSPECIFIED
        return {stream_format.HLG: "HDR", stream_format.PQ: "HDR PQ"}.get(transfer, "sRGB")


def plan_host_video(video: Input.Video) -> RenderPlan:
    """A VIDEO as it comes in, whoever made it; `LazyVideo` is the one that already has a plan.

    A trim that the host has not carried out yet is read from the file, frame by frame. A crop or another edit is
    carried out here, by the host. Damaged frames are kept as the host keeps them, and the log says which. Raises
    ClipError for a file that is no video.
    """
    if _is_in_memory(video):
        return _plan_from_components(video)
    if _has_edits(video):
        file = TempFile(".mp4")
        options = {"crf": NEAR_LOSSLESS_CRF} if "crf" in inspect.signature(video.save_to).parameters else {}
        video.save_to(str(file.path), **options)
        return _plan_from_file(file)
    source, window = video.get_stream_source(), _get_time_range(video)
    if isinstance(source, BytesIO):
        file = TempFile(".video")
        file.path.write_bytes(source.getbuffer())
        return _plan_from_file(file, window)
    return RenderPlan(
        Pipeline(VideoClip(source, on_damage=OnDamage.KEEP, window=window)), Path(source), resources=(video,)
    )


def _plan_from_file(file: TempFile, time_range: TimeRange | None = None) -> RenderPlan:
    return RenderPlan(
        Pipeline(VideoClip(file.path, on_damage=OnDamage.KEEP, window=time_range)), file.path, resources=(file,)
    )


def _get_time_range(video: Input.Video) -> TimeRange | None:
    """The part of its file that it stands for; None for all of it. Old hosts know no parts."""
    start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    return TimeRange(start, duration) if start or duration else None


def _is_in_memory(video: Input.Video) -> bool:
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


def _plan_from_components(video: Input.Video) -> RenderPlan:
    parts: Any = video.get_components()
    images, alpha = parts.images, getattr(parts, "alpha", None)
    if alpha is not None:
        images = torch.cat([images[..., :3], alpha.reshape(*images.shape[:3], 1)], dim=-1)
    recipe, sound = Pipeline(to_clip(images, float(parts.frame_rate))), None
    if parts.audio:
        rate = int(parts.audio["sample_rate"])
        # As in ComfyUI's own Save Video, the sound ends with the picture.
        length = ceil(rate * len(images) / Fraction(parts.frame_rate))
        sound = AudioClip(parts.audio["waveform"][0, :, :length], rate)
    return RenderPlan(recipe, audio=sound)


def reserve_memory(pipeline: Pipeline) -> None:
    """Ask ComfyUI for the memory that running a recipe needs on its devices: for its networks, and for its warps."""
    for operation, before in pipeline.iter_operations():
        if isinstance(operation, UpscaleOp):
            size = estimate_activation_bytes(operation.model, int(operation.model.scale))
            pixels = min(before.width * before.height, MAX_RESERVED_PIXELS)
            free_device_memory(operation.model, size * pixels, torch.device(operation.device or "cpu"))
        elif isinstance(operation, WarpOp):
            free_device_memory(None, operation.estimate_memory(before), torch.device(operation.device))


def render(plan: RenderPlan, target: Path, encoding: Encoding) -> JobFolders | None:
    """Carry it out: decode, all operations, encode, frame by frame, with progress on the node that waits for it.

    On any error or cancel there is no file. What it returns keeps the work of a resumable run until that is saved.
    Raises ClipError with the plan's name.
    """
    if plan.job_folders is not None and plan.source is not None:
        return _render_resumable(plan, plan.source, target, encoding)
    if plan.job_folders is not None:
        log.warning("%s: only a VIDEO that comes from a file is resumable; this one lies in memory", plan.name)
    silent = TempFile(target.suffix).path if plan.audio else target
    try:
        reserve_memory(plan.pipeline)
        info = plan.pipeline.info
        # Closed here: what a cancel leaves open would keep the network on its device as long as its traceback lives.
        with closing(cast(Any, plan.pipeline.native_frames() or plan.pipeline.frames())) as frames:
            frames = with_estimate(frames, plan.pipeline, make_notifier(plan.name))
            stream = with_progress(
                frames, info.length, len, preview_frames=lambda batch: batch, node_id=plan.preview_node_id
            )
            write_video(silent, stream, info, encoding=encoding, source=plan.source, window=plan.time_range)
        if plan.audio:
            remux(silent, target, container=container_for(target), audio=plan.audio)
        return None
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
    finally:
        if silent != target:
            silent.unlink(missing_ok=True)


def _render_resumable(plan: RenderPlan, source: Path, target: Path, encoding: Encoding) -> JobFolders:
    info = plan.pipeline.info

    def add_progress(frames: Iterator[Frames], frames_done: int) -> Iterator[Frames]:
        left = max(0, (info.length or 0) - frames_done)
        return with_progress(frames, left, len, preview_frames=lambda batch: batch, node_id=plan.preview_node_id)

    try:
        reserve_memory(plan.pipeline)
        return run_resumable(
            plan.pipeline,
            source,
            plan.time_range,
            target,
            encoding,
            add_progress=add_progress,
            upstream_jobs=plan.job_folders or (),
        )
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
