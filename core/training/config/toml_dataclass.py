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

DataclassT = TypeVar("DataclassT")

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _import_toml() -> Any:
    """The reader of TOML. Settings that are made in code need none."""
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise TrainingError("Python 3.10 reads settings with tomli: pip install 'steadyscale[train]'") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises TrainingError."""
    tomllib = _import_toml()
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}); give a TOML file of settings") from error
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{path} is no TOML: {error}") from error


def apply_overrides(table: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The tables with changes such as "data.crop=128", whose right side is TOML or a plain word."""
    tomllib = _import_toml()
    for change in overrides:
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
        table = _merge(table, value)
    return table


def _merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in override.items()
    }
    return {**base, **both}


def from_table(defaults: DataclassT, table: object, prefix: str = "") -> DataclassT:
    """The defaults, a dataclass, with the values that the table names in their place. Raises TrainingError for a name
    that is no setting and for a value of another type. where: what the names of these settings begin with."""
    if not isinstance(table, Mapping):
        raise TrainingError(f"{prefix.rstrip('.')} is a group of settings, not {table!r}")
    kind = type(defaults)
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {close[0]}?" if close else f"here are {', '.join(names)}"
            raise TrainingError(f"{prefix}{key} is no setting; {hint}")
    values = {
        key: _parse_value(hints[key], value, f"{prefix}{key}", getattr(defaults, key)) for key, value in table.items()
    }
    return replace(defaults, **values)  # pyright: ignore[reportArgumentType, reportReturnType]


def _parse_value(hint: Any, value: Any, key_path: str, default: Any = None) -> Any:
    if is_dataclass(hint):
        return from_table(default, value, f"{key_path}.")
    if isinstance(hint, type) and issubclass(hint, Enum):
        allowed = [member.value for member in hint]
        _check(value in allowed, f"{key_path} is one of {', '.join(allowed)}, not {value!r}")
        return hint(value)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        _check(
            isinstance(value, (list, tuple)), f"{key_path} is a list, not {value!r}; write it as [{json.dumps(value)}]"
        )
        if inner[-1] is ...:
            return tuple(_parse_value(inner[0], item, key_path) for item in value)
        _check(len(value) == len(inner), f"{key_path} has {len(inner)} values, not {len(value)}")
        return tuple(_parse_value(each, item, key_path) for each, item in zip(inner, value, strict=True))
    if get_origin(hint) is not None:  # a table of numbers by name
        _check(isinstance(value, Mapping), f"{key_path} is a table of numbers, not {value!r}")
        return {str(key): _parse_value(float, item, f"{key_path}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    _check(type(value) is hint, f"{key_path} is {_TYPE_NAMES[hint]}, not {value!r}")
    return value


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise TrainingError(message)


def to_table(settings: Any) -> dict[str, Any]:
    """Nested tables of plain values, which `filled_in` turns back into the same settings."""
    return {f.name: _to_plain(getattr(settings, f.name)) for f in fields(settings)}


def _to_plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def to_toml(settings: Any) -> str:
    """All settings as TOML."""
    return "\n".join(_toml_lines(to_table(settings), "")) + "\n"


def _toml_lines(table: dict[str, Any], prefix: str) -> list[str]:
    # Values come before tables: a line below [data] belongs to data.
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", *_toml_lines(value, f"{prefix}{key}.")]
    return lines
