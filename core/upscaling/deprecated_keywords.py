"""Deprecated keyword arguments of `upscale` and `UpscaleOp`.

They date from before settings were one object, and are removed in version 0.2.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from .settings import UpscaleSettings

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# Old keyword -> field of UpscaleSettings.
_SETTINGS = {
    "target": "size",
    "tiling": "tiling",
    "precision": "precision",
    "reuse": "reuse",
    "finish": "postprocess",
    "alpha": "alpha",
    "compile_network": "compile",
}
# Old keyword -> new keyword.
_RENAMED = {"tally": "stats", "first": "first_frame"}


def accept_deprecated_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes `settings` accept single settings as keywords.

    They cause a DeprecationWarning, and replace the fields of the settings that are passed beside them.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if deprecated := kwargs.keys() & (_SETTINGS.keys() | _RENAMED.keys()):
            _convert(kwargs, deprecated)
        return function(*args, **kwargs)

    return wrapper


def accept_deprecated_fields(cls: type[T]) -> type[T]:
    """The same for the constructor of a dataclass; write it above `@dataclass`."""
    setattr(cls, "__init__", accept_deprecated_keywords(getattr(cls, "__init__")))  # noqa: B009, B010, type checkers
    return cls


def _convert(keywords: dict[str, Any], deprecated: set[str]) -> None:
    for name in sorted(deprecated):
        value = keywords.pop(name)
        new = f"UpscaleSettings.{_SETTINGS[name]}" if name in _SETTINGS else _RENAMED[name]
        warnings.warn(
            f"the keyword argument {name!r} is now {new}; the old one is removed in version 0.2",
            DeprecationWarning,
            stacklevel=3,
        )
        if name in _SETTINGS:
            given = keywords.get("settings") or UpscaleSettings()
            keywords["settings"] = replace(given, **{_SETTINGS[name]: value})
        else:
            keywords[_RENAMED[name]] = value
