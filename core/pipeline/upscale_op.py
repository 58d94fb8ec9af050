"""The operation that upscales a clip with a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..clip import ClipInfo, Frames, is_same_aspect
from ..runtime.device.accelerator import accelerator_for
from ..runtime.device.device_names import split_devices
from ..upscaling.deprecated_keywords import accept_deprecated_fields
from ..upscaling.model.model_traits import ImageModel, find_module, model_device, read_traits
from ..upscaling.model.precision import ComputeMode, compute_modes
from ..upscaling.settings import Engine, OutputSize, UpscaleSettings, UpscaleStats
from ..upscaling.tile_size import plan_tiles
from ..upscaling.tiles import window_pixels
from ..upscaling.upscale import upscale
from .operation import Operation
from .warp_op import WarpOp


@accept_deprecated_fields
@dataclass(frozen=True, eq=False)
class UpscaleOp(Operation):
    """Upscale frames, see `upscaling.upscale`."""

    model: ImageModel
    settings: UpscaleSettings = UpscaleSettings()  # noqa: RUF009, it is frozen
    device: torch.device | str | None = None
    stats: UpscaleStats | None = None

    def output_info(self, input_info: ClipInfo) -> ClipInfo:
        scale = int(self.model.scale)
        return input_info.resized(*self.settings.size.resolve(input_info.width, input_info.height, scale))

    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        return upscale(
            frames, self.model, self.settings, device=self.device, stats=self.stats, first_frame=frame_offset
        )

    def run_on_device(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        return upscale(
            frames,
            self.model,
            self.settings,
            device=self.device,
            stats=self.stats,
            first_frame=frame_offset,
            on_device=True,
        )

    @property
    def compute_device(self) -> torch.device:
        """The device of the network.

        The CPU for several devices: they take frames from main memory.
        """
        devices = self._devices()
        return devices[0] if len(devices) == 1 else torch.device("cpu")

    def _devices(self) -> list[torch.device]:
        return [model_device(self.model)] if self.device is None else split_devices(self.device)

    @property
    def temporal_context(self) -> tuple[int, int]:
        return read_traits(self.model).frames_context

    def estimate_memory(self, input_info: ClipInfo) -> float:
        """Return the estimated memory use in bytes.

        It includes activations, for tiles that fit into memory now, the result, and the last result, which is kept for
        reuse.
        """
        traits, tiling = read_traits(self.model), self.settings.tiling
        device = self._devices()[0]
        halo = traits.halo if tiling.halo is None else tiling.halo
        bytes_per_pixel = traits.estimated_activation_bytes
        height, width = input_info.height, input_info.width
        plan = plan_tiles(
            height,
            width,
            1,
            halo,
            device,
            tiling,
            bytes_per_pixel,
            layer_bytes=traits.layer_bytes,
            full_frames=traits.prefers_full_frames,
            never_tiled=traits.never_tiled,
        )
        activations = bytes_per_pixel * window_pixels(height, width, plan.core_size, halo)
        return activations + self.frame_memory(input_info)

    def frame_memory(self, input_info: ClipInfo) -> float:
        # Of a window, the frames are kept and the network's input is a copy of them.
        window = read_traits(self.model).window_frames
        windows = 2 * window * input_info.frame_bytes if window > 1 else 0
        return windows + 2 * self.output_info(input_info).frame_bytes

    @property
    def runtime(self) -> dict[str, object]:
        """Describe what computes the frames; results depend on it by rounding.

        device: its kind. engine: "native", "torch" or "onnx". modes: the precisions that may be chosen.
        """
        device, traits, settings = self._devices()[0], read_traits(self.model), self.settings
        module = find_module(self.model)
        modes = compute_modes(
            settings.precision,
            accelerator_for(device),
            supports_half=traits.supports_half,
            can_cast=module is not None,
        )
        engine = settings.engine.value
        if settings.engine is Engine.AUTO:
            is_native = traits.has_native_engine and device.type == "cpu" and modes[0] is ComputeMode.FP32
            engine = Engine.NATIVE.value if is_native else Engine.TORCH.value
        return {"device": device.type, "engine": engine, "modes": [mode.value for mode in modes]}

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> UpscaleOp | None:
        """None, unless the size has another aspect ratio, which changes the motion."""
        return None if is_same_aspect(input_info.size, self.output_info(input_info).size) else self

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[UpscaleOp, WarpOp] | None:
        """Move the upscaling before the warp, if possible.

        The padding must remain a whole number of pixels, and the aspect ratios must match; None otherwise. The
        correction scales with the frames.
        """
        padded = warp_op.output_info(input_info)
        output = self.output_info(padded)
        pad = warp_op.pad * output.width / padded.width
        if abs(pad - round(pad)) > 1e-9 or not is_same_aspect(padded.size, output.size):
            return None
        inner = input_info.resized(output.width - 2 * round(pad), output.height - 2 * round(pad))
        if min(inner.width, inner.height) < 1 or not is_same_aspect(input_info.size, inner.size):
            return None
        if self.output_info(input_info) == inner:
            return self, replace(warp_op, pad=round(pad))
        settings = replace(self.settings, size=OutputSize(size=inner.size))
        return replace(self, settings=settings), replace(warp_op, pad=round(pad))
