"""Runs the networks of this package natively on a CPU, where that was built and gives torch's results."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arch.rrdb import RRDBNet
from ..arch.separable import SeparableRRDB, SeparableSRVGG, dense
from ..arch.srvgg import SRVGGNetCompact
from .bindings import Library
from .build import cache_folder, find, find_compiler
from .compile_srvgg import halfway, srvgg_reach
from .native_model import NativeNetwork, Wanted, part_of
from .plan import PLAIN

log = logging.getLogger(__name__)

SWITCH = "STEADYSCALE_NATIVE"  # 0 turns the engine off
# Largest difference from torch that passes the self-check, for results in [0, 1]. Noise, which it runs on, differs by
# up to 6e-5 with the published networks, pictures by 2e-5.
MOST_DIFFERENCE = 1e-4
# Of the self-check's picture: every kind of edge, more than one patch both ways.
CHECKED_HEIGHT, CHECKED_WIDTH = 15, 22


def native_network(module: nn.Module) -> NativeNetwork | None:
    """The native twin of an RRDBNet or SRVGGNetCompact with float32 weights on the CPU, self-checked against it.

    Separable networks have one too. None where there is none: another module, device or format, the engine not built
    (`steadyscale native build`) or switched off (STEADYSCALE_NATIVE=0), or results that differ from torch's, which is
    logged.
    """
    library = _library()
    if library is None or not isinstance(module, (RRDBNet, SRVGGNetCompact)):
        return None
    if any(p.dtype is not torch.float32 or p.device.type != "cpu" for p in module.parameters()):
        return None
    if isinstance(module, SRVGGNetCompact) and module.in_channels not in (1, module.out_channels):
        return None  # Its one channel of detail is added to several: nobody has trained that.
    # One dense convolution runs faster here than the two that it was trained as.
    separable = isinstance(module, (SeparableSRVGG, SeparableRRDB))
    native = NativeNetwork(dense(module) if separable else module, library)
    generator = torch.Generator("cpu").manual_seed(1)
    picture = torch.rand(1, module.in_channels, CHECKED_HEIGHT, CHECKED_WIDTH, generator=generator, **PLAIN)
    with torch.no_grad():
        truth = module(picture)
    difference = float((native(picture) - truth).abs().max()) / max(1.0, float(truth.abs().max()))
    if not difference <= MOST_DIFFERENCE:  # So that NaN fails too.
        log.warning("the native engine differs from torch by %.1e on this CPU; torch is used instead", difference)
        return None
    return native


def _library() -> Library | None:
    """The engine as it was built for this machine, unless it is switched off."""
    if os.environ.get(SWITCH) == "0":
        return None
    path = find()
    return None if path is None else _loaded(path)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Library | None:
    try:
        return Library(path)
    except (OSError, AttributeError) as error:
        log.warning("the native engine cannot be loaded, torch is used instead: %s", error)
        return None


class Native:
    """A module's native twin, made when first needed and again when the weights have changed.

    engine: what the last call ran on, "native" or "torch".
    """

    def __init__(self, module: nn.Module) -> None:
        self.engine = "torch"
        self._module = module
        self._known: Sequence[tuple[object, ...]] | None = None
        self._held: list[Tensor] = []
        self._twin: NativeNetwork | None = None

    def __call__(self, images: Tensor, wanted: Wanted | None = None, out: Tensor | None = None) -> Tensor:
        """The module's result clamped to [0, 1], by the faster way: native for float32 on the CPU, else torch.

        wanted: only this part of it is returned. out: where it may be put, which saves a copy; else it lies elsewhere.
        """
        twin = self._find(images)
        self.engine = "torch" if twin is None else "native"
        if twin is not None:
            return twin(images, wanted=wanted, out=out, clamped=True)
        result = self._module(images)
        result = part_of(result, wanted, result.shape[-1] // images.shape[-1])
        # The results of our networks are nobody else's, and a copy costs as much as a layer of a compact network.
        own = isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and not torch.is_grad_enabled()
        if result.dtype is torch.float16:
            # What overflowed would pass for black or white, and nobody would ask for another format.
            return result.clamp(0, 1).masked_fill_(result.isinf(), torch.nan)
        return result.clamp_(0, 1) if own else result.clamp(0, 1)

    @property
    def ready(self) -> bool:
        """Whether float32 on the CPU will run natively, as far as can be told without trying."""
        return isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and _library() is not None

    @property
    def reach(self) -> int:
        """Input pixels that change a native result to its last bit, for windows that start at multiples of 6; 0 where
        that is not known or the engine does not run.
        """
        return srvgg_reach(self._module) if self.ready and isinstance(self._module, SRVGGNetCompact) else 0

    @property
    def reaches(self) -> tuple[int, ...]:
        """Input pixels that change what the engine keeps in the middle of the network, and the result, to the last bit;
        none where it cannot renew a part of a result.
        """
        if not (self.ready and isinstance(self._module, SRVGGNetCompact)):
            return ()
        middle = halfway(self._module)
        return (srvgg_reach(self._module, middle), srvgg_reach(self._module)) if middle else ()

    def renew(self, image: Tensor, steps: Sequence[Sequence[Wanted]], out: Tensor, owner: object) -> bool:
        """See `NativeNetwork.renew`; False also where torch serves."""
        twin = self._find(image)
        return twin is not None and twin.renew(image, steps, out, owner)

    def forget(self, owner: object) -> None:
        """See `NativeNetwork.forget`."""
        twin = self._twin
        if twin is not None:
            twin.forget(owner)

    def __reduce__(self) -> tuple[type[Native], tuple[nn.Module]]:
        """Copies, in memory or in a file, make a twin of their own."""
        return Native, (self._module,)

    def _find(self, images: Tensor) -> NativeNetwork | None:
        if images.device.type != "cpu":
            self._twin, self._known, self._held = None, None, []  # The network has moved; so should its memory go.
            return None
        if images.dtype is not torch.float32 or torch.is_grad_enabled():
            return None
        parameters = [parameter.detach() for parameter in self._module.parameters()]
        known = [(p.data_ptr(), p.dtype, p.device, _version(p)) for p in parameters]
        if known != self._known:
            self._twin = None  # Its memory, before the next one takes some.
            twin = self._twin = native_network(self._module)
            # Held, so that other weights cannot come to lie where these were and pass for them.
            self._known, self._held = known, parameters
            return twin
        return self._twin


def _version(parameter: Tensor) -> int:
    """How often a tensor was written to, which tensors made in inference mode do not count."""
    return 0 if parameter.is_inference() else parameter._version


def describe() -> dict[str, str | int | None]:
    """For people and reports: whether the engine is built, on, and for which vectors."""
    path, library = find(), _library()
    return {
        "library": None if path is None else str(path),
        "active": library is not None,
        "switch": os.environ.get(SWITCH),
        "vector_floats": None if library is None else library.vector,
        "threads": torch.get_num_threads(),
        "compiler": " ".join(find_compiler() or []) or None,
        "folder": str(cache_folder()),
    }
