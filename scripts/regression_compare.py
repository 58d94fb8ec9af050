"""Compare two records of regression.py; changed wording is not a failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]
Errors = Callable[..., str]
"""What the program writes to stderr when it is called with these words."""

WORDING = ("tooltip", "display_name", "description", "output_tooltips", "category", "placeholder")  # of schemas


def differences(before: Record, after: Record, errors: Errors) -> tuple[list[str], list[str]]:
    """Two lists of lines: what must not differ, and differences of wording."""
    failures: list[str] = []
    wording: list[str] = []
    for kind in ("runs", "graphs"):
        for name in before[kind]:
            failures += _result_differences(f"{kind} {name}", before[kind][name], after[kind].get(name))
    for name, node in before["nodes"].items():
        other = after["nodes"].get(name)
        if other is None:
            failures.append(f"node {name} is missing")
            continue
        for where, old, new, is_text in _leaf_differences(node, other):
            (wording if is_text else failures).append(f"node {name}{where}: {old!r} is now {new!r}")
    wording += [f"node {name} is new" for name in after["nodes"] if name not in before["nodes"]]
    for name, page in before["help"].items():
        if name not in after["help"]:
            failures.append(f"command '{name}' is missing")
            continue
        failures += _flag_differences(errors, name, page, after["help"][name])
        if page != after["help"][name]:
            wording.append(f"help of '{name}' differs")
    return failures, wording


def _result_differences(where: str, old: Record, new: Record | None) -> list[str]:
    if new is None:
        return [f"{where} is missing"]
    lines = []
    for key, value in old.items():
        other = new.get(key)
        if value == other:
            continue
        if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
            places = [i for i, (a, b) in enumerate(zip(value, other, strict=True)) if a != b]
            lines.append(f"{where}: {key} differ at {len(places)} of {len(value)}, first at {places[0]}")
        elif isinstance(value, list) and isinstance(other, list):
            lines.append(f"{where}: {len(value)} {key} are now {len(other)}")
        else:
            lines.append(f"{where}: {key} {value!r} is now {other!r}")
    return lines


def _leaf_differences(old: Any, new: Any, where: str = "", text: bool = False) -> Iterator[tuple[str, Any, Any, bool]]:
    """(place, old, new, whether that is wording) of nested tables; their order counts."""
    if isinstance(old, dict) and isinstance(new, dict):
        if [key for key in old if key in new] != [key for key in new if key in old]:
            yield f"{where} (order)", list(old), list(new), text
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _leaf_differences(old.get(key), new.get(key), f"{where}.{key}", text or key in WORDING)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _leaf_differences(a, b, f"{where}[{i}]", text)
    elif old != new:
        yield where, old, new, text


def _flag_differences(errors: Errors, name: str, old_page: str, new_page: str) -> Iterator[str]:
    old, new = flags_of(old_page), flags_of(new_page)
    for flag, (choices, default) in old.items():
        if flag not in new:
            if not _is_accepted(errors, name, new_page, flag):
                yield f"'{name}' no longer accepts {flag}"
            continue
        if choices != new[flag][0]:
            yield f"'{name}' {flag}: the choices {choices} are now {new[flag][0]}"
        if default and new[flag][1] and default != new[flag][1]:
            yield f"'{name}' {flag}: the default {default} is now {new[flag][1]}"


def flags_of(page: str) -> dict[str, tuple[list[str], str]]:
    """The choices of each flag on a help page, and its default if the page has one."""
    found = {}
    for match in re.finditer(r"^  (-.*?)(?:(?:  +|\n {8,})(.*))?$", page, re.MULTILINE):
        choices = re.search(r"\{(.*?)\}", match[1])
        default = re.search(r"\(default ([^\s():]+)\)", match[2] or "")
        for flag in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", match[1]):
            found[flag] = (choices[1].split(",") if choices else [], default[1] if default else "")
    return found


def _is_accepted(errors: Errors, name: str, page: str, flag: str) -> bool:
    """Whether a flag that is missing on the help page still works as a hidden alias."""
    listed = page.partition("positional arguments:")[2].partition("options:")[0]
    places = re.findall(r"^  ([A-Za-z]+)(?:  |$)", listed, re.MULTILINE)
    return "unrecognized arguments" not in errors(*name.split(), *("no-such-file" for _ in places), flag)
