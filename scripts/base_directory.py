"""Lays out a ComfyUI base directory: everything a host reads and writes, apart from the host's own tree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import script_support

HOST_FLAGS = ("--disable-all-custom-nodes", "--whitelist-custom-nodes", "steadyscale")


def create_base_directory(
    base: Path, weights: Iterable[Path], clips: Iterable[Path] = (), pack: Path = script_support.REPO_ROOT
) -> Path:
    """Fills `base` for `--base-directory`, with links to the pack, to weight files and to clips. Returns `base`.

    Repeating it changes nothing. A ComfyUI that belongs to somebody keeps its own custom_nodes and models untouched.
    """
    for name in ("custom_nodes", "models/upscale_models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    script_support.replace_symlink(base / "custom_nodes" / "steadyscale", pack)
    for path in weights:
        script_support.replace_symlink(base / "models" / "upscale_models" / path.name, path.resolve())
    for path in clips:
        script_support.replace_symlink(base / "input" / path.name, path.resolve())
    return base
