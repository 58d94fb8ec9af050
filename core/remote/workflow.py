"""A workflow in API format: read it, change inputs, find its local files.

Definitions are the server's answers to /object_info by node class: they state what an input accepts. For a class that
the server does not know, inputs are not checked here: the server refuses such a graph with its own message.
"""

from __future__ import annotations

import json
import math
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

Prompt: TypeAlias = dict[str, dict[str, Any]]
"""Node id -> {"class_type": ..., "inputs": {name: value or [node id, output index]}}."""
Definitions: TypeAlias = Mapping[str, Mapping[str, Any]]

_MAX_WORKFLOW_BYTES = 64 * 2**20  # bytes of a graph; the largest that people share are a hundredth of it
_UPLOAD_FLAGS = ("image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload")


class RunError(Exception):
    """A graph was not run to its end, or its results did not arrive.

    The message may have several lines.
    """


class RunRefused(RunError):
    """The server did not accept the graph.

    answer: its reply, with `error` and `node_errors`.
    """

    def __init__(self, message: str, answer: dict[str, Any]) -> None:
        super().__init__(message)
        self.answer = answer


class RunInterrupted(RunError):
    """The run was interrupted on the server."""


@dataclass(frozen=True)
class Setting:
    """One `NODE.INPUT=VALUE`.

    node: an id of the graph. text: the value as given.
    """

    node: str
    input: str
    text: str


def json_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def json_list(value: Any) -> list[Any]:
    """The value if it is a JSON list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def read_workflow(path: str | Path) -> Prompt:
    """The graph in a file that ComfyUI's "Export (API)" wrote.

    Raises RunError where it is none.
    """
    try:
        if Path(path).stat().st_size > _MAX_WORKFLOW_BYTES:
            raise RunError(f"{path} is larger than {_MAX_WORKFLOW_BYTES // 2**20} MB, which no graph is")
        graph = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is no JSON: {error}") from error
    if isinstance(json_object(graph).get("nodes"), list):
        raise RunError(f"{path} is a canvas; save it in ComfyUI with Workflow > Export (API), and run that file")
    graph = json_object(graph)
    if not graph or not all(map(_is_node, graph.values())):
        raise RunError(f"{path} is no graph in API format; save it in ComfyUI with Workflow > Export (API)")
    return graph


def _is_node(entry: object) -> bool:
    node = json_object(entry)
    return (
        isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
        and isinstance(node.get("_meta", {}), dict)
    )


def node_title(prompt: Prompt, node: str) -> str:
    """The node's title, or else its class."""
    entry = prompt.get(node, {})
    return str(entry.get("_meta", {}).get("title") or entry.get("class_type", "a node"))


def parse_setting(prompt: Prompt, text: str) -> Setting:
    """Parse `NODE.INPUT=VALUE`.

    NODE is an id of the graph, or the class or title of a node if only one has it.
    """
    left, equals, value = text.partition("=")
    if not equals or "." not in left:
        raise RunError(f"--set {text}: say NODE.INPUT=VALUE, such as 1.file=clip.mp4")
    parts = left.split(".")
    # Titles and the names of inputs may both have dots in them, and the longest node name that exists is meant.
    for cut in range(len(parts) - 1, 0, -1):
        name, input_name = ".".join(parts[:cut]), ".".join(parts[cut:])
        found = [name] if name in prompt else [n for n in prompt if name in _node_names(prompt, n)]
        if len(found) > 1:
            raise RunError(f"--set {text}: {len(found)} nodes are a {name}; name one by its id: {', '.join(found)}")
        if found and input_name:
            return Setting(found[0], input_name, value)
    known = ", ".join(f"{node} ({node_title(prompt, node)})" for node in prompt)
    raise RunError(f"--set {text}: the graph has no node {'.'.join(parts[:-1])}; it has {known}")


def _node_names(prompt: Prompt, node: str) -> tuple[str, str]:
    return prompt[node]["class_type"], node_title(prompt, node)


def apply_settings(prompt: Prompt, settings: list[Setting], definitions: Definitions) -> Prompt:
    """The graph with these settings, converted to the types of the inputs."""
    changed: Prompt = {node: {**entry, "inputs": dict(entry["inputs"])} for node, entry in prompt.items()}
    for setting in settings:
        entry = changed[setting.node]
        declared = _declared_inputs(definitions, entry["class_type"])
        known = {**declared, **dict.fromkeys(entry["inputs"])}
        if declared and setting.input not in known and not _is_nested(declared, setting.input):
            label = f"node {setting.node} ({node_title(prompt, setting.node)})"
            raise RunError(f"{label} has no input {setting.input}; it has {', '.join(known)}")
        entry["inputs"][setting.input] = _convert_value(setting, declared.get(setting.input))
    return changed


def _declared_inputs(definitions: Definitions, class_type: str) -> dict[str, Any]:
    """Name -> the server's declaration: [type or list of choices, options]."""
    groups = definitions.get(class_type, {}).get("input", {})
    return {**(groups.get("required") or {}), **(groups.get("optional") or {})}


def _is_nested(declared: dict[str, Any], name: str) -> bool:
    """Whether it is a setting of a dropdown's choice, such as format.codec."""
    dropdown, dot, _ = name.partition(".")
    return bool(dot) and dropdown in declared and declared[dropdown][0] == "COMFY_DYNAMICCOMBO_V3"


def _convert_value(setting: Setting, declared: Any) -> Any:
    kind = declared[0] if declared else None
    if kind == "STRING":
        return setting.text
    try:
        value = json.loads(setting.text)
    except ValueError:
        value = setting.text
    choices = _choices(declared)
    if choices is not None:
        return value if value in choices else setting.text  # choices may be numbers, and names may look like numbers
    if not _matches_type(str(kind), value):
        raise RunError(
            f"--set {setting.node}.{setting.input}={setting.text}: that input wants {_TYPE_NAMES[str(kind)]}"
        )
    return value


_TYPE_NAMES = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}


def _matches_type(kind: str, value: Any) -> bool:
    if isinstance(value, list):
        return True  # a link to another node's output
    if kind == "FLOAT":
        return type(value) is int or (type(value) is float and math.isfinite(value))
    return {"INT": type(value) is int, "BOOLEAN": type(value) is bool}.get(kind, True)


def _choices(declared: Any) -> list[Any] | None:
    """The options of a dropdown; None where the input is none.

    Two generations of nodes declare it differently.
    """
    if not declared:
        return None
    if isinstance(declared[0], list):
        return declared[0]
    return list(_options(declared).get("options") or []) if declared[0] == "COMBO" else None


def _options(declared: Any) -> dict[str, Any]:
    return declared[1] if len(declared) > 1 and isinstance(declared[1], dict) else {}


def find_local_files(
    prompt: Prompt, settings: list[Setting], definitions: Definitions
) -> Iterator[tuple[str, str, Path]]:
    """Yield (node id, input, path) of each local file to upload first.

    Only inputs that their node declares as uploads count, and of those what the user set now and is a local file; or
    what the graph itself names, if the server has no such file and it is a local video, image or audio file. A graph
    from another person therefore cannot have other local files uploaded.
    """
    named = {(setting.node, setting.input) for setting in settings}
    for node, entry in prompt.items():
        for name, declared in _declared_inputs(definitions, entry["class_type"]).items():
            value = entry["inputs"].get(name)
            if not isinstance(value, str) or not any(_options(declared).get(flag) for flag in _UPLOAD_FLAGS):
                continue
            media = (mimetypes.guess_type(value)[0] or "").split("/")[0] in ("video", "image", "audio")
            wanted = (node, name) in named or (media and value not in (_choices(declared) or []))
            if wanted and (path := _find_local_file(value)):
                yield node, name, path


def _find_local_file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, no such home, characters that no path has
        return None
