"""What a ComfyUI says of a graph, in lines for people: why it was refused, how its run ended."""

from __future__ import annotations

import json
import logging
import struct
from typing import Any

from .workflow import Prompt, RunError, RunInterrupted, node_title

log = logging.getLogger(__name__)

_NODE_TEXT_TYPE = 3  # of a binary message: text that a node displays; the others are previews
_FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


def parse_event(message: str, run_id: str, prompt: Prompt) -> tuple[bool, tuple[str, int, int | None] | None]:
    """What a message of the websocket says of the run: (it may be over, (the node at work, done, of how much)).

    Messages of other runs, and what newer servers say that no one here knows of, come out as (False, None).
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
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    return False, None


def decode_event(message: str | bytes) -> tuple[str, dict[str, Any]] | None:
    """(type, data) of a websocket message; ("node_text", {"node", "text"}) for a node's text.

    None for previews and for messages of an unknown form.
    """
    try:
        if isinstance(message, str):
            event = json.loads(message)
            return str(event["type"]), dict(event["data"])
        kind, length = struct.unpack(">II", message[:8])
        if kind == _NODE_TEXT_TYPE:
            node, text = message[8 : 8 + length], message[8 + length :]
            return "node_text", {"node": node.decode(), "text": text.decode(errors="replace")}
    except (KeyError, TypeError, ValueError, struct.error):
        pass
    return None


def extract_outputs(entry: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """The outputs by node id in an entry of the server's history; RunError if the run failed, in the server's words."""
    status = entry.get("status") or {}
    said = {message[0]: message[1] for message in status.get("messages", []) if message}
    if problem := said.get("execution_error"):
        node = str(problem.get("node_id", ""))
        label = f"{node_title(prompt, node)} (node {node})"
        kind = str(problem.get("exception_type") or "error").split(".")[-1]
        log.debug("%s", strip_control_chars("".join(map(str, problem.get("traceback") or []))))
        raise RunError(
            strip_control_chars(f"{label} failed on the server\n  {kind}: {problem.get('exception_message')}")
        )
    if "execution_interrupted" in said:
        raise RunInterrupted("the run was interrupted on the server")
    if status.get("status_str") == "error":
        raise RunError("the run failed on the server, which does not say why; its log may")
    return entry.get("outputs") or {}


def format_refusal(prompt: Prompt, status: int, answer: Any) -> str:
    """Why a graph was not accepted, as the server says it: a line for the graph, and one for each problem of a node."""
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("error") or {}
    whole = error if isinstance(error, str) else f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")
    lines = [f"the server refuses the graph: {whole or f'HTTP {status}'}"]
    for node, problem in (answer.get("node_errors") or {}).items():
        for found in problem.get("errors", []):
            said = f"{found.get('message', '')}: {found.get('details', '')}".strip(": ")
            lines.append(f"  {node_title(prompt, node)} (node {node}): {said}")
    return strip_control_chars("\n".join(line.replace("\n", " ") for line in lines))


def http_status_hint(status: int) -> str:
    """The end of a sentence on a refusal: what would be accepted; empty where nobody knows."""
    if status == 413:
        return "; start that ComfyUI with a larger --max-upload-size (in MB)"
    return "; it wants a login, as in http://name:password@host" if status in (401, 403) else ""


def strip_control_chars(text: str) -> str:
    """Without the control characters with which what a server says could steer a terminal; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
