"""Choose the node that displays a preview of the current frame.

A VIDEO, which is rendered in a node that consumes it, is previewed on the node that planned it. Frontends keep the last
preview in front of a node's output, so a node with an image of its own displays that as its last preview.
"""

from __future__ import annotations

from typing import Any

NODE_PREFIX = "SteadyScale_"

_previewing: set[str | None] = set()
"""Nodes that display a frame in front of their output."""


def running_node_id() -> str | None:
    """The id of the running node, or None on hosts that do not report it."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return None
    context = get_executing_context()
    return None if context is None else context.node_id


def can_preview(node_id: str) -> bool:
    """Whether a node of the running graph is one of ours."""
    try:
        graph = _progress_state().dynprompt
        return graph.has_node(node_id) and graph.get_node(node_id).get("class_type", "").startswith(NODE_PREFIX)
    except (ImportError, AttributeError):
        return False


def mark_previewing(node_id: str | None) -> None:
    """Record that a node displays a frame."""
    _previewing.add(node_id)


def pop_previewing(node_id: str | None) -> bool:
    """Whether a node displays a frame; false when asked again."""
    was_previewing = node_id in _previewing
    _previewing.discard(node_id)
    return was_previewing


def end_progress(node_id: str) -> None:
    """Remove the progress bar from a node that is not the running one."""
    try:
        _progress_state().finish_progress(node_id)
    except (ImportError, AttributeError):
        return


def _progress_state() -> Any:
    from comfy_execution.progress import get_progress_state

    return get_progress_state()
