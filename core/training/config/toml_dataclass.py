"""Frozen dataclasses as TOML and back: typed, nested, and strict about names."""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..errors import TrainingError

Settings = TypeVar("Settings")

_ARTICLES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _toml() -> Any:
    """The reader of TOML. Settings that are made in code need none."""
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise TrainingError("Python 3.10 reads settings with tomli: pip install 'steadyscale[train]'") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises TrainingError."""
    tomllib = _toml()
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}); give a TOML file of settings") from error
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{path} is no TOML: {error}") from error


def changed(table: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The tables with changes such as "data.crop=128", whose right side is TOML or a plain word."""
    tomllib = _toml()
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise TrainingError(f"'{change}' changes nothing; write it as data.crop=128")
        keys = [key.strip() for key in name.split(".")]
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()  # a word that nobody wants to quote on a command line
        for key in reversed(keys):
            value = {key: value}
        table = _merged(table, value)
    return table


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def filled_in(defaults: Settings, table: object, where: str = "") -> Settings:
    """The defaults, a dataclass, with the values that the table names in their place. Raises TrainingError for a name
    that is no setting and for a value of another type. where: what the names of these settings begin with."""
    if not isinstance(table, Mapping):
        raise TrainingError(f"{where.rstrip('.')} is a group of settings, not {table!r}")
    kind = type(defaults)
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {close[0]}?" if close else f"here are {', '.join(names)}"
            raise TrainingError(f"{where}{key} is no setting; {hint}")
    values = {key: _value(hints[key], value, f"{where}{key}", getattr(defaults, key)) for key, value in table.items()}
    return replace(defaults, **values)  # pyright: ignore[reportArgumentType, reportReturnType]


def _value(kind: Any, value: Any, where: str, default: Any = None) -> Any:
    if is_dataclass(kind):
        return filled_in(default, value, f"{where}.")
    if isinstance(kind, type) and issubclass(kind, Enum):
        allowed = [member.value for member in kind]
        _check(value in allowed, f"{where} is one of {', '.join(allowed)}, not {value!r}")
        return kind(value)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        _check(isinstance(value, (list, tuple)), f"{where} is a list, not {value!r}; write it as [{json.dumps(value)}]")
        if inner[-1] is ...:
            return tuple(_value(inner[0], item, where) for item in value)
        _check(len(value) == len(inner), f"{where} has {len(inner)} values, not {len(value)}")
        return tuple(_value(each, item, where) for each, item in zip(inner, value, strict=True))
    if get_origin(kind) is not None:  # a table of numbers by name
        _check(isinstance(value, Mapping), f"{where} is a table of numbers, not {value!r}")
        return {str(key): _value(float, item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    _check(type(value) is kind, f"{where} is {_ARTICLES[kind]}, not {value!r}")
    return value


def _check(holds: bool, complaint: str) -> None:
    if not holds:
        raise TrainingError(complaint)


def to_table(settings: Any) -> dict[str, Any]:
    """Nested tables of plain values, which `filled_in` turns back into the same settings."""
    return {f.name: _plain(getattr(settings, f.name)) for f in fields(settings)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def to_toml(settings: Any) -> str:
    """All settings as TOML."""
    return "\n".join(_lines(to_table(settings), "")) + "\n"


def _lines(table: dict[str, Any], where: str) -> list[str]:
    # Values come before tables: a line below [data] belongs to data.
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{where}{key}]", *_lines(value, f"{where}{key}.")]
    return lines
