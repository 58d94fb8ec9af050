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
from .tiles import Box, Wanted

log = logging.getLogger(__name__)

# One step of an 8-bit picture. Drift below it can flip a rounding, but cannot be seen.
MOST_DRIFT = 1 / 255


_FORMATS = {
    Precision.FP32: (torch.float32,),
    Precision.FP16: (torch.float16,),
    Precision.BF16: (torch.bfloat16,),
}


def formats(precision: Precision, device: torch.device) -> tuple[torch.dtype, ...]:
    """The formats to try on a device, the most wanted first.

    AUTO is half only on CUDA: processors without half arithmetic emulate it, which was measured 11 (bf16) to 250 (fp16)
    times slower than fp32, and there it is not even smaller where it matters, in the cache.
    """
    if precision is Precision.AUTO:
        return (torch.float16, torch.bfloat16, torch.float32) if device.type == "cuda" else (torch.float32,)
    if device.type == "cpu" and precision is not Precision.FP32:
        log.warning("%s on a CPU is many times slower than fp32", precision.value)
    return _FORMATS[precision]


def module_of(model: object) -> nn.Module | None:
    """The torch module in a model: itself, or what a wrapper such as spandrel's descriptor holds as `.model`."""
    seen = set()
    while model is not None and id(model) not in seen:
        if isinstance(model, nn.Module):
            return model
        seen.add(id(model))
        model = getattr(model, "model", None)
    return None


def home_of(model: object) -> torch.device:
    """Where a model's weights lie; the CPU for one that has none."""
    module = module_of(model)
    weights = next(module.parameters(), None) if module is not None else None
    return weights.device if weights is not None else torch.device(getattr(model, "device", "cpu"))


class _Lent:
    """A module whose weights may be elsewhere and in another format, and what it was like at home."""

    def __init__(self, module: nn.Module) -> None:
        self.loans = 0
        self._own = [(tensor, tensor.data) for group in (module.parameters(), module.buffers()) for tensor in group]
        self._training = [part for part in module.modules() if part.training]
        self._now: tuple[torch.device, torch.dtype] | None = None

    @torch.inference_mode(False)  # for whoever comes after a frame
    def cast(self, device: torch.device, dtype: torch.dtype) -> None:
        if self._now == (device, dtype):
            return
        self._now = None
        for tensor, data in self._own:
            kind = dtype if data.is_floating_point() else data.dtype
            if device.type == "cuda" and data.ndim == 4:
                tensor.data = data.to(device, kind, memory_format=torch.channels_last)
            else:
                tensor.data = data.to(device, kind)
        self._now = device, dtype

    def put_back(self) -> None:
        for tensor, data in self._own:
            tensor.data = data
        for part in self._training:
            part.training = True
        self._now = None


# A stream that was left alone lasts until a collector finds it, and the next one may have begun by then.
_lent: WeakKeyDictionary[nn.Module, _Lent] = WeakKeyDictionary()
_lock = threading.RLock()  # which may be in the midst of what is done here


@contextmanager
def borrowed(model: object, device: torch.device) -> Iterator[Callable[[torch.dtype], None]]:
    """Lend a model's weights to a device: yields a function that casts them to a format there, any number of times.

    The weights are put back as they were (the same memory, place and format, to the bit) when the loan ends, on the bad
    path too; each cast starts from them, so trying fp16 costs fp32 no precision. Of a model that is lent several times
    at once the last loan to end puts them back; whoever uses it casts before each use, which costs nothing where they
    have that format. In several threads at once they must be lent to one device, and in one format.
    A model without a torch module is moved by its own `.to(device)` and back, if it has that.
    """
    module = module_of(model)
    if module is None:
        home, move = home_of(model), getattr(model, "to", None)
        try:
            if move is not None and home != device:
                move(device)
            yield lambda dtype: None
        finally:
            if move is not None and home != device:
                move(home)
        return

    with _lock:
        lent = _lent.get(module) or _Lent(module)
        lent.loans += 1
        _lent[module] = lent
        module.eval()
    try:
        yield lambda dtype: lent.cast(device, dtype)
    finally:
        with _lock:
            lent.loans -= 1
            if lent.loans == 0:
                lent.put_back()
                _lent.pop(module, None)


class Runner:
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
        tries: Sequence[torch.dtype],
    ) -> None:
        self._model, self._cast, self.device = model, cast, device
        # Asked of the model itself: one that wraps another may change what goes in and comes out.
        self.parts = bool(getattr(model, "makes_parts", False))
        self._tries = list(tries)
        self._cast(self._tries[0])
        on_cpu = device.type == "cpu" and self.dtype is torch.float32
        self.steps: tuple[int, ...] = tuple(getattr(model, "native_steps", ())) if on_cpu else ()

    @property
    def dtype(self) -> torch.dtype:
        return self._tries[0]

    @torch.inference_mode()
    def settle(self, sample: Tensor) -> None:
        """Drop the formats that a sample (b, C, h, w) shows unsafe against fp32, which is run once for it."""
        if len(self._tries) < 2:
            return
        truth = self._result(sample, torch.float32)
        while len(self._tries) > 1:
            fault = fault_of(self._result(sample, self.dtype), truth)
            if fault is None:
                break
            self._drop(fault)
        log.info("%s runs in %s on %s", type(self._model).__name__, self.dtype, self.device)

    # Inference mode ends with the call: around a generator's yield it would leak into whoever pulls the frames.
    @torch.inference_mode()
    def __call__(self, window: Tensor, *, wanted: Wanted | None = None, out: Tensor | None = None) -> Tensor:
        """wanted, out: see `run_tiles`, for models that make parts."""
        result = self._result(window, self.dtype, wanted, out)
        while not all_finite(result):
            if len(self._tries) == 1:
                raise self._not_finite()
            self._drop("the result is not finite")
            result = self._result(window, self.dtype, wanted, out)
        return result

    @torch.inference_mode()
    def renew(self, image: Tensor, steps: Sequence[Sequence[Box]], out: Tensor, scale: int) -> bool:
        """Bring `out`, the clamped result (1, C, h * scale, w * scale) of another image, up to date for one that is
        different in places: for each of the `steps`, the boxes that may change in it. False where the model cannot, or
        keeps nothing of that image and the first step is not whole; the boxes are to be run then.
        """
        parts = [[(box.rows.of(1), box.cols.of(1)) for box in boxes] for boxes in steps]
        if not self.steps:
            return False
        self._cast(self.dtype)
        if not cast(Any, self._model).renew(image, parts, out, self):
            return False
        if not all(all_finite(out[..., box.rows.of(scale), box.cols.of(scale)]) for box in steps[-1]):
            raise self._not_finite()
        return True

    def forget(self) -> None:
        """What the model keeps is not needed any more."""
        if self.steps:
            cast(Any, self._model).forget(self)

    def _not_finite(self) -> ClipError:
        return ClipError(
            f"the network's result in {self.dtype} is not finite; use precision auto or fp32, and if it is "
            "fp32 already, the weights are damaged"
        )

    def _drop(self, fault: str) -> None:
        log.warning("%s is not safe for this network (%s); going on in %s", self.dtype, fault, self._tries[1])
        del self._tries[0]

    def _result(
        self, window: Tensor, dtype: torch.dtype, wanted: Wanted | None = None, out: Tensor | None = None
    ) -> Tensor:
        # Convolutions run faster with the channels of a pixel together, on processors too. The copy keeps a network
        # that works in place from changing the source.
        self._cast(dtype)
        moved = window.to(self.device, dtype, copy=True, memory_format=torch.channels_last)
        return self._model(moved) if wanted is None else self._model(moved, wanted=wanted, out=out)


def fault_of(result: Tensor, truth: Tensor) -> str | None:
    """What is wrong with a result against its fp32 truth, both meant for [0, 1]; None if nothing is."""
    if not all_finite(result):
        return "the result is not finite"
    result, truth = result.float().clamp(0.0, 1.0), truth.float().clamp(0.0, 1.0)
    if float(result.amax()) == 0.0 and float(truth.amax()) > 0.0:
        return "the result is black"
    drift = float((result - truth).abs().amax())
    return f"it differs from fp32 by {drift * 255:.1f}/255" if drift > MOST_DRIFT else None
