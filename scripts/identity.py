"""Write the repository of pyproject.toml into every file that names it.

    python scripts/identity.py [--check]

pyproject.toml is the one place to edit: `[project.urls] Repository`, and `[tool.comfy] PublisherId`. --check lists the
lines that name another repository, and changes nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GITHUB = r"(?P<host>https://(?:raw\.githubusercontent|github)\.com/)"
SETTING = re.compile(rf'^Repository = "{GITHUB}(?P<name>[\w.-]+/[\w.-]+)"$', re.MULTILINE)


def repository() -> str:
    """OWNER/NAME, as pyproject.toml states it."""
    found = SETTING.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit('pyproject.toml: [project.urls] has no line Repository = "https://github.com/OWNER/NAME"')
    return found["name"]


def replace_repository(text: str, name: str) -> str:
    """Set OWNER/NAME in all addresses of a repository with this NAME; others are left."""
    pattern = rf"{GITHUB}[\w.-]+/{re.escape(name.partition('/')[2])}\b"
    return re.sub(pattern, lambda found: found["host"] + name, text)


def text_files() -> list[Path]:
    """Git's text files, without tests, whose addresses are examples."""
    listed = subprocess.run(["git", "-C", str(ROOT), "grep", "-Il", "", "--", ".", ":!tests"], capture_output=True)
    return [ROOT / name for name in listed.stdout.decode().splitlines()]


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--check", action="store_true", help="list the lines that would change, and change nothing")
    check, name, differing = options.parse_args().check, repository(), 0
    for path in text_files():
        before = path.read_bytes().decode("utf-8")
        after = replace_repository(before, name)
        if after == before:
            continue
        for number, (old, new) in enumerate(zip(before.splitlines(), after.splitlines(), strict=True), start=1):
            if old != new:
                differing += 1
                print(f"{path.relative_to(ROOT)}:{number}: {old.strip()}")
        if not check:
            path.write_bytes(after.encode("utf-8"))
    return int(check and differing > 0)


if __name__ == "__main__":
    sys.exit(main())
