"""The cache folder of core is that of models."""

from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.core.runtime.files import cache_dir
from steadyscale.models import cache_dir as models_cache_dir


@pytest.mark.parametrize("override", [None, "elsewhere"])
def test_core_and_models_share_one_folder(override: str | None, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("STEADYSCALE_CACHE", raising=False)
    if override is not None:
        monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / override))
    assert cache_dir.cache_folder() == models_cache_dir.cache_folder()
    assert override is None or cache_dir.cache_folder() == tmp_path / override
