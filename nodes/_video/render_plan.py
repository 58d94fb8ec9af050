"""The plan of a VIDEO that is not rendered yet, and its rendering to a file."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import av
import torch
from av.error import FFmpegError
from comfy_api.latest import Input, InputImpl
from torch import Tensor

from ...core.clip import ClipError, Frames, TensorClip
from ...core.pipeline.estimate import with_estimate
from ...core.pipeline.operation import Operation
from ...core.pipeline.pipeline import Pipeline
from ...core.pipeline.slicing import trim_pipeline
from ...core.pipeline.upscale_op import UpscaleOp
from ...core.pipeline.warp_op import WarpOp
from ...core.upscaling.tile_size import estimate_activation_bytes
from ...core.video.decode.corruption_report import OnDamage
from ...core.video.decode.packets import demux
from ...core.video.decode.timestamps import TimeRange
from ...core.video.decode.video_clip import VideoClip
from ...core.video.encode.codecs import Encoding, container_for
from ...core.video.encode.frame_converter import TransparencyError
from ...core.video.encode.remux import AudioClip, remux
from ...core.video.encode.writer import write_video
from ...core.video.format import stream_format
from ...core.video.format.stream_format import NativeFrames
from .._comfy.adapter import to_clip, with_progress
from .._comfy.device import free_device_memory
from .._comfy.node_text import make_notifier
from .._comfy.paths import temp_folder
from .._comfy.preview_target import running_node_id
from .resumable import JobFolders, run_resumable

log = logging.getLogger(__name__)

_Batch = TypeVar("_Batch", bound="Frames | NativeFrames")

MAX_RESERVED_PIXELS = 512 * 512
"""Input pixels to reserve memory for: larger tiles are hardly faster, and other models stay loaded."""
NEAR_LOSSLESS_CRF = 8  # for files that the host has to write before they can be read


class TempFile:
    """An unused path in ComfyUI's temp folder; the file is deleted with this object."""

    def __init__(self, suffix: str) -> None:
        folder = temp_folder()
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"steadyscale_{uuid4().hex}{suffix}"
        weakref.finalize(self, self.path.unlink, missing_ok=True)


@dataclass(frozen=True, eq=False)
class RenderPlan:
    """A pipeline and everything else that rendering needs.

    source: the file whose audio, timestamps and color tags the result keeps, or None. audio: of a clip without a file.
    resources: temporary files, and videos that own some, which must exist as long as the plan. node_names: display
    names of the planning nodes, for messages. preview_node_id: the last of these nodes, which displays the current
    frame. output_image: the IMAGE that it displays otherwise. job_folders: None for a run that is not resumable, else
    the folders of the jobs that it builds on. master: a lossless file of the result, which is read instead of computing
    the frames.
    """

    pipeline: Pipeline
    source: Path | None = None
    audio: AudioClip | None = None
    resources: tuple[object, ...] = ()
    node_names: tuple[str, ...] = ()
    preview_node_id: str = ""
    output_image: Tensor | None = None
    job_folders: tuple[Path, ...] | None = None
    master: Path | None = None

    def then(self, operations: Sequence[Operation], node_name: str, output_image: Tensor | None = None) -> RenderPlan:
        """Append operations of the running node; see `Pipeline.then`."""
        return replace(
            self,
            pipeline=self.pipeline.then(*operations),
            node_names=(*self.node_names, node_name),
            preview_node_id=running_node_id() or "",
            output_image=output_image,
        )

    def as_resumable(self, *job_folders: Path) -> RenderPlan:
        """The same plan as a resumable job."""
        return replace(self, job_folders=(*(self.job_folders or ()), *job_folders))

    @property
    def name(self) -> str:
        """The planning nodes: errors appear on the consuming node and must name these."""
        return f"SteadyScale ({', '.join(dict.fromkeys(self.node_names))})" if self.node_names else "SteadyScale"

    @property
    def time_range(self) -> TimeRange | None:
        """The part of the source that is read; None for the full source."""
        return getattr(self.pipeline.source, "window", None)

    def trim(self, time_range: TimeRange) -> RenderPlan | None:
        """The plan of that part of the result; None if the source is not a file."""
        if not isinstance(self.pipeline.source, VideoClip):
            return None
        return replace(self, pipeline=trim_pipeline(self.pipeline, time_range))

    @property
    def has_alpha(self) -> bool:
        clip = self.pipeline.source
        if isinstance(clip, VideoClip):
            return stream_format.has_alpha(clip.stream_format.pixel_format)
        return isinstance(clip, TensorClip) and clip.channels == 4

    @property
    def bit_depth(self) -> int:
        """Bits per channel of the source."""
        return self.pipeline.bit_depth

    @property
    def color_space(self) -> str:
        """ComfyUI's name of the color space: sRGB, HDR (HLG) or HDR PQ."""
        clip = self.pipeline.source
        transfer = clip.stream_format.transfer if isinstance(clip, VideoClip) else stream_format.UNSPECIFIED
        return {stream_format.HLG: "HDR", stream_format.PQ: "HDR PQ"}.get(transfer, "sRGB")


def plan_host_video(video: Input.Video) -> RenderPlan:
    """Plan a VIDEO of another node, which has no pending operations of ours.

    A pending trim is applied while the file is read. A pending crop or other edit is rendered by the host first.
    Corrupt frames are kept, as the host does, and logged. Raises ClipError for a file that is not a video, also where
    the host is the first to read it.
    """
    try:
        return _plan_host_video(video)
    except ClipError:
        raise
    except (FFmpegError, OSError, ValueError, LookupError, ArithmeticError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClipError(f"the VIDEO cannot be read ({reason}); check its file, or export it again") from error


def _plan_host_video(video: Input.Video) -> RenderPlan:
    if _is_in_memory(video):
        return _plan_from_components(video)
    if _has_edits(video):
        file = TempFile(".mp4")
        settings = {"crf": NEAR_LOSSLESS_CRF, "bit_depth": _host_bit_depth(video)}
        known = inspect.signature(video.save_to).parameters
        video.save_to(str(file.path), **{name: value for name, value in settings.items() if name in known})
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
    """The pending trim of a VIDEO; None for the full file. Old hosts have no trims."""
    start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    return TimeRange(start, duration) if start or duration else None


def _host_bit_depth(video: Input.Video) -> int:
    """The bit depth of a VIDEO as the host states it; old hosts have 8 bits."""
    return getattr(video, "get_bit_depth", lambda: 8)() or 8


def _is_in_memory(video: Input.Video) -> bool:
    """Whether its frames are in memory as sRGB; HDR needs a tagged file."""
    color_space = getattr(video, "get_color_space", lambda: "auto")()
    return isinstance(video, InputImpl.VideoFromComponents) and color_space in ("auto", "sRGB")


def _has_edits(video: Input.Video) -> bool:
    """Whether edits are pending, so that its file does not have its frames."""
    if isinstance(video, InputImpl.VideoFromComponents):
        return True
    pending = getattr(video, "has_pending_frame_edits", None)
    if pending is not None:
        return bool(pending())
    if not hasattr(video, "as_cropped"):
        return False
    # Some host versions can crop but do not report it: there the size differs from the file's.
    with av.open(video.get_stream_source()) as container:
        stream = container.streams.video[0]
        return tuple(video.get_dimensions()) != (stream.width, stream.height)


def _plan_from_components(video: Input.Video) -> RenderPlan:
    parts: Any = video.get_components()
    images, alpha = parts.images, getattr(parts, "alpha", None)
    if alpha is not None:
        images = torch.cat([images[..., :3], alpha.reshape(*images.shape[:3], 1)], dim=-1)
    clip, audio = to_clip(images, parts.frame_rate, bit_depth=_host_bit_depth(video)), None
    if parts.audio:
        rate = int(parts.audio["sample_rate"])
        # As in ComfyUI's own Save Video, the audio ends with the last frame.
        length = ceil(rate * len(images) / Fraction(parts.frame_rate))
        audio = AudioClip(parts.audio["waveform"][0, :, :length], rate)
    return RenderPlan(Pipeline(clip), audio=audio)


def reserve_memory(pipeline: Pipeline) -> None:
    """Ask ComfyUI for the device memory that a pipeline's networks and warps need."""
    for operation, before in pipeline.iter_operations():
        if isinstance(operation, UpscaleOp):
            size = estimate_activation_bytes(operation.model, int(operation.model.scale))
            pixels = min(before.width * before.height, MAX_RESERVED_PIXELS)
            free_device_memory(operation.model, size * pixels, torch.device(operation.device or "cpu"))
        elif isinstance(operation, WarpOp):
            free_device_memory(None, operation.estimate_memory(before), torch.device(operation.device))


def render(plan: RenderPlan, target: Path, encoding: Encoding) -> JobFolders | None:
    """Decode, process and encode frame by frame, with progress on the consuming node.

    An error or a cancel leaves no file. The return value keeps the segments of a resumable run until the result is
    saved. Raises ClipError with the plan's name.
    """
    if plan.job_folders is not None and plan.source is not None and plan.master is None:
        return _render_resumable(plan, plan.source, target, encoding)
    if plan.job_folders is not None and plan.source is None:
        log.warning("%s: only a VIDEO that comes from a file is resumable; this one is in memory", plan.name)
    silent = TempFile(target.suffix).path if plan.audio else target
    try:
        master = None if plan.master is None else VideoClip(plan.master, max_pixels=demux.NO_PIXEL_LIMIT)
        if master is None:
            reserve_memory(plan.pipeline)
        info = plan.pipeline.info
        # Closed here, because a cancelled generator keeps the network on the device as long as its traceback exists.
        with closing(cast(Any, _frames(plan) if master is None else _master_frames(master))) as frames:
            frames = with_estimate(frames, plan.pipeline, make_notifier(plan.name))
            stream = _with_progress(frames, info.length, plan)
            write_video(
                silent,
                stream,
                info,
                encoding=encoding,
                source=plan.source,
                window=plan.time_range,
                bits=plan.bit_depth,
                frames_format=master.stream_format if master else None,
            )
        if plan.audio:
            remux(silent, target, container=container_for(target), audio=plan.audio)
        return None
    except TransparencyError as error:
        raise _transparency_error(plan, target, encoding) from error
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
    finally:
        if silent != target:
            silent.unlink(missing_ok=True)


def _transparency_error(plan: RenderPlan, target: Path, encoding: Encoding) -> ClipError:
    return ClipError(
        f"{plan.name}: the video has transparency, which format {target.suffix.removeprefix('.')} with codec "
        f"{encoding.codec} cannot keep, nor any other that Save Video offers; put Get Video Components and Save Image "
        "(PNG, with alpha) in place of Save Video, or remove the alpha before"
    )


def _frames(plan: RenderPlan) -> Iterator[Frames | NativeFrames]:
    return plan.pipeline.native_frames() or plan.pipeline.frames(on_device=True)


def _master_frames(master: VideoClip) -> Iterator[Frames | NativeFrames]:
    """The frames of a master, as stored unless the writer has to look at alpha."""
    return master.frames() if stream_format.has_alpha(master.stream_format.pixel_format) else master.native_frames()


def _with_progress(frames: Iterator[_Batch], length: int | None, plan: RenderPlan) -> Iterator[_Batch]:
    """Report progress on the running node, and frames on the planning one."""
    node_id, output = plan.preview_node_id, plan.output_image
    return with_progress(frames, length, len, lambda batch: batch, node_id=node_id, output_image=output)


def _render_resumable(plan: RenderPlan, source: Path, target: Path, encoding: Encoding) -> JobFolders:
    info = plan.pipeline.info

    def add_progress(frames: Iterator[Frames], frames_done: int) -> Iterator[Frames]:
        left = max(0, (info.length or 0) - frames_done)
        return _with_progress(frames, left, plan)

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
    except TransparencyError as error:
        raise _transparency_error(plan, target, encoding) from error
    except ClipError as error:
        raise ClipError(f"{plan.name}: {error}") from error
