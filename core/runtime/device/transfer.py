"""Transfers between pinned memory and a device that overlap with work on it.

Without pinned memory, as with MPS, each transfer waits: an asynchronous one could outlive its buffer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..typed_torch import from_numpy
from .accelerator import Accelerator, accelerator_for
from .out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# One that is filled, one that is transferred, one that is read.
RING_SLOTS = 3


def upload_array(array: NDArray[np.floating[Any]], accelerator: Accelerator) -> Tensor:
    """Copy a small array to a device as float32, without waiting for the copy."""
    single = from_numpy(np.ascontiguousarray(array, np.float32))
    if accelerator.is_cpu:
        return single
    pinned = accelerator.empty_pinned(*single.shape, dtype=torch.float32).copy_(single)
    # The allocator of pinned memory does not use the block again before the copy is complete.
    return pinned.to(accelerator.device, non_blocking=pinned.is_pinned())


def with_cpu_fallback(function: Callable[[Tensor], Result], frames: Tensor) -> Result:
    """Call a function with frames, and again on the CPU if memory runs out."""
    try:
        return function(frames)
    except RuntimeError as error:
        if frames.device.type == "cpu" or not is_out_of_memory(error):
            raise
        log.warning("memory ran out on %s; a frame is processed on the CPU", frames.device)
    accelerator_for(frames.device).release_cache()
    return function(frames.cpu().float())


class _PinnedRing:
    """Pinned buffers that are used in turn."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._slots: list[tuple[Tensor, Any]] = []  # the oldest first, each with the event that ends its use

    def next_parts(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Split the oldest buffer into tensors of the same shapes and dtypes.

        Waits until the buffer is not used any more.
        """
        sizes = [_aligned_bytes(tensor) for tensor in tensors]
        buffer, event = self._slots.pop(0) if len(self._slots) == RING_SLOTS else (None, None)
        wait_for(event)
        if buffer is None or len(buffer) < sum(sizes):
            buffer = self._accelerator.empty_pinned(sum(sizes), dtype=torch.uint8)
        self._slots.append((buffer, None))
        parts = torch.split(buffer[: sum(sizes)], sizes)
        return [_byte_view(part, tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def mark_use(self) -> None:
        """The newest buffer is in use until the work that is queued now is done."""
        self._slots[-1] = self._slots[-1][0], self._accelerator.record_event()


class Uploader:
    """Copies CPU tensors to a device through pinned memory.

    It does not wait for the copies.
    Results are no inference tensors: they may be used inside and outside of inference mode.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._ring = accelerator, _PinnedRing(accelerator)

    def upload(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return copies on the device; the CPU tensors may be changed afterwards."""
        with torch.inference_mode(False), torch.no_grad():
            if self._accelerator.is_cpu:
                return [tensor.clone() for tensor in tensors]
            staged = self._ring.next_parts(tensors)
            for part, tensor in zip(staged, tensors, strict=True):
                part.copy_(tensor)
            copies = [part.to(self._accelerator.device, non_blocking=part.is_pinned()) for part in staged]
            self._ring.mark_use()
            return copies


class Download:
    """A copy from the device that may not be complete yet."""

    def __init__(self, sources: Sequence[Tensor], targets: list[Tensor], event: Any) -> None:
        self._sources: Sequence[Tensor] = sources  # Their memory must not be used again before the copy is complete.
        self._targets, self._event = targets, event

    def wait(self) -> list[Tensor]:
        """The tensors in pinned memory.

        Of a DownloadRing, the third download that is started after this one overwrites them.
        """
        if self._sources:
            wait_for(self._event)
            self._sources = ()
        return self._targets


class DownloadRing:
    """Copies tensors from a device into pinned buffers.

    It uses a stream beside the one that computes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._stream = accelerator, accelerator.new_stream()
        self._ring = _PinnedRing(accelerator)

    def start(self, tensors: Sequence[Tensor]) -> Download:
        """Start to copy the results of the work that is queued on the current stream."""
        if self._stream is not None:
            self._stream.wait_stream(self._accelerator.current_stream())
        with torch.inference_mode(False), torch.no_grad(), self._accelerator.use_stream(self._stream):
            targets = self._ring.next_parts(tensors)
            for target, tensor in zip(targets, tensors, strict=True):
                target.copy_(tensor.detach(), non_blocking=target.is_pinned())
            event = self._accelerator.record_event()
        return Download(tensors, targets, event)


def start_download(tensor: Tensor, accelerator: Accelerator) -> Download:
    """Start to copy a tensor from a device to pinned memory of its own.

    A tensor on the CPU is not copied.
    """
    if accelerator.is_cpu:
        return Download((), [tensor], None)
    with torch.inference_mode(False), torch.no_grad():
        pinned = accelerator.empty_pinned(*tensor.shape, dtype=tensor.dtype)
        pinned.copy_(tensor.detach(), non_blocking=pinned.is_pinned())
    return Download([tensor], [pinned], accelerator.record_event())


def download(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    """Copy a tensor to the CPU through pinned memory, and wait for it."""
    return start_download(tensor, accelerator).wait()[0]


class DelayedNumber:
    """A number on the device that the CPU reads later, so that it need not wait now."""

    def __init__(self, accelerator: Accelerator, value: Tensor) -> None:
        self._target = accelerator.empty_pinned(1, dtype=torch.float32)
        self._source = value
        with torch.inference_mode(False), torch.no_grad():
            self._target.copy_(value.detach().reshape(1), non_blocking=self._target.is_pinned())
        self._event = accelerator.record_event()

    def read(self) -> float:
        """Return the number; wait if the device has not computed it yet."""
        wait_for(self._event)
        return float(self._target[0])


def wait_for(event: Any) -> None:
    """Wait until the work before an event is done; return at once for None."""
    if event is not None and not event.query():
        event.synchronize()


def download_frames(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield the chunks of a stream in float32 on the CPU.

    Each is transferred while the next one is computed.
    Chunks that are on the CPU are passed on.
    """
    ring: DownloadRing | None = None
    pending: Download | None = None
    for chunk in frames:
        box, last = [chunk], pending
        del chunk  # Frames are large: nothing here refers to one that the consumer has.
        pending = None
        if box[0].device.type != "cpu":
            ring = ring or DownloadRing(accelerator_for(box[0].device))
            pending = ring.start([box.pop()])
        if last is not None:
            yield _to_float(last)
        if box:
            yield box.pop()
    if pending is not None:
        yield _to_float(pending)


def _to_float(pending: Download) -> Tensor:
    (pinned,) = pending.wait()
    with torch.inference_mode(False):
        return torch.empty(pinned.shape).copy_(pinned)  # The buffer is used again, and the consumer may keep frames.


def _aligned_bytes(tensor: Tensor) -> int:
    return (tensor.numel() * tensor.element_size() + 63) // 64 * 64


def _byte_view(buffer: Tensor, like: Tensor) -> Tensor:
    """The start of a buffer of bytes, in the shape and dtype of a tensor."""
    return buffer[: like.numel() * like.element_size()].view(like.dtype).view(like.shape)
