"""A VIDEO that is rendered when its pixels are first needed.

No consumer reads a lossy file that was encoded for another one: a preview is encoded fast and badly. A consumer that
others are likely to follow (a preview, frames in memory, a crop) renders a lossless master, from which files are then
encoded as they would be from the source. A part of the video is rendered on its own.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import torch
from comfy_api.latest import Input, Types

from ...core.clip import ClipError
from ...core.pipeline.pipeline import Pipeline
from ...core.video.decode.packets import demux
from ...core.video.decode.timestamps import TimeRange, read_timestamps
from ...core.video.decode.video_clip import VideoClip
from ...core.video.encode.codecs import CODECS, CONTAINERS, Encoding, codec_for, container_for
from ...core.video.encode.pixel_formats import choose_pixel_format
from ...core.video.encode.remux import remux
from .._comfy.adapter import ImageBatch, with_progress
from .render_plan import RenderPlan, TempFile, plan_host_video, render
from .resumable import JobFolders
from .trimmed import TrimmedVideo, keep_alive, to_host_video

log = logging.getLogger(__name__)

_CODEC_ALIASES = {"h265": "hevc"}  # ComfyUI's names of codecs that differ from FFmpeg's
_AUTO_CODECS = {".webm": "av1"}  # ComfyUI's choices where they differ from a container's default
_PIXEL_FORMATS = {8: "yuv420p", 10: "yuv420p10le"}


def plan_for(video: Input.Video) -> RenderPlan:
    """The pending operations of a VIDEO input; none for a VIDEO of another node."""
    if isinstance(video, TrimmedVideo):
        video = video.render()
    return video.plan if isinstance(video, LazyVideo) else plan_host_video(video)


@dataclass(frozen=True)
class FileFormat:
    """Suffix, which selects the container, and encoding of a file."""

    suffix: str
    encoding: Encoding


class LazyVideo(Input.Video):
    """A render plan as ComfyUI's VIDEO.

    Size, rate and length are known without rendering. The first call that needs pixels renders into ComfyUI's temp
    folder, where the file lives as long as this object. Every method that renders raises ClipError.
    """

    def __init__(self, plan: RenderPlan) -> None:
        self.plan = plan
        self._rendered: dict[FileFormat, TempFile] = {}
        self._masters: dict[str, TempFile] = {}  # lossless, by pixel format
        self._job_folders: list[JobFolders] = []

    # -- known without rendering

    def get_dimensions(self) -> tuple[int, int]:
        info = self.plan.pipeline.info
        return info.width, info.height

    def get_frame_rate(self) -> Fraction:
        return self.plan.pipeline.info.fps

    def get_frame_count(self) -> int:
        claimed = self.plan.pipeline.info.length
        return len(read_timestamps(self.plan.source).starts) if claimed is None and self.plan.source else claimed or 0

    def get_duration(self) -> float:
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_bit_depth(self) -> int:
        """8 or 10, the two that ComfyUI knows."""
        return 10 if self.plan.bit_depth > 8 or self.plan.color_space != "sRGB" else 8

    def get_color_space(self) -> str:
        return self.plan.color_space

    def get_container_format(self) -> str:
        return {".mp4": "mov,mp4,m4a,3gp,3g2,mj2", ".mkv": "matroska,webm"}[self._default_format.suffix]

    def has_pending_frame_edits(self) -> bool:
        return False

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> Input.Video | None:
        """A part of the video, which is rendered alone."""
        trimmed = TrimmedVideo(self).as_trimmed(start_time, duration, strict_duration)
        part = trimmed and self.plan.trim(TimeRange(*trimmed.get_active_trim_window()))
        return LazyVideo(part) if part else trimmed

    def trim_master(self, window: TimeRange) -> LazyVideo:
        """A part of the lossless master, for frames that are in memory."""
        master = self.master()
        clip = VideoClip(master.path, max_pixels=demux.NO_PIXEL_LIMIT, window=window)
        plan = RenderPlan(Pipeline(clip), master.path, resources=(master, self), node_names=self.plan.node_names)
        return LazyVideo(plan)

    # -- rendering

    def get_stream_source(self) -> str:
        return str(self._render(self._default_format))

    def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Input.Video:
        return keep_alive(to_host_video(self.master().path).as_cropped(x, y, width, height), self)

    def as_resized(self, *args: Any, **kwargs: Any) -> Input.Video:
        return keep_alive(to_host_video(self.master().path).as_resized(*args, **kwargs), self)

    def get_components(self) -> Types.VideoComponents:
        """All frames in memory; raises ClipError before rendering if they would not fit."""
        info, channels = self.plan.pipeline.info, 4 if self.plan.has_alpha else 3
        try:
            ImageBatch(replace(info, length=self.get_frame_count()), channels)
        except ClipError as error:
            raise ClipError(f"{self.plan.name}: {error}; or keep it a VIDEO, which needs no such memory") from error
        file = self.master().path
        times = read_timestamps(file)
        info = replace(info, length=len(times.starts))  # known exactly only now: containers may claim another length
        batch = ImageBatch(info, channels)
        for frames in with_progress(VideoClip(file, max_pixels=demux.NO_PIXEL_LIMIT).frames(), info.length, len):
            batch.add(frames[..., : info.height, : info.width])  # the file may be padded to even sizes
        audio = _read_audio(file, times.origin + times.starts[0] * times.time_base)
        return Types.VideoComponents(images=batch.to_tensor(), audio=audio, frame_rate=info.fps)

    def save_to(
        self,
        path: str | IO[bytes],
        format: Any = "auto",
        codec: Any = "auto",
        metadata: dict | None = None,
        bit_depth: int | None = None,
        crf: float | None = None,
        color_space: str | None = None,
        preset: str | None = None,
        **extra_options: Any,
    ) -> None:
        """Write the video as a file, atomically.

        Raises ClipError for settings that are unknown or not supported.
        """
        unknown = [name for name, value in extra_options.items() if value is not None]
        if unknown:
            raise ClipError(f"{self.plan.name}: {', '.join(unknown)} cannot be set for this video: leave it out")
        if color_space not in (None, "auto", self.plan.color_space):
            raise ClipError(
                f"{self.plan.name}: the video is {self.plan.color_space} and is not converted to {color_space}; "
                "save it as it is"
            )
        suffix = self._choose_suffix(path, str(getattr(format, "value", format)))
        form = self._choose_format(suffix, str(getattr(codec, "value", codec)), bit_depth, crf, preset)
        names = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
        # ComfyUI sets a preset for previews, after which other consumers follow.
        rendered, container = self._render(form, keep_master=preset is not None), CONTAINERS[suffix]
        if isinstance(path, (str, PathLike)):
            remux(rendered, path, container=container, metadata=names)
            while self._job_folders:  # the result is saved, so the segments are not needed to resume
                self._job_folders.pop().remove()
            return
        copy = TempFile(suffix)
        remux(rendered, copy.path, container=container, metadata=names)
        with copy.path.open("rb") as file:
            shutil.copyfileobj(file, path)

    # -- files

    @property
    def _default_format(self) -> FileFormat:
        """The format if none is asked for; alpha needs more than H.264."""
        if self.plan.has_alpha:
            return FileFormat(
                ".mkv", Encoding("ffv1", pixel_format="bgra" if self.plan.bit_depth <= 8 else "gbrap16le")
            )
        return self._choose_format(".mp4", "auto", None, None, None)

    def _choose_suffix(self, path: str | IO[bytes], format: str) -> str:
        if format != "auto":
            return f".{format}"
        return Path(path).suffix.lower() if isinstance(path, (str, PathLike)) else self._default_format.suffix

    def _choose_format(
        self, suffix: str, codec: str, bit_depth: int | None, crf: float | None, preset: str | None
    ) -> FileFormat:
        """Translate ComfyUI's settings; raises ClipError for an invalid combination."""
        file = Path(f"video{suffix}")
        try:
            container = container_for(file)
            if bit_depth not in (None, *_PIXEL_FORMATS):
                raise ClipError(
                    f"videos are written with {' or '.join(map(str, _PIXEL_FORMATS))} bits, not {bit_depth}"
                )
            is_hdr = self.plan.color_space != "sRGB"
            needs_10_bits = bit_depth == 10 or (bit_depth is None and is_hdr)
            usual = _AUTO_CODECS.get(suffix, container.codecs[0])
            usual = "hevc" if needs_10_bits and "hevc" in container.codecs else usual
            name = usual if codec == "auto" else _CODEC_ALIASES.get(codec, codec)
            # Without a pixel format, the file has the depth and the chroma of the source.
            own_depth = bit_depth is None or bit_depth == self.get_bit_depth()
            encoding = Encoding(
                name,
                crf=None if crf is None else round(crf),
                preset=preset if name == "h264" else None,  # ComfyUI's presets are for H.264 only
                pixel_format=None if own_depth else _PIXEL_FORMATS[bit_depth or 8],
            )
            if encoding.pixel_format == codec_for(file, container, encoding).pixel_format and self.plan.bit_depth <= 8:
                encoding = replace(encoding, pixel_format=None)
        except ClipError as error:
            raise ClipError(f"{self.plan.name}: {error}") from error
        return FileFormat(suffix, encoding)

    def master(self) -> TempFile:
        """The lossless master of the default format, rendered now if there is none."""
        return self._render_master(self._pixel_format(self._default_format.encoding))

    def _pixel_format(self, encoding: Encoding) -> str:
        """The pixel format of a file with this encoding."""
        source = self.plan.pipeline.source
        return choose_pixel_format(
            Path(self.plan.name),
            CODECS[encoding.codec or "h264"],
            requested=encoding.pixel_format,
            source_format=source.stream_format if isinstance(source, VideoClip) else None,
            bits=self.plan.bit_depth,
            is_logged=False,
        )

    def _existing_master(self, pixel_format: str) -> TempFile | None:
        """A rendered master that still exists: users may empty the temp folder."""
        file = self._masters.get(pixel_format)
        return file if file is not None and file.path.exists() else None

    def _render_master(self, pixel_format: str) -> TempFile:
        file = self._existing_master(pixel_format)
        if file is None:
            file = TempFile(".mkv")
            self._render_plan(self.plan, file.path, Encoding("ffv1", pixel_format=pixel_format))
            self._masters[pixel_format] = file
        return file

    def _render(self, file_format: FileFormat, *, keep_master: bool = False) -> Path:
        """Render a file from the master of its pixel format, else from the source.

        keep_master: render the master first if there is none.
        """
        existing = self._rendered.get(file_format)
        if existing is not None and existing.path.exists():
            return existing.path
        pixel_format, file = self._pixel_format(file_format.encoding), TempFile(file_format.suffix)
        master = self._render_master(pixel_format) if keep_master else self._existing_master(pixel_format)
        if master is None and (self._rendered or self._masters):
            log.info("%s: rendering again, as %s", self.plan.name, file_format)
        plan = self.plan if master is None else replace(self.plan, master=master.path)
        self._render_plan(plan, file.path, file_format.encoding)
        self._rendered[file_format] = file
        return file.path

    def _render_plan(self, plan: RenderPlan, path: Path, encoding: Encoding) -> None:
        if job_folders := render(plan, path, encoding):
            self._job_folders.append(job_folders)


def _read_audio(path: Path, start: Fraction) -> Any:
    """AUDIO of the first track from `start` (seconds) on, or None."""
    with demux.open_media(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", rate=stream.rate)
        frames = [piece for frame in container.decode(stream) for piece in resampler.resample(frame)]
        if not frames:
            return None
        late = round(((frames[0].time or 0.0) - start) * stream.rate)
        waveform = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[:, max(0, -late) :]
    silence = np.zeros((len(waveform), max(0, late)), np.float32)
    return {"waveform": torch.from_numpy(np.concatenate([silence, waveform], 1))[None], "sample_rate": stream.rate}
