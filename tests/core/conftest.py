from __future__ import annotations

from pathlib import Path

import pytest
from counting import make_video


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """12 numbered frames with sound that begins half a second late."""
    return make_video(tmp_path / "source.mp4", audio_at=0.5, metadata={"title": "twelve bars"})
