"""The number format a network runs in, chosen by trying, and the network's loan to a device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..clip import ClipError, all_finite
from .settings import Precision
from .tiles import Rect, Roi

log = logging.getLogger(__name__)

# One step of an 8-bit picture. Drift below it can flip a rounding, but cannot be seen.
MAX_DTYPE_ERROR = 1 / 255


_DTYPES = {
    Precision.FP32: (torch.float32,),
    Precision.FP16: (torch.float16,),
    Precision.BF16: (torch.bfloat16,),
}


def dtype_candidates(precision: Precision, device: torch.device) -> tuple[torch.dtype, ...]:
    """The formats to try on a device, the most wanted first.

    AUTO is half only on CUDA: processors without half arithmetic emulate it, which was measured 11 (bf16) to 250 (fp16)
    times slower than fp32, and there it is not even smaller where it matters, in the cache.
    """
    if precision is Precision.AUTO:
        return (torch.float16, torch.bfloat16, torch.float32) if device.type == "cuda" else (torch.float32,)
    if device.type == "cpu" and precision is not Precision.FP32:
        log.warning("%s on a CPU is many times slower than fp32", precision.value)
    return _DTYPES[precision]


def find_module(model: object) -> nn.Module | None:
    """The torch module in a model: itself, or what a wrapper such as spandrel's descriptor holds as `.model`."""
    seen = set()
    while model is not None and id(model) not in seen:
        if isinstance(model, nn.Module):
            return model
        seen.add(id(model))
        model = getattr(model, "model", None)
    return None


def model_device(model: object) -> torch.device:
    """Where a model's weights lie; the CPU for one that has none."""
    module = find_module(model)
    weights = next(module.parameters(), None) if module is not None else None
    return weights.device if weights is not None else torch.device(getattr(model, "device", "cpu"))


class _SavedWeights:
    """A module whose weights may be elsewhere and in another format, and what it was like at home."""

    def __init__(self, module: nn.Module) -> None:
        self.refcount = 0
        self._saved = [(tensor, tensor.data) for group in (module.parameters(), module.buffers()) for tensor in group]
        self._training_modules = [part for part in module.modules() if part.training]
        self._current: tuple[torch.device, torch.dtype] | None = None

    @torch.inference_mode(False)  # for whoever comes after a frame
    def cast(self, device: torch.device, dtype: torch.dtype) -> None:
        if self._current == (device, dtype):
            return
        self._current = None
        for tensor, data in self._saved:
            kind = dtype if data.is_floating_point() else data.dtype
            if device.type == "cuda" and data.ndim == 4:
                tensor.data = data.to(device, kind, memory_format=torch.channels_last)
            else:
                tensor.data = data.to(device, kind)
        self._current = device, dtype

    def restore(self) -> None:
        for tensor, data in self._saved:
            tensor.data = data
        for part in self._training_modules:
            part.training = True
        self._current = None


# A stream that was left alone lasts until a collector finds it, and the next one may have begun by then.
_saved_weights: WeakKeyDictionary[nn.Module, _SavedWeights] = WeakKeyDictionary()
_lock = threading.RLock()  # which may be in the midst of what is done here


@contextmanager
def on_device(model: object, device: torch.device) -> Iterator[Callable[[torch.dtype], None]]:
    """Lend a model's weights to a device: yields a function that casts them to a format there, any number of times.

    The weights are put back as they were (the same memory, place and format, to the bit) when the loan ends, on the bad
    path too; each cast starts from them, so trying fp16 costs fp32 no precision. Of a model that is lent several times
    at once the last loan to end puts them back; whoever uses it casts before each use, which costs nothing where they
    have that format. In several threads at once they must be lent to one device, and in one format.
    A model without a torch module is moved by its own `.to(device)` and back, if it has that.
    """
    module = find_module(model)
    if module is None:
        home, move = model_device(model), getattr(model, "to", None)
        try:
            if move is not None and home != device:
                move(device)
            yield lambda dtype: None
        finally:
            if move is not None and home != device:
                move(home)
        return

    with _lock:
        lent = _saved_weights.get(module) or _SavedWeights(module)
        lent.refcount += 1
        _saved_weights[module] = lent
        module.eval()
    try:
        yield lambda dtype: lent.cast(device, dtype)
    finally:
        with _lock:
            lent.refcount -= 1
            if lent.refcount == 0:
                lent.restore()
                _saved_weights.pop(module, None)


class ModelRunner:
    """A borrowed network in a chosen format: (b, C, h, w) float32 -> all finite, not clamped, on the device and as the
    network made it: in the format that it runs in.

    `tries` are formats, the most wanted first. A result that is not finite moves on to the next one, at any time, for a
    bright frame can overflow what a dark first frame did not. Without a next one it is a ClipError. A model whose
    weights cannot be cast (no torch module) is simply given tensors of the format.

    parts: whether the model makes no more than it must where only a part of its result is wanted, and puts it where it
    is told to. steps: how far a change reaches in each of the steps in which it renews a result, if it can.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        cast: Callable[[torch.dtype], None],
        device: torch.device,
        dtypes: Sequence[torch.dtype],
    ) -> None:
        self._model, self._cast, self.device = model, cast, device
        # Asked of the model itself: one that wraps another may change what goes in and comes out.
        self.supports_roi = bool(getattr(model, "supports_roi", False))
        self._dtypes = list(dtypes)
        self._cast(self._dtypes[0])
        on_cpu = device.type == "cpu" and self.dtype is torch.float32
        self.roi_stages: tuple[int, ...] = tuple(getattr(model, "roi_stages", ())) if on_cpu else ()

    @property
    def dtype(self) -> torch.dtype:
        return self._dtypes[0]

    @torch.inference_mode()
    def select_dtype(self, sample: Tensor) -> None:
        """Drop the formats that a sample (b, C, h, w) shows unsafe against fp32, which is run once for it."""
        if len(self._dtypes) < 2:
            return
        truth = self._forward(sample, torch.float32)
        while len(self._dtypes) > 1:
            fault = dtype_error(self._forward(sample, self.dtype), truth)
            if fault is None:
                break
            self._drop_dtype(fault)
        log.info("%s runs in %s on %s", type(self._model).__name__, self.dtype, self.device)

    # Inference mode ends with the call: around a generator's yield it would leak into whoever pulls the frames.
    @torch.inference_mode()
    def __call__(self, window: Tensor, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """wanted, out: see `run_tiles`, for models that make parts."""
        result = self._forward(window, self.dtype, roi, out)
        while not all_finite(result):
            if len(self._dtypes) == 1:
                raise self._non_finite_error()
            self._drop_dtype("the result is not finite")
            result = self._forward(window, self.dtype, roi, out)
        return result

    @torch.inference_mode()
    def update_regions(self, image: Tensor, stage_rects: Sequence[Sequence[Rect]], out: Tensor, scale: int) -> bool:
        """Bring `out`, the clamped result (1, C, h * scale, w * scale) of another image, up to date for one that is
        different in places: for each of the `steps`, the boxes that may change in it. False where the model cannot, or
        keeps nothing of that image and the first step is not whole; the boxes are to be run then.
        """
        parts = [[(box.rows.to_slice(1), box.cols.to_slice(1)) for box in boxes] for boxes in stage_rects]
        if not self.roi_stages:
            return False
        self._cast(self.dtype)
        if not cast(Any, self._model).renew(image, parts, out, self):
            return False
        if not all(all_finite(out[..., box.rows.to_slice(scale), box.cols.to_slice(scale)]) for box in stage_rects[-1]):
            raise self._non_finite_error()
        return True

    def release_cache(self) -> None:
        """What the model keeps is not needed any more."""
        if self.roi_stages:
            cast(Any, self._model).forget(self)

    def _non_finite_error(self) -> ClipError:
        return ClipError(
            f"the network's result in {self.dtype} is not finite; use precision auto or fp32, and if it is "
            "fp32 already, the weights are damaged"
        )

    def _drop_dtype(self, reason: str) -> None:
        log.warning("%s is not safe for this network (%s); going on in %s", self.dtype, reason, self._dtypes[1])
        del self._dtypes[0]

    def _forward(self, window: Tensor, dtype: torch.dtype, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        # Convolutions run faster with the channels of a pixel together, on processors too. The copy keeps a network
        # that works in place from changing the source.
        self._cast(dtype)
        moved = window.to(self.device, dtype, copy=True, memory_format=torch.channels_last)
        return self._model(moved) if roi is None else self._model(moved, roi=roi, out=out)


def dtype_error(result: Tensor, reference: Tensor) -> str | None:
    """What is wrong with a result against its fp32 truth, both meant for [0, 1]; None if nothing is."""
    if not all_finite(result):
        return "the result is not finite"
    result, reference = result.float().clamp(0.0, 1.0), reference.float().clamp(0.0, 1.0)
    if float(result.amax()) == 0.0 and float(reference.amax()) > 0.0:
        return "the result is black"
    drift = float((result - reference).abs().amax())
    return f"it differs from fp32 by {drift * 255:.1f}/255" if drift > MAX_DTYPE_ERROR else None
