from pathlib import Path

from steadyscale.models.cache_dir import cache_folder
from steadyscale.models.zoo import zoo


def test_one_rule_for_all_that_is_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("STEADYSCALE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")
    assert cache_folder() == tmp_path / "me" / ".cache" / "steadyscale"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "steadyscale"
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "ours"))
    assert cache_folder() == tmp_path / "ours"
    assert zoo.cache_folder is cache_folder
