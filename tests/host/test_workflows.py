"""Test that canvas and API files in workflows/ are equal and run in a real ComfyUI.

What the canvas says is read here as the frontend reads it when Run is pressed, on the definitions of the host, so no
browser is needed. The canvas stores settings by position: an input added in the middle of a node would shift them all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import assets
import pytest
import real_comfyui
from comfyhost import Host
from workflow_graph import (
    NOTE_TYPES,
    Graph,
    Prompt,
    WorkflowError,
    count_extra_values,
    declared_inputs,
    is_widget,
    remove_dependents,
    to_prompt,
)

pytestmark = pytest.mark.host

FOLDER = Path(__file__).parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def canvas(name: str) -> Graph:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def api(name: str) -> Prompt:
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def differences(graph: Graph, prompt: Prompt, definitions: dict[str, Any]) -> list[str]:
    """Differences of a canvas and an API file, except titles and positions."""
    try:
        drawn = to_prompt(graph, definitions)
    except WorkflowError as error:
        return [str(error)]
    found = [f"node {i} is only in one of the two" for i in sorted(drawn.keys() ^ prompt.keys())]
    for i in sorted(drawn.keys() & prompt.keys()):
        ours, theirs = drawn[i], prompt[i]
        if ours["class_type"] != theirs["class_type"]:
            found.append(f"node {i} is {ours['class_type']} on the canvas and {theirs['class_type']} in the API file")
        for name in sorted(ours["inputs"].keys() | theirs["inputs"].keys()):
            values = [side["inputs"].get(name, "nothing") for side in (ours, theirs)]
            if values[0] != values[1]:
                found.append(f"node {i}, {name}: {values[0]!r} on the canvas, {values[1]!r} in the API file")
    return found


@pytest.fixture(scope="session")
def definitions(host: Host) -> dict[str, Any]:
    """/object_info of the version of the canvas files: core nodes change over time."""
    version = host.get("/system_stats")["system"]["comfyui_version"]
    if version != assets.NEWEST_COMFYUI:
        pytest.skip(f"the canvas files are drawn on ComfyUI {assets.NEWEST_COMFYUI}; this one is {version}")
    return host.get("/object_info")


@pytest.mark.parametrize("name", NAMES)
def test_canvas_and_api_file_are_one_graph(name: str, definitions: dict[str, Any]) -> None:
    assert differences(canvas(name), api(name), definitions) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_any_stored_value_is_found(name: str, definitions: dict[str, Any]) -> None:
    """Only values of upload buttons and of linked settings may change."""
    prompt, unread, read = api(name), set(), 0
    for n, node in enumerate(canvas(name)["nodes"]):
        if node["type"] in NOTE_TYPES:
            continue
        unheard = {entry["widget"]["name"] for entry in node["inputs"] if "widget" in entry and entry["link"]}
        places = positions(definitions[node["type"]])
        for v, value in enumerate(node.get("widgets_values", [])):
            graph = canvas(name)
            graph["nodes"][n]["widgets_values"][v] = value + 1 if isinstance(value, int | float) else f"{value}x"
            if differences(graph, prompt, definitions):
                read += 1
            else:
                unread.add((node["type"], v, places.get(v), places.get(v) in unheard))
    assert read >= 10
    assert [at for at in unread if at[2] is not None and not at[3]] == []


def positions(definition: dict[str, Any]) -> dict[int, str]:
    """Where on the canvas a node stores each of its settings."""
    found, place = {}, 0
    for name, spec in declared_inputs(definition).items():
        if is_widget(spec):
            found[place] = name
            place += 1 + count_extra_values(name, spec)
    return found


def _node(graph: Graph, kind: str) -> Graph:
    return next(node for node in graph["nodes"] if node["type"] == kind)


def _input(graph: Graph, kind: str, name: str) -> Graph:
    return next(entry for entry in _node(graph, kind)["inputs"] if entry["name"] == name)


def _swap(values: list, a: int, b: int) -> None:
    values[a], values[b] = values[b], values[a]


def _repeat(graph: Graph, kind: str) -> None:
    graph["nodes"].append(copy.deepcopy(_node(graph, kind)) | {"id": graph["last_node_id"] + 1})


ON_CANVAS: dict[str, Callable[[Graph], object]] = {
    "another setting": lambda g: _node(g, "SteadyScale_SmoothTrajectory")["widgets_values"].__setitem__(1, 0.5),
    "width and height swapped": lambda g: _swap(_node(g, "SteadyScale_UpscaleFrames")["widgets_values"], 2, 3),
    "a setting left out": lambda g: _node(g, "SteadyScale_UpscaleFrames")["widgets_values"].pop(1),
    "a setting too many": lambda g: _node(g, "SteadyScale_UpscaleFrames")["widgets_values"].append(0),
    "a missing node": lambda g: g["nodes"].remove(_node(g, "SaveVideo")),
    "an extra node": lambda g: _repeat(g, "SteadyScale_LoadESRGANModel"),
    "an unknown node": lambda g: _node(g, "SteadyScale_WarpFrames").update(type="SteadyScale_Warp"),
    "another node": lambda g: _node(g, "SteadyScale_EstimateFlow").update(type="SteadyScale_WarpFrames"),
    "a renamed input": lambda g: _input(g, "SteadyScale_WarpFrames", "correction").update(name="fix"),
    "a cut link": lambda g: _input(g, "SteadyScale_EstimateFlow", "frames").update(link=None),
    "a link from elsewhere": lambda g: next(k for k in g["links"] if k[5] == "VIDEO").__setitem__(2, 1),
    "a link to elsewhere": lambda g: g["links"][0].__setitem__(3, 99),
    "a muted node": lambda g: _node(g, "SteadyScale_WarpFrames").update(mode=2),
    "a bypassed node": lambda g: _node(g, "SteadyScale_UpscaleFrames").update(mode=4),
}
IN_API_FILE: dict[str, Callable[[Prompt], object]] = {
    "another setting": lambda p: p["4"]["inputs"].update(seconds=0.5),
    "a missing setting": lambda p: p["6"]["inputs"].pop("pad"),
    "a renamed input": lambda p: p["6"]["inputs"].update(fix=p["6"]["inputs"].pop("correction")),
    "another link": lambda p: p["6"]["inputs"].update(frames=["1", 0]),
    "a missing node": lambda p: p.pop("7"),
    "an extra node": lambda p: p.update({"99": p["2"]}),
    "another node": lambda p: p["2"].update(class_type="UpscaleModelLoader"),
}


@pytest.mark.parametrize("fault", ON_CANVAS)
def test_faults_of_a_canvas_would_be_found(fault: str, definitions: dict[str, Any]) -> None:
    graph = canvas("enhance")
    ON_CANVAS[fault](graph)
    assert graph != canvas("enhance")
    assert differences(graph, api("enhance"), definitions)


@pytest.mark.parametrize("fault", IN_API_FILE)
def test_faults_of_an_api_file_would_be_found(fault: str, definitions: dict[str, Any]) -> None:
    prompt = api("enhance")
    IN_API_FILE[fault](prompt)
    assert prompt != api("enhance")
    assert differences(canvas("enhance"), prompt, definitions)


CHECKPOINTS = ("CheckpointLoaderSimple",)
"""Loaders of files that are too large for tests: a template with one runs up to what needs it."""
FEW_STEPS = 5  # of training, where a template trains


def growth(prompt: Prompt) -> tuple[float, int]:
    """The factor of a template's result, and the pixels it adds to each side."""
    factor, added = 1.0, 0
    for node in prompt.values():
        inputs = node["inputs"]
        if "factor" in inputs:
            assert inputs["resize_to"] == "factor", "the size would depend on the model that is chosen"
            factor *= inputs["factor"]
        added += 2 * inputs.get("pad", 0)
    return factor, added


@pytest.mark.parametrize("name", NAMES)
def test_the_host_accepts_the_api_file_and_runs_it(any_host: Host, name: str) -> None:
    """On a clip of eight frames, under the name that the workflow asks for."""
    prompt = api(name)
    for node in prompt.values():
        if "minutes" in node["inputs"]:
            node["inputs"]["steps"] = FEW_STEPS
    file = next(node["inputs"]["file"] for node in prompt.values() if node["class_type"] == "LoadVideo")
    clip = any_host.base / "input" / file
    real_comfyui.write_clip(clip, 8)
    (width, height, frames), (factor, added) = real_comfyui.video_shape(clip), growth(prompt)
    wanted = (round(width * factor) + added, round(height * factor) + added, frames)
    if any(node["class_type"] in CHECKPOINTS for node in prompt.values()):
        _refused_for_its_checkpoint_alone(any_host, prompt)
        prompt = _saved_without_checkpoint(prompt)
    run = any_host.run(prompt).raise_for_status()
    saved = next(i for i, node in prompt.items() if node["class_type"] == "SaveVideo")
    item = run.outputs[saved]["images"][0]
    assert item["subfolder"] == "SteadyScale"
    assert real_comfyui.video_shape(any_host.base / "output" / item["subfolder"] / item["filename"]) == wanted


def _refused_for_its_checkpoint_alone(host: Host, prompt: Prompt) -> None:
    """All the rest is as the host wants it: it says everything that it finds."""
    run = host.run(prompt)
    assert run.status == "rejected"
    found = [
        (error["type"], error["extra_info"]["input_name"])
        for node in run.reply["node_errors"].values()
        for error in node["errors"]
    ]
    assert found == [("value_not_in_list", "ckpt_name")]


def _saved_without_checkpoint(prompt: Prompt) -> Prompt:
    """The part that runs without a checkpoint, with its frames saved as a video."""
    cut = remove_dependents(prompt, CHECKPOINTS)
    last = [i for i, node in cut.items() if node["class_type"] == "SteadyScale_WarpFrames"]
    saved = next(node for node in prompt.values() if node["class_type"] == "SaveVideo")
    made = {"class_type": "CreateVideo", "inputs": {"images": [last[-1], 0], "fps": 25}}
    return cut | {"made": made, "saved": {**saved, "inputs": {**saved["inputs"], "video": ["made", 0]}}}
