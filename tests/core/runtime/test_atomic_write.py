"""A file that appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from steadyscale.core.runtime.atomic_write import atomic_path


def test_where_nothing_can_be_removed_the_first_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refusing(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refusing)
    with pytest.raises(ValueError, match="first"), atomic_path(tmp_path / "a.mp4"):
        raise ValueError("the first")
