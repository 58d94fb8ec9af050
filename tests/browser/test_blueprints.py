"""Test the subgraph blueprints in the browser: search, widgets, content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from frontend import ON_NODES_2, Frontend
from workflow_graph import Graph, to_prompt

pytestmark = pytest.mark.browser

FILES = sorted((Path(__file__).parents[2] / "subgraphs").glob("*.json"))


@ON_NODES_2
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_blueprint_is_found_and_placed(frontend: Frontend, file: Path) -> None:
    graph: Graph = json.loads(file.read_text(encoding="utf-8"))
    frontend.search(file.stem)
    frontend.place_first_result()
    assert len(frontend.node_types()) == 1
    assert frontend.unknown_node_types() == []
    # The frontend gives the node an id of its own; what is within keeps its ids behind the colon.
    assert _without_prefix(frontend.read_prompt()) == _without_prefix(to_prompt(graph, frontend.definitions))
    title, widgets = frontend.run_js(
        "() => [app.graph.nodes[0].title, app.graph.nodes[0].widgets.map((widget) => [widget.name, widget.value])]"
    )
    frontend.page.wait_for_timeout(300)
    frontend.take_screenshot(f"blueprint {file.stem}")
    assert title == file.stem
    # Older frontends write the inner node's id before the name.
    assert [name.split(": ")[-1] for name, _ in widgets] == _promoted(graph)
    assert all(value is not None for _, value in widgets)


def _promoted(graph: Graph) -> list[str]:
    return [name for _, name in graph["nodes"][0]["properties"]["proxyWidgets"]]


def _without_prefix(prompt: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    def bare(i: str) -> str:
        return i.rpartition(":")[2]

    return {
        bare(i): {
            "class_type": node["class_type"],
            "inputs": {k: [bare(v[0]), v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()},
        }
        for i, node in prompt.items()
    }
