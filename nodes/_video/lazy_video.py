"""A VIDEO that runs when somebody needs its pixels, once, into a file that all who come later share."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from comfy_api.latest import Input, Types

from ...core.clip import ClipError
from ...core.pipeline.pipeline import Recipe
from ...core.video.decode import demux
from ...core.video.decode.timestamps import Window, timing
from ...core.video.decode.video_clip import VideoClip
from ...core.video.encode.codecs import CONTAINERS, Encoding, codec_for, container_for
from ...core.video.encode.remux import repack
from .._comfy.adapter import ImageBatch, watched
from .render_plan import Plan, TempFile, plan_of, run
from .resumable import KeptWork
from .trimmed import Trimmed, finished, kept

log = logging.getLogger(__name__)

_OUR_NAMES = {"h265": "hevc"}  # of codecs that ComfyUI calls otherwise
_PIXELS = {8: "yuv420p", 10: "yuv420p10le"}


def planned(video: Input.Video) -> Plan:
    """What is to be done for a VIDEO that comes in: what ours still holds, or nothing to any other."""
    return video.plan if isinstance(video, LazyVideo) else plan_of(video)


def surviving(frames: Any, jobs: list[Path] | None) -> Any:
    """A video of ours whose run survives a crash; IMAGE, and whatever is not to be resumable, as it is.

    jobs: folders of the jobs that it builds on; None where it is not to.
    """
    if jobs is None or not isinstance(frames, LazyVideo):
        return frames
    return LazyVideo(frames.plan.resumable(*jobs))


@dataclass(frozen=True)
class Form:
    """How a file is written: the ending of its name, which stands for its container, and the encoding."""

    suffix: str
    encoding: Encoding


class LazyVideo(Input.Video):
    """A plan as ComfyUI's VIDEO. Size, rate and length are known beforehand; the first who needs pixels makes it run.

    The result lies in ComfyUI's temp folder as long as this object lives. Raises ClipError wherever it runs.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._made: dict[Form, TempFile] = {}
        self._kept: list[KeptWork] = []

    # -- known beforehand

    def get_dimensions(self) -> tuple[int, int]:
        info = self.plan.recipe.info
        return info.width, info.height

    def get_frame_rate(self) -> Fraction:
        return self.plan.recipe.info.fps

    def get_frame_count(self) -> int:
        claimed = self.plan.recipe.info.length
        return len(timing(self.plan.source).starts) if claimed is None and self.plan.source else claimed or 0

    def get_duration(self) -> float:
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_bit_depth(self) -> int:
        return 8 if self.plan.colour_space == "sRGB" else 10

    def get_color_space(self) -> str:
        return self.plan.colour_space

    def get_container_format(self) -> str:
        return {".mp4": "mov,mp4,m4a,3gp,3g2,mj2", ".mkv": "matroska,webm"}[self._usual.suffix]

    def has_pending_frame_edits(self) -> bool:
        return False

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> Input.Video | None:
        """A part that has not been made is all that runs then; of what has been made, the part is read."""
        trimmed = Trimmed(self).as_trimmed(start_time, duration, strict_duration)
        if trimmed is None or self._here():
            return trimmed
        plan = self.plan.part(Window(*trimmed.get_active_trim_window()))
        return trimmed if plan is None else LazyVideo(plan)

    # -- what makes it run

    def get_stream_source(self) -> str:
        return str(self._any_file())

    def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Input.Video:
        return kept(finished(self).as_cropped(x, y, width, height), self)

    def as_resized(self, *settings: Any, **named: Any) -> Input.Video:
        return kept(finished(self).as_resized(*settings, **named), self)

    def get_components(self) -> Types.VideoComponents:
        """All frames in memory. Raises ClipError, before anything runs, where they would not fit."""
        info, channels = self.plan.recipe.info, 4 if self.plan.has_alpha else 3
        try:
            ImageBatch(replace(info, length=self.get_frame_count()), channels)
        except ClipError as error:
            raise ClipError(f"{self.plan.name}: {error}; or keep it a VIDEO, which needs no such memory") from error
        file = self._any_file()
        times = timing(file)
        info = replace(info, length=len(times.starts))  # before it ran there was only what the source claims
        batch = ImageBatch(info, channels)
        for frames in watched(VideoClip(file, max_pixels=demux.NO_LIMIT).frames(), info.length, len):
            batch.add(frames[..., : info.height, : info.width])  # the file may be a pixel larger, for its even sizes
        sound = _sound(file, times.origin + times.starts[0] * times.base)
        return Types.VideoComponents(images=batch.finished(), audio=sound, frame_rate=info.fps)

    def save_to(
        self,
        path: str | BytesIO,
        format: Any = "auto",
        codec: Any = "auto",
        metadata: dict | None = None,
        bit_depth: int | None = None,
        crf: float | None = None,
        color_space: str | None = None,
        preset: str | None = None,
        **newer: Any,
    ) -> None:
        """Write the video as a file; it appears when all of it is written.

        Raises ClipError for what cannot be done, such as a setting that this version does not know.
        """
        unknown = [name for name, value in newer.items() if value is not None]
        if unknown:
            raise ClipError(f"{self.plan.name}: {', '.join(unknown)} cannot be set for this video; leave it out")
        if color_space not in (None, "auto", self.plan.colour_space):
            raise ClipError(
                f"{self.plan.name}: the video is {self.plan.colour_space} and is not converted to {color_space}; "
                "save it as it is"
            )
        suffix = self._suffix(path, str(getattr(format, "value", format)))
        form = self._form(suffix, str(getattr(codec, "value", codec)), bit_depth, crf, preset)
        names = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
        made, container = self._file(form), CONTAINERS[suffix]
        if isinstance(path, BytesIO):
            copy = TempFile(suffix)
            repack(made, copy.path, container=container, names=names)
            path.write(copy.path.read_bytes())
        else:
            repack(made, path, container=container, names=names)
            while self._kept:  # the result is where it belongs, so nothing can be lost any more
                self._kept.pop().remove()

    # -- its files

    @property
    def _usual(self) -> Form:
        """What is written when nobody says how; alpha and HDR need more than H.264 of 8 bits."""
        if self.plan.has_alpha:
            return Form(".mkv", Encoding("ffv1", pixel_format="bgra"))
        return self._form(".mp4", "auto", None, None, None)

    def _suffix(self, path: str | BytesIO, format: str) -> str:
        if format != "auto":
            return f".{format}"
        return self._usual.suffix if isinstance(path, BytesIO) else Path(path).suffix.lower()

    def _form(self, suffix: str, codec: str, bit_depth: int | None, crf: float | None, preset: str | None) -> Form:
        """What was asked for, in our words. Raises ClipError for what does not go together."""
        file = Path(f"video{suffix}")
        try:
            container = container_for(file)
            if bit_depth not in (None, *_PIXELS):
                raise ClipError(f"videos are written with {' or '.join(map(str, _PIXELS))} bits, not {bit_depth}")
            bits = bit_depth or (None if self.plan.colour_space == "sRGB" else 10)
            usual = "hevc" if bits == 10 and "hevc" in container.codecs else container.codecs[0]
            name = usual if codec == "auto" else _OUR_NAMES.get(codec, codec)
            encoding = Encoding(
                name,
                crf=None if crf is None else round(crf),
                preset=preset if name == "h264" else None,  # ComfyUI means it for H.264 alone
                pixel_format=_PIXELS[bits] if bits else None,
            )
            if encoding.pixel_format == codec_for(file, container, encoding).pixel_format:
                encoding = replace(encoding, pixel_format=None)
        except ClipError as error:
            raise ClipError(f"{self.plan.name}: {error}") from error
        return Form(suffix, encoding)

    def _any_file(self) -> Path:
        here = self._here()
        return next(iter(here.values())).path if here else self._file(self._usual)

    def _here(self) -> dict[Form, TempFile]:
        """What was made and has not been deleted by somebody who emptied the temp folder."""
        return {form: file for form, file in self._made.items() if file.path.exists()}

    def _file(self, form: Form) -> Path:
        """The video in that form. It runs for the first one; other forms are made of that."""
        here = self._here()
        if form in here:
            return here[form].path
        plan, file = self.plan, TempFile(form.suffix)
        if here:
            first = next(iter(here.values()))
            log.info("%s: what was made for another use is encoded once more, as %s", plan.name, form)
            again = Recipe(VideoClip(first.path, max_pixels=demux.NO_LIMIT))
            plan = Plan(again, first.path, owned=(first,), nodes=plan.nodes, place=plan.place)
        if kept := run(plan, file.path, form.encoding):
            self._kept.append(kept)
        self._made[form] = file
        return file.path


def _sound(path: Path, begin: Fraction) -> Any:
    """AUDIO of the first track, from the first picture's moment on, `begin` seconds of the file's clock; or None."""
    with demux.opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", rate=stream.rate)
        frames = [piece for frame in container.decode(stream) for piece in resampler.resample(frame)]
        if not frames:
            return None
        late = round(((frames[0].time or 0.0) - begin) * stream.rate)
        waveform = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[:, max(0, -late) :]
    silence = np.zeros((len(waveform), max(0, late)), np.float32)
    return {"waveform": torch.from_numpy(np.concatenate([silence, waveform], 1))[None], "sample_rate": stream.rate}
