from __future__ import annotations

from importlib import import_module
from pathlib import Path

from steadyscale.models import native

build = import_module("steadyscale.models.native.build")


def test_the_library_is_named(run_cli, monkeypatch):
    library = Path("cache/winograd-1.so")
    monkeypatch.setattr(native, "build_library", lambda: library)
    assert run_cli("native", "build") == (0, f"{library}\n", "")


def test_without_a_compiler_a_person_is_told_in_one_line_what_to_install(run_cli, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(build, "library_folder", lambda: tmp_path)
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    code, stdout, stderr = run_cli("native", "build")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith("steadyscale: no C++ compiler was found")
    assert "install one" in stderr
