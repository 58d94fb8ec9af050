"""The modes of torch in which something can be learnt, whatever those of the caller are."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

import torch

T = TypeVar("T")


def with_gradients(steps: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same stream, each item of which is made with gradients and outside inference mode. Closing it closes `steps`.

    ComfyUI runs its nodes in inference mode, in which nothing learns. Modes last as long as a step, not as long as the
    stream: what the caller does in between is the caller's.
    """
    with closing(steps):
        while True:
            with torch.inference_mode(False), torch.enable_grad():
                try:
                    item = next(steps)
                except StopIteration:
                    return
            yield item
