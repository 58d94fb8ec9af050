from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.models.zoo import zoo


def test_models_get(tmp_path: Path, run_cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoo, "fetch_weights", lambda name, folder: folder / f"{name}.safetensors")
    code, stdout, _ = run_cli("models", "get", "some-name", "--to", tmp_path)
    assert (code, stdout) == (0, f"{tmp_path / 'some-name.safetensors'}\n")
    monkeypatch.undo()
    code, _, stderr = run_cli("models", "get", "no-such-name")
    assert code == 1
    assert "realesrgan-x4plus" in stderr
