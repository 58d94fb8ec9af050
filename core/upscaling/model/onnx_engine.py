"""The ONNX Runtime engine: a module that runs as an ONNX graph, or in torch."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from contextlib import suppress

import torch
from torch import Tensor, nn

from .difference import find_difference
from .engine_module import EngineModule
from .onnx_graph import cached_graph, fingerprint_module
from .onnx_providers import NUMPY_DTYPES, OnnxSession, Provider, available_providers
from .replica import replica_of

log = logging.getLogger(__name__)

# A session holds the weights and the activations of its shape.
MAX_SESSIONS = 3
# Calls in torch after which a further shape gets a session, which costs several calls, and minutes with TensorRT.
CALLS_BEFORE_SESSION = 8
# With a smaller standard deviation an image is too flat to check a graph on.
MIN_CONTRAST = 0.02


class OnnxModule(EngineModule):
    """A module as ONNX Runtime runs it; in torch where that is not possible.

    plain: the module in torch, on the device that inputs are on and in their dtype. original: the module with its
    weights as loaded, for the self-check. Neither is modified.

    The first shape gets a session at once, others when they have come up often. The first input of a session also runs
    in torch in float32; if the results differ too much, or the provider fails there, the next one is tried. When none
    is left, or on an error later, torch runs to the end, which is logged once.
    """

    def __init__(self, plain: nn.Module, original: nn.Module) -> None:
        super().__init__(plain)
        self._original = (original,)  # in a tuple, so that it is not a submodule
        self._providers: list[Provider] | None = None  # None: not asked for yet
        self._sessions: OrderedDict[tuple[int, ...], tuple[OnnxSession, Provider]] = OrderedDict()
        self._calls: Counter[tuple[int, ...]] = Counter()
        self._fingerprint = ""

    @property
    def engine(self) -> str:
        """For example "onnx (CPU)"; "torch" before the first session and after an error."""
        return f"onnx ({next(reversed(self._sessions.values()))[1].label})" if self._sessions else "torch"

    def forward(self, image: Tensor, *args: object, **kwargs: object) -> Tensor:
        if not (args or kwargs or self._providers == []):
            try:
                session = self._session_for(image)
                if session is not None:
                    return session(image)
            except Exception as error:  # onnxruntime's errors have no common base class
                self._give_up(_first_line(error))
        return super().forward(image, *args, **kwargs)

    def _session_for(self, image: Tensor) -> OnnxSession | None:
        """The session for this shape; None where torch is to run."""
        shape = tuple(image.shape)
        if shape not in self._sessions:
            self._calls[shape] += 1
            if self._sessions and self._calls[shape] <= CALLS_BEFORE_SESSION:
                return None
            started = self._start_session(image)
            if started is None:
                return None
            if len(self._sessions) == MAX_SESSIONS:
                oldest, _ = self._sessions.popitem(last=False)
                del self._calls[oldest]
            self._sessions[shape] = started
        self._sessions.move_to_end(shape)
        return self._sessions[shape][0]

    def _start_session(self, image: Tensor) -> tuple[OnnxSession, Provider] | None:
        """A session on the first provider whose result is right; None if there is none."""
        if image.dtype not in NUMPY_DTYPES:
            self._give_up(f"it runs in float32 and float16, not in {image.dtype}")
            return None
        if self._providers is None:
            self._providers = available_providers(image.device)
            if not self._providers:
                self._give_up(f"the installed onnxruntime has no provider for {image.device.type}")
                return None
        self._fingerprint = self._fingerprint or fingerprint_module(self.module)
        graph = cached_graph(self.module, self._fingerprint, image)
        problems: list[str] = []
        while self._providers:
            provider = self._providers[0]
            try:
                session = OnnxSession(graph, provider, image)
                problem = self._find_problem(session, image)
                if problem is None:
                    log.info("ONNX Runtime runs %s with %s", tuple(image.shape), provider.label)
                    return session, provider
            except Exception as error:
                problem = _first_line(error)
            problems.append(f"{provider.label}: {problem}")
            del self._providers[0]
        with suppress(OSError):
            graph.unlink()  # it may be the cause
        self._give_up("; ".join(problems))
        return None

    def _find_problem(self, session: OnnxSession, image: Tensor) -> str | None:
        """Compare a session with torch in float32; None if it is right."""
        if float(image.float().std()) < MIN_CONTRAST:
            noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
            image = noise.to(image.device, image.dtype)
        result = session(image).float()
        with replica_of(self._original[0], image.device, torch.float32) as reference:
            expected = reference(image.to(torch.float32, copy=True))  # a network may work in place
        return find_difference(result, expected, image.dtype)

    def _give_up(self, reason: str) -> None:
        self._providers = []
        self._sessions.clear()
        log.warning("the ONNX Runtime engine is not used, torch runs instead: %s", reason)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
