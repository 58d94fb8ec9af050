"""Options of an operation on clips, and settings by the names of these options."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from dataclasses import astuple
from enum import Enum
from fractions import Fraction
from typing import Any, NoReturn

from ..core.bars import Bars
from ..core.batch.tasks import OPERATIONS
from ..core.clip import ClipError
from ..core.lens import LENSES, Lens
from .device_options import add_inference_options
from .io_options import add_decoding_options, add_encoding_options, add_fps_option, file_options
from .stabilize_options import add_stabilize_options, stabilize_settings
from .upscale_options import add_upscale_options, upscale_settings


def add_operation_options(parser: argparse.ArgumentParser, operation: str) -> None:
    """Add the options of the command of that name that concern one clip.

    These are all without device, resuming, IN and OUT.
    """
    add_fps_option(parser)
    add_encoding_options(parser)
    if operation != "stabilize":
        add_upscale_options(parser)
        add_inference_options(parser)
    if operation != "upscale":
        add_stabilize_options(parser)
    add_decoding_options(parser)


def operation_arguments(operation: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments for the operation's function in `core.api`.

    args: parsed with the options of `add_operation_options`.
    """
    if operation == "stabilize":
        return {"settings": stabilize_settings(args), "mask": args.mask, **file_options(args)}
    upscaling = {"model": args.model, "deflicker": args.temporal, **file_options(args)}
    if operation == "upscale":
        return {"settings": upscale_settings(args), **upscaling}
    return {
        "upscaling": upscale_settings(args),
        "stabilization": stabilize_settings(args),
        "mask": args.mask,
        **upscaling,
    }


def option_words(operation: str, args: argparse.Namespace) -> list[str]:
    """Return the options that differ from their defaults, as command-line words."""
    parser = argparse.ArgumentParser(add_help=False)
    add_operation_options(parser, operation)
    changed = {a.dest: a for a in parser._actions if getattr(args, a.dest) != a.default}
    return [word for action in changed.values() for word in _option_words(action, _plain(getattr(args, action.dest)))]


def _plain(value: Any) -> Any:
    """The text of a parsed value, from which it is parsed again."""
    if isinstance(value, tuple):  # a size
        return "x".join(map(str, value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Bars):
        return ",".join(map(str, astuple(value)))
    if isinstance(value, Lens):
        return next((name for name, known in LENSES.items() if known == value), f"{value.fov:g}")
    return str(value) if isinstance(value, Fraction) else value


class OperationSettings:
    """Settings of the command line, and of single clips of a list.

    args: parsed by a parser with the options of 'enhance', which are those of all operations.
    Raises ClipError for an option that the operation does not have.
    """

    def __init__(self, operation: str, args: argparse.Namespace) -> None:
        self._operation, self._args = operation, args
        self._parser = _SettingsParser(add_help=False, allow_abbrev=False)
        add_operation_options(self._parser, operation)
        self._actions = {option.lstrip("-"): a for a in self._parser._actions for option in a.option_strings}
        all_options = argparse.ArgumentParser(add_help=False)
        add_operation_options(all_options, "enhance")
        known = {action.dest for action in self._parser._actions}
        for action in all_options._actions:
            if action.dest not in known and getattr(args, action.dest) != action.default:
                others = " and ".join(name for name in OPERATIONS if name != operation)
                raise ClipError(f"{action.option_strings[0]} is for {others} only; --operation is {operation}")

    def arguments(self, settings: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Keyword arguments of the operation's function, for one clip.

        settings: replace the options of the command line; by the names of these options, such as {"scale": 2,
        "no_reuse": true}. place: of the settings, for messages.
        Raises ClipError.
        """
        if not settings:
            return operation_arguments(self._operation, self._args)
        args, words = copy.copy(self._args), list[str]()
        try:
            for name, value in settings.items():
                action = self._action(name)
                self._reset_alternatives(action, args)
                words += _option_words(action, value)
            self._parser.parse_args(words, args)
            return operation_arguments(self._operation, args)
        except (ValueError, ClipError) as error:
            raise ClipError(f"{place}: {error}") from error

    def _action(self, name: str) -> argparse.Action:
        action = self._actions.get(name.replace("_", "-"))
        if action is None:
            raise ClipError(
                f"{name} is not a setting of {self._operation}; settings are the options that "
                f"`steadyscale {self._operation} --help` lists for a clip, such as crf"
            )
        return action

    def _reset_alternatives(self, action: argparse.Action, args: argparse.Namespace) -> None:
        """Give the options that exclude `action`, as --size does --scale, their defaults."""
        for group in self._parser._mutually_exclusive_groups:
            if action in group._group_actions:
                for other in group._group_actions:
                    setattr(args, other.dest, other.default)


class _SettingsParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument --"))


def _option_words(action: argparse.Action, value: Any) -> list[str]:
    """The option of a command line for a value of JSON or CSV."""
    option = action.option_strings[0]
    if action.nargs == 0:
        if str(value).lower() not in ("true", "false"):
            raise ValueError(f"{option.lstrip('-')} is {value!r}; it has to be true or false")
        return [option] if str(value).lower() == "true" else []
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{option.lstrip('-')} is {value!r}; it has to be a number or text")
    return [f"{option}={value}"]
