"""Reads a canvas file as the frontend does when Run is pressed: templates, and blueprints with their subgraphs.

A canvas stores the settings of a node by position, so what it says depends on the definitions of the nodes, the
/object_info of a host.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
NOTES = ("Note", "MarkdownNote")  # drawn by the frontend, unknown to the host
ENTRANCE, EXIT = -10, -20  # what a subgraph's own inputs and outputs are called in its links

Graph = dict[str, Any]
Prompt = dict[str, dict[str, Any]]


class CanvasError(Exception):
    """The canvas does not say what to run."""


@dataclass(frozen=True)
class Link:
    """From an output to an input, by node and slot."""

    source: int
    output: int
    target: int
    input: int


@dataclass(frozen=True)
class Level:
    """One canvas: the outer one, or the inside of a node that stands for a subgraph. prefix: of its nodes' ids."""

    nodes: dict[int, Graph]
    links: dict[int, Link]
    subgraphs: dict[str, Graph]  # by the type of the nodes that stand for them
    prefix: str = ""
    outside: tuple[Level, Graph] | None = None  # the level around it, and its node there

    @classmethod
    def outermost(cls, graph: Graph) -> Level:
        return cls(
            {node["id"]: node for node in graph["nodes"]},
            {link[0]: Link(*link[1:5]) for link in graph["links"]},
            {inner["id"]: inner for inner in subgraphs(graph)},
        )

    def inside(self, node: Graph) -> Level:
        inner = self.subgraphs[node["type"]]
        return Level(
            {each["id"]: each for each in inner["nodes"]},
            {
                link["id"]: Link(link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"])
                for link in inner["links"]
            },
            self.subgraphs,
            f"{self.prefix}{node['id']}:",
            (self, node),
        )

    def origin(self, link: int) -> list | None:
        """[node id, output] of the node that runs and feeds the link, or None where a subgraph's input is left open."""
        found = self.links[link]
        if found.source == ENTRANCE:
            assert self.outside is not None
            level, node = self.outside
            outer = node["inputs"][found.output]["link"]
            return None if outer is None else level.origin(outer)
        node = self.nodes[found.source]
        if node["type"] not in self.subgraphs:
            return [f"{self.prefix}{found.source}", found.output]
        inner = self.inside(node)
        return inner.origin(next(i for i, k in inner.links.items() if (k.target, k.input) == (EXIT, found.output)))


def subgraphs(graph: Graph) -> list[Graph]:
    return graph.get("definitions", {}).get("subgraphs", [])


def to_prompt(graph: Graph, definitions: dict[str, Any]) -> Prompt:
    """What the frontend would queue for a canvas: {node id: {class_type, inputs}}. definitions: /object_info.

    Raises CanvasError where settings, sockets or links do not fit the definitions.
    """
    return dict(_prompt(Level.outermost(graph), definitions))


def completed(graph: Graph, definitions: dict[str, Any]) -> Graph:
    """A copy in which nodes that were saved before an input was added store its default, as the frontend would."""
    graph = copy.deepcopy(graph)
    for canvas in (graph, *subgraphs(graph)):
        for node in canvas["nodes"]:
            stored = node.get("widgets_values")
            if node["type"] not in definitions or stored is None:
                continue
            declared = declared_inputs(definitions[node["type"]])
            place = 0
            for name in (name for name, spec in declared.items() if is_widget(spec)):
                if place >= len(stored):
                    stored.append(default(declared[name]))
                place += 1 + companions(name, declared[name])
    return graph


def declared_inputs(definition: dict[str, Any]) -> dict[str, list]:
    """{input: its declaration}, in the order in which the node shows them."""
    return {name: definition["input"][part][name] for part, names in definition["input_order"].items()
            if part != "hidden" for name in names}  # fmt: skip


def is_widget(spec: list) -> bool:
    options = spec[1] if len(spec) > 1 else {}
    return (isinstance(spec[0], list) or spec[0] in WIDGETS) and not options.get("forceInput")


def default(spec: list) -> Any:
    """The value of a setting that nobody has touched."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
    blank = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec[0] if isinstance(spec[0], str) else "")
    return options.get("default", choices[0] if choices else blank)


def companions(name: str, spec: list) -> int:
    """How many values the frontend stores after that of an input: the upload button, or what to do with a seed."""
    options = spec[1] if len(spec) > 1 else {}
    seed = spec[0] == "INT" and (options.get("control_after_generate") or name in ("seed", "noise_seed"))
    upload = options.get("image_upload") or options.get("video_upload")
    return int(bool(seed)) + int(bool(upload))


def _prompt(level: Level, definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in level.nodes.values():
        if node["mode"] != 0:
            raise CanvasError(f"node {level.prefix}{node['id']} ({node['type']}) is muted or bypassed")
        if node["type"] in level.subgraphs:
            yield from _prompt(level.inside(node), definitions)
        elif node["type"] not in NOTES:
            yield f"{level.prefix}{node['id']}", _prompt_node(node, level, definitions)


def _prompt_node(node: Graph, level: Level, definitions: dict[str, Any]) -> dict[str, Any]:
    kind, where = node["type"], f"node {level.prefix}{node['id']} ({node['type']})"
    if kind not in definitions:
        raise CanvasError(f"{where} is of a kind that the host does not know")
    declared = declared_inputs(definitions[kind])
    widgets = [name for name, spec in declared.items() if is_widget(spec)]
    stored = list(node.get("widgets_values", []))
    inputs: dict[str, Any] = {}
    for name in widgets:
        count = 1 + companions(name, declared[name])
        if len(stored) < count:
            raise CanvasError(f"{where} stores no value for {name}")
        inputs[name] = stored[0]
        del stored[:count]
    if stored:
        raise CanvasError(f"{where} stores values that no input takes: {stored}")
    for slot, entry in enumerate(node["inputs"]):
        name = entry["name"]
        if name not in declared:
            raise CanvasError(f"{where} has no input {name}")
        if name in widgets and entry.get("widget", {}).get("name") != name:
            raise CanvasError(f"{where}: the socket {name} is not the one of its setting")
        if entry["link"] is not None:
            link = level.links[entry["link"]]
            if (link.target, link.input) != (node["id"], slot):
                raise CanvasError(f"{where}: link {entry['link']} ends elsewhere")
            origin = level.origin(entry["link"])
            if origin is not None:
                inputs[name] = origin
    return {"class_type": kind, "inputs": inputs}


def independent_of(prompt: Prompt, kinds: tuple[str, ...]) -> Prompt:
    """The part of a graph that runs without nodes of these kinds: whatever needs what they give is left out."""
    left_out = {i for i, node in prompt.items() if node["class_type"] in kinds}
    while True:
        fed = {
            i
            for i, node in prompt.items()
            if any(isinstance(v, list) and v[0] in left_out for v in node["inputs"].values())
        }
        if fed <= left_out:
            return {i: node for i, node in prompt.items() if i not in left_out}
        left_out |= fed
