"""Create a ComfyUI base directory: all files that a host reads and writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import script_support

HOST_FLAGS = ("--disable-all-custom-nodes", "--whitelist-custom-nodes", "steadyscale")


def create_base_directory(
    base: Path, weights: Iterable[Path], clips: Iterable[Path] = (), pack: Path = script_support.REPO_ROOT
) -> Path:
    """Create `base` for `--base-directory`, with the pack, weights and clips.

    Idempotent. The custom_nodes and models folders of an installed ComfyUI are not used. Returns `base`.
    """
    for name in ("custom_nodes", "models/upscale_models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    script_support.replace_symlink(base / "custom_nodes" / "steadyscale", pack)
    for path in weights:
        script_support.replace_symlink(base / "models" / "upscale_models" / path.name, path.resolve())
    for path in clips:
        script_support.link_or_copy(path, base / "input" / path.name)
    return base
