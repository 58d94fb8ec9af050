"""Hooks of MkDocs: node help pages, options of every command, table of imports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import grimp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from steadyscale.cli.main import build_parser

HELP_PAGES = Path(__file__).parents[1] / "web" / "docs"
OPTIONS_MARKER = "<!-- options of every command -->"
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
    if IMPORTS_MARKER in markdown:
        markdown = markdown.replace(IMPORTS_MARKER, "\n".join(_import_table()))
    return markdown


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
