"""Find faults of a canvas file, for the tests of templates and blueprints."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from workflow_graph import NOTE_TYPES, SUBGRAPH_INPUT_ID, SUBGRAPH_OUTPUT_ID, Graph, list_subgraphs

TITLE_HEIGHT = 30  # height of a node's title bar, which stands above its position
ABSOLUTE_PATH = re.compile(r"""(^|[\s"'`(=])(/\w|~[\\/]|[A-Za-z]:[\\/]|\\\\\w|file:)""")


def find_problems(graph: Graph) -> list[str]:
    """The faults of a canvas file, one a line."""
    return [
        *_check_ids(graph),
        *_check_links(graph),
        *_check_packages(graph),
        *_check_paths(graph),
        *_check_layout(graph),
    ]


def _check_ids(graph: Graph) -> Iterator[str]:
    for kind, ids in {
        "node": [node["id"] for node in graph["nodes"]],
        "link": [link[0] for link in graph["links"]],
        "group": [group["id"] for group in graph["groups"]],
    }.items():
        yield from (f"{kind} id {i} is there {n} times" for i, n in Counter(ids).items() if n > 1)
        if kind != "group" and max(ids) > graph[f"last_{kind}_id"]:
            yield f"last_{kind}_id is {graph[f'last_{kind}_id']}, which the next {kind} would collide with"


def _check_links(graph: Graph) -> Iterator[str]:
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


def _check_packages(graph: Graph) -> Iterator[str]:
    """The frontend offers the package of a missing node's cnr_id."""
    for node in graph["nodes"]:
        if node["type"] not in NOTE_TYPES:
            wanted = "steadyscale" if node["type"].startswith("SteadyScale_") else "comfy-core"
            if node["properties"].get("cnr_id") != wanted:
                yield f"node {node['id']} ({node['type']}) is not marked as of {wanted}"


def _check_paths(graph: Graph) -> Iterator[str]:
    for node in graph["nodes"]:
        for text in (value for value in node.get("widgets_values", []) if isinstance(value, str)):
            if ABSOLUTE_PATH.search(text):
                yield f"node {node['id']} names a place on one machine: {text!r}"


def _bounding_boxes(nodes: list[Graph]) -> dict[int, tuple[float, float, float, float]]:
    return {
        node["id"]: (
            node["pos"][0],
            node["pos"][1] - TITLE_HEIGHT,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + (0 if node["flags"].get("collapsed") else node["size"][1]),
        )
        for node in nodes
    }


def _check_overlaps(nodes: list[Graph]) -> Iterator[str]:
    for (a, p), (b, q) in itertools.combinations(_bounding_boxes(nodes).items(), 2):
        if p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3]:
            yield f"nodes {a} and {b} overlap"


def _check_layout(graph: Graph) -> Iterator[str]:
    boxes = _bounding_boxes(graph["nodes"])
    yield from _check_overlaps(graph["nodes"])
    for node in graph["nodes"]:
        x0, y0, x1, y1 = boxes[node["id"]]
        around = [
            group["title"]
            for group in graph["groups"]
            for x, y, w, h in [group["bounding"]]
            if x <= x0 and y <= y0 and x1 <= x + w and y1 <= y + h
        ]
        if graph["groups"] and len(around) != (node["type"] not in NOTE_TYPES):
            yield f"node {node['id']} ({node['type']}) is in the groups {around}"
        if node["mode"] != 0:
            yield f"node {node['id']} ({node['type']}) is muted or bypassed"


def find_blueprint_problems(graph: Graph) -> list[str]:
    """The faults of a blueprint, a canvas with one node for its one subgraph."""
    inner = list_subgraphs(graph)
    if len(inner) != 1 or [node["type"] for node in graph["nodes"]] != [inner[0]["id"]] or graph["links"]:
        return ["it is not one node that stands for one subgraph"]
    return [*_check_facade(graph["nodes"][0], inner[0]), *_check_inside(inner[0])]


def _check_facade(node: Graph, inner: Graph) -> Iterator[str]:
    for side in ("inputs", "outputs"):
        actual, expected = ([(s["name"], s["type"]) for s in held[side]] for held in (node, inner))
        if actual != expected:
            yield f"the node's {side} are {actual}, the subgraph's are {expected}"
    for owner, name in node["properties"]["proxyWidgets"]:
        if owner not in [str(each["id"]) for each in inner["nodes"]]:
            yield f"the setting {name} is of node {owner}, which is not there"


def _check_inside(inner: Graph) -> Iterator[str]:
    """The inside of the subgraph as a canvas, with nodes for its inputs and outputs."""
    ends = []
    for i, part, other in ((SUBGRAPH_INPUT_ID, "inputs", "outputs"), (SUBGRAPH_OUTPUT_ID, "outputs", "inputs")):
        sockets = [
            {"name": s["name"], "type": s["type"], "links": s["linkIds"], "link": (s["linkIds"] or [None])[0]}
            for s in inner[part]
        ]
        ends.append({"id": i, "type": "Note", "mode": 0, other: sockets, part: []})
    graph = {
        "nodes": [*inner["nodes"], *ends],
        "links": [[k["id"], k["origin_id"], k["origin_slot"], k["target_id"], k["target_slot"], k["type"]]
                  for k in inner["links"]],
        "groups": inner["groups"],
        "extra": inner["extra"],
        "last_node_id": inner["state"]["lastNodeId"],
        "last_link_id": inner["state"]["lastLinkId"],
    }  # fmt: skip
    yield from (*_check_ids(graph), *_check_links(graph), *_check_packages(graph), *_check_paths(graph))
    yield from _check_overlaps(inner["nodes"])
    yield from (f"node {node['id']} is muted or bypassed" for node in inner["nodes"] if node["mode"] != 0)
