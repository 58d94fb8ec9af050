"""Which node a picture of the frame in work belongs on.

Frontends keep the last such picture in front of whatever the node puts out. So it is shown only on nodes that put out
no picture or video of their own, and a VIDEO, which runs in somebody else's node, shows it on the node that planned it.
"""

from __future__ import annotations

from typing import Any

NODES_WITHOUT_PREVIEW = ("SteadyScale_UpscaleFrames", "SteadyScale_WarpFrames", "SteadyScale_ApplyMotion")
"""The nodes that put out nothing to look at."""


def running_node_id() -> str | None:
    """The id of the node that is running, or None where the host does not say."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return None
    context = get_executing_context()
    return None if context is None else context.node_id


def lacks_preview(node_id: str) -> bool:
    """Whether a node of the graph that is running is one that puts out nothing to look at."""
    try:
        graph = _progress_state().dynprompt
        return graph.has_node(node_id) and graph.get_node(node_id).get("class_type") in NODES_WITHOUT_PREVIEW
    except (ImportError, AttributeError):
        return False


def end_progress(node_id: str) -> None:
    """Take the progress off a node that is not the running one."""
    try:
        _progress_state().finish_progress(node_id)
    except (ImportError, AttributeError):
        return


def _progress_state() -> Any:
    from comfy_execution.progress import get_progress_state

    return get_progress_state()
