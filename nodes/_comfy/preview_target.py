"""Choose the node that displays a preview of the current frame.

Frontends keep the last preview in front of a node's output. So only nodes that output no image or video of their own
display one, and a VIDEO, which is rendered in a node that consumes it, is previewed on the node that planned it.
"""

from __future__ import annotations

from typing import Any

NODES_WITHOUT_PREVIEW = ("SteadyScale_UpscaleFrames", "SteadyScale_WarpFrames", "SteadyScale_ApplyMotion")
"""Nodes without visible output."""


def running_node_id() -> str | None:
    """The id of the running node, or None on hosts that do not report it."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return None
    context = get_executing_context()
    return None if context is None else context.node_id


def lacks_preview(node_id: str) -> bool:
    """Whether a node of the running graph has no visible output."""
    try:
        graph = _progress_state().dynprompt
        return graph.has_node(node_id) and graph.get_node(node_id).get("class_type") in NODES_WITHOUT_PREVIEW
    except (ImportError, AttributeError):
        return False


def end_progress(node_id: str) -> None:
    """Remove the progress bar from a node that is not the running one."""
    try:
        _progress_state().finish_progress(node_id)
    except (ImportError, AttributeError):
        return


def _progress_state() -> Any:
    from comfy_execution.progress import get_progress_state

    return get_progress_state()
