"""Test what templates look like on both canvases, and that they are what their API files say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from frontend import MIN_TEXT_PIXELS, Frontend

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "workflows"
FILES = [path for path in sorted(FOLDER.glob("*.json")) if not path.stem.endswith("(app)")]  # which has no canvas

MIN_SCALE = 0.8  # at which the frontend opens a template, on that screen

Box = tuple[float, float, float, float]  # x, y, width, height


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_template_opens_and_is_in_order(frontend: Frontend, file: Path) -> None:
    frontend.drop_workflow(file)
    frontend.take_screenshot(f"template {file.stem}")
    assert frontend.unknown_node_types() == []
    assert frontend.dialogs.count() == 0, frontend.dialogs.first.inner_text()
    wanted = json.loads((FOLDER / "api" / file.name).read_text(encoding="utf-8"))
    assert frontend.read_prompt() == {
        i: {"class_type": node["class_type"], "inputs": node["inputs"]} for i, node in wanted.items()
    }
    layout = frontend.read_layout()
    nodes, groups = layout["nodes"], layout["groups"]
    assert [(a, b) for a, b in itertools.combinations(nodes, 2) if do_overlap(nodes[a], nodes[b])] == []
    notes = {name: box for name, box in nodes.items() if name.endswith("MarkdownNote")}
    inside = {name: [g for g, around in groups.items() if contains(around, box)] for name, box in nodes.items()}
    assert {name: count for name, count in inside.items() if groups and len(count) != (name not in notes)} == {}
    assert all(contains(layout["view"], box) for box in nodes.values())
    assert layout["scale"] >= MIN_SCALE
    if file.stem[0].isupper():  # for newcomers
        sizes = frontend.text_sizes()
        assert min(sizes) >= MIN_TEXT_PIXELS, sizes


def do_overlap(a: Box, b: Box) -> bool:
    return all(a[n] + 1 < b[n] + b[n + 2] and b[n] + 1 < a[n] + a[n + 2] for n in (0, 1))


def contains(outer: Box, inner: Box) -> bool:
    return all(outer[n] <= inner[n] + 1 and inner[n] + inner[n + 2] <= outer[n] + outer[n + 2] + 1 for n in (0, 1))
