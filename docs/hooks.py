"""Hooks of MkDocs: node help pages, command options, settings, table of imports."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import grimp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from steadyscale.cli.main import build_parser
from steadyscale.core.training import TrainConfig
from steadyscale.core.training.config.toml_dataclass import to_table

HELP_PAGES = Path(__file__).parents[1] / "web" / "docs"
OPTIONS_MARKER = "<!-- options of every command -->"
SETTINGS_MARKER = "<!-- every setting of a training run -->"
IMPORTS_MARKER = "<!-- imports of every package -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted([*HELP_PAGES.glob("*.md"), *HELP_PAGES.glob("*.jpg"), *HELP_PAGES.glob("*.png")]):
        file = File.generated(config, f"nodes/{path.name}", abs_src_path=str(path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if OPTIONS_MARKER in markdown:
        markdown = markdown.replace(OPTIONS_MARKER, "\n".join(_command_reference(build_parser())))
    if SETTINGS_MARKER in markdown:
        markdown = markdown.replace(SETTINGS_MARKER, "\n".join(settings_reference(TrainConfig())))
    if IMPORTS_MARKER in markdown:
        markdown = markdown.replace(IMPORTS_MARKER, "\n".join(_import_table()))
    return markdown


def settings_reference(config: Any, prefix: str = "") -> Iterator[str]:
    """A table for each dataclass of a tree: key, default and meaning."""
    names = [field.name for field in fields(config)]
    summary, _, body = (inspect.getdoc(type(config)) or "").partition("\n\n")
    meanings = describe_fields(body, names)
    yield from (f"### `{prefix.removesuffix('.')}`" if prefix else "### Top level", "", summary, "")
    yield from ("| key | default | meaning |", "| --- | --- | --- |")
    table, nested = to_table(config), list[str]()
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            nested.append(field.name)
        else:
            meaning = meanings[field.name] + _choices(value)
            yield f"| `{prefix}{field.name}` | `{_toml(table[field.name])}` | {_cell(meaning)} |"
    yield ""
    for name in nested:
        yield from settings_reference(getattr(config, name), f"{prefix}{name}.")


def describe_fields(text: str, names: list[str]) -> dict[str, str]:
    """Read the meanings from a docstring: "width, height: in pixels. fps: of it."."""
    name = "|".join(map(re.escape, names))
    parts = re.split(rf"(?:^|(?<=[.)] ))((?:{name})(?:, (?:{name}))*): ", " ".join(text.split()))
    return {
        key: meaning.strip() for keys, meaning in zip(parts[1::2], parts[2::2], strict=True) for key in keys.split(", ")
    }


def _choices(value: object) -> str:
    return f" One of {', '.join(f'`{choice.value}`' for choice in type(value))}." if isinstance(value, Enum) else ""


def _toml(value: object) -> str:
    return "{}" if value == {} else json.dumps(value)


def _import_table() -> Iterator[str]:
    """Each package, and the packages that it imports."""
    graph = grimp.build_graph("steadyscale", cache_dir=None)
    packages = [*graph.find_children("steadyscale.core"), *graph.find_children("steadyscale")]
    packages = sorted(set(packages) - {"steadyscale.core"})
    yield from ("| package | imports |", "| --- | --- |")
    for package in packages:
        imports = [
            other
            for other in packages
            if other != package and graph.direct_import_exists(importer=package, imported=other, as_packages=True)
        ]
        names = ", ".join(f"`{other.removeprefix('steadyscale.')}`" for other in imports) or "nothing of the project"
        yield f"| `{package.removeprefix('steadyscale.')}` | {names} |"


def _command_reference(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _command_reference(command)
            return
    yield from (f"### {parser.prog}", "", f"{parser.description or ''}", "", "| argument | meaning |", "| --- | --- |")
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            yield f"| {_signature(action)} | {_cell(action.help or '').replace('%%', '%')} |"
    yield ""


def _signature(action: argparse.Action) -> str:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(action.option_strings)
    return _cell(f"`{names}`" if action.nargs == 0 else f"`{names} {value}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
