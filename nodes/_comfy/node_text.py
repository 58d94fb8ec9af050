"""Send text to the running node; ComfyUI displays no other text from Python."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

log = logging.getLogger(__name__)


def show_text(text: str) -> None:
    """Display text on the running node, on hosts that can.

    The node comes from the execution context: as a hidden input it would keep equal nodes from sharing their result.
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
    """The `ui` value of a node that displays an IMAGE (N, H, W, C) and a text."""
    show_text(text)
    return {**ui.PreviewImage(image, cls=cls).as_dict(), "text": [text]}


def make_notifier(name: str) -> Callable[[str], None]:
    """Return a function that logs a message under `name` and displays it on the node."""

    def notify(text: str) -> None:
        log.info("%s: %s", name, text)
        show_text(text)

    return notify
