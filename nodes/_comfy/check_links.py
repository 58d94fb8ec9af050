"""Wires that would carry the wrong kind, named before any work is done.

An output for IMAGE and VIDEO connects to inputs of either; which of the two it gives is known when the node runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...core.clip import ClipError

_CONVERTER_NODES = {
    "IMAGE": "Create Video",
    "VIDEO": "Get Video Components",
}  # ComfyUI's nodes that make the other kind


def check_links(node_class: type[io.ComfyNode], frames: object, output_index: int = 0) -> None:
    """Raise ClipError where an output of `node`, which gives the kind of `frames`, leads to an input for the other.

    node: the class whose `execute` runs; its schema asks for `io.Hidden.dynprompt`. Hosts that do not tell which node
    runs, or what it is connected to, are left alone.
    """
    try:
        from comfy_execution.utils import get_executing_context

        host = import_module("nodes")  # ComfyUI's module of that name, not this package
    except ImportError:
        return
    context, graph = get_executing_context(), getattr(getattr(node_class, "hidden", None), "dynprompt", None)
    if context is None or graph is None:
        return
    kind = "IMAGE" if isinstance(frames, Tensor) else "VIDEO"
    for key in graph.all_node_ids():
        consumer = graph.get_node(key)
        for name, value in consumer["inputs"].items():
            if not (isinstance(value, list) and value == [context.node_id, output_index]):
                continue
            taken = _input_types(host.NODE_CLASS_MAPPINGS[consumer["class_type"]], name)
            if kind not in taken and taken & _CONVERTER_NODES.keys():
                shown = host.NODE_DISPLAY_NAME_MAPPINGS.get(consumer["class_type"], consumer["class_type"])
                raise ClipError(
                    f"{shown} (node {key}) takes {' or '.join(sorted(taken))}, but these frames came as {kind} and go "
                    f"out as {kind}: put {_CONVERTER_NODES[kind]} between the two nodes"
                )


def _input_types(node_class: Any, name: str) -> set[str]:
    """The types that an input takes; none where they are not told by name."""
    inputs = node_class.INPUT_TYPES()
    spec = next((inputs[part][name] for part in ("required", "optional") if name in inputs.get(part, {})), ("",))
    return set(spec[0].replace(" ", "").split(",")) if isinstance(spec[0], str) else set()
