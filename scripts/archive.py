"""Compare an archive of `comfy node pack` with the files that belong into it.

    python scripts/archive.py [node.zip]

They are Git's files without those that .comfyignore names.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parents[1]


def expected_files(*, untracked: bool = False) -> set[str]:
    """Paths, in the repository, of the files that the Comfy Registry hands out.

    untracked: with those that Git does not track yet, nor ignores.
    """
    patterns = pathspec.PathSpec.from_lines("gitignore", (ROOT / ".comfyignore").read_text("utf-8").splitlines())
    others = ["--others", "--exclude-standard"] if untracked else []
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", *others]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return {file for file in listed if (ROOT / file).is_file() and not patterns.match_file(file)}


def unpack(folder: Path) -> Path:
    """Copy what an archive of this working tree would hold; returns the folder."""
    for name in expected_files(untracked=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def differences(archive: Path) -> list[str]:
    """One line for each file that is missing, superfluous or different in an archive."""
    expected = expected_files()
    with zipfile.ZipFile(archive) as opened:
        packed = {name for name in opened.namelist() if not name.endswith("/")}
        changed = [name for name in expected & packed if opened.read(name) != (ROOT / name).read_bytes()]
    return [
        *(f"missing: {name}" for name in sorted(expected - packed)),
        *(f"not ours: {name}" for name in sorted(packed - expected)),
        *(f"different: {name}" for name in sorted(changed)),
    ]


def main() -> int:
    archive = Path(sys.argv[1] if len(sys.argv) > 1 else "node.zip")
    found = differences(archive)
    print("\n".join(found) or f"{archive}: the {len(expected_files())} files that belong into it")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
