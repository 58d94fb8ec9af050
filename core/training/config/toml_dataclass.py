"""Convert between TOML and frozen dataclasses, with strict types and keys.

cattrs builds the dataclasses. Its own conversions are replaced by strict ones (it would take 1.5 for the integer 1, or
"no" for true), and the first of its errors becomes one line that names the key, the value and the fix.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import tomli_w
from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from ..errors import TrainingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DataclassT = TypeVar("DataclassT")


class _InvalidValue(Exception):
    """A value of the wrong type.

    The message follows the key, after an optional suffix such as ".conv1_2".
    """

    def __init__(self, message: str, suffix: str = "") -> None:
        super().__init__(message)
        self.suffix = suffix


def read_toml(path: Path) -> dict[str, Any]:
    """Read the tables of a TOML file. Raises TrainingError."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}); give a TOML file of settings") from error
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and lists in lists
        raise TrainingError(f"{path} is not valid TOML: {error}") from error


def parse_override(override: str) -> dict[str, Any]:
    """Parse one override such as "data.crop=128" into nested tables.

    The right side is TOML, or a bare word, so that text needs no quotes on a command line. Raises TrainingError.
    """
    name, equals, text = override.partition("=")
    if not equals:
        raise TrainingError(f"'{override}' has no value; write it as data.crop=128")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    for key in reversed(name.split(".")):
        value = {key.strip(): value}
    return value


def merge_tables(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables; where both have a value, that of `override` is taken."""
    merged = dict(base)
    for key, value in override.items():
        old, new = as_table(base.get(key)), as_table(value)
        merged[key] = value if old is None or new is None else merge_tables(old, new)
    return merged


def as_table(value: Any) -> Mapping[str, Any] | None:
    """The value if it is a table, else None."""
    return value if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownVariableType]  # TOML's keys are str


def from_table(defaults: DataclassT, table: Mapping[str, Any]) -> DataclassT:
    """Return the dataclass `defaults` with the values of the table.

    Raises TrainingError for an unknown key and for a value of another type.
    """
    try:
        return _CONVERTER.structure(_fill_in(defaults, table), type(defaults))
    except ClassValidationError as group:
        raise _first_error(group, "") from group


def to_table(settings: Any) -> dict[str, Any]:
    """Return nested tables of plain values, the inverse of `from_table`."""
    return _CONVERTER.unstructure(settings)


def to_toml(settings: Any) -> str:
    """Return all settings as TOML."""
    return tomli_w.dumps(to_table(settings))


def _fill_in(defaults: Any, value: Any, prefix: str = "") -> dict[str, Any]:
    """Add the defaults that the table does not name.

    value: the table. prefix: its dotted key, with a final dot. cattrs knows the defaults of a class, while those of a
    nested one may differ: the second degradation stage is milder.
    """
    table = as_table(value)
    if table is None:
        raise TrainingError(f"{prefix.rstrip('.')} is a section of settings, not {value!r}")
    complete = dict(table)
    for field in fields(defaults):
        default = getattr(defaults, field.name)
        if is_dataclass(default):
            complete[field.name] = _fill_in(default, table.get(field.name, {}), f"{prefix}{field.name}.")
        elif field.name not in table:
            complete[field.name] = default
    return complete


def _first_error(group: ClassValidationError, prefix: str) -> TrainingError:
    """Describe the first error in a tree of cattrs errors.

    prefix: the dotted key of the section, with a final dot.
    """
    attributes, others = group.group_exceptions()
    for error in others:
        if isinstance(error, ForbiddenExtraKeysError):
            return _unknown_key(error, prefix)
        if isinstance(error, TrainingError):  # of a __post_init__
            return error
    for error, note in attributes:
        if isinstance(error, ClassValidationError):
            return _first_error(error, f"{prefix}{note.name}.")
        if isinstance(error, _InvalidValue):
            return TrainingError(f"{prefix}{note.name}{error.suffix} {error}")
    raise group


def _unknown_key(error: ForbiddenExtraKeysError, prefix: str) -> TrainingError:
    names = [field.name for field in fields(error.cl)]
    key = min(error.extra_fields)
    close = difflib.get_close_matches(key, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(names)}"
    return TrainingError(f"{prefix}{key} is not a setting; {hint}")


# ---- strict conversions ----


def _check(condition: bool, message: str, suffix: str = "") -> None:
    if not condition:
        raise _InvalidValue(message, suffix)


def _strict(kind: type, description: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        _check(type(value) is kind, f"must be {description}, not {value!r}")
        return value

    return structure


def _structure_int(value: Any, _: Any) -> int:
    _check(type(value) is int, f"must be an integer, not {value!r}")
    _check(abs(value) < 2**63, f"must be below 2^63, not a number of {len(str(abs(value)))} digits")
    return value


def _structure_float(value: Any, _: Any) -> float:
    return _to_float(value)


def _to_float(value: Any, suffix: str = "") -> float:
    _check(type(value) in (int, float), f"must be a number, not {value!r}", suffix)
    _check(abs(value) <= sys.float_info.max, f"must be a finite number, not {str(value)[:20]}", suffix)
    return float(value)


def _structure_enum(value: Any, kind: type[Enum]) -> Enum:
    if isinstance(value, kind):  # a default
        return value
    allowed = [member.value for member in kind]
    _check(value in allowed, f"must be one of {', '.join(allowed)}, not {value!r}")
    return kind(value)


def _structure_tuple(value: Any, hint: Any) -> tuple[Any, ...]:
    _check(isinstance(value, (list, tuple)), f"must be a list, not {value!r}; write it as [{json.dumps(value)}]")
    inner = get_args(hint)
    if inner[-1] is ...:
        inner = (inner[0],) * len(value)
    _check(len(value) == len(inner), f"must have {len(inner)} values, not {len(value)}")
    return tuple(_CONVERTER.structure(item, kind) for item, kind in zip(value, inner, strict=True))


def _structure_numbers(value: Any, _: Any) -> dict[str, float]:
    _check(isinstance(value, Mapping), f"must be a table of numbers, not {value!r}")
    return {key: _to_float(number, f".{key}") for key, number in value.items()}


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(bool, _strict(bool, "true or false"))
    converter.register_structure_hook(int, _structure_int)
    converter.register_structure_hook(str, _strict(str, "text"))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook_func(
        lambda hint: isinstance(hint, type) and issubclass(hint, Enum), _structure_enum
    )
    converter.register_structure_hook_func(lambda hint: get_origin(hint) is tuple, _structure_tuple)
    converter.register_structure_hook_func(lambda hint: get_origin(hint) is Mapping, _structure_numbers)
    return converter


_CONVERTER = _make_converter()
