"""Test the workflow files: complete, tidy, and without paths of a machine.

That a canvas file and its API file are one graph is tested in host/test_workflows.py, on the definitions of a host.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workflow_checks import ABSOLUTE_PATH, find_problems
from workflow_graph import Graph

FOLDER = Path(__file__).parents[1] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
FOR_NEWCOMERS = [name for name in NAMES if name[0].isupper()]
"""Three nodes and a note. File names are titles in the template browser; in their order these come first."""


def canvas(name: str) -> Graph:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_each_workflow_has_its_three_files() -> None:
    """The template browser lists every .json file that has a .jpg."""
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {
        f"{n}.{e}" for n in NAMES for e in ("json", "jpg")
    }
    assert {path.name for path in (FOLDER / "api").iterdir()} == {f"{name}.json" for name in NAMES}
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_canvas_file_is_in_order(name: str) -> None:
    assert find_problems(canvas(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_note_describes_the_settings(name: str) -> None:
    note = next(node for node in canvas(name)["nodes"] if node["type"] == "MarkdownNote")
    lines = [line for line in note["widgets_values"][0].splitlines() if line]
    assert 3 <= len(lines) <= 6
    assert "Load Video" in lines[0]


@pytest.mark.parametrize("name", FOR_NEWCOMERS)
def test_a_template_for_newcomers_is_load_one_node_and_save(name: str) -> None:
    graph = canvas(name)
    types = [node["type"] for node in graph["nodes"]]
    assert [types[0], *types[2:]] == ["LoadVideo", "SaveVideo", "MarkdownNote"]
    assert types[1].startswith("SteadyScale_")
    assert all(line.startswith("## ") for line in graph["nodes"][3]["widgets_values"][0].splitlines())
    # App mode shows these settings and results alone.
    app = graph["extra"]["linearData"]
    assert app["inputs"][0] == [1, "file"]
    assert app["outputs"] == [3]
    assert graph["extra"].get("linearMode", False) == name.endswith("(app)")
    boxes = [(node["pos"], node["size"]) for node in graph["nodes"]]
    assert boxes == [(node["pos"], node["size"]) for node in canvas("Upscale and stabilize a video")["nodes"]]


def test_templates_for_newcomers_are_there() -> None:
    jobs = {"Upscale a video", "Stabilize a video", "Upscale and stabilize a video", "Upscale and stabilize (app)"}
    assert set(FOR_NEWCOMERS) == jobs
    assert {"compare", "enhance", "outpaint", "restore", "stabilize", "train", "upscale"} <= set(NAMES), (
        "links of users"
    )


def test_a_file_that_the_user_may_lack_has_an_address() -> None:
    """The frontend offers the download of a node's `models`."""
    for name in NAMES:
        for node in canvas(name)["nodes"]:
            if node["type"] == "CheckpointLoaderSimple":
                (model,) = node["properties"]["models"]
                assert model["name"] == node["widgets_values"][0]
                assert model["url"].endswith("/" + model["name"])
                assert model["directory"] == "checkpoints"


@pytest.mark.parametrize("name", NAMES)
def test_api_file_has_no_absolute_paths(name: str) -> None:
    prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    texts = [v for node in prompt.values() for v in node["inputs"].values() if isinstance(v, str)]
    assert texts
    assert [text for text in texts if ABSOLUTE_PATH.search(text)] == []


def test_workflow_ids_are_unique() -> None:
    assert len({canvas(name)["id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_is_a_small_image_of_three_to_two(name: str) -> None:
    path = FOLDER / f"{name}.jpg"
    with Image.open(path) as image:
        assert image.format == "JPEG"
        assert image.width >= 480
        assert image.width / image.height == pytest.approx(1.5, rel=0.03)
        assert np.asarray(image.convert("L"), dtype=float).std() > 20, "the image is nearly uniform"
    assert path.stat().st_size < 80_000


def _node(graph: Graph, kind: str) -> Graph:
    return next(node for node in graph["nodes"] if node["type"] == kind)


FAULTS: dict[str, Callable[[Graph], object]] = {
    "a node id twice": lambda g: g["nodes"][1].update(id=g["nodes"][0]["id"]),
    "a link id twice": lambda g: g["links"][1].__setitem__(0, g["links"][0][0]),
    "a counter that lags": lambda g: g.update(last_node_id=2),
    "a link to nowhere": lambda g: g["links"][0].__setitem__(3, 99),
    "a link that its target forgot": lambda g: _node(g, "SaveVideo")["inputs"][0].update(link=None),
    "a link that is not in the table": lambda g: g["links"].pop(),
    "a link of the wrong kind": lambda g: _node(g, "SaveVideo")["inputs"][0].update(type="IMAGE"),
    "a reroute of no link": lambda g: g["extra"].update(reroutes=[{"id": 1, "linkIds": [99]}]),
    "a node without its package": lambda g: _node(g, "SteadyScale_WarpFrames")["properties"].pop("cnr_id"),
    "a core node with our id": lambda g: _node(g, "SaveVideo")["properties"].update(cnr_id="steadyscale"),
    "a folder of one machine": lambda g: _node(g, "SaveVideo")["widgets_values"].__setitem__(0, "/home/me/out"),
    "a Windows folder": lambda g: _node(g, "LoadVideo")["widgets_values"].__setitem__(0, "C:\\clips\\bikes.mp4"),
    "a folder in a note": lambda g: _node(g, "MarkdownNote")["widgets_values"].__setitem__(0, "see `/opt/ComfyUI`"),
    "nodes on top of each other": lambda g: g["nodes"][1].update(pos=list(g["nodes"][0]["pos"])),
    "a node outside its group": lambda g: _node(g, "SaveVideo").update(pos=[9000, 9000]),
    "a bypassed node": lambda g: _node(g, "SteadyScale_WarpFrames").update(mode=4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_injected_fault_is_found(fault: str) -> None:
    graph = canvas("enhance")
    broken = copy.deepcopy(graph)
    FAULTS[fault](broken)
    assert broken != graph
    assert find_problems(broken)
