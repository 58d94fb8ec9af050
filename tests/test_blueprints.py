"""Test the blueprint files: one valid subgraph with existing settings each.

That they are true to the nodes, and run, is tested in host/test_blueprints.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import schemas
from workflow_checks import find_blueprint_problems
from workflow_graph import Graph, list_subgraphs

FOLDER = Path(__file__).parents[1] / "subgraphs"
FILES = sorted(FOLDER.iterdir())
NODES = {node.node_id: node for node in schemas.read_schemas()}


def read(file: Path) -> Graph:
    # The host reads these files in the encoding of the machine it runs on.
    return json.loads(file.read_text(encoding="ascii"))


def test_there_is_one_for_each_common_task() -> None:
    tasks = ("Stabilize a video", "Upscale a video", "Upscale and stabilize a video")
    assert [file.name for file in FILES] == [f"{task}.json" for task in tasks]
    assert len({list_subgraphs(read(file))[0]["id"] for file in FILES}) == len(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_blueprint_is_in_order(file: Path) -> None:
    assert find_blueprint_problems(read(file)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_blueprint_has_a_description_and_its_name(file: Path) -> None:
    graph = read(file)
    assert graph["extra"]["BlueprintDescription"].endswith(".")
    assert {graph["nodes"][0]["title"], list_subgraphs(graph)[0]["name"]} == {file.stem}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_blueprint_displays_settings_of_its_nodes(file: Path) -> None:
    graph = read(file)
    inside = {str(node["id"]): NODES[node["type"]] for node in list_subgraphs(graph)[0]["nodes"]}
    widgets = graph["nodes"][0]["properties"]["proxyWidgets"]
    assert widgets
    for owner, name in widgets:
        assert name in [socket.name for socket in inside[owner].inputs if not socket.is_advanced]


def _inner(graph: Graph) -> Graph:
    return list_subgraphs(graph)[0]


FAULTS: dict[str, Callable[[Graph], object]] = {
    "no subgraph": lambda g: g["definitions"]["subgraphs"].clear(),
    "another subgraph": lambda g: g["nodes"][0].update(type="00000000-0000-0000-0000-000000000000"),
    "an input that the subgraph lacks": lambda g: g["nodes"][0]["inputs"].append({"name": "mask", "type": "MASK"}),
    "an output of another type": lambda g: _inner(g)["outputs"][0].update(type="MASK"),
    "an input that goes nowhere": lambda g: _inner(g)["inputs"][0].update(linkIds=[]),
    "a link to nowhere": lambda g: _inner(g)["links"][0].update(target_id=99),
    "a link that is not in the table": lambda g: _inner(g)["links"].pop(),
    "a node without its package": lambda g: _inner(g)["nodes"][0]["properties"].pop("cnr_id"),
    "a folder of one machine": lambda g: _inner(g)["nodes"][0]["widgets_values"].__setitem__(0, "/home/me/x.pth"),
    "nodes on top of each other": lambda g: _inner(g)["nodes"][1].update(pos=list(_inner(g)["nodes"][0]["pos"])),
    "a bypassed node": lambda g: _inner(g)["nodes"][1].update(mode=4),
    "a setting of no node": lambda g: g["nodes"][0]["properties"]["proxyWidgets"].append(["99", "seconds"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_injected_fault_is_found(fault: str) -> None:
    graph = read(FILES[0])
    broken = copy.deepcopy(graph)
    FAULTS[fault](broken)
    assert broken != graph
    assert find_blueprint_problems(broken)
