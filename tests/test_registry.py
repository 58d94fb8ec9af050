"""Test the Comfy Registry's rules: metadata, and no code that runs code or programs.

The library may compile its CPU engine and fetch weights when a person types the command for it; nodes may do neither.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import archive
import identity
import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NODES = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py"))]
ALL = [*NODES, *sorted((ROOT / "core").rglob("*.py")), *sorted((ROOT / "models").rglob("*.py"))]
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
RUNS_PROGRAMS = {"subprocess", "pip", "ensurepip", "pty", "multiprocessing"}
NETWORK = {"urllib", "http", "requests", "httpx", "aiohttp", "socket", "ftplib"}
OF_OS = {"system", "popen", "execv", "execve", "execvp", "spawnv", "spawnl", "fork", "startfile"}
BY_COMMAND = {"models/zoo/zoo.py", "models/native/compiler.py"}
"""Start programs, when a person types `steadyscale models get` or `steadyscale native build`."""


def findings(source: str, *, programs: bool = True) -> list[str]:
    """Findings of a scanner; programs: including started programs and network access."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNS_CODE:
            found.append(f"line {node.lineno}: {node.func.id}()")
        if not programs:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found += [f"line {node.lineno}: os.{node.attr}"] if node.attr in OF_OS else []
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        found += [f"line {node.lineno}: {n}" for n in names if n.split(".")[0] in RUNS_PROGRAMS | NETWORK]
    return found


@pytest.mark.parametrize("path", NODES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nodes_run_no_code_no_programs_and_ask_no_network(path: Path) -> None:
    assert findings(path.read_text(encoding="utf-8")) == []


def test_the_library_runs_no_code() -> None:
    assert {p.name: f for p in ALL if (f := findings(p.read_text(encoding="utf-8"), programs=False))} == {}


def test_only_the_two_known_files_start_programs() -> None:
    wanted = re.compile(r"^\s*(?:import|from) subprocess\b", re.MULTILINE)
    starting = {p.relative_to(ROOT).as_posix() for p in ALL if wanted.search(p.read_text(encoding="utf-8"))}
    assert starting == BY_COMMAND


@pytest.mark.parametrize("path", NODES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nodes_do_not_reach_for_downloads_or_the_compiler(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            reached = {node.module or "", *(alias.name for alias in node.names)}
            assert not any(name.split(".")[-1] in {"zoo", "build", "compiler"} for name in reached), ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import pip._internal",
        "import os\nos.system(text)",
        "import urllib.request",
    ],
)
def test_forbidden_calls_are_found(source: str) -> None:
    assert len(findings(source)) == 1


def test_similar_but_allowed_calls_are_not_found() -> None:
    assert findings("model.eval()\nre.compile(x)\nimport os\nos.environ['X']\nfrom .pip import x") == []


def test_metadata_fulfils_the_registrys_rules() -> None:
    project, comfy = FACTS["project"], FACTS["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,99}", project["name"])
    assert "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert set(project["license"]) <= {"file", "text"}
    assert project["description"]
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    # A GPU named there excludes the others, and PyPI knows only that of NVIDIA.
    assert not [name for name in project["classifiers"] if name.startswith("Environment ::")]


@pytest.mark.parametrize(("key", "shape", "limit"), [("Icon", (400, 400), 100_000), ("Banner", (1680, 720), 400_000)])
def test_icon_and_banner_have_the_required_size(key: str, shape: tuple[int, int], limit: int) -> None:
    """A square of 400 pixels, and 21 : 9; both are read from the main branch."""
    address = FACTS["tool"]["comfy"][key]
    repository = FACTS["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    start = f"https://raw.githubusercontent.com/{repository}/main/"
    assert address.startswith(start)
    path = ROOT / address.removeprefix(start)
    with Image.open(path) as image:
        assert image.size == shape
    assert path.stat().st_size < limit


def test_archive_contains_all_that_the_host_reads() -> None:
    """Matched as `comfy node pack` does: Git's files without those of .comfyignore."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    packed = archive.expected_files()
    served = ("web", "locales", "workflows", "subgraphs", "nodes", "core", "models", "cli")
    assert {file for file in files if file.startswith(tuple(f"{folder}/" for folder in served))} <= packed
    assert {"__init__.py", "pyproject.toml", "README.md", "LICENSE"} <= packed
    assert len([file for file in packed if file.startswith("web/docs/")]) > 30, "the help pages"
    left_out = {"tests", "scripts", "bench", "docs", ".ci", ".github", "setup.py", "Makefile"}
    assert {file.split("/")[0] for file in packed}.isdisjoint(left_out)


def test_archives_are_compared_file_by_file(tmp_path: Path) -> None:
    names = sorted(archive.expected_files())
    with zipfile.ZipFile(tmp_path / "node.zip", "w") as packed:
        for name in names[1:]:
            packed.writestr(name, b"other" if name == "README.md" else (ROOT / name).read_bytes())
        packed.writestr("docs/index.md", b"")
    assert archive.differences(tmp_path / "node.zip") == [
        f"missing: {names[0]}",
        "not ours: docs/index.md",
        "different: README.md",
    ]


def test_every_file_names_the_repository_of_pyproject() -> None:
    owner, _, name = identity.repository().partition("/")
    text = f"https://github.com/someone/{name}/issues and https://github.com/someone/else"
    assert identity.replace_repository(text, f"{owner}/{name}") == text.replace(f"someone/{name}", f"{owner}/{name}")
    named = {file: file.read_text(encoding="utf-8") for file in identity.text_files()}
    assert len([text for text in named.values() if identity.repository() in text]) > 5
    assert [
        file.name for file, text in named.items() if identity.replace_repository(text, f"{owner}/{name}") != text
    ] == []
