"""Choose between the native engine and torch.

Native on a CPU where the engine is built and passes a self-check.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arch.realplksr import RealPLKSR
from ..arch.rrdb import RRDBNet
from ..arch.separable import SeparableRRDB, SeparableSRVGG, to_dense
from ..arch.span import SPAN
from ..arch.srvgg import SRVGGNetCompact
from .bindings import NativeLibrary
from .build import find_library, library_folder
from .compile_span import span_exact_halo
from .compile_srvgg import midpoint, srvgg_exact_halo
from .compiler import find_compiler
from .native_model import NativeNetwork, Roi, crop_to_roi
from .prepack import CPU_FLOAT32

log = logging.getLogger(__name__)

_SUPPORTED = (RRDBNet, SRVGGNetCompact, SPAN, RealPLKSR)  # and the separable versions of the first two

ENGINE_ENV_VAR = "STEADYSCALE_NATIVE"  # 0 turns the engine off
# Largest difference from torch that passes the self-check, for results in [0, 1]. The self-check runs on noise, where
# the published networks differ by up to 6e-5; on photographs they differ by 2e-5.
MAX_ABS_DIFFERENCE = 1e-4
SELF_CHECK_HEIGHT, SELF_CHECK_WIDTH = 15, 22  # every kind of edge, and more than one tile both ways


def make_native_network(module: nn.Module) -> NativeNetwork | None:
    """The native version of a network, checked against torch.

    The weights must be float32 on the CPU. Separable networks are merged to dense ones first. None for modules other
    than RRDBNet, SRVGGNetCompact, SPAN and RealPLKSR, for other devices and dtypes, if the engine is not built
    (`steadyscale native build`) or turned off (STEADYSCALE_NATIVE=0), or if the self-check fails; that is logged.
    """
    library = _active_library()
    if library is None or not isinstance(module, _SUPPORTED):
        return None
    if any(p.dtype is not torch.float32 or p.device.type != "cpu" for p in module.parameters()):
        return None
    if isinstance(module, SRVGGNetCompact) and module.in_channels not in (1, module.out_channels):
        return None  # torch broadcasts its single output channel over the skip image; no such network is published
    if isinstance(module, RealPLKSR) and module.in_channels != module.out_channels:
        return None
    # One dense convolution runs faster here than the two separable ones.
    separable = isinstance(module, (SeparableSRVGG, SeparableRRDB))
    native = NativeNetwork(to_dense(module) if separable else module, library)
    generator = torch.Generator("cpu").manual_seed(1)
    image = torch.rand(1, module.in_channels, SELF_CHECK_HEIGHT, SELF_CHECK_WIDTH, generator=generator, **CPU_FLOAT32)
    with torch.no_grad():
        expected = module(image)
    difference = float((native(image) - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not difference <= MAX_ABS_DIFFERENCE:  # written so that NaN fails too
        log.warning("the native engine differs from torch by %.1e on this CPU; torch is used instead", difference)
        return None
    return native


def _active_library() -> NativeLibrary | None:
    """The engine built for this machine, unless it is turned off."""
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
    """Runs a module on the native engine or through torch, whichever fits the input.

    The native version is created at the first use and again after the weights have changed.

    engine: what the last call ran on: "native", "torch", or what the module itself reports as `engine`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.engine = "torch"
        self._module = module
        self._weights_version: Sequence[tuple[object, ...]] | None = None
        self._weights: list[Tensor] = []
        self._native: NativeNetwork | None = None

    def __call__(self, images: Tensor, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """The module's result clamped to [0, 1].

        Native for float32 on the CPU, else torch.
        roi: return this part of the result only. out: where the result may be written, which saves a copy; the caller
        has to use the returned tensor.
        """
        native = self._get_native(images)
        if native is not None:
            self.engine = "native"
            return native(images, roi=roi, out=out, clamp=True)
        result = self._module(images)
        # A module that stands in for a network knows what it runs on; others may mean something else by the name.
        engine = getattr(self._module, "engine", None)
        self.engine = engine if isinstance(engine, str) else "torch"
        result = crop_to_roi(result, roi, result.shape[-1] // images.shape[-1])
        # Our networks return fresh tensors, which may be clamped in place: a copy costs as much as a layer of a small
        # network.
        in_place = isinstance(self._module, _SUPPORTED) and not torch.is_grad_enabled()
        if result.dtype is torch.float16:
            # Overflow must stay visible as NaN: clamped infinities would pass for black or white, and the caller would
            # not switch to another dtype.
            return result.clamp(0, 1).masked_fill_(result.isinf(), torch.nan)
        return result.clamp_(0, 1) if in_place else result.clamp(0, 1)

    @property
    def ready(self) -> bool:
        """Whether float32 on the CPU will run natively if the self-check passes."""
        return isinstance(self._module, _SUPPORTED) and _active_library() is not None

    @property
    def exact_halo(self) -> int:
        """Input pixels around a window that a bit-identical native result depends on.

        The window starts at a multiple of 6. 0 where that is not known or the engine does not run.
        """
        if not self.ready:
            return 0
        if isinstance(self._module, SPAN):
            return span_exact_halo()
        return srvgg_exact_halo(self._module) if isinstance(self._module, SRVGGNetCompact) else 0

    @property
    def roi_stages(self) -> tuple[int, ...]:
        """The exact halos of the cached activations and of the result.

        In input pixels; () where partial updates are not supported.
        """
        if not (self.ready and isinstance(self._module, SRVGGNetCompact)):
            return ()
        layers = midpoint(self._module)
        return (srvgg_exact_halo(self._module, layers), srvgg_exact_halo(self._module)) if layers else ()

    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Call `NativeNetwork.update_regions`; False also where torch runs."""
        native = self._get_native(image)
        return native is not None and native.update_regions(image, stage_rois, out, owner)

    def release_cache(self, owner: object) -> None:
        """Free the cached activations if they belong to this owner."""
        native = self._native
        if native is not None:
            native.release_cache(owner)

    def __reduce__(self) -> tuple[type[NativeDispatcher], tuple[nn.Module]]:
        # Copies and pickles create a native version of their own.
        return NativeDispatcher, (self._module,)

    def _get_native(self, images: Tensor) -> NativeNetwork | None:
        if images.device.type != "cpu":
            # The network moved to another device: free the memory of its native version.
            self._native, self._weights_version, self._weights = None, None, []
            return None
        # The type is compared at each call: a copy of this object may run another module with the same weights.
        if not isinstance(self._module, _SUPPORTED) or images.dtype is not torch.float32 or torch.is_grad_enabled():
            return None
        parameters = [parameter.detach() for parameter in self._module.parameters()]
        version = [(p.data_ptr(), p.dtype, p.device, _tensor_version(p)) for p in parameters]
        if version != self._weights_version:
            self._native = None  # free its memory before the next one allocates
            native = self._native = make_native_network(self._module)
            # The tensors are kept alive, so that new weights cannot get the same address and pass for the old ones.
            self._weights_version, self._weights = version, parameters
            return native
        return self._native


def _tensor_version(parameter: Tensor) -> int:
    """How often a tensor was written to; 0 for inference tensors."""
    return 0 if parameter.is_inference() else parameter._version


def describe_engine() -> dict[str, str | int | None]:
    """Report whether the engine is built and active, its width and its folder."""
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
