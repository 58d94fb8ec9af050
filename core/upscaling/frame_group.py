"""Single frames of a stream that are computed at once on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..clip import Frames
from ..runtime.device.accelerator import Accelerator
from ..runtime.device.out_of_memory import is_out_of_memory
from ..runtime.device.transfer import Uploader
from .chunk_upscaler import ChunkUpscaler


@dataclass
class FrameGroup:
    """Frames to be computed at once.

    frames: on the device where they fit there. first_frame: number of the first one in the clip. compared: the same
    frames for change detection, in one or more chunks, on the CPU if they came from there; the same tensor object twice
    in a row is a repeated frame. sizes: of the chunks that they came in.
    """

    frames: Frames
    first_frame: int
    compared: list[Frames]
    sizes: list[int]


def group_frames(
    numbered: Iterator[tuple[int, Frames]], upscaler: ChunkUpscaler, uploader: Uploader
) -> Iterator[FrameGroup]:
    """Upload chunks, and put small single frames together.

    As many as `upscaler` computes at once are a group. It is complete when the next frame does not fit in, or at the
    end of the stream.
    """
    buffer = _GroupBuffer(upscaler.accelerator, uploader)
    for first_frame, chunk in numbered:
        wanted = upscaler.frames_at_once(chunk)
        if not buffer.can_take(chunk, wanted):
            yield from buffer.flush()
        if buffer.add(chunk, first_frame, wanted):
            del chunk  # Frames are large.
            if buffer.is_full:
                yield from buffer.flush()
            continue
        yield from buffer.flush()
        host = chunk.float() if chunk.device.type == "cpu" else None
        group = [FrameGroup(chunk if host is None else upload(uploader, host), first_frame, [], [len(chunk)])]
        group[0].compared = [chunk if host is None else host]
        del chunk, host
        yield group.pop()
    yield from buffer.flush()


def upload(uploader: Uploader, chunk: Frames) -> Frames:
    """The chunk on the device, or itself if it does not fit there.

    Then its tiles are transferred one by one.
    """
    try:
        return uploader.upload([chunk])[0]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return chunk


class _GroupBuffer:
    """Memory on the device for the frames of a group.

    Frames are copied, because their producer may use their memory again.
    """

    def __init__(self, accelerator: Accelerator, uploader: Uploader) -> None:
        self._accelerator, self._uploader = accelerator, uploader
        self._frames: Frames | None = None  # (size of the group, C, h, w)
        self._first_frame = 0
        self._compared: list[Frames] = []
        self._on_cpu = False
        # The last frame from the device, its version at that time, and its copy.
        self._last: tuple[Frames, int, Frames] | None = None

    @property
    def is_full(self) -> bool:
        return self._frames is not None and len(self._compared) == len(self._frames)

    def can_take(self, chunk: Frames, size: int) -> bool:
        """Whether a chunk belongs to the group that was begun, or none was."""
        if self._frames is None:
            return True
        is_same = chunk.shape[1:] == self._frames.shape[1:] and len(chunk) == 1 and size == len(self._frames)
        return is_same and (chunk.device.type == "cpu") == self._on_cpu and chunk.dtype is self._frames.dtype

    def add(self, chunk: Frames, first_frame: int, size: int) -> bool:
        """Copy a frame into the group, which is begun if necessary.

        False where it has to be computed alone.
        """
        if len(chunk) != 1 or size == 1:
            return False
        if self._frames is None and not self._begin(chunk, first_frame, size):
            return False
        assert self._frames is not None
        place = len(self._compared)
        with torch.inference_mode(False), torch.no_grad():
            target = self._frames[place : place + 1]
            if not self._on_cpu:
                target.copy_(chunk)
                self._compared.append(self._copy_of(chunk, target))
                return True
            target.copy_(upload(self._uploader, chunk))
            self._compared.append(chunk.clone())
            return True

    def flush(self) -> Iterator[FrameGroup]:
        """Yield the group that was begun, if there is one."""
        if self._frames is None:
            return
        compared, frames = self._compared, self._frames[: len(self._compared)]
        self._frames, self._compared = None, []
        yield FrameGroup(frames, self._first_frame, compared, [1] * len(compared))

    def _begin(self, chunk: Frames, first_frame: int, size: int) -> bool:
        try:
            with torch.inference_mode(False):
                frames = torch.empty(size, *chunk.shape[1:], dtype=chunk.dtype, device=self._accelerator.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        self._frames, self._first_frame, self._on_cpu = frames, first_frame, chunk.device.type == "cpu"
        return True

    def _copy_of(self, chunk: Frames, copy: Frames) -> Frames:
        """`copy`, or that of the last frame if this is the same tensor, unchanged."""
        version = -1 if chunk.is_inference() else chunk._version
        last = self._last
        if last is not None and chunk.data_ptr() == last[0].data_ptr() and version == last[1] != -1:
            return last[2]
        self._last = chunk, version, copy
        return copy
