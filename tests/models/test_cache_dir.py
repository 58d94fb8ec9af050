"""The cache folder: environment overrides, and the same folder as earlier versions on Linux."""

import sys

import pytest
from steadyscale.models.cache_dir import cache_folder
from steadyscale.models.zoo import zoo


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other conventions")
def test_linux_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("STEADYSCALE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me" / ".cache" / "steadyscale"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "steadyscale"


def test_environment_variable_overrides_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "ours"))
    assert cache_folder() == tmp_path / "ours"
    assert not cache_folder().exists(), "asking for the folder does not create it"
    assert zoo.cache_folder is cache_folder
