"""Convert a canvas file to a prompt, as the frontend does when Run is pressed.

A canvas, which may have subgraphs, stores the settings of a node by position. So reading it needs the nodes'
definitions, the /object_info of a host.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # a dropdown whose choices have settings of their own, as in Save Video
WIDGET_TYPES = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN", DYNAMIC_COMBO)
NOTE_TYPES = ("Note", "MarkdownNote")  # drawn by the frontend, unknown to the host
SUBGRAPH_INPUT_ID, SUBGRAPH_OUTPUT_ID = -10, -20  # node ids of a subgraph's own inputs and outputs in its links

Graph = dict[str, Any]
Prompt = dict[str, dict[str, Any]]


class WorkflowError(Exception):
    """The canvas cannot be converted to a prompt."""


@dataclass(frozen=True)
class Link:
    """A link from an output to an input, by node and slot."""

    source: int
    source_slot: int
    target: int
    target_slot: int


@dataclass(frozen=True)
class GraphLevel:
    """The outer canvas, or the inside of a subgraph; id_prefix: of its nodes' ids."""

    nodes: dict[int, Graph]
    links: dict[int, Link]
    subgraphs: dict[str, Graph]  # by the type of their nodes
    id_prefix: str = ""
    parent: tuple[GraphLevel, Graph] | None = None  # the level around it, and its node there

    @classmethod
    def root(cls, graph: Graph) -> GraphLevel:
        return cls(
            {node["id"]: node for node in graph["nodes"]},
            {link[0]: Link(*link[1:5]) for link in graph["links"]},
            {inner["id"]: inner for inner in list_subgraphs(graph)},
        )

    def descend(self, node: Graph) -> GraphLevel:
        inner = self.subgraphs[node["type"]]
        return GraphLevel(
            {each["id"]: each for each in inner["nodes"]},
            {
                link["id"]: Link(link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"])
                for link in inner["links"]
            },
            self.subgraphs,
            f"{self.id_prefix}{node['id']}:",
            (self, node),
        )

    def find_origin(self, link_id: int) -> list | None:
        """[node id, output] that feeds the link; None for an open input of a subgraph."""
        found = self.links[link_id]
        if found.source == SUBGRAPH_INPUT_ID:
            assert self.parent is not None
            level, node = self.parent
            outer = node["inputs"][found.source_slot]["link"]
            return None if outer is None else level.find_origin(outer)
        node = self.nodes[found.source]
        if node["type"] not in self.subgraphs:
            return [f"{self.id_prefix}{found.source}", found.source_slot]
        inner = self.descend(node)
        return inner.find_origin(
            next(
                i
                for i, k in inner.links.items()
                if (k.target, k.target_slot) == (SUBGRAPH_OUTPUT_ID, found.source_slot)
            )
        )


def list_subgraphs(graph: Graph) -> list[Graph]:
    return graph.get("definitions", {}).get("subgraphs", [])


def to_prompt(graph: Graph, definitions: dict[str, Any]) -> Prompt:
    """The prompt of a canvas: {node id: {class_type, inputs}}.

    definitions: the host's /object_info. Raises WorkflowError if settings, sockets or links do not fit the definitions.
    """
    return dict(_prompt_nodes(GraphLevel.root(graph), definitions))


def add_missing_defaults(graph: Graph, definitions: dict[str, Any]) -> Graph:
    """A copy in which nodes store the defaults of inputs that were added later."""
    graph = copy.deepcopy(graph)
    for canvas in (graph, *list_subgraphs(graph)):
        for node in canvas["nodes"]:
            stored = node.get("widgets_values")
            if node["type"] not in definitions or stored is None:
                continue
            for _, spec, position in iter_widgets(declared_inputs(definitions[node["type"]]), stored):
                if position >= len(stored):
                    stored.append(default_value(spec))
    return graph


def declared_inputs(definition: dict[str, Any]) -> dict[str, list]:
    """{input: its declaration}, in the order on the node."""
    return {name: definition["input"][part][name] for part, names in definition["input_order"].items()
            if part != "hidden" for name in names}  # fmt: skip


def iter_widgets(declared: dict[str, list], stored: list) -> Iterator[tuple[str, list, int]]:
    """Each setting: its name, its declaration, and its position in the stored values.

    The settings of a choice follow their dropdown. Hidden settings, which newer hosts keep for old graphs, are left out
    where nothing is stored for them.
    """
    position, pending = 0, [(name, spec) for name, spec in declared.items() if is_widget(spec)]
    while pending:
        name, spec = pending.pop(0)
        if position >= len(stored) and _options(spec).get("hidden"):
            continue
        yield name, spec, position
        value = stored[position] if position < len(stored) else default_value(spec)
        pending[:0] = list(_nested_inputs(name, spec, value).items())
        position += 1 + count_extra_values(name, spec)


def _nested_inputs(name: str, spec: list, value: Any) -> dict[str, list]:
    """The inputs that a choice of a dynamic dropdown adds, by their full names."""
    if spec[0] != DYNAMIC_COMBO:
        return {}
    choice = next((option for option in _options(spec)["options"] if option["key"] == value), {"inputs": {}})
    return {f"{name}.{key}": inner for part in choice["inputs"].values() for key, inner in part.items()}


def _options(spec: list) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def is_widget(spec: list) -> bool:
    options = _options(spec)
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options.get("forceInput")


def default_value(spec: list) -> Any:
    """The default value of a setting."""
    options = _options(spec)
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
    if spec[0] == DYNAMIC_COMBO:
        choices = [choice["key"] for choice in choices]
    blank = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(spec[0] if isinstance(spec[0], str) else "")
    return options.get("default", choices[0] if choices else blank)


def count_extra_values(name: str, spec: list) -> int:
    """The number of extra values stored for an upload button or a seed's control."""
    options = _options(spec)
    seed = spec[0] == "INT" and (options.get("control_after_generate") or name in ("seed", "noise_seed"))
    upload = options.get("image_upload") or options.get("video_upload")
    return int(bool(seed)) + int(bool(upload))


def _prompt_nodes(level: GraphLevel, definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in level.nodes.values():
        if node["mode"] != 0:
            raise WorkflowError(f"node {level.id_prefix}{node['id']} ({node['type']}) is muted or bypassed; enable it")
        if node["type"] in level.subgraphs:
            yield from _prompt_nodes(level.descend(node), definitions)
        elif node["type"] not in NOTE_TYPES:
            yield f"{level.id_prefix}{node['id']}", _to_prompt_node(node, level, definitions)


def _to_prompt_node(node: Graph, level: GraphLevel, definitions: dict[str, Any]) -> dict[str, Any]:
    kind, where = node["type"], f"node {level.id_prefix}{node['id']} ({node['type']})"
    if kind not in definitions:
        raise WorkflowError(f"{where} is of a type that the host does not have")
    declared = declared_inputs(definitions[kind])
    stored = list(node.get("widgets_values", []))
    inputs: dict[str, Any] = {}
    end = 0
    for name, spec, position in iter_widgets(declared, stored):
        end = position + 1 + count_extra_values(name, spec)
        if len(stored) < end:
            raise WorkflowError(f"{where} stores no value for {name}")
        inputs[name] = stored[position]
    if stored[end:]:
        raise WorkflowError(f"{where} stores values that no input takes: {stored[end:]}")
    widgets = set(inputs)
    for slot, entry in enumerate(node["inputs"]):
        name = entry["name"]
        if name not in declared and name not in widgets:
            raise WorkflowError(f"{where} has no input {name}")
        if name in widgets and entry.get("widget", {}).get("name") != name:
            raise WorkflowError(f"{where}: the socket {name} is not the one of its setting")
        if entry["link"] is not None:
            link = level.links[entry["link"]]
            if (link.target, link.target_slot) != (node["id"], slot):
                raise WorkflowError(f"{where}: link {entry['link']} ends elsewhere")
            origin = level.find_origin(entry["link"])
            if origin is not None:
                inputs[name] = origin
    return {"class_type": kind, "inputs": inputs}


def remove_dependents(prompt: Prompt, node_types: tuple[str, ...]) -> Prompt:
    """The part of a graph that runs without nodes of these types and their dependents."""
    removed = {i for i, node in prompt.items() if node["class_type"] in node_types}
    while True:
        dependents = {
            i
            for i, node in prompt.items()
            if any(isinstance(v, list) and v[0] in removed for v in node["inputs"].values())
        }
        if dependents <= removed:
            return {i: node for i, node in prompt.items() if i not in removed}
        removed |= dependents
