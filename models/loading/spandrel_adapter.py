"""Adapter for the architectures of spandrel.

It is optional here; ComfyUI depends on it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..arch.state_dict import StateDict

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor  # pyright: ignore[reportMissingTypeStubs]  # it has none

log = logging.getLogger(__name__)

DEFAULT_HALO = 64  # pixels: spandrel gives no receptive field, and 64 suffices for the deepest of our own networks


class SpandrelNetwork(nn.Module):
    """A spandrel descriptor with the interface of our networks.

    The descriptor pads and crops to valid sizes. tiling: what it says of tiles, see `ModelTraits`.
    """

    fingerprint_name = "spandrel"  # in job.json; must not change

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self.scale = descriptor.scale
        self.in_channels = descriptor.input_channels
        self.out_channels = descriptor.output_channels
        self.multiple = descriptor.size_requirements.multiple_of
        self.halo = DEFAULT_HALO
        self.supports_half = descriptor.supports_half
        self.tiling = descriptor.tiling
        self._descriptor = descriptor

    def forward(self, x: Tensor) -> Tensor:
        # A descriptor accepts one image at a time.
        return torch.cat([self._descriptor(x[index : index + 1]) for index in range(len(x))])


def load_with_spandrel(state: StateDict) -> tuple[SpandrelNetwork, str] | None:
    """The network and its architecture, or None if spandrel cannot detect it.

    None also if spandrel is not installed. Raises ValueError for networks that need more than one image.
    """
    try:
        from spandrel import (  # pyright: ignore[reportMissingTypeStubs]  # it has none
            ImageModelDescriptor,
            ModelLoader,
            UnsupportedModelError,
        )
    except ImportError:
        return None
    _register_extra_architectures()
    try:
        descriptor = ModelLoader().load_from_state_dict(dict(state))
    except UnsupportedModelError:
        return None
    except Exception as error:  # a recognised architecture whose weights do not fit can fail in any way
        raise ValueError(f"spandrel cannot build it ({type(error).__name__}: {str(error)[:200]})") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ValueError(
            f"it is {descriptor.architecture.name}, which needs more than one image; give a single-image upscaler"
        )
    return SpandrelNetwork(descriptor), descriptor.architecture.name


def _register_extra_architectures() -> None:
    """Let spandrel load what `spandrel_extra_arches` adds, where it is installed.

    These are SRFormer, Restormer and others.
    """
    try:
        import spandrel_extra_arches  # pyright: ignore[reportMissingImports]

        extra: Any = spandrel_extra_arches
        extra.install(ignore_duplicates=True)
    except ImportError:
        pass
    except Exception as error:  # of another version; the usual architectures still work
        log.warning("spandrel_extra_arches cannot be used (%s)", error)
