from __future__ import annotations

from pathlib import Path

import pytest
from counting import make_video
from job_run import COUNT, SEGMENTS, run, source


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """12 numbered frames with sound that begins half a second late."""
    return make_video(tmp_path / "source.mp4", audio_at=0.5, metadata={"title": "twelve bars"})


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What jobs are tested on; not to be written to."""
    return source(tmp_path_factory.mktemp("source") / "origin.mp4")


@pytest.fixture(scope="session")
def undisturbed(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job makes of it that nobody stops."""
    target = tmp_path_factory.mktemp("undisturbed") / "result.mp4"
    assert run(origin, target) == (COUNT, SEGMENTS, 0)
    assert [*target.parent.iterdir()] == [target], "the job's files are gone"
    return target
