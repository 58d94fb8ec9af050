from __future__ import annotations

import pytest
from streams import ours


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert ours() == []
    yield
    assert ours() == []
