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
from ..arch.separable import SeparableRRDB, SeparableSRVGG, to_dense
from ..arch.srvgg import SRVGGNetCompact
from .bindings import NativeLibrary
from .build import find_compiler, find_library, library_folder
from .compile_srvgg import midpoint, srvgg_exact_halo
from .native_model import NativeNetwork, Roi, crop_to_roi
from .plan import CPU_FLOAT32

log = logging.getLogger(__name__)

ENGINE_ENV_VAR = "STEADYSCALE_NATIVE"  # 0 turns the engine off
# Largest difference from torch that passes the self-check, for results in [0, 1]. Noise, which it runs on, differs by
# up to 6e-5 with the published networks, pictures by 2e-5.
MAX_ABS_DIFFERENCE = 1e-4
# Of the self-check's picture: every kind of edge, more than one patch both ways.
SELF_CHECK_HEIGHT, SELF_CHECK_WIDTH = 15, 22


def make_native_network(module: nn.Module) -> NativeNetwork | None:
    """The native twin of an RRDBNet or SRVGGNetCompact with float32 weights on the CPU, self-checked against it.

    Separable networks have one too. None where there is none: another module, device or format, the engine not built
    (`steadyscale native build`) or switched off (STEADYSCALE_NATIVE=0), or results that differ from torch's, which is
    logged.
    """
    library = _active_library()
    if library is None or not isinstance(module, (RRDBNet, SRVGGNetCompact)):
        return None
    if any(p.dtype is not torch.float32 or p.device.type != "cpu" for p in module.parameters()):
        return None
    if isinstance(module, SRVGGNetCompact) and module.in_channels not in (1, module.out_channels):
        return None  # Its one channel of detail is added to several: nobody has trained that.
    # One dense convolution runs faster here than the two that it was trained as.
    separable = isinstance(module, (SeparableSRVGG, SeparableRRDB))
    native = NativeNetwork(to_dense(module) if separable else module, library)
    generator = torch.Generator("cpu").manual_seed(1)
    picture = torch.rand(1, module.in_channels, SELF_CHECK_HEIGHT, SELF_CHECK_WIDTH, generator=generator, **CPU_FLOAT32)
    with torch.no_grad():
        truth = module(picture)
    difference = float((native(picture) - truth).abs().max()) / max(1.0, float(truth.abs().max()))
    if not difference <= MAX_ABS_DIFFERENCE:  # So that NaN fails too.
        log.warning("the native engine differs from torch by %.1e on this CPU; torch is used instead", difference)
        return None
    return native


def _active_library() -> NativeLibrary | None:
    """The engine as it was built for this machine, unless it is switched off."""
    if os.environ.get(ENGINE_ENV_VAR) == "0":
        return None
    path = find_library()
    return None if path is None else _load_library(path)


@lru_cache(maxsize=1)
def _load_library(path: Path) -> NativeLibrary | None:
    try:
        return NativeLibrary(path)
    except (OSError, AttributeError) as error:
        log.warning("the native engine cannot be loaded, torch is used instead: %s", error)
        return None


class NativeDispatcher:
    """A module's native twin, made when first needed and again when the weights have changed.

    engine: what the last call ran on, "native" or "torch".
    """

    def __init__(self, module: nn.Module) -> None:
        self.engine = "torch"
        self._module = module
        self._weights_version: Sequence[tuple[object, ...]] | None = None
        self._weights: list[Tensor] = []
        self._native: NativeNetwork | None = None

    def __call__(self, images: Tensor, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """The module's result clamped to [0, 1], by the faster way: native for float32 on the CPU, else torch.

        wanted: only this part of it is returned. out: where it may be put, which saves a copy; else it lies elsewhere.
        """
        twin = self._get_native(images)
        self.engine = "torch" if twin is None else "native"
        if twin is not None:
            return twin(images, roi=roi, out=out, clamp=True)
        result = self._module(images)
        result = crop_to_roi(result, roi, result.shape[-1] // images.shape[-1])
        # The results of our networks are nobody else's, and a copy costs as much as a layer of a compact network.
        own = isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and not torch.is_grad_enabled()
        if result.dtype is torch.float16:
            # What overflowed would pass for black or white, and nobody would ask for another format.
            return result.clamp(0, 1).masked_fill_(result.isinf(), torch.nan)
        return result.clamp_(0, 1) if own else result.clamp(0, 1)

    @property
    def ready(self) -> bool:
        """Whether float32 on the CPU will run natively, as far as can be told without trying."""
        return isinstance(self._module, (RRDBNet, SRVGGNetCompact)) and _active_library() is not None

    @property
    def exact_halo(self) -> int:
        """Input pixels that change a native result to its last bit, for windows that start at multiples of 6; 0 where
        that is not known or the engine does not run.
        """
        return srvgg_exact_halo(self._module) if self.ready and isinstance(self._module, SRVGGNetCompact) else 0

    @property
    def roi_stages(self) -> tuple[int, ...]:
        """Input pixels that change what the engine keeps in the middle of the network, and the result, to the last bit;
        none where it cannot renew a part of a result.
        """
        if not (self.ready and isinstance(self._module, SRVGGNetCompact)):
            return ()
        middle = midpoint(self._module)
        return (srvgg_exact_halo(self._module, middle), srvgg_exact_halo(self._module)) if middle else ()

    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """See `NativeNetwork.renew`; False also where torch serves."""
        twin = self._get_native(image)
        return twin is not None and twin.update_regions(image, stage_rois, out, owner)

    def release_cache(self, owner: object) -> None:
        """See `NativeNetwork.forget`."""
        twin = self._native
        if twin is not None:
            twin.release_cache(owner)

    def __reduce__(self) -> tuple[type[NativeDispatcher], tuple[nn.Module]]:
        """Copies, in memory or in a file, make a twin of their own."""
        return NativeDispatcher, (self._module,)

    def _get_native(self, images: Tensor) -> NativeNetwork | None:
        if images.device.type != "cpu":
            self._native, self._weights_version, self._weights = (
                None,
                None,
                [],
            )  # The network has moved; so should its memory go.
            return None
        if images.dtype is not torch.float32 or torch.is_grad_enabled():
            return None
        parameters = [parameter.detach() for parameter in self._module.parameters()]
        known = [(p.data_ptr(), p.dtype, p.device, _tensor_version(p)) for p in parameters]
        if known != self._weights_version:
            self._native = None  # Its memory, before the next one takes some.
            twin = self._native = make_native_network(self._module)
            # Held, so that other weights cannot come to lie where these were and pass for them.
            self._weights_version, self._weights = known, parameters
            return twin
        return self._native


def _tensor_version(parameter: Tensor) -> int:
    """How often a tensor was written to, which tensors made in inference mode do not count."""
    return 0 if parameter.is_inference() else parameter._version


def describe_engine() -> dict[str, str | int | None]:
    """For people and reports: whether the engine is built, on, and for which vectors."""
    path, library = find_library(), _active_library()
    return {
        "library": None if path is None else str(path),
        "active": library is not None,
        "switch": os.environ.get(ENGINE_ENV_VAR),
        "vector_floats": None if library is None else library.vector_width,
        "threads": torch.get_num_threads(),
        "compiler": " ".join(find_compiler() or []) or None,
        "folder": str(library_folder()),
    }
