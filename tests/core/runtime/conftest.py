from __future__ import annotations

import pytest
from streams import list_our_threads


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert list_our_threads() == []
    yield
    assert list_our_threads() == []
