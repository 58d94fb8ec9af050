"""A clip with deferred operations, which run in one pass when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from ..clip import Clip, ClipInfo, Frames, TensorClip, clip_bit_depth
from ..motion import estimate as motion
from ..motion.frame_times import frame_times
from ..motion.optical_flow.gray_frame import Plane
from ..runtime.threads.prefetch import prefetch
from .operation import Operation
from .warp_op import WarpOp

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..video.decode.timestamps import Timestamps
    from ..video.format.stream_format import NativeClip, NativeFrames


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A `Clip`: the frames of `source` after `operations`, in their order.

        pipeline = Pipeline(clip).then(UpscaleOp(model), WarpOp(correction))

    Reading it reads the source once, whatever the number of operations, and holds no more than they do.
    """

    source: Clip
    operations: tuple[Operation, ...] = ()

    def then(self, *operations: Operation) -> Pipeline:
        """The pipeline with these operations added, one after the other.

        Upscaling and deflickering after a warp are moved before it where the result is the same: frames are then
        resampled once, at their final size, and the network sees frames that were not interpolated.
        Raises ClipError for a correction of frames of another shape.
        """
        pipeline = self
        for operation in operations:
            pipeline = pipeline._then(operation)
        return pipeline

    def _then(self, operation: Operation) -> Pipeline:
        last = self.operations[-1] if self.operations else None
        if isinstance(last, WarpOp):
            before = replace(self, operations=self.operations[:-1])
            swapped = operation.swap_with_warp(last, before.info)
            if swapped is not None:
                return before.then(*swapped)
        operation.output_info(self.info)
        return replace(self, operations=(*self.operations, operation))

    def iter_operations(self) -> Iterator[tuple[Operation, ClipInfo]]:
        """Yield each operation with the clip's info before it."""
        info = self.source.info
        for operation in self.operations:
            yield operation, info
            info = operation.output_info(info)

    @property
    def info(self) -> ClipInfo:
        """The clip's info after all operations, known without running them."""
        info = self.source.info
        for operation, before in self.iter_operations():
            info = operation.output_info(before)
        return info

    @property
    def bit_depth(self) -> int:
        """Bits per channel of the source."""
        return clip_bit_depth(self.source)

    def frames(self, batch: int = 1, *, on_device: bool = False) -> Iterator[Frames]:
        """Run everything: yield all frames in order, at most `batch` at a time.

        Starts anew at each call. on_device: leave frames on the device of the operations, in its dtype, rather than
        copy them to the CPU.
        """
        if not self.uses_device:
            frames = self._source_frames(batch)
            for operation, before in self.iter_operations():
                frames = operation.run(frames, before)
            return frames
        from ..runtime.device.transfer import download_frames

        frames = self._device_frames() or self._source_frames(batch)
        for operation, before in self.iter_operations():
            frames = operation.run_on_device(frames, before)
        return frames if on_device else download_frames(frames)

    @property
    def uses_device(self) -> bool:
        """Whether an operation runs on another device than the CPU.

        Frames then stay there from the source to the encoder.
        """
        return any(device is not None and device.type != "cpu" for device in self._devices())

    def _devices(self) -> Iterator[torch.device | None]:
        return (operation.compute_device for operation in self.operations)

    def _source_frames(self, batch: int) -> Iterator[Frames]:
        frames = self.source.frames(batch)
        return frames if isinstance(self.source, TensorClip) else prefetch(frames, name="decode")

    def _device_frames(self) -> Iterator[Frames] | None:
        """The frames of a video file, uploaded as decoded; None for other sources."""
        source = native_clip(self.source)
        if source is None:
            return None
        from ..runtime.device.accelerator import accelerator_for
        from .device_frames import device_frames

        device = next(device for device in self._devices() if device is not None and device.type != "cpu")
        frames = device_frames(source.native_frames(), source.stream_format, accelerator_for(device))
        return prefetch(frames, name="decode")

    def native_frames(self) -> Iterator[NativeFrames] | None:
        """The same frames in the pixel format of a video source, upright.

        This avoids the conversion to RGB and back. None where an operation needs RGB.
        """
        source = native_clip(self.source)
        if source is None or len(self.operations) != 1:
            return None
        (operation,) = self.operations
        frames = prefetch(source.native_frames(), name="decode")
        return operation.process_yuv(frames, self.source.info, source.stream_format)

    def luma_frames(self, side: int) -> Iterator[Plane]:
        """The gray frames on which motion is measured, see `Clip`.

        They show the motion of the result, but no network runs for them: they are the frames of the source, warped as
        the result is, at most `side` pixels on the longer side. `estimate_motion` states their motion in the pixels of
        `info`, whatever their size.
        """
        small = self.motion_source()
        return motion.luma_frames(_FramesOnly(small) if small.operations else self.source, side)

    def luma_range(self, side: int, first: int, stop: int | None, times: Timestamps | None) -> Iterator[Plane]:
        """A part of `luma_frames`.

        Without operations, a video file is not decoded from its start.
        """
        small = self.motion_source()
        return motion.luma_range(_FramesOnly(small) if small.operations else self.source, side, first, stop, times)

    def frame_times(self, count: int) -> NDArray[np.float64] | None:
        """The timestamps of the source, which operations keep; see `frame_times`."""
        return frame_times(self.source, count)

    def motion_source(self) -> Pipeline:
        """The pipeline whose frames `luma_frames` reads: no network runs in it.

        An upscaling that changes the aspect ratio stays, because it changes the motion.
        """
        small = Pipeline(self.source)
        for operation, before in self.iter_operations():
            proxy = operation.motion_proxy(before, small.info)
            if proxy is not None:
                small = replace(small, operations=(*small.operations, proxy))
        return small


def native_clip(clip: Clip) -> NativeClip | None:
    """The clip, if its frames can be read as a video file stores them."""
    return cast("NativeClip", clip) if getattr(clip, "stream_format", None) is not None else None


class _FramesOnly:
    """A pipeline without its `luma_frames`, so that its frames are converted."""

    def __init__(self, clip: Clip) -> None:
        self.info, self.frames = clip.info, clip.frames
