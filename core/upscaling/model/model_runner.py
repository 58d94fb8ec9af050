"""Run a network on a device, in the first mode of computing that is safe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor

from ...clip import ClipError, all_finite
from ...runtime.device.accelerator import accelerator_for
from ...runtime.device.out_of_memory import is_out_of_memory
from ..settings import Engine
from ..tiles import Rect, Roi
from .engine import with_engine
from .model_traits import ImageModel, ModelTraits, RoiModel, find_module, read_engine, read_traits
from .precision import CheckCache, ComputeMode, DtypeCheck, check_dtype
from .replica import replica_of

log = logging.getLogger(__name__)


class ModelRunner:
    """A model on a device in a mode of computing.

    (b, C, h, w) float32 -> its finite result, not clamped, in the dtype of that mode.

    modes: to try, the preferred one first. An error, or a result that is not finite, moves on to the next mode at any
    time, because a bright frame can overflow where a dark first frame did not; in the last mode it is raised. A model
    without a torch module is not cast, only its input is.
    On the CPU every result is checked at once. On another device that would wait for it with each tile: there
    `take_checksum` returns a number to be read later, which is finite if all results since the last one were.
    engine: what runs the model, see `with_engine`; modes are selected in torch.
    roi_stages: see `ModelTraits`; none where the model cannot update a result.
    """

    def __init__(
        self,
        model: ImageModel,
        device: torch.device,
        modes: Sequence[ComputeMode],
        *,
        traits: ModelTraits | None = None,
        compiled: bool = False,
        engine: Engine = Engine.AUTO,
    ) -> None:
        traits = read_traits(model) if traits is None else traits
        self.device, self.supports_roi = device, traits.supports_roi
        self.accelerator = accelerator_for(device)
        self.check: DtypeCheck | None = None  # of the mode; None where it was not compared
        self._original, self._name, self._compiled = model, type(model).__name__, compiled
        self._modes = list(modes)
        on_native_engine = self.accelerator.is_cpu and self.dtype is torch.float32
        self.roi_stages = traits.roi_stages if on_native_engine else ()
        self._replica: Callable[..., Tensor] = model
        self._replica_dtype: torch.dtype | None = None
        self._engine = engine
        self._release_replica = ExitStack()
        self._checksum: Tensor | None = None

    @property
    def mode(self) -> ComputeMode:
        return self._modes[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.mode.dtype

    @property
    def engine_name(self) -> str:
        """The engine of the last call, for people."""
        return read_engine(self._replica)

    @torch.inference_mode()
    def select_mode(self, sample: Tensor) -> None:
        """Select a safe mode with a sample (b, C, h, w), and load the model in it.

        Drops the modes whose result differs too much from float32, and takes the first that is left. A single mode is
        not checked.
        """
        if len(self._modes) > 1:
            # The sample has another shape than the tiles: an ONNX graph of it would be used only here.
            engine, self._engine = self._engine, Engine.AUTO
            try:
                self._drop_unsafe_modes(sample)
            finally:
                self._engine = engine
                self._replica_dtype = self._replica_dtype if engine is Engine.AUTO else None
        self._model_in(self.dtype)
        detail = "" if self.check is None else f": {self.check}"
        log.info("%s runs in %s on %s%s", self._name, self.mode.value, self.device, detail)

    def _drop_unsafe_modes(self, sample: Tensor) -> None:
        cache = CheckCache(find_module(self._original), self.accelerator)
        reference: Tensor | None = None
        while len(self._modes) > 1:
            check = cache.find(self.mode)
            if check is None:
                if reference is None:
                    # Copied: a compiled network may write its next result into the same memory.
                    reference = self._forward(sample, ComputeMode.FP32).clone()
                check = self._check_mode(sample, reference)
                cache.store(self.mode, check)
            self.check = check
            if not check.problem:
                self(sample)  # Drops a mode that was checked on another day and fails today.
                self._checksum = None
                return
            self.drop_mode(check.problem)

    # Inference mode ends with the call: around a generator's yield it would leak into the consumer of the frames.
    @torch.inference_mode()
    def __call__(self, window: Tensor, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """roi, out: see `run_tiles`, for models that support them."""
        while True:
            try:
                result = self._forward(window, self.mode, roi, out)
            except Exception as error:
                if len(self._modes) == 1 or is_out_of_memory(error):
                    raise
                self.drop_mode(_first_line(error))
                continue
            if not self.accelerator.is_cpu:
                partial = result.sum(dtype=torch.float32)
                self._checksum = partial if self._checksum is None else self._checksum + partial
                return result
            if all_finite(result):
                return result
            if len(self._modes) == 1:
                raise self.non_finite_error()
            self.drop_mode("the result is not finite")

    def take_checksum(self) -> Tensor | None:
        """Return a number that is finite if all results since the last call are.

        It is on the device; None if there was no result.
        """
        checksum, self._checksum = self._checksum, None
        return checksum

    def drop_mode(self, reason: str) -> None:
        """Continue in the next mode. Raises ClipError if there is none."""
        if len(self._modes) == 1:
            raise self.non_finite_error()
        log.warning(
            "%s is not safe for this network (%s); continuing in %s", self.mode.value, reason, self._modes[1].value
        )
        del self._modes[0]
        self.check = None

    @torch.inference_mode()
    def update_regions(self, image: Tensor, stage_rects: Sequence[Sequence[Rect]], out: Tensor, scale: int) -> bool:
        """Update the result for an earlier image where this image differs from it.

        out: the result for the earlier image, clamped, (1, C, h * scale, w * scale); updated in place.

        stage_rects: for each of `roi_stages` the regions that a difference may change. Returns False where the model
        cannot do this, or where it has no activations cached and the first stage does not cover the frame; the caller
        then computes the regions of the last stage.
        """
        if not self.roi_stages:
            return False
        stage_rois = [[(rect.rows.to_slice(1), rect.cols.to_slice(1)) for rect in rects] for rects in stage_rects]
        model = cast(RoiModel, self._model_in(self.dtype))
        if not model.update_regions(image, stage_rois, out, self):
            return False
        updated = (out[..., rect.rows.to_slice(scale), rect.cols.to_slice(scale)] for rect in stage_rects[-1])
        if not all(all_finite(region) for region in updated):
            raise self.non_finite_error()
        return True

    def release_cache(self) -> None:
        """Release the activations that the model caches for `update_regions`."""
        if self.roi_stages:
            cast(RoiModel, self._replica).release_cache(self)

    def close(self) -> None:
        """Release all that the model holds for this runner; it cannot be used afterwards."""
        self.release_cache()
        self._replica, self._replica_dtype = self._original, None
        self._release_replica.close()

    def non_finite_error(self) -> ClipError:
        return ClipError(
            f"the network's result in {self.mode.value} is not finite; use precision auto or fp32, and if it is "
            "fp32 already, the weights are damaged"
        )

    def _check_mode(self, sample: Tensor, reference: Tensor) -> DtypeCheck:
        try:
            return check_dtype(self._forward(sample, self.mode), reference)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return DtypeCheck(0.0, 0.0, _first_line(error))

    def _model_in(self, dtype: torch.dtype) -> Callable[..., Tensor]:
        if self._replica_dtype is not dtype:
            self._replica, self._replica_dtype = self._original, None
            self._release_replica.close()  # Before the next one takes memory.
            replica = replica_of(self._original, self.device, dtype, compiled=self._compiled)
            placed = self._release_replica.enter_context(replica)
            self._replica = with_engine(placed, self._engine, self._original, self.accelerator, compiled=self._compiled)
            self._replica_dtype = dtype
        return self._replica

    def _forward(self, window: Tensor, mode: ComputeMode, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        model = self._model_in(mode.dtype)
        # Convolutions run faster in channels_last, on CPUs too. The copy protects the source from networks that work
        # in place.
        moved = window.to(self.device, mode.dtype, copy=True, memory_format=torch.channels_last)
        with mode.arithmetic(self.accelerator):
            return model(moved) if roi is None else model(moved, roi=roi, out=out)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
