"""Exchange references to a module in the objects that wrap it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from .model_traits import find_module

# Objects within objects that are searched for references to the module.
MAX_DEPTH = 8


def replace_module(model: Callable[..., Tensor], replacement: nn.Module) -> Callable[..., Tensor]:
    """Return a model that calls `replacement` instead of its torch module.

    Wrappers are copied, the model is not modified. A model without a torch module is returned as it is.
    """
    module = find_module(model)
    return model if module is None else Rebinder({id(module): replacement}).rebind(model)


class Rebinder:
    """A replacer of references in objects.

    Copies those that hold a replaced object, and returns all others as they are.

    replaced: replacements by the id of the original. Follows attributes, lists, tuples, dictionaries, bound methods and
    `functools.partial`, but not the closures of functions.
    """

    def __init__(self, replaced: dict[int, Any]) -> None:
        self._replaced = replaced
        self._visited: set[int] = set()

    def rebind(self, value: Any, depth: int = 0) -> Any:
        if id(value) in self._replaced:
            return self._replaced[id(value)]
        if isinstance(value, MethodType):
            return self._rebind_method(value, depth + 1)
        if isinstance(value, functools.partial):
            return self._rebind_partial(value, depth + 1)  # pyright: ignore[reportUnknownArgumentType]  # of any function
        if isinstance(value, (list, tuple)):
            return self._rebind_sequence(value, depth + 1)  # pyright: ignore[reportUnknownArgumentType]  # of any items
        if isinstance(value, dict):
            return self._rebind_dict(value, depth + 1)  # pyright: ignore[reportUnknownArgumentType]  # of any items
        if isinstance(value, (Tensor, nn.Module, type, ModuleType, FunctionType)) or not hasattr(value, "__dict__"):
            return value
        return self._rebind_object(value, depth + 1)

    def _rebind_method(self, method: MethodType, depth: int) -> MethodType:
        owner = self.rebind(method.__self__, depth)
        return method if owner is method.__self__ else MethodType(method.__func__, owner)

    def _rebind_partial(self, value: functools.partial[Any], depth: int) -> functools.partial[Any]:
        parts = value.func, value.args, value.keywords
        function, arguments, keywords = (self.rebind(part, depth) for part in parts)
        is_same = _is_same(parts, (function, arguments, keywords))
        return value if is_same else functools.partial(function, *arguments, **keywords)

    def _rebind_sequence(self, value: Any, depth: int) -> Any:
        items = [self.rebind(item, depth) for item in value]
        if _is_same(value, items):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _rebind_dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        items = {key: self.rebind(item, depth) for key, item in value.items()}
        if _is_same(value.values(), items.values()):
            return value
        copy = value.copy()  # of the same type, which may be an OrderedDict or a defaultdict
        copy.update(items)
        return copy

    def _rebind_object(self, value: object, depth: int) -> object:
        if id(value) in self._visited or depth > MAX_DEPTH:
            return value
        self._visited.add(id(value))
        attributes: dict[str, Any] = value.__dict__
        changed = dict[str, Any]()
        for name, item in attributes.items():
            rebound = self.rebind(item, depth)
            if rebound is not item:
                changed[name] = rebound
        if not changed:
            return value
        copy = object.__new__(type(value))
        copy.__dict__.update(attributes | changed)
        self._replaced[id(value)] = copy
        return copy


def _is_same(first: Any, second: Any) -> bool:
    return all(a is b for a, b in zip(first, second, strict=True))
