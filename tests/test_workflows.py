"""The workflow files as files: complete, tidy, and free of anything that belongs to the machine they were made on.

That a canvas file and its API file are one graph is tested in host/test_workflows.py, on the definitions of a host.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "workflows"
NAMES = ("enhance", "stabilize", "upscale")
TITLE = 30  # height of a node's title bar, which stands above its position
ABSOLUTE = re.compile(r"""(^|[\s"'`(=])(/\w|~[\\/]|[A-Za-z]:[\\/]|\\\\\w|file:)""")
NOTES = ("Note", "MarkdownNote")

Graph = dict[str, Any]


def canvas(name: str) -> Graph:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def problems(graph: Graph) -> list[str]:
    """Everything that is wrong with a canvas file by itself, in words."""
    return [*_identities(graph), *_links(graph), *_packages(graph), *_paths(graph), *_layout(graph)]


def _identities(graph: Graph) -> Iterator[str]:
    for kind, ids in {
        "node": [node["id"] for node in graph["nodes"]],
        "link": [link[0] for link in graph["links"]],
        "group": [group["id"] for group in graph["groups"]],
    }.items():
        yield from (f"{kind} id {i} is there {n} times" for i, n in Counter(ids).items() if n > 1)
        if kind != "group" and max(ids) > graph[f"last_{kind}_id"]:
            yield f"last_{kind}_id is {graph[f'last_{kind}_id']}, which the next {kind} would collide with"


def _links(graph: Graph) -> Iterator[str]:
    nodes, links = {node["id"]: node for node in graph["nodes"]}, {link[0]: link for link in graph["links"]}
    for i, source, out, target, slot, kind in graph["links"]:
        try:
            output, entry = nodes[source]["outputs"][out], nodes[target]["inputs"][slot]
        except (KeyError, IndexError):
            yield f"link {i} hangs in the air"
            continue
        if i not in (output["links"] or []):
            yield f"link {i} is unknown to the node that it leaves"
        if entry["link"] != i:
            yield f"link {i} is unknown to the node that it enters"
        shared = set(output["type"].split(",")) & set(entry["type"].split(","))
        if not shared or kind != entry["type"]:  # the frontend stores the type of the input
            yield f"link {i} joins {output['type']} to {entry['type']} and says {kind}"
    for node in graph["nodes"]:
        used = [entry["link"] for entry in node["inputs"] if entry["link"] is not None]
        used += [i for output in node["outputs"] for i in output["links"] or []]
        yield from (f"node {node['id']} knows link {i}, which does not exist" for i in used if i not in links)
    reroutes = {reroute["id"]: reroute for reroute in graph["extra"].get("reroutes", [])}
    for reroute in reroutes.values():
        if not set(reroute["linkIds"]) <= set(links) or reroute.get("parentId", reroute["id"]) not in reroutes:
            yield f"reroute {reroute['id']} hangs in the air"
    for extension in graph["extra"].get("linkExtensions", []):
        if extension["id"] not in links or extension["parentId"] not in reroutes:
            yield f"the reroutes of link {extension['id']} hang in the air"


def _packages(graph: Graph) -> Iterator[str]:
    """Whoever lacks a node is offered the package that its cnr_id names."""
    for node in graph["nodes"]:
        if node["type"] not in NOTES:
            wanted = "steadyscale" if node["type"].startswith("SteadyScale_") else "comfy-core"
            if node["properties"].get("cnr_id") != wanted:
                yield f"node {node['id']} ({node['type']}) is not marked as of {wanted}"


def _paths(graph: Graph) -> Iterator[str]:
    for node in graph["nodes"]:
        for text in (value for value in node.get("widgets_values", []) if isinstance(value, str)):
            if ABSOLUTE.search(text):
                yield f"node {node['id']} names a place on one machine: {text!r}"


def _layout(graph: Graph) -> Iterator[str]:
    boxes = {
        node["id"]: (
            node["pos"][0],
            node["pos"][1] - TITLE,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in graph["nodes"]
    }
    for (a, p), (b, q) in itertools.combinations(boxes.items(), 2):
        if p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3]:
            yield f"nodes {a} and {b} overlap"
    for node in graph["nodes"]:
        x0, y0, x1, y1 = boxes[node["id"]]
        around = [
            group["title"]
            for group in graph["groups"]
            for x, y, w, h in [group["bounding"]]
            if x <= x0 and y <= y0 and x1 <= x + w and y1 <= y + h
        ]
        if len(around) != (node["type"] not in NOTES):
            yield f"node {node['id']} ({node['type']}) is in the groups {around}"
        if node["mode"] != 0:
            yield f"node {node['id']} ({node['type']}) is muted or bypassed"


def test_each_workflow_has_its_three_files() -> None:
    """The template browser lists every .json beside a .jpg, so a file too many is as wrong as one that is missing."""
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {
        f"{n}.{e}" for n in NAMES for e in ("json", "jpg")
    }
    assert {path.name for path in (FOLDER / "api").iterdir()} == {f"{name}.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_canvas_file_is_in_order(name: str) -> None:
    assert problems(canvas(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_note_tells_a_newcomer_what_to_choose(name: str) -> None:
    note = next(node for node in canvas(name)["nodes"] if node["type"] == "MarkdownNote")
    lines = [line for line in note["widgets_values"][0].splitlines() if line]
    assert 4 <= len(lines) <= 6
    assert "Load Video" in lines[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_api_file_names_no_place_on_a_machine(name: str) -> None:
    prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    texts = [v for node in prompt.values() for v in node["inputs"].values() if isinstance(v, str)]
    assert texts
    assert [text for text in texts if ABSOLUTE.search(text)] == []


def test_the_three_workflows_have_identities_of_their_own() -> None:
    assert len({canvas(name)["id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_thumbnail_is_a_small_picture_of_three_to_two(name: str) -> None:
    path = FOLDER / f"{name}.jpg"
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.width >= 480
        assert picture.width / picture.height == pytest.approx(1.5, rel=0.03)
        assert np.asarray(picture.convert("L"), dtype=float).std() > 20, "nearly one colour: there is nothing to see"
    assert path.stat().st_size < 80_000


def _node(graph: Graph, kind: str) -> Graph:
    return next(node for node in graph["nodes"] if node["type"] == kind)


FAULTS: dict[str, Callable[[Graph], object]] = {
    "a node id twice": lambda g: g["nodes"][1].update(id=g["nodes"][0]["id"]),
    "a link id twice": lambda g: g["links"][1].__setitem__(0, g["links"][0][0]),
    "a counter that lags": lambda g: g.update(last_node_id=2),
    "a link to nowhere": lambda g: g["links"][0].__setitem__(3, 99),
    "a link that its target forgot": lambda g: _node(g, "SaveVideo")["inputs"][0].update(link=None),
    "a link that is not in the table": lambda g: g["links"].pop(),
    "a link of the wrong kind": lambda g: _node(g, "SaveVideo")["inputs"][0].update(type="IMAGE"),
    "a reroute of no link": lambda g: g["extra"].update(reroutes=[{"id": 1, "linkIds": [99]}]),
    "a node without its package": lambda g: _node(g, "SteadyScale_WarpFrames")["properties"].pop("cnr_id"),
    "a core node said to be ours": lambda g: _node(g, "SaveVideo")["properties"].update(cnr_id="steadyscale"),
    "a folder of one machine": lambda g: _node(g, "SaveVideo")["widgets_values"].__setitem__(0, "/home/me/out"),
    "a Windows folder": lambda g: _node(g, "LoadVideo")["widgets_values"].__setitem__(0, "C:\\clips\\bikes.mp4"),
    "a folder in a note": lambda g: _node(g, "MarkdownNote")["widgets_values"].__setitem__(0, "see `/opt/ComfyUI`"),
    "nodes on top of each other": lambda g: g["nodes"][1].update(pos=list(g["nodes"][0]["pos"])),
    "a node outside its group": lambda g: _node(g, "SaveVideo").update(pos=[9000, 9000]),
    "a bypassed node": lambda g: _node(g, "SteadyScale_WarpFrames").update(mode=4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_of_these_faults_would_be_found(fault: str) -> None:
    graph = canvas("enhance")
    broken = copy.deepcopy(graph)
    FAULTS[fault](broken)
    assert broken != graph
    assert problems(broken)
