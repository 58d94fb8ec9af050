"""A module that stands in for another one, so that the engine can be chosen."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class EngineModule(nn.Module):
    """A module that runs another one in torch, whatever engine its wrapper would take.

    A wrapper recognizes the networks of its own engine by their type, which this one hides. Other attributes are those
    of the module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = False

    @property
    def engine(self) -> str:
        """The engine that runs, for reports."""
        return "torch"

    def forward(self, image: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.module(image, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
