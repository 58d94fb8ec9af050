"""Test that a real ComfyUI serves and runs the subgraph blueprints."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path

import pytest
import real_comfyui
from comfyhost import Host
from workflow_graph import Graph, Prompt, WorkflowError, add_missing_defaults, list_subgraphs, to_prompt

pytestmark = pytest.mark.host

FOLDER = Path(__file__).parents[2] / "subgraphs"
FILES = sorted(FOLDER.glob("*.json"))


def read(file: Path) -> Graph:
    return json.loads(file.read_text(encoding="utf-8"))


def placed(graph: Graph, clip: str) -> Graph:
    """A canvas with the blueprint between Load Video and Save Video."""
    node = graph["nodes"][0]
    load = {"id": 11, "type": "LoadVideo", "mode": 0, "inputs": [], "widgets_values": [clip, "image"]}
    save = {"id": 12, "type": "SaveVideo", "mode": 0, "widgets_values": ["SteadyScale/blueprint", "auto", "auto"]}
    save["inputs"] = [{"name": "video", "type": "VIDEO", "link": 2}]
    node["inputs"][0]["link"] = 1
    return graph | {
        "nodes": [load, node, save],
        "links": [[1, 11, 0, node["id"], 0, "IMAGE,VIDEO"], [2, node["id"], 0, 12, 0, "VIDEO"]],
    }


def test_host_lists_the_blueprints(host: Host) -> None:
    offered = host.get("/global_subgraphs")
    ours = {
        entry["name"]: i for i, entry in offered.items() if entry["info"]["node_pack"] == "custom_nodes.steadyscale"
    }
    assert set(ours) == {file.stem for file in FILES}
    for file in FILES:
        entry = host.get(f"/global_subgraphs/{urllib.parse.quote(ours[file.stem])}")
        assert json.loads(entry["data"]) == read(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_blueprint_stores_every_setting(host: Host, file: Path) -> None:
    definitions, graph = host.get("/object_info"), read(file)
    assert add_missing_defaults(graph, definitions) == graph
    for node in list_subgraphs(graph)[0]["nodes"]:
        node["widgets_values"].append("one too many")
        with pytest.raises(WorkflowError, match="stores values that no input takes"):
            to_prompt(graph, definitions)
        node["widgets_values"].pop()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_blueprint_runs_on_a_video(host: Host, file: Path, clip_name: str) -> None:
    prompt: Prompt = to_prompt(placed(read(file), clip_name), host.get("/object_info"))
    run = host.run(prompt).raise_for_status()
    item = run.outputs["12"]["images"][0]
    width, height, frames = real_comfyui.video_shape(host.base / "input" / clip_name)
    factor = 1 if file.stem.startswith("Stabilize") else 2
    made = real_comfyui.video_shape(host.base / "output" / item["subfolder"] / item["filename"])
    assert made == (width * factor, height * factor, frames)
