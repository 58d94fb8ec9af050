"""Test that each language translates exactly the texts of the schemas.

That a host hands them out is tested in host/test_help.py.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import schemas

import locales

NODES = schemas.read_schemas()
ENGLISH = locales.node_texts(NODES)
TRANSLATED = pytest.mark.parametrize("language", locales.LANGUAGES)
SYNTAX = re.compile(r"[{}|@]")
"""What the frontend's messages (vue-i18n) take for placeholders, plurals and links."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LATIN = re.compile(r"[a-z0-9-]+")


def problems(english: locales.TextTree, tree: locales.TextTree) -> Iterator[str]:
    """The faults of a translation, one a line."""
    texts, done = dict(locales.iter_texts(english)), dict(locales.iter_texts(tree))
    yield from (f"{place} is missing" for place in texts.keys() - done.keys())
    yield from (f"{place} is of no node" for place in done.keys() - texts.keys())
    if list(texts) != list(done):
        yield "the order is not that of the schemas"
    for place in texts.keys() & done.keys():
        text, translated = texts[place], done[place]
        if not translated.strip():
            yield f"{place} is empty: {text}"
        elif SYNTAX.search(translated):
            yield f"{place} has a character that the frontend takes for an instruction: {translated}"
        elif "options" in place and not translated.startswith(text):
            yield f"{place} does not begin with the choice as the tooltips call it: {translated}"
        elif place[-1] in ("tooltip", "description"):
            yield from (f"{place}: {fault}: {translated}" for fault in _faults(text, translated, english, tree, place))


def _faults(
    text: str, translated: str, english: locales.TextTree, tree: locales.TextTree, place: locales.KeyPath
) -> Iterator[str]:
    """What a sentence lost on the way."""
    if translated == text:
        yield "not translated"
    if missing := set(NUMBER.findall(text)) - set(NUMBER.findall(translated)):
        yield f"the numbers {missing} are not there"
    options = english[place[0]]["inputs"].get(place[2], {}).get("options", {}) if len(place) > 2 else {}
    for option in options.values():
        if option in LATIN.findall(text) and option not in LATIN.findall(translated):
            yield f"the choice {option} is not explained"
    for node in english.keys() & tree.keys():
        name, called = english[node]["display_name"], tree[node]["display_name"]
        if name in text and called not in translated:
            yield f"{name} is called {called}"


def test_the_folder_holds_these_languages_and_nothing_else() -> None:
    found = {
        path.relative_to(locales.LOCALES_FOLDER).as_posix()
        for path in locales.LOCALES_FOLDER.rglob("*")
        if path.is_file()
    }
    languages = (locales.ENGLISH, *locales.LANGUAGES)
    assert found == {f"{language}/{name}" for language in languages for name in ("nodeDefs.json", "main.json")}


def test_the_english_is_that_of_the_schemas() -> None:
    """If this fails, run `python scripts/locales.py`."""
    assert locales.read_texts("en", "nodeDefs.json") == ENGLISH
    assert locales.read_texts("en", "main.json") == locales.category_texts(NODES)
    assert not [text for _, text in locales.iter_texts(ENGLISH) if SYNTAX.search(text)]


@TRANSLATED
def test_translation_is_complete_and_keeps_numbers_and_names(language: str) -> None:
    assert list(problems(ENGLISH, locales.read_texts(language, "nodeDefs.json"))) == []


@TRANSLATED
def test_the_menu_has_a_name_for_each_folder(language: str) -> None:
    folders = locales.read_texts(language, "main.json")["nodeCategories"]
    assert folders.keys() == locales.category_texts(NODES)["nodeCategories"].keys()
    assert all(folders.values())


@TRANSLATED
def test_translated_node_names_are_unique(language: str) -> None:
    names = [entry["display_name"] for entry in locales.read_texts(language, "nodeDefs.json").values()]
    assert len(set(names)) == len(NODES)


@TRANSLATED
def test_translated_input_names_are_unique(language: str) -> None:
    for node, entry in locales.read_texts(language, "nodeDefs.json").items():
        names = [socket["name"] for socket in entry["inputs"].values()]
        assert len(set(names)) == len(names), node


WARP = "SteadyScale_WarpFrames"
FAULTS: dict[str, Callable[[locales.TextTree], object]] = {
    "an input that no node has": lambda t: t[WARP]["inputs"].update(padding=t[WARP]["inputs"].pop("pad")),
    "an input that is missing": lambda t: t[WARP]["inputs"].pop("pad"),
    "a node that is missing": lambda t: t.pop(WARP),
    "a choice that is missing": lambda t: t[WARP]["inputs"]["border"]["options"].pop("wrap"),
    "an output that is missing": lambda t: t[WARP]["outputs"].pop("1"),
    "an empty text": lambda t: t[WARP]["inputs"]["pad"].update(tooltip=""),
    "a text left in English": lambda t: t[WARP].update(description=ENGLISH[WARP]["description"]),
    "a placeholder": lambda t: t[WARP].update(description="{frames}"),
    "a choice that is not explained": lambda t: t[WARP]["inputs"]["border"].update(tooltip="crop"),
    "a number that is lost": lambda t: t["SteadyScale_SmoothTrajectory"]["inputs"]["max_zoom"].update(tooltip="x"),
    "a node by another name": lambda t: t["SteadyScale_SmoothTrajectory"].update(display_name="x"),
    "a choice under a new name": lambda t: t[WARP]["inputs"]["border"]["options"].update(wrap="x"),
}


@TRANSLATED
@pytest.mark.parametrize("fault", FAULTS)
def test_every_injected_fault_is_found(fault: str, language: str) -> None:
    tree = locales.read_texts(language, "nodeDefs.json")
    broken = copy.deepcopy(tree)
    FAULTS[fault](broken)
    assert broken != tree
    assert list(problems(ENGLISH, broken))


def test_only_translations_of_changed_texts_are_emptied() -> None:
    before = {"A": {"inputs": {"x": {"name": "x", "tooltip": "one"}, "y": {"name": "y", "tooltip": "two"}}}}
    done = {"A": {"inputs": {"x": {"name": "ix", "tooltip": "eins"}, "y": {"name": "üpsilon", "tooltip": "zwei"}}}}
    now = {"A": {"inputs": {"x": {"name": "x", "tooltip": "one"}, "y": {"name": "y", "tooltip": "three"}}}}
    assert locales.merge_translations(now, before, done) == {
        "A": {"inputs": {"x": {"name": "ix", "tooltip": "eins"}, "y": {"name": "üpsilon", "tooltip": ""}}}
    }
    assert locales.merge_translations(now, before, done, keep_reworded=True) == done


def test_new_node_reuses_existing_translations() -> None:
    before = {"A": {"inputs": {"x": {"name": "fill", "tooltip": "one", "options": {"fill": "fill"}}}}}
    done = {"A": {"inputs": {"x": {"name": "Füllung", "tooltip": "eins", "options": {"fill": "fill (füllen)"}}}}}
    now = {"B": {"description": "one", "inputs": {"y": {"name": "fill", "tooltip": "new"}}}}
    assert locales.merge_translations(now, before, done) == {
        "B": {"description": "eins", "inputs": {"y": {"name": "Füllung", "tooltip": ""}}}
    }


def test_dots_in_names_are_escaped() -> None:
    node = schemas.NodeSchema(
        "Pack.Node", "Node", "It does.", "a/b", (schemas.NodeSocket("x.y", "an x", ("1.5",)),), ()
    )
    tree = locales.node_texts([node])
    assert tree["Pack_Node"]["inputs"]["x_y"]["options"] == {"1_5": "1.5"}
    assert locales.category_texts([node]) == {"nodeCategories": {"a": "a", "b": "b"}}


def test_reading_the_schemas_restores_the_modules() -> None:
    before = dict(sys.modules)
    schemas.read_schemas()
    changed = {name for name in before.keys() | sys.modules.keys() if before.get(name) is not sys.modules.get(name)}
    assert not {name for name in changed if name.startswith(("comfy", "folder_paths", schemas.PACKAGE))}


def test_socket_without_tooltip_is_reported() -> None:
    with pytest.raises(ValueError, match="Pack_Node lacks a name or a tooltip"):
        schemas.parse_schema(
            {
                "node_id": "Pack_Node",
                "display_name": "Node",
                "description": "It does.",
                "category": "a",
                "inputs": [{"id": "x"}],
                "outputs": [],
            }
        )
