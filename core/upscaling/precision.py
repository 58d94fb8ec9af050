"""Choose a dtype by self-check, and run a network in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor

from ..clip import ClipError, all_finite
from .engine import with_engine
from .model_traits import ImageModel, ModelTraits, read_engine, read_traits
from .replica import replica_of
from .settings import Engine, Precision
from .tiles import Rect, Roi

log = logging.getLogger(__name__)

# One step of an 8-bit image. A smaller error can flip a rounding, but is not visible.
MAX_DTYPE_ERROR = 1 / 255


_DTYPES = {
    Precision.FP32: (torch.float32,),
    Precision.FP16: (torch.float16,),
    Precision.BF16: (torch.bfloat16,),
}


def dtype_candidates(precision: Precision, device: torch.device) -> tuple[torch.dtype, ...]:
    """The dtypes to try on a device, the preferred one first.

    AUTO tries half precision on CUDA only: CPUs without half arithmetic emulate it, which was measured 11 (bf16) to 250
    (fp16) times slower than fp32.
    """
    if precision is Precision.AUTO:
        return (torch.float16, torch.bfloat16, torch.float32) if device.type == "cuda" else (torch.float32,)
    if device.type == "cpu" and precision is not Precision.FP32:
        log.warning("%s on a CPU is many times slower than fp32", precision.value)
    return _DTYPES[precision]


class ModelRunner:
    """A model on a device in a chosen dtype.

    (b, C, h, w) float32 -> its finite result, not clamped, in that dtype.

    dtypes: to try, the preferred one first. A result that is not finite moves on to the next dtype at any time, because
    a bright frame can overflow where a dark first frame did not; in the last dtype it raises ClipError. A model without
    a torch module is not cast, only its input is.
    engine: what runs the model, see `with_engine`; dtypes are selected in torch.
    roi_stages: see `ModelTraits`; none where the model cannot update a result.
    """

    def __init__(
        self,
        model: ImageModel,
        device: torch.device,
        dtypes: Sequence[torch.dtype],
        *,
        traits: ModelTraits | None = None,
        compiled: bool = False,
        engine: Engine = Engine.AUTO,
    ) -> None:
        traits = read_traits(model) if traits is None else traits
        self.device, self.supports_roi = device, traits.supports_roi
        self._original, self._name, self._compiled = model, type(model).__name__, compiled
        self._dtypes = list(dtypes)
        on_native_engine = device.type == "cpu" and self.dtype is torch.float32
        self.roi_stages = traits.roi_stages if on_native_engine else ()
        self._replica: Callable[..., Tensor] = model
        self._replica_dtype: torch.dtype | None = None
        self._engine = engine
        self._release_replica = ExitStack()

    @property
    def dtype(self) -> torch.dtype:
        return self._dtypes[0]

    @property
    def engine_name(self) -> str:
        """The engine of the last call, for people."""
        return read_engine(self._replica)

    @torch.inference_mode()
    def select_dtype(self, sample: Tensor) -> None:
        """Select a safe dtype with a sample (b, C, h, w), and load the model in it.

        Drops the dtypes whose result differs too much from fp32, and takes the first that is left. A single dtype is
        not checked.
        """
        if len(self._dtypes) > 1:
            # The sample has another shape than the tiles: an ONNX graph of it would be used only here.
            engine, self._engine = self._engine, Engine.AUTO
            try:
                self._drop_unsafe_dtypes(sample)
            finally:
                self._engine = engine
                self._replica_dtype = self._replica_dtype if engine is Engine.AUTO else None
        self._model_in(self.dtype)
        log.info("%s runs in %s on %s", self._name, self.dtype, self.device)

    def _drop_unsafe_dtypes(self, sample: Tensor) -> None:
        reference = self._forward(sample, torch.float32)
        while len(self._dtypes) > 1:
            problem = dtype_error(self._forward(sample, self.dtype), reference)
            if problem is None:
                break
            self._drop_dtype(problem)

    # Inference mode ends with the call: around a generator's yield it would leak into the consumer of the frames.
    @torch.inference_mode()
    def __call__(self, window: Tensor, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """roi, out: see `run_tiles`, for models that support them."""
        result = self._forward(window, self.dtype, roi, out)
        while not all_finite(result):
            if len(self._dtypes) == 1:
                raise self._non_finite_error()
            self._drop_dtype("the result is not finite")
            result = self._forward(window, self.dtype, roi, out)
        return result

    @torch.inference_mode()
    def update_regions(self, image: Tensor, stage_rects: Sequence[Sequence[Rect]], out: Tensor, scale: int) -> bool:
        """Update the result for another image where this image differs.

        out: that result, clamped, (1, C, h * scale, w * scale), updated in place.

        stage_rects: for each of `roi_stages` the regions that a difference may change. False where the model cannot, or
        where it has no activations cached and the first stage does not cover the frame; run the last regions then.
        """
        if not self.roi_stages:
            return False
        stage_rois = [[(rect.rows.to_slice(1), rect.cols.to_slice(1)) for rect in rects] for rects in stage_rects]
        model = cast(Any, self._model_in(self.dtype))
        if not model.update_regions(image, stage_rois, out, self):
            return False
        updated = (out[..., rect.rows.to_slice(scale), rect.cols.to_slice(scale)] for rect in stage_rects[-1])
        if not all(all_finite(region) for region in updated):
            raise self._non_finite_error()
        return True

    def release_cache(self) -> None:
        """Release the activations that the model caches for `update_regions`."""
        if self.roi_stages:
            cast(Any, self._replica).release_cache(self)

    def close(self) -> None:
        """Release all that the model holds for this runner; it cannot be used afterwards."""
        self.release_cache()
        self._replica, self._replica_dtype = self._original, None
        self._release_replica.close()

    def _non_finite_error(self) -> ClipError:
        return ClipError(
            f"the network's result in {self.dtype} is not finite; use precision auto or fp32, and if it is "
            "fp32 already, the weights are damaged"
        )

    def _drop_dtype(self, reason: str) -> None:
        log.warning("%s is not safe for this network (%s); continuing in %s", self.dtype, reason, self._dtypes[1])
        del self._dtypes[0]

    def _model_in(self, dtype: torch.dtype) -> Callable[..., Tensor]:
        if self._replica_dtype is not dtype:
            self._replica, self._replica_dtype = self._original, None
            self._release_replica.close()  # Before the next one takes memory.
            replica = replica_of(self._original, self.device, dtype, compiled=self._compiled)
            self._replica = with_engine(self._release_replica.enter_context(replica), self._engine, self._original)
            self._replica_dtype = dtype
        return self._replica

    def _forward(self, window: Tensor, dtype: torch.dtype, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        model = self._model_in(dtype)
        # Convolutions run faster in channels_last, on CPUs too. The copy protects the source from networks that work
        # in place.
        moved = window.to(self.device, dtype, copy=True, memory_format=torch.channels_last)
        return model(moved) if roi is None else model(moved, roi=roi, out=out)


def dtype_error(result: Tensor, reference: Tensor) -> str | None:
    """Describe the problem of a result against its fp32 reference; None if none.

    Both are meant for [0, 1].
    """
    if not all_finite(result):
        return "the result is not finite"
    result, reference = result.float().clamp(0.0, 1.0), reference.float().clamp(0.0, 1.0)
    if float(result.amax()) == 0.0 and float(reference.amax()) > 0.0:
        return "the result is black"
    error = float((result - reference).abs().amax())
    return f"it differs from fp32 by {error * 255:.1f}/255" if error > MAX_DTYPE_ERROR else None
