"""Layers within core/training, and deprecated names of core/training and core/compress."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from steadyscale.core import compress, training

# From the bottom up; a part imports from those of a lower level and from itself.
LEVELS = {
    "errors": 0,
    "config": 1,
    "data": 2,
    "losses": 2,
    "evaluate": 2,
    "loop": 3,
    "smoother": 4,
    "presets": 4,
    "__init__": 5,
}
FOLDER = Path(training.__file__).parent


def imported_modules(file: Path) -> list[tuple[str, ...]]:
    """Absolute paths of the imported names, such as ("core", "training", "errors", "TrainingError")."""
    package = ("core", "training", *file.relative_to(FOLDER).parent.parts)
    modules: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            path = (*base, *(node.module.split(".") if node.module else ()))
            modules += [(*path, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            modules += [tuple(alias.name.split(".")) for alias in node.names]
    return modules


def test_parts_import_only_from_lower_levels():
    pairs: set[tuple[str, str]] = set()
    for file in FOLDER.rglob("*.py"):
        part = file.relative_to(FOLDER).with_suffix("").parts[0]
        for module in imported_modules(file):
            assert module[0] not in ("cli", "nodes", "rich", "argparse"), f"{file} imports {'.'.join(module)}"
            if module[:2] == ("core", "training") and len(module) > 2:
                pairs.add((part, module[2]))
    assert ("loop", "config") in pairs
    assert [pair for pair in pairs if pair[0] != pair[1] and LEVELS[pair[0]] <= LEVELS[pair[1]]] == []


@pytest.mark.parametrize("package", [training, compress])
def test_deprecated_names_warn_and_refer_to_the_present_ones(package):
    for old, new in package.DEPRECATED_NAMES.items():
        assert new in package.__all__
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(package, old) is getattr(package, new)
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018
