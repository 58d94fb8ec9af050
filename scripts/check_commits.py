"""Check commit subjects: `area: verb object`, at most 72 characters.

    check_commits.py RANGE          the commits of a range, such as origin/main..HEAD
    check_commits.py --message FILE the message of a commit that is being made (the commit-msg hook of git)

Standard library only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

MAX_LENGTH = 72
PATTERN = re.compile(r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: [a-z]\S* \S.*[^.\s]")
GENERATED = ("Merge ", "Revert ", "fixup! ", "squash! ")  # written by git


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("range", help="a range of commits, or the file of a message with --message")
    parser.add_argument("--message", action="store_true", help="RANGE is a file that holds one commit message")
    options = parser.parse_args()
    if options.message:
        subjects = Path(options.range).read_text(encoding="utf-8").splitlines()[:1]
    else:
        log = ["git", "log", "--no-merges", "--format=%s", options.range]
        subjects = subprocess.run(log, check=True, capture_output=True, text=True).stdout.splitlines()
    problems = [line for subject in subjects for line in find_problems(subject)]
    sys.stderr.write("".join(f"{line}\n" for line in problems))
    return 1 if problems else 0


def find_problems(subject: str) -> list[str]:
    """What is wrong with a commit subject, one sentence each; empty for a good one."""
    if subject.startswith(GENERATED):
        return []
    problems = []
    if len(subject) > MAX_LENGTH:
        problems.append(f"{subject!r} has {len(subject)} characters; at most {MAX_LENGTH} fit")
    if not PATTERN.fullmatch(subject):
        problems.append(f"{subject!r} is not `area: verb object`; write for example `upscaling: cache tile plans`")
    return problems


if __name__ == "__main__":
    sys.exit(main())
