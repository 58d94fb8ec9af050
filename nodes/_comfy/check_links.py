"""Reject links that would carry the wrong type, before any work is done.

An output for IMAGE and VIDEO connects to inputs of either; which of the two it carries is known when the node runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...core.clip import ClipError

_CONVERTER_NODES = {"IMAGE": "Create Video", "VIDEO": "Get Video Components"}  # ComfyUI's nodes, by their input type


def check_links(node_class: type[io.ComfyNode], frames: object, output_index: int = 0) -> None:
    """Raise ClipError if `frames` would go to an input of the other type.

    node_class: the class whose `execute` runs; its schema asks for `io.Hidden.dynprompt`. Nothing is checked on hosts
    that do not report the running node or its links.
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
            accepted = _input_types(host.NODE_CLASS_MAPPINGS[consumer["class_type"]], name)
            if kind not in accepted and accepted & _CONVERTER_NODES.keys():
                label = host.NODE_DISPLAY_NAME_MAPPINGS.get(consumer["class_type"], consumer["class_type"])
                raise ClipError(
                    f"{label} (node {key}) takes {' or '.join(sorted(accepted))}, but these frames came as {kind} and "
                    f"go out as {kind}: put {_CONVERTER_NODES[kind]} between the two nodes"
                )


def _input_types(node_class: Any, name: str) -> set[str]:
    """The types that an input accepts; empty if they are not given by name."""
    inputs = node_class.INPUT_TYPES()
    spec = next((inputs[part][name] for part in ("required", "optional") if name in inputs.get(part, {})), ("",))
    return set(spec[0].replace(" ", "").split(",")) if isinstance(spec[0], str) else set()
