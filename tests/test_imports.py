"""Test the imports between packages, and that only nodes import ComfyUI."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "execution", "server"}
MAY_USE_MODELS = {"api", "batch", "training", "compress"}
"""The parts of core that turn names into networks."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import in a file; level 0 is absolute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, node.module)] if node.module else [(node.level, name.name) for name in node.names]
    return found


def above(path: Path, level: int, module: str) -> str | None:
    """The top folder of a relative import that leaves its own, or None."""
    depth = len(path.relative_to(ROOT).parts) - 1
    return module.split(".")[0] if level == depth + 1 else None


@pytest.mark.parametrize("path", sources("core") + sources("models"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_knows_neither_comfyui_nor_the_nodes(path):
    folder = path.relative_to(ROOT).parts[0]
    for level, module in imports(path):
        assert not (level == 0 and module.split(".")[0] in HOST | {"steadyscale"}), f"{path.name} imports {module}"
        target = above(path, level, module)
        assert target in (None, folder, "models", "__version__"), f"{path.name} imports {target}"
        if target == "models" and folder == "core":
            assert path.relative_to(ROOT).parts[1] in MAY_USE_MODELS, (
                f"{path.name} is given its networks, it loads none"
            )


@pytest.mark.parametrize("path", [ROOT / "__init__.py", *sources("nodes")], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_pack_uses_relative_imports_only(path):
    for level, module in imports(path):
        assert not (level == 0 and module.split(".")[0] == "steadyscale"), (
            f"{path.name}: inside ComfyUI it has another name"
        )


def test_importing_the_library_needs_no_comfyui_and_starts_and_builds_nothing(tmp_path):
    code = (
        "import subprocess, sys\n"
        "def never(*args, **more): raise AssertionError('a program was started')\n"
        "subprocess.run = subprocess.Popen = never\n"
        "import steadyscale.core, steadyscale.models, steadyscale.cli.main\n"
        "import steadyscale.models.native as native\n"
        "assert native.engine._load_library.cache_info().currsize == 0\n"
        "assert 'comfy' not in sys.modules\n"
    )
    environment = {"STEADYSCALE_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sys.executable).parent, env=environment)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path",
    [path for path in sources("nodes") if path.parent.name != "_comfy"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_nodes_reach_comfyui_through_their_adapter(path):
    """Only nodes/_comfy imports the host; the others import its types of schemas."""
    hosts = {module for level, module in imports(path) if level == 0 and module.split(".")[0] in HOST}
    assert hosts <= {"comfy_api.latest"}, f"{path.name} imports {hosts}; import nodes/_comfy instead"


@pytest.mark.parametrize("path", sources("nodes"), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_node_calls_another(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [ast.unparse(f) for f in calls if isinstance(f, ast.Attribute) and f.attr == "execute"] == []
