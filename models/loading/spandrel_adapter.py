"""Networks that are not written here, by way of spandrel where that is installed (ComfyUI brings it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..arch.state_dict import StateDict

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

DEFAULT_HALO = 64  # pixels: spandrel does not say how far its networks see, and 64 suffices for the deepest of our own


class SpandrelNetwork(nn.Module):
    """A spandrel descriptor as a module like ours. It pads to the sizes that the network needs, and crops."""

    fingerprint_name = "spandrel"  # in job.json; must not change

    def __init__(self, descriptor: ImageModelDescriptor) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self.scale = descriptor.scale
        self.in_channels = descriptor.input_channels
        self.out_channels = descriptor.output_channels
        self.multiple = descriptor.size_requirements.multiple_of
        self.halo = DEFAULT_HALO
        self.supports_half = descriptor.supports_half
        self._descriptor = descriptor

    def forward(self, x: Tensor) -> Tensor:
        # One picture at a time is all that a descriptor promises to take.
        return torch.cat([self._descriptor(image) for image in x.split(1)])


def load_with_spandrel(state: StateDict) -> tuple[SpandrelNetwork, str] | None:
    """The network and the name of its kind, or None where spandrel is absent or does not know it.

    Raises ValueError for networks that are not one image in, one image out.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError:
        return None
    try:
        descriptor = ModelLoader().load_from_state_dict(dict(state))
    except UnsupportedModelError:
        return None
    except Exception as error:  # a network that it recognises and that then does not fit can fail in any way
        raise ValueError(f"spandrel cannot build it ({type(error).__name__}: {str(error)[:200]})") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ValueError(f"it is {descriptor.architecture.name}, which wants more than one image")
    return SpandrelNetwork(descriptor), descriptor.architecture.name
