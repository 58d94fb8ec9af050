"""Test that each help page lists exactly the inputs and outputs of its node.

That a host serves them is tested in host/test_help.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemas
from PIL import Image

import locales

FOLDER = Path(__file__).parents[1] / "web" / "docs"
NODES = {node.node_id: node for node in schemas.read_schemas()}
PAGES = {"en": "{}.md", "zh": "{}/zh.md", "ja": "{}/ja.md", "ko": "{}/ko.md"}
"""The frontend asks for NODE/LANGUAGE.md and, where there is none, for NODE.md: English, for everybody else."""
HEADINGS = {
    "en": ("Inputs", "Outputs", "Recipes", "When something is wrong"),
    "zh": ("输入", "输出", "常用做法", "遇到问题时"),
    "ja": ("入力", "出力", "使い方の例", "うまくいかないとき"),
    "ko": ("입력", "출력", "활용 예", "문제가 있을 때"),
}
ENTRY = re.compile(r"^- `([^`]+)`(?:（([^）]+)）| \(([^)]+)\))?[:：]")  # noqa: RUF001
CHOICES = re.compile(r"^  - ((?:`[^`]+`(?:, |、)?)+)[:：]")  # noqa: RUF001
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
NAME = re.compile(r"`([a-z][a-z0-9_]*)`")
TROUBLES = {
    "en": ("Slow|slow", "memory", "[Ww]obbl", "[Cc]ropped"),
    "zh": ("慢", "内存", "晃动", "裁切太多"),
    "ja": ("遅い", "メモリ", "揺れ", "切り取りすぎ"),
    "ko": ("느림", "메모리", "흔들", "잘림|잘려"),
}
FOLDERS = {"trajectories", "steadyscale_jobs"}  # in backticks without being an input


def text(node: str, language: str) -> str:
    return (FOLDER / PAGES[language].format(node)).read_text(encoding="utf-8")


def sections(page: str) -> dict[str, list[str]]:
    """The lines below each heading."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        if line.startswith("## "):
            found[line[3:]] = []
        elif found:
            list(found.values())[-1].append(line)
    return found


def entries(lines: list[str]) -> dict[str, tuple[str | None, list[str]]]:
    """The entries of a section: name -> (label in the page's language, its choices)."""
    found: dict[str, tuple[str | None, list[str]]] = {}
    for line in lines:
        if entry := ENTRY.match(line):
            found[entry[1]] = entry[2] or entry[3], []
        elif choices := CHOICES.match(line):
            list(found.values())[-1][1].extend(re.findall(r"`([^`]+)`", choices[1]))
    return found


def problems(node: schemas.NodeSchema, page: str, language: str) -> Iterator[str]:
    """Everything in which a page and its node disagree, in words."""
    inputs, outputs, *advice = HEADINGS[language]
    found = sections(page)
    wanted = [inputs, *([outputs] if node.outputs else []), *advice]
    if list(found) != wanted:
        yield f"the sections are {list(found)}, not {wanted}"
        return
    called = locales.read_texts(language, "nodeDefs.json")[locales.escape_key(node.node_id)]
    for heading, sockets, names in (
        (inputs, node.inputs, called["inputs"]),
        (outputs, node.outputs, {s.name: called["outputs"][str(i)] for i, s in enumerate(node.outputs)}),
    ):
        listed = entries(found.get(heading, []))
        if list(listed) != [socket.name for socket in sockets]:
            yield f"{heading}: the page has {list(listed)}, the node has {[socket.name for socket in sockets]}"
            continue
        for socket in sockets:
            label, choices = listed[socket.name]
            if sorted(choices) != sorted(socket.options):
                yield f"{socket.name}: the page has the choices {choices}, the node has {list(socket.options)}"
            name = names[locales.escape_key(socket.name)]["name"]
            is_id = language == "en" and name.replace(" ", "_") == socket.name.replace(" ", "_")
            if label != (None if is_id else name):
                yield f"{socket.name} is {name!r} on the canvas, and {label!r} here"
    advanced = [line for line in found[inputs] if "Nodes 2.0" in line or line.startswith("`")]
    if re.findall(r"`(\w+)`", " ".join(advanced)) != [socket.name for socket in node.inputs if socket.is_advanced]:
        yield f"{inputs}: the advanced inputs are not those of the node: {advanced}"
    words = {s.name for n in NODES.values() for s in (*n.inputs, *n.outputs)}
    words |= {option for n in NODES.values() for s in n.inputs for option in s.options}
    for name in set(NAME.findall(page)) - words - FOLDERS:
        yield f"`{name}` is no input, output or choice of any node"


def test_every_node_has_its_pages_and_nothing_else_lies_there() -> None:
    pages = {page.format(node) for node in NODES for page in PAGES.values()}
    images = {name for node in NODES for language in PAGES for _, name in IMAGE.findall(text(node, language))}
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert found == pages | images


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_page_lists_inputs_and_outputs(node: str, language: str) -> None:
    assert list(problems(NODES[node], text(node, language), language)) == []


@pytest.mark.parametrize("node", NODES)
def test_all_languages_have_the_same_structure(node: str) -> None:
    """Images, list entries of each section, and what the entries refer to."""

    def structure(language: str) -> list[Any]:
        page = text(node, language)
        lists = [sum(line.startswith("- ") for line in lines) for lines in sections(page).values()]
        return [[name for _, name in IMAGE.findall(page)], lists, set(NAME.findall(page))]

    for language in PAGES:
        assert structure(language) == structure("en"), language


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_page_has_recipes_and_troubleshooting(node: str, language: str) -> None:
    *_, recipes, trouble = sections(text(node, language)).values()
    assert sum(line.startswith("- **") for line in recipes) >= 1
    slow, memory, *rest = TROUBLES[language]
    page_text = "\n".join(trouble)
    assert re.search(slow, page_text)
    assert re.search(memory, page_text)
    if any(output.name in ("flow", "correction", "plot", "fill mask") for output in NODES[node].outputs):
        assert all(re.search(word, page_text) for word in rest)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.[jp][pn]g")), ids=lambda path: path.name)
def test_help_images_are_small_and_not_blank(path: Path) -> None:
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert 480 <= image.width <= 1000
        assert np.asarray(image.convert("L"), dtype=float).std() > 20


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_images_have_alternative_texts(node: str, language: str) -> None:
    for words, name in IMAGE.findall(text(node, language)):
        assert len(words) >= 8, name


def _renamed(node: schemas.NodeSchema, old: str, new: str) -> schemas.NodeSchema:
    return replace(node, inputs=tuple(replace(s, name=new) if s.name == old else s for s in node.inputs))


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize(
    "fault", ["renamed", "gone", "new", "new choice", "no outputs", "unknown name", "other label", "advanced"]
)
def test_every_injected_fault_is_found(fault: str, language: str) -> None:
    node = NODES["SteadyScale_WarpFrames"]
    page = text(node.node_id, language)
    border = next(socket for socket in node.inputs if socket.name == "border")
    changed = {
        "renamed": _renamed(node, "pad", "padding"),
        "gone": replace(node, inputs=node.inputs[:-1]),
        "new": replace(node, inputs=(*node.inputs, schemas.NodeSocket("mask", "what to leave out"))),
        "new choice": replace(
            node,
            inputs=tuple(replace(s, options=(*s.options, "blur")) if s is border else s for s in node.inputs),
        ),
        "no outputs": replace(node, outputs=()),
        "advanced": replace(node, inputs=(*node.inputs[:-1], replace(node.inputs[-1], is_advanced=True))),
    }.get(fault, node)
    if fault == "unknown name":
        page += "- see `no_such_input`\n"
    if fault == "other label":
        page = re.sub(r"(?m)^- `pad` ?[（(][^）)]*", "- `pad`（x", page)  # noqa: RUF001
    assert list(problems(changed, page, language))
