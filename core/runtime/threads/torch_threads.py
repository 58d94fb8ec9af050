"""Limit the threads of torch."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Limit torch to one thread in a `with` block.

    Use it beside other workers, or to measure time independently of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
