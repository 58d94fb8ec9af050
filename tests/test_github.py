"""Test that the workflows on GitHub run what is there: paths, make targets, extras, commands, pinned actions."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from steadyscale.cli.registry import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
TOOLS = dict(
    line.split("==") for line in (ROOT / ".github/release-tools.txt").read_text("utf-8").split("\n") if "==" in line
)
PATHS = re.compile(r"(?<![\w./-])(?:scripts|tests|\.github|docs|bench)/[\w./-]+")
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
COMPONENTS = {"comfy": "comfy-cli", "python -m cibuildwheel": "cibuildwheel", "python -m build": "build"}


def problems(command: str) -> list[str]:
    """What a command names that is not there."""
    found = [f"no file {path}" for path in PATHS.findall(command) if not (ROOT / path).exists()]
    found += [f"no target {name}" for name in re.findall(r"\bmake ([a-z-]+)", command) if name not in TARGETS]
    extras = [name for group in re.findall(r"\.\[([\w,]+)\]", command) for name in group.split(",")]
    found += [f"no extra {name}" for name in extras if name not in PROJECT["project"]["optional-dependencies"]]
    named = re.findall(r"(?:^|&& )steadyscale ([a-z]+(?: [a-z]+)?)", command, re.MULTILINE)
    return found + [f"no command {name}" for name in named if name not in COMMANDS]


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python scripts/no.py && make lint", ["no file scripts/no.py"]),
        ("make tests", ["no target tests"]),
        ('pip install -e ".[opencv,gpu]"', ["no extra gpu"]),
        ("steadyscale native make", ["no command native make"]),
        ("python -m pytest tests/core tests/test_github.py\nsteadyscale native build", []),
    ],
)
def test_what_is_missing_is_found(command: str, found: list[str]) -> None:
    assert problems(command) == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_commands_name_what_exists(file: Path) -> None:
    run = [command for job in jobs(file).values() for command in commands(job)]
    assert len(run) > 3
    assert [problem for command in run for problem in problems(command)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_pinned_by_hash(file: Path) -> None:
    used = re.findall(r"uses: (.+)", file.read_text(encoding="utf-8"))
    assert len(used) > 3
    assert [name for name in used if not PINNED.fullmatch(name)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_jobs_hand_out_no_credentials_and_run_no_names_of_branches(file: Path) -> None:
    """`${{ }}` in a command is pasted before a shell reads it: a branch could be named after a command."""
    for job in jobs(file).values():
        assert [command for command in commands(job) if "${{" in command] == []
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_nothing_is_published_unless_all_checks_pass() -> None:
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    publishing = {"pypi", "registry"}
    for name in publishing:
        assert {*release[name]["needs"]} == {*release} - publishing
        assert release[name]["environment"], "a person can require an approval"
    order = [c.split()[-1] if "scripts" in c else c.split("|")[0].strip() for c in commands(release["archive"])[1:]]
    assert order == ["comfy --skip-prompt node validate", "comfy --skip-prompt node pack", "node.zip"]


def test_release_tools_are_pinned_and_installed_where_they_run() -> None:
    for job in jobs(ROOT / ".github" / "workflows" / "release.yml").values():
        run = "\n".join(commands(job))
        for start, package in COMPONENTS.items():
            if re.search(rf"^{start}\b", run, re.MULTILINE):
                assert package in TOOLS
                assert "pip install -r .github/release-tools.txt" in run


def test_wheels_are_built_for_three_systems_and_checked() -> None:
    matrix = jobs(ROOT / ".github" / "workflows" / "release.yml")["wheels"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "windows", "macos"}
    settings = PROJECT["tool"]["cibuildwheel"]
    assert settings["environment"]["STEADYSCALE_WHEEL_ENGINE"] == "1", "setup.py looks at it"
    script = settings["test-command"].removeprefix("python {project}/")
    assert (ROOT / script).is_file()
    assert 'os.environ.get("STEADYSCALE_WHEEL_ENGINE") == "1"' in (ROOT / "setup.py").read_text(encoding="utf-8")
