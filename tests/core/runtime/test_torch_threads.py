from __future__ import annotations

import pytest
import torch
from steadyscale.core.runtime.torch_threads import one_thread


def failing() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        raise ValueError("within")


def test_one_thread_within_and_as_many_as_before_after_it_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="within"):
            failing()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
