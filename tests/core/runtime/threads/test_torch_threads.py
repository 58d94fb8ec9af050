from __future__ import annotations

import pytest
import torch
from steadyscale.core.runtime.threads.torch_threads import one_thread


def failing() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        raise ValueError("within")


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="within"):
            failing()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
