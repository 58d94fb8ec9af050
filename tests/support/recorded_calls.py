"""Replace functions by recorders, to see which arguments reach them."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest


class RecordedCalls:
    """Replaces functions, and records the arguments of their calls by parameter name, defaults included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def replace(self, name: str, result: Any = None) -> None:
        """Replace a function by one that returns `result`; name: with module, as the caller under test finds it.

        What is an exception is raised.
        """
        module, _, attribute = name.rpartition(".")
        owner = import_module(module)
        signature = inspect.signature(getattr(owner, attribute))

        def record(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.calls.append((attribute, dict(bound.arguments)))
            if isinstance(result, BaseException):
                raise result
            return result

        record.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess] # it may be replaced again
        self._monkeypatch.setattr(owner, attribute, record)

    def all(self, name: str) -> list[dict[str, Any]]:
        """The arguments of each call of a function."""
        return [arguments for called, arguments in self.calls if called == name]

    def one(self, name: str) -> dict[str, Any]:
        """The arguments of the only call of a function."""
        [arguments] = self.all(name)
        return arguments
