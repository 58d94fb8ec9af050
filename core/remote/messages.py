"""Messages of a ComfyUI server: events, refusals, results of runs."""

from __future__ import annotations

import json
import logging
import struct
from typing import Any

from .workflow import Prompt, RunError, RunInterrupted, json_object, node_title

log = logging.getLogger(__name__)

_NODE_TEXT_TYPE = 3  # of a binary message: text that a node displays; the others are previews
_FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


def parse_event(message: str, run_id: str, prompt: Prompt) -> tuple[bool, tuple[str, int, int | None] | None]:
    """Parse a websocket message: (the run may be over, (node at work, done, total)).

    Messages of other runs and unknown messages are (False, None).
    """
    try:
        event = json.loads(message)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id") != run_id:
            return False, None
        if kind in _FINAL_EVENTS or (kind == "executing" and data.get("node") is None):
            return True, None
        if kind in ("executing", "progress"):
            label = strip_control_chars(node_title(prompt, str(data["node"])))
            return False, (label, int(data["value"]), int(data["max"])) if kind == "progress" else (label, 0, None)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
        pass
    return False, None


def decode_event(message: str | bytes) -> tuple[str, dict[str, Any]] | None:
    """Decode a websocket message into (type, data).

    A node's text becomes ("node_text", {"node", "text"}). None for previews and for messages of an unknown form.
    """
    try:
        if isinstance(message, str):
            event = json.loads(message)
            return str(event["type"]), dict(event["data"])
        kind, length = struct.unpack(">II", message[:8])
        if kind == _NODE_TEXT_TYPE:
            node, text = message[8 : 8 + length], message[8 + length :]
            return "node_text", {"node": node.decode(), "text": text.decode(errors="replace")}
    except (KeyError, RecursionError, TypeError, ValueError, struct.error):
        pass
    return None


def extract_outputs(entry: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """The outputs by node id in an entry of the server's history.

    Raises RunError with the server's message if the run failed.
    """
    status: dict[str, Any] = entry.get("status") or {}
    events: dict[str, dict[str, Any]] = {message[0]: message[1] for message in status.get("messages", []) if message}
    if problem := events.get("execution_error"):
        node = str(problem.get("node_id", ""))
        label = f"{node_title(prompt, node)} (node {node})"
        kind = str(problem.get("exception_type") or "error").split(".")[-1]
        log.debug("%s", strip_control_chars("".join(map(str, problem.get("traceback") or []))))
        raise RunError(
            strip_control_chars(f"{label} failed on the server\n  {kind}: {problem.get('exception_message')}")
        )
    if "execution_interrupted" in events:
        raise RunInterrupted("the run was interrupted on the server")
    if status.get("status_str") == "error":
        raise RunError("the run failed on the server, which does not say why; its log may")
    return entry.get("outputs") or {}


def format_refusal(prompt: Prompt, status: int, answer: Any) -> str:
    """Format why the server refused a graph: a summary, then a line per node error."""
    reply = json_object(answer)
    error: str | dict[str, Any] = reply.get("error") or {}
    node_errors: dict[str, dict[str, Any]] = reply.get("node_errors") or {}
    summary = error if isinstance(error, str) else f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")
    lines = [f"the server refuses the graph: {summary or f'HTTP {status}'}"]
    for node, problem in node_errors.items():
        for detail in problem.get("errors", []):
            text = f"{detail.get('message', '')}: {detail.get('details', '')}".strip(": ")
            lines.append(f"  {node_title(prompt, node)} (node {node}): {text}")
    return strip_control_chars("\n".join(line.replace("\n", " ") for line in lines))


def http_status_hint(status: int) -> str:
    """The end of an error message: what the server would accept, if known."""
    if status == 413:
        return "; start that ComfyUI with a larger --max-upload-size (in MB)"
    return "; it wants a login, as in http://name:password@host" if status in (401, 403) else ""


def strip_control_chars(text: str) -> str:
    """Replace control characters, such as terminal escape sequences, by spaces.

    Newlines stay.
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
