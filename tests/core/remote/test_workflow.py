from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_comfyui import LOAD_VIDEO_SPEC, SAVE_VIDEO_SPEC
from steadyscale.core.remote.workflow import (
    RunError,
    Setting,
    apply_settings,
    find_local_files,
    node_title,
    parse_setting,
    read_workflow,
)

DEFINITIONS = {"LoadVideo": LOAD_VIDEO_SPEC, "SaveVideo": SAVE_VIDEO_SPEC}


def graph() -> dict:
    loads = {"file": "there.mp4", "note": "a"}
    return {
        "1": {"class_type": "LoadVideo", "inputs": loads, "_meta": {"title": "Holiday v1.2"}},
        "2:7": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "prefix": "out"}},
        "3": {"class_type": "Third.Party", "inputs": {"values.a": 1}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.file=a=b.mp4", Setting("1", "file", "a=b.mp4")),
        ("LoadVideo.file=x", Setting("1", "file", "x")),
        ("Holiday v1.2.file=x", Setting("1", "file", "x")),
        ("2:7.prefix=", Setting("2:7", "prefix", "")),
        ("Third.Party.values.a=2", Setting("3", "values.a", "2")),
    ],
)
def test_a_node_is_named_by_id_class_or_title(text: str, found: Setting):
    assert parse_setting(graph(), text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.file", "NODE.INPUT=VALUE"),
        ("file=3", "NODE.INPUT=VALUE"),
        ("9.file=x", "no node 9; it has 1 (Holiday v1.2)"),
    ],
)
def test_invalid_settings_name_what_is_valid(text: str, words: str):
    with pytest.raises(RunError) as caught:
        parse_setting(graph(), text)
    assert words in str(caught.value)


def test_a_name_of_two_nodes_is_refused_and_an_id_is_not():
    two = graph() | {"4": graph()["1"]}
    with pytest.raises(RunError, match=r"2 nodes are a LoadVideo; name one by its id: 1, 4"):
        parse_setting(two, "LoadVideo.file=x")
    assert parse_setting(two, "4.file=x").node == "4"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("note", "24", "24"),
        ("fps", "24", 24),
        ("fps", "23.976", 23.976),
        ("count", "-3", -3),
        ("loop", "true", True),
        ("kind", "gaussian", "gaussian"),
        ("newer", "24", 24),
        ("newer", "auto", "auto"),
        ("fps", '["3", 1]', ["3", 1]),
    ],
)
def test_values_have_the_type_that_the_node_wants(name: str, text: str, value: object):
    before = graph()
    result = apply_settings(before, [Setting("1", name, text)], DEFINITIONS)["1"]["inputs"][name]
    assert result == value
    assert type(result) is type(value)
    assert before == graph(), "the graph that was given stays as it was"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("count", "1.5", "a whole number"),
        ("count", "true", "a whole number"),
        ("fps", "fast", "a number"),
        ("fps", "NaN", "a number"),
        ("loop", "1", "true or false"),
        ("fiel", "x", "node 1 (Holiday v1.2) has no input fiel; it has file, note, fps"),
    ],
)
def test_values_of_another_type_and_unknown_inputs_are_refused(name: str, text: str, words: str):
    with pytest.raises(RunError) as caught:
        apply_settings(graph(), [Setting("1", name, text)], DEFINITIONS)
    assert words in str(caught.value)


def test_a_node_that_the_server_does_not_know_takes_anything():
    assert apply_settings(graph(), [Setting("3", "new", "2.5")], DEFINITIONS)["3"]["inputs"]["new"] == 2.5


def test_settings_of_a_dropdowns_choice_are_set_by_their_full_name() -> None:
    spec = {"input": {"required": {"format": ["COMFY_DYNAMICCOMBO_V3", {"options": []}], "fps": ["FLOAT", {}]}}}
    prompt = {"1": {"class_type": "SaveVideo", "inputs": {"format": "auto"}}}
    settings = [Setting("1", "format", "mp4"), Setting("1", "format.codec", "h264"), Setting("1", "format.crf", "20")]
    inputs = apply_settings(prompt, settings, {"SaveVideo": spec})["1"]["inputs"]
    assert inputs == {"format": "mp4", "format.codec": "h264", "format.crf": 20}
    with pytest.raises(RunError, match=r"has no input fps\.codec"):
        apply_settings(prompt, [Setting("1", "fps.codec", "h264")], {"SaveVideo": spec})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("clip.mp4", "there.mp4", "key.pem", "wanted.xyz"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("in_graph", "set_now", "goes"),
    [
        ("clip.mp4", None, "clip.mp4"),
        ("there.mp4", None, None),  # the server has one of that name
        ("key.pem", None, None),  # somebody else's graph does not have our keys sent away
        ("nowhere.mp4", None, None),
        ("there.mp4", "there.mp4", "there.mp4"),  # but the user says which
        ("there.mp4", "wanted.xyz", "wanted.xyz"),
        ("there.mp4", "nowhere.mp4", None),
        ("x" * 5000 + ".mp4", None, None),
        ("\0.mp4", None, None),
    ],
)
def test_which_files_are_uploaded(here: Path, in_graph: str, set_now: str | None, goes: str | None):
    prompt = graph()
    prompt["1"]["inputs"] |= {"file": in_graph, "note": "clip.mp4"}
    settings = [Setting("1", "file", set_now)] if set_now else []
    prompt = apply_settings(prompt, settings, DEFINITIONS)
    expected = [("1", "file", Path(goes))] if goes else []
    assert list(find_local_files(prompt, settings, DEFINITIONS)) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "no graph in API format"),
        ("{}", "no graph in API format"),
        ('{"1": {"class_type": 3, "inputs": {}}}', "no graph in API format"),
        ('{"1": {"class_type": "A", "inputs": {}, "_meta": 1}}', "no graph in API format"),
        ('{"nodes": [], "links": []}', "Export (API)"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_files_that_are_no_graph_are_named(tmp_path: Path, content: str, words: str):
    file = tmp_path / "graph.json"
    file.write_text(content)
    with pytest.raises(RunError) as caught:
        read_workflow(file)
    assert words in str(caught.value)
    assert "graph.json" in str(caught.value)


def test_a_graph_is_read_and_its_nodes_are_called_as_the_user_does(tmp_path: Path):
    (tmp_path / "g.json").write_text(json.dumps(graph()))
    prompt = read_workflow(tmp_path / "g.json")
    assert prompt == graph()
    assert [node_title(prompt, node) for node in (*prompt, "gone")] == [
        "Holiday v1.2",
        "SaveVideo",
        "Third.Party",
        "a node",
    ]
    with pytest.raises(RunError, match=r"nowhere\.json cannot be read"):
        read_workflow(tmp_path / "nowhere.json")
