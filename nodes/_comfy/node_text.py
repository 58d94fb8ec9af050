"""Words on a node: ComfyUI shows text from Python nowhere by itself, but a node that runs can be sent some."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

log = logging.getLogger(__name__)


def show_text(text: str) -> None:
    """Write on the node that is running. Hosts that cannot show it, or do not say which node that is, are left alone.

    The context names the node: asking for it as a hidden input would keep equal nodes from sharing their result.
    """
    try:
        from comfy_execution.utils import get_executing_context
        from server import PromptServer
    except ImportError:
        return
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id)


def preview_ui(cls: type[io.ComfyNode], image: Tensor, text: str) -> dict[str, Any]:
    """What a node shows when it has run: an IMAGE (N, H, W, C), and words, which are written on it at once."""
    show_text(text)
    return {**ui.PreviewImage(image, cls=cls).as_dict(), "text": [text]}


def make_notifier(name: str) -> Callable[[str], None]:
    """Says things of a run in the log, under that name, and on the node that is running."""

    def notify(text: str) -> None:
        log.info("%s: %s", name, text)
        show_text(text)

    return notify
