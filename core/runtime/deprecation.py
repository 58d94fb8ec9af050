"""Deprecated aliases of renamed attributes, fields and keyword arguments.

Every alias warns with a DeprecationWarning at the line of its user. Aliases are removed in version 0.2; those of names
exported by `steadyscale.core` are in core/__init__.py.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def deprecated_property(old: str, new: str) -> Any:
    """Return a read-only alias for the attribute or method `new`.

    Assign it to the name `old` in a class body. Without an annotation it is no field, neither of a dataclass nor of a
    named tuple.
    """

    def get(self: object) -> Any:
        owner = type(self).__name__
        _warn(f"{owner}.{old} is now {owner}.{new}")
        return getattr(self, new)

    return property(get, doc=f"Deprecated alias of `{new}`.")


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that accepts old names of keyword arguments.

    Old name first: `@renamed_arguments(most="max_zoom")`.

    The decorated function raises TypeError if the old and the new name of an argument are both given.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            _rename(kwargs, new_names, function.__name__)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def renamed_fields(**new_names: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that accepts old field names.

    Old name first: `@renamed_fields(trust="confidence")`.

    For dataclasses and named tuples: the old names remain as properties and as keyword arguments of the constructor.
    Write it above `@dataclass`.
    """

    def decorate(cls: type[T]) -> type[T]:
        constructor = "__new__" if tuple in cls.__mro__ else "__init__"
        construct = getattr(cls, constructor)

        @functools.wraps(construct)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            _rename(kwargs, new_names, cls.__name__)
            return construct(*args, **kwargs)

        setattr(cls, constructor, wrapper)
        for old, new in new_names.items():
            setattr(cls, old, deprecated_property(old, new))
        return cls

    return decorate


def _rename(arguments: dict[str, Any], new_names: dict[str, str], callee: str) -> None:
    for old in new_names.keys() & arguments.keys():
        new = new_names[old]
        if new in arguments:
            raise TypeError(f"{callee}() got both {new!r} and its deprecated name {old!r}; pass {new!r} only")
        _warn(f"the argument {old!r} of {callee}() is now {new!r}", stacklevel=4)
        arguments[new] = arguments.pop(old)


def _warn(message: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{message}; the old name is removed in version 0.2", DeprecationWarning, stacklevel=stacklevel)
