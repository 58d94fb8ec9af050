"""Read the nodes' schemas as plain data, without ComfyUI."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

PACKAGE = "steadyscale.nodes"
WIDGET_TYPES = ("Int", "Float", "String", "Boolean", "Combo")
INTERFACE = ("id", "type", "display_name", "default", "options", "optional", "min", "max", "step", "multiline")


@dataclass(frozen=True)
class NodeSocket:
    """An input or output; options: of a dropdown, without the files of a machine.

    label: the name on the node. is_widget: it is set on the node. is_advanced: the node hides it until it shows its
    advanced inputs.
    """

    name: str
    tooltip: str
    options: tuple[str, ...] = ()
    label: str = ""
    is_widget: bool = False
    is_advanced: bool = False


@dataclass(frozen=True)
class NodeSchema:
    node_id: str
    display_name: str
    description: str
    category: str
    inputs: tuple[NodeSocket, ...]
    outputs: tuple[NodeSocket, ...]
    search_aliases: tuple[str, ...] = ()


def read_schemas() -> list[NodeSchema]:
    """All nodes of the pack, in its order."""
    with _fake_comfyui():
        return [parse_schema(node.define_schema()) for node in importlib.import_module(PACKAGE).NODES]


def read_interfaces() -> list[dict[str, Any]]:
    """The id, inputs and outputs of each node: what graphs depend on."""
    with _fake_comfyui():
        found = [node.define_schema() for node in importlib.import_module(PACKAGE).NODES]
    return [
        {
            "node_id": schema["node_id"],
            "inputs": [{key: each[key] for key in INTERFACE if key in each} for each in schema["inputs"]],
            "outputs": [{key: each[key] for key in INTERFACE if key in each} for each in schema["outputs"]],
        }
        for schema in found
    ]


def parse_schema(schema: dict[str, Any]) -> NodeSchema:
    """Parse a schema; raises ValueError for a socket without name or tooltip."""
    inputs, outputs = (
        tuple(_parse_socket(socket, schema["node_id"]) for socket in schema[kind]) for kind in ("inputs", "outputs")
    )
    return NodeSchema(
        node_id=schema["node_id"],
        display_name=schema["display_name"],
        description=schema["description"],
        category=schema["category"],
        inputs=inputs,
        outputs=outputs,
        search_aliases=tuple(schema.get("search_aliases", ())),
    )


def _parse_socket(socket: dict[str, Any], node: str) -> NodeSocket:
    name = socket.get("id") or socket.get("display_name")
    if not name or not socket.get("tooltip"):
        raise ValueError(f"an input or output of {node} lacks a name or a tooltip: {socket}")
    is_widget = socket.get("type") in WIDGET_TYPES
    return NodeSocket(
        name,
        socket["tooltip"],
        tuple(socket.get("options", ())),
        socket.get("display_name") or name,
        is_widget,
        socket.get("advanced", False),
    )


class _FakeInput(dict):
    """An input as a plain dict, with the attributes of the host's that the nodes use."""

    @property
    def extra_dict(self) -> _FakeInput:
        return self

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class _FakeSocketType:
    """A socket type such as IMAGE; its inputs and outputs are plain dicts."""

    type_name = ""

    @classmethod
    def Input(cls, id: str, **attributes: Any) -> dict[str, Any]:
        return _FakeInput(id=id, type=cls.type_name, **attributes)

    @classmethod
    def Output(cls, **attributes: Any) -> dict[str, Any]:
        return {"type": cls.type_name, **attributes}


class _FakeSchema(dict):
    """A schema as a plain dict, of a host that knows the newest fields."""

    def __init__(self, *, search_aliases: list[str], essentials_category: str | None, **fields: Any) -> None:
        super().__init__(fields, search_aliases=search_aliases, essentials_category=essentials_category)


class _FakeIo(ModuleType):
    """A stand-in for comfy_api.latest.io that has every socket type."""

    ComfyNode = type("ComfyNode", (), {})
    NodeOutput, Hidden = MagicMock(), MagicMock()
    Schema = _FakeSchema

    @staticmethod
    def Custom(name: str) -> type[_FakeSocketType]:
        return _fake_socket_type(name)

    def __getattr__(self, name: str) -> type[_FakeSocketType]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _fake_socket_type(name)


def _fake_socket_type(name: str) -> type[_FakeSocketType]:
    return type(name, (_FakeSocketType,), {"type_name": name})


@contextmanager
def _fake_comfyui() -> Iterator[None]:
    """Replace ComfyUI's modules while the nodes are imported."""
    latest: Any = ModuleType("comfy_api.latest")
    latest.io, latest.ui, latest.InputImpl, latest.Types = _FakeIo("io"), MagicMock(), MagicMock(), MagicMock()
    latest.ComfyExtension, latest.ComfyAPI = type("ComfyExtension", (), {}), MagicMock()
    latest.Input = SimpleNamespace(Video=type("VideoInput", (), {}))
    folders = MagicMock(
        get_filename_list=lambda _: [],
        get_input_directory=lambda: "/nowhere",
        get_output_directory=lambda: "/nowhere",
    )
    host: dict[str, Any] = {
        "comfy_api": ModuleType("comfy_api"),
        "comfy_api.latest": latest,
        "comfy": MagicMock(),
        "comfy.model_management": MagicMock(),
        "comfy.model_patcher": MagicMock(),
        "comfy.utils": MagicMock(),
        "folder_paths": folders,
    }

    def list_our_modules() -> list[str]:
        return [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]

    before = {
        name: sys.modules[name] for name in [*list_our_modules(), *(name for name in host if name in sys.modules)]
    }
    for name in before:
        del sys.modules[name]
    sys.modules.update(host)
    try:
        yield
    finally:
        for name in [*list_our_modules(), *host]:
            sys.modules.pop(name, None)
        sys.modules.update(before)
