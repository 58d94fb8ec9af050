"""Run a generator with gradients enabled, whatever the caller's mode."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

import torch

T = TypeVar("T")


def with_gradients(steps: Generator[T, None, None]) -> Generator[T, None, None]:
    """Compute each item with gradients and outside inference mode.

    Closing the generator closes `steps`. ComfyUI runs nodes in inference mode, in which autograd does not work. The
    mode is restored between the items, for the caller's own code.
    """
    with closing(steps):
        while True:
            with torch.inference_mode(False), torch.enable_grad():
                try:
                    item = next(steps)
                except StopIteration:
                    return
            yield item
