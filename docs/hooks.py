"""Hooks of MkDocs: the nodes' help pages from web/docs, and the options of every command from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from steadyscale.cli.main import build_parser

HELP_PAGES = Path(__file__).parents[1] / "web" / "docs"
MARKER = "<!-- options of every command -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted([*HELP_PAGES.glob("*.md"), *HELP_PAGES.glob("*.jpg"), *HELP_PAGES.glob("*.png")]):
        file = File.generated(config, f"nodes/{path.name}", abs_src_path=str(path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if MARKER not in markdown:
        return markdown
    return markdown.replace(MARKER, "\n".join(_command_reference(build_parser())))


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
