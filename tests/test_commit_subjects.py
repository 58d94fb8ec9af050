"""What `scripts/check_commits.py` accepts as a commit subject, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import check_commits
import pytest


@pytest.mark.parametrize(
    "subject",
    [
        "upscaling: cache tile plans",
        "video, jobs: write packet durations",
        "tests/host: start one server per module",
        "Merge the safety net into the new structure",
    ],
)
def test_good_subjects_pass(subject: str) -> None:
    assert check_commits.find_problems(subject) == []


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("cache tile plans", "is not `area: verb object`"),
        ("upscaling: cache", "is not `area: verb object`"),
        ("upscaling: Cache tile plans", "is not `area: verb object`"),
        ("upscaling: cache tile plans.", "is not `area: verb object`"),
        (f"upscaling: cache {'x' * 60}", "has 77 characters; at most 72 fit"),
    ],
)
def test_other_subjects_are_refused_with_the_reason(subject: str, problem: str) -> None:
    assert [problem in line for line in check_commits.find_problems(subject)] == [True]


@pytest.mark.parametrize(("subject", "code"), [("core: add a stage", 0), ("added a stage", 1)])
def test_the_hook_of_git_reads_the_first_line(subject: str, code: int, tmp_path: Path) -> None:
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text(f"{subject}\n\nA body of any length may follow, with a reason.\n")
    command = [sys.executable, check_commits.__file__, "--message", str(message)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "area: verb object" in done.stderr) == (code, bool(code))
