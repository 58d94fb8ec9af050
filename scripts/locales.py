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

LOCALES_FOLDER = Path(__file__).parents[1] / "locales"
ENGLISH = "en"
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "es", "ru")

TextTree = dict[str, Any]  # of strings and more trees
KeyPath = tuple[str, ...]


def node_texts(nodes: list[schemas.NodeSchema]) -> TextTree:
    """nodeDefs.json of the schemas. Inputs keep their own names in English, as ComfyUI's do: graphs and help use them.

    Frontends up to 1.58 show the options of a dropdown as they are, whatever is said here; tooltips explain them.
    """
    return {
        escape_key(node.node_id): {
            "display_name": node.display_name,
            "description": node.description,
            "inputs": {
                escape_key(socket.name): {
                    "name": socket.name,
                    "tooltip": socket.tooltip,
                    **(
                        {"options": {escape_key(option): option for option in socket.options}} if socket.options else {}
                    ),
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


def category_texts(nodes: list[schemas.NodeSchema]) -> TextTree:
    """main.json of the schemas: each folder of the node menu by itself."""
    return {"nodeCategories": {escape_key(part): part for node in nodes for part in node.category.split("/")}}


def escape_key(name: str) -> str:
    """The name as the frontend looks it up, where a dot would lead one level deeper."""
    return name.replace(".", "_")


def iter_texts(tree: TextTree, key_path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text with the keys that lead to it."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from iter_texts(value, (*key_path, name))
        else:
            yield (*key_path, name), value


def merge_translations(
    new_english: TextTree, old_english: TextTree, translation: TextTree, *, keep_reworded: bool = False
) -> TextTree:
    """The translation of the English `now`, with what `translation` of the English `before` has for it, else "".

    A text is the same if its English is, or, with `keep`, if its place is; its own place is asked first, then others.
    """
    old, done = dict(iter_texts(old_english)), dict(iter_texts(translation))
    elsewhere = {(_text_kind(place), text): done[place] for place, text in reversed(old.items()) if done.get(place)}
    new: TextTree = {}
    for place, text in iter_texts(new_english):
        here = done.get(place) if keep_reworded or old.get(place) == text else None
        branch = new
        for name in place[:-1]:
            branch = branch.setdefault(name, {})
        branch[place[-1]] = here or elsewhere.get((_text_kind(place), text), "")
    return new


def _text_kind(key_path: KeyPath) -> str:
    """What sort of text stands there: the same word is not translated alike as a name and as a choice."""
    if "options" in key_path:
        return "option"
    return "text" if key_path[-1] in ("tooltip", "description") else key_path[-1]


def read_texts(language: str, name: str) -> TextTree:
    """One file of a language; empty where there is none."""
    path = LOCALES_FOLDER / language / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_texts(language: str, name: str, tree: TextTree) -> None:
    path = LOCALES_FOLDER / language / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep translations of English that has been reworded")
    keep = parser.parse_args().keep
    nodes = schemas.read_schemas()
    missing = 0
    for name, now in (("nodeDefs.json", node_texts(nodes)), ("main.json", category_texts(nodes))):
        before = read_texts(ENGLISH, name)
        for language in LANGUAGES:
            tree = merge_translations(now, before, read_texts(language, name), keep_reworded=keep)
            _write_texts(language, name, tree)
            for place, text in iter_texts(tree):
                if not text:
                    missing += 1
                    print(f"locales/{language}/{name}: {'.'.join(place)}\n    {dict(iter_texts(now))[place]}")
        _write_texts(ENGLISH, name, now)
    print(f"{missing} texts to translate" if missing else "everything is translated")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
