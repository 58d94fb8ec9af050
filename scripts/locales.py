"""Brings locales/ in line with the nodes: the English from their schemas, and of the other languages what still holds.

    python scripts/locales.py [--keep]

A text whose English has changed is emptied, and a new one starts empty, unless the same English is translated elsewhere
already. What is empty is listed: fill it in, in the file that is named. `--keep` is for English that was only reworded:
nothing is emptied. The host reads these files when it starts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import schemas

FOLDER = Path(__file__).parents[1] / "locales"
ENGLISH = "en"
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "es", "ru")

Tree = dict[str, Any]  # of strings and more trees
Place = tuple[str, ...]


def english(nodes: list[schemas.Node]) -> Tree:
    """nodeDefs.json of the schemas. Inputs keep their own names in English, as ComfyUI's do: graphs and help use them.

    Frontends up to 1.58 show the options of a dropdown as they are, whatever is said here; tooltips explain them.
    """
    return {
        key(node.node_id): {
            "display_name": node.display_name,
            "description": node.description,
            "inputs": {
                key(socket.name): {
                    "name": socket.name,
                    "tooltip": socket.tooltip,
                    **({"options": {key(option): option for option in socket.options}} if socket.options else {}),
                }
                for socket in node.inputs
            },
            "outputs": {
                str(number): {"name": socket.name, "tooltip": socket.tooltip}
                for number, socket in enumerate(node.outputs)
            },
        }
        for node in nodes
    }


def categories(nodes: list[schemas.Node]) -> Tree:
    """main.json of the schemas: each folder of the node menu by itself."""
    return {"nodeCategories": {key(part): part for node in nodes for part in node.category.split("/")}}


def key(name: str) -> str:
    """The name as the frontend looks it up, where a dot would lead one level deeper."""
    return name.replace(".", "_")


def leaves(tree: Tree, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every text with the keys that lead to it."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*place, name))
        else:
            yield (*place, name), value


def renewed(now: Tree, before: Tree, translation: Tree, *, keep: bool = False) -> Tree:
    """The translation of the English `now`, with what `translation` of the English `before` has for it, else "".

    A text is the same if its English is, or, with `keep`, if its place is; its own place is asked first, then others.
    """
    old, done = dict(leaves(before)), dict(leaves(translation))
    elsewhere = {(_kind(place), text): done[place] for place, text in reversed(old.items()) if done.get(place)}
    new: Tree = {}
    for place, text in leaves(now):
        here = done.get(place) if keep or old.get(place) == text else None
        branch = new
        for name in place[:-1]:
            branch = branch.setdefault(name, {})
        branch[place[-1]] = here or elsewhere.get((_kind(place), text), "")
    return new


def _kind(place: Place) -> str:
    """What sort of text stands there: the same word is not translated alike as a name and as a choice."""
    if "options" in place:
        return "option"
    return "text" if place[-1] in ("tooltip", "description") else place[-1]


def read(language: str, name: str) -> Tree:
    """One file of a language; empty where there is none."""
    path = FOLDER / language / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write(language: str, name: str, tree: Tree) -> None:
    path = FOLDER / language / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep translations of English that has been reworded")
    keep = parser.parse_args().keep
    nodes = schemas.read()
    missing = 0
    for name, now in (("nodeDefs.json", english(nodes)), ("main.json", categories(nodes))):
        before = read(ENGLISH, name)
        for language in LANGUAGES:
            tree = renewed(now, before, read(language, name), keep=keep)
            _write(language, name, tree)
            for place, text in leaves(tree):
                if not text:
                    missing += 1
                    print(f"locales/{language}/{name}: {'.'.join(place)}\n    {dict(leaves(now))[place]}")
        _write(ENGLISH, name, now)
    print(f"{missing} texts to translate" if missing else "everything is translated")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
