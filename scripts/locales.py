"""Update locales/ from the nodes' schemas.

    python scripts/locales.py [--keep]

A translation whose English has changed is emptied, and a new one is empty, unless the same English is translated
elsewhere. Empty texts are listed with their file: fill them in. With `--keep`, for English that was only reworded,
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
    """The content of nodeDefs.json, in English.

    Frontends up to 1.58 do not translate the options of a dropdown; tooltips explain them.
    """
    return {
        escape_key(node.node_id): {
            "display_name": node.display_name,
            "description": node.description,
            "inputs": {
                escape_key(socket.name): {
                    "name": socket.label,
                    "tooltip": socket.tooltip,
                    **(
                        {"options": {escape_key(option): option for option in socket.options}} if socket.options else {}
                    ),
                }
                for socket in node.inputs
            },
            "outputs": {
                str(number): {"name": socket.label, "tooltip": socket.tooltip}
                for number, socket in enumerate(node.outputs)
            },
        }
        for node in nodes
    }


def category_texts(nodes: list[schemas.NodeSchema]) -> TextTree:
    """The content of main.json: the folders of the node menu."""
    return {"nodeCategories": {escape_key(part): part for node in nodes for part in node.category.split("/")}}


def escape_key(name: str) -> str:
    """The name as the frontend's key, in which a dot separates levels."""
    return name.replace(".", "_")


def iter_texts(tree: TextTree, key_path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Each text with the path of its keys."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from iter_texts(value, (*key_path, name))
        else:
            yield (*key_path, name), value


def merge_translations(
    new_english: TextTree, old_english: TextTree, translation: TextTree, *, keep_reworded: bool = False
) -> TextTree:
    """The translation of the new English texts, with "" where none is known.

    A translation is kept if the English at its path has not changed or, with `keep_reworded`, in any case. Otherwise
    one of the same English at another path is used.
    """
    old, translated = dict(iter_texts(old_english)), dict(iter_texts(translation))
    by_english = {
        (_text_kind(path), text): translated[path] for path, text in reversed(old.items()) if translated.get(path)
    }
    new: TextTree = {}
    for path, text in iter_texts(new_english):
        current = translated.get(path) if keep_reworded or old.get(path) == text else None
        branch = new
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = current or by_english.get((_text_kind(path), text), "")
    return new


def _text_kind(key_path: KeyPath) -> str:
    """The kind of a text: names and options may be translated differently."""
    if "options" in key_path:
        return "option"
    return "text" if key_path[-1] in ("tooltip", "description") else key_path[-1]


def read_texts(language: str, name: str) -> TextTree:
    """Read a file of a language; empty if it does not exist."""
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
    for name, english in (("nodeDefs.json", node_texts(nodes)), ("main.json", category_texts(nodes))):
        before = read_texts(ENGLISH, name)
        for language in LANGUAGES:
            tree = merge_translations(english, before, read_texts(language, name), keep_reworded=keep)
            _write_texts(language, name, tree)
            for path, text in iter_texts(tree):
                if not text:
                    missing += 1
                    print(f"locales/{language}/{name}: {'.'.join(path)}\n    {dict(iter_texts(english))[path]}")
        _write_texts(ENGLISH, name, english)
    print(f"{missing} texts to translate" if missing else "everything is translated")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
