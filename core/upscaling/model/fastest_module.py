"""A module that runs in the fastest way that a trial finds.

way       what runs                                                         where
torch     the module as it is                                               everywhere
planar    the same in contiguous planes, which some networks need no        where torch does not prefer
          `cat` for                                                         channels_last
NAME      what the module offers by its `alternatives`, such as fused       where the module says so
          kernels
graph     the fastest of these, captured and replayed with one launch       where graphs exist
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ...runtime.device.accelerator import Accelerator
from ...runtime.device.captured_graph import CapturedGraph
from ...runtime.device.out_of_memory import is_out_of_memory
from ...runtime.typed_torch import named_modules
from .difference import find_difference
from .engine_module import EngineModule

log = logging.getLogger(__name__)

# Calls in torch before a trial, which costs as many again: a single image is not worth it.
CALLS_BEFORE_TRIAL = 16
# The same where a trial of the same network, device and shape has ended already.
CALLS_BEFORE_KNOWN_WAY = 1
# Shapes for which ways are prepared. A stream has few: one of its tiles, and one of its last batch.
MAX_SHAPES = 3
# Another way must take less than this share of the time, because time is measured with an error.
MAX_TIME_SHARE = 0.95
# Repeats of a measurement, unless they take longer than these seconds.
TRIAL_REPEATS, TRIAL_SECONDS = 5, 0.3
# A graph keeps the memory of a call for itself.
MAX_GRAPH_MEMORY_SHARE = 0.3

TORCH, PLANAR, GRAPH = "torch", "planar", "graph"

_Run: TypeAlias = Callable[[Tensor], Tensor]


class _Case(NamedTuple):
    """Properties of the input for which a way is chosen."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    tf32: bool


@dataclass(frozen=True)
class Way:
    """One way to run the module.

    name: torch, planar, or the name of an alternative that the module offers.
    """

    name: str = TORCH
    is_captured: bool = False

    def __str__(self) -> str:
        return f"{self.name} in a graph" if self.is_captured else self.name


@dataclass
class _Prepared:
    way: Way
    run: _Run
    weights: list[Tensor] = field(default_factory=list[Tensor])  # A graph reads their memory.


# The result of each trial in this process: by structure of the network, device, version of torch and case.
_known_ways: dict[tuple[str, str, str, _Case], Way] = {}
_lock = threading.Lock()


def measure_seconds(run: Callable[[], object], accelerator: Accelerator) -> float:
    """Return the seconds of a call, the least of a few.

    The device is idle before and after.
    """
    best, begin = inf, time.perf_counter()
    for _ in range(TRIAL_REPEATS):
        accelerator.synchronize()
        start = time.perf_counter()
        run()
        accelerator.synchronize()
        end = time.perf_counter()
        best = min(best, end - start)
        if end - begin > TRIAL_SECONDS:
            break
    return best


class FastestModule(EngineModule):
    """A module that runs in the fastest way, on a device other than the CPU.

    The first calls for a shape run in torch. Then each other way runs once more and is compared with torch; where it
    fails or differs, it is not used, which is logged once. The fastest of the others runs from then on. Where memory
    runs out, or a way fails later, torch runs to the end of the stream, in the same call.
    """

    def __init__(self, module: nn.Module, accelerator: Accelerator) -> None:
        super().__init__(module)
        self._accelerator = accelerator
        self._calls: Counter[_Case] = Counter()
        self._prepared: dict[_Case, _Prepared] = {}
        self._is_plain = False
        self._structure = hash_structure(module)

    def forward(self, image: Tensor, *args: object, **kwargs: object) -> Tensor:
        if args or kwargs or self._is_plain:
            return super().forward(image, *args, **kwargs)
        prepared = self._prepare(image)
        if prepared is None:
            return self.module(image)
        try:
            return prepared.run(image)
        except Exception as error:  # Kernels and graphs raise errors of any type; torch repeats its own.
            reason = _first_line(error)
        self._give_up(f"{prepared.way}: {reason}")
        return self.module(image)

    def way_for(self, image: Tensor) -> Way:
        """Return the way in which images of this shape and dtype run now."""
        prepared = self._prepared.get(self._case_of(image))
        return Way() if prepared is None else prepared.way

    def _case_of(self, image: Tensor) -> _Case:
        return _Case(tuple(image.shape), image.dtype, self._accelerator.allows_tf32)

    def _prepare(self, image: Tensor) -> _Prepared | None:
        """The way for this image, chosen if it is time; None: torch."""
        case = self._case_of(image)
        if case not in self._prepared:
            self._calls[case] += 1
            key = self._structure, self._accelerator.name, torch.__version__, case
            with _lock:
                known = _known_ways.get(key)
            needed = CALLS_BEFORE_TRIAL if known is None else CALLS_BEFORE_KNOWN_WAY
            if self._calls[case] <= needed or len(self._prepared) == MAX_SHAPES:
                return None
            prepared = self._choose(image, known)
            if prepared is None:
                return None
            self._prepared[case] = prepared
            with _lock:
                _known_ways[key] = prepared.way
        prepared = self._prepared[case]
        return None if prepared.way == Way() else prepared

    def _choose(self, image: Tensor, known: Way | None) -> _Prepared | None:
        """Try the ways, or the known one; None where memory does not suffice for a trial."""
        try:
            return _Trial(self.module, self._accelerator, image).choose(known)
        except Exception as error:
            reason = _first_line(error)
            if not is_out_of_memory(error):
                self._give_up(reason)
                return None
        # The error, and with it the tensors of its frames, is released.
        self._give_up(f"memory ran out: {reason}")
        return None

    def _give_up(self, reason: str) -> None:
        self._prepared.clear()
        self._is_plain = True
        self._accelerator.release_cache()
        log.warning("the network runs in plain torch from here on (%s)", reason)


class _Trial:
    """The comparison of all ways for one image."""

    def __init__(self, module: nn.Module, accelerator: Accelerator, image: Tensor) -> None:
        self._module, self._accelerator, self._image = module, accelerator, image
        self._problems: list[str] = []
        # Copied: a module may write its next result into the same memory.
        self._expected = self._run_module(image.clone()).clone()

    def choose(self, known: Way | None) -> _Prepared:
        """The fastest way whose result is that of torch."""
        if known is not None:
            chosen = self._try_known(known)
        else:
            chosen = self._find_fastest()
        if self._problems:
            log.warning("%s is not used: %s", type(self._module).__name__, "; ".join(self._problems))
        return chosen

    def _try_known(self, way: Way) -> _Prepared:
        run = next((run for name, run in self._uncaptured_ways() if name == way.name), None)
        if run is None or not self._is_right(way, run):
            return _Prepared(Way(), self._run_module)
        captured = self._capture(way.name, run) if way.is_captured else None
        return captured or _Prepared(Way(way.name), run)

    def _find_fastest(self) -> _Prepared:
        seconds: dict[str, float] = {}
        fastest = _Prepared(Way(), self._run_module)
        for name, run in self._uncaptured_ways():
            if name != TORCH and not self._is_right(Way(name), run):
                continue
            seconds[name] = self._measure(run)
            if seconds[name] < MAX_TIME_SHARE * seconds[fastest.way.name]:
                fastest = _Prepared(Way(name), run)
        captured = self._capture(fastest.way.name, fastest.run)
        if captured is not None:
            seconds[GRAPH] = self._measure(captured.run)
            if seconds[GRAPH] < MAX_TIME_SHARE * seconds[fastest.way.name]:
                fastest = captured
        times = ", ".join(f"{name} {1000 * value:.3g} ms" for name, value in seconds.items())
        log.info("%s is used for %s: %s", fastest.way, tuple(self._image.shape), times)
        return fastest

    def _uncaptured_ways(self) -> Iterator[tuple[str, _Run]]:
        yield TORCH, self._run_module
        if not self._accelerator.channels_last:
            yield PLANAR, partial(_run_planar, self._run_module)
        make = getattr(self._module, "alternatives", None)
        if make is None:
            return
        try:
            with torch.inference_mode(False), torch.no_grad():
                alternatives: dict[str, _Run] = make(has_triton=self._accelerator.has_triton)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._problems.append(_first_line(error))
            return
        for name, run in alternatives.items():
            yield name, partial(_run_on, self._accelerator, run)

    def _run_module(self, image: Tensor) -> Tensor:
        return self._module(image)

    def _measure(self, run: _Run) -> float:
        return measure_seconds(partial(run, self._image.clone()), self._accelerator)

    def _is_right(self, way: Way, run: _Run) -> bool:
        try:
            problem = find_difference(run(self._image.clone()), self._expected, self._image.dtype)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            problem = _first_line(error)
        if problem is not None:
            self._problems.append(f"{way}: {problem}")
        return problem is None

    def _capture(self, name: str, run: _Run) -> _Prepared | None:
        """The same in a graph; None where that is not possible."""
        accelerator, way = self._accelerator, Way(name, is_captured=True)
        if not accelerator.can_capture_graphs or not self._has_memory_for_graph(run):
            return None
        try:
            # With another image than the one that is compared: a result that was computed at the capture is wrong.
            graph = CapturedGraph(accelerator, run, self._image.flip(-1))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._problems.append(f"{way}: {_first_line(error)}")
            return None
        if not self._is_right(way, graph):
            return None
        # Their owner may move them elsewhere while the graph reads the memory where they were.
        weights = [tensor.detach() for tensor in (*self._module.parameters(), *self._module.buffers())]
        return _Prepared(way, graph, weights)

    def _has_memory_for_graph(self, run: _Run) -> bool:
        accelerator = self._accelerator
        if not accelerator.reports_peak_memory:
            return False
        accelerator.reset_peak_memory()
        before = accelerator.allocated_memory()
        run(self._image.clone())
        return accelerator.peak_memory() - before <= MAX_GRAPH_MEMORY_SHARE * accelerator.free_memory()


def _run_planar(run: _Run, image: Tensor) -> Tensor:
    return run(image.contiguous())


def _run_on(accelerator: Accelerator, run: _Run, image: Tensor) -> Tensor:
    with accelerator.as_current():
        return run(image)


def hash_structure(module: nn.Module) -> str:
    """Hash the types of layers and the shapes of weights, which decide the time."""
    layers = [f"{name} {type(layer).__qualname__}" for name, layer in named_modules(module)]
    weights = [f"{name} {tuple(tensor.shape)}" for name, tensor in module.named_parameters()]
    return hashlib.sha256("\n".join(layers + weights).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
