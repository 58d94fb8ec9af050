"""Seeded mutations of bytes, text and nested tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

ODD_NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, -(2**31), 2**63 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS, 10**30, 0.5, -0.0, 1e308, 1e-308, 5e-324, float("nan"), float("inf"), float("-inf"),
    "", "0", "1/0", "0/1", "-25/1", "nan", "x" * 5000, "../../etc/passwd", "a\x00b", "é\n",
    True, False, [], {}, [[]], [0], [None], {"a": 1},
)  # fmt: skip
MAX_EDITS = 4


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change 1 to MAX_EDITS places: flip, overwrite, insert, remove or repeat bytes, or truncate."""
    content = bytearray(data)
    for _ in range(rng.randint(1, MAX_EDITS)):
        rng.choice(_BYTE_EDITS)(content, rng)
    return bytes(content)


def mutate_text(text: str, rng: random.Random) -> bytes:
    """Change words, lines or single bytes of a text."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, MAX_EDITS)):
        row = rng.randrange(len(lines))
        edit = rng.randrange(5)
        if edit == 0:
            lines.insert(rng.randrange(len(lines) + 1), lines[row])
        elif edit == 1 and len(lines) > 1:
            del lines[row]
        elif edit == 2:
            other = rng.randrange(len(lines))
            lines[row], lines[other] = lines[other], lines[row]
        else:
            words = lines[row].split(" ")
            words[rng.randrange(len(words))] = str(rng.choice(ODD_VALUES))
            lines[row] = " ".join(words)
    data = "\n".join(lines).encode("utf-8", "replace")
    return mutate_bytes(data, rng) if rng.random() < 0.2 else data


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """Return a copy of nested dicts and lists in which 1 to MAX_EDITS entries are replaced, removed, added or moved."""
    copy = _copy(tree)
    for _ in range(rng.randint(1, MAX_EDITS)):
        places = [*_places(copy)]
        if not places:
            return rng.choice(ODD_VALUES)
        parent, key = rng.choice(places)
        edit = rng.randrange(6)
        if edit == 0:
            del parent[key]
        elif edit == 1 and isinstance(parent, dict):
            parent[rng.choice(("", "extra", "x" * 200, "é"))] = rng.choice(ODD_VALUES)
        elif edit == 1:
            parent.insert(key, _copy(parent[key]))
        elif edit == 2:
            other_parent, other_key = rng.choice(places)
            parent[key] = _copy(other_parent[other_key])
        elif edit == 3 and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * rng.choice((-1, 0, 0.5, 2, 1e6)) + rng.choice((0, 1, -1))
        else:
            parent[key] = rng.choice(ODD_VALUES)
    return copy


def _flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice((*ODD_NUMBERS, rng.getrandbits(63))) % (1 << 8 * size)
    content[start : start + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _insert(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    content[start:start] = rng.randbytes(rng.randint(1, 64))


def _remove(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    del content[start : start + rng.choice((1, 2, 4, 16, 64, 1024))]


def _repeat(content: bytearray, rng: random.Random) -> None:
    start, size = rng.randrange(len(content) + 1), rng.randint(1, 512)
    content[start:start] = content[start : start + size]


def _truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content) + 1) :]


_BYTE_EDITS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _overwrite, _overwrite, _insert, _remove, _repeat, _truncate,
)  # fmt: skip


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def _places(tree: Any) -> Any:
    """Yield (container, key) of all entries."""
    if isinstance(tree, (dict, list)):
        for key in [*tree] if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])
