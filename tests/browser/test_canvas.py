"""Test search, dragging and the template browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from frontend import ON_EVERY_FRONTEND, ON_NODES_2, Frontend

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "workflows"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.json"))
SEARCHES = {
    "deshake": "Stabilize Video",
    "shaky": "Stabilize Video",
    "anti shake": "Stabilize Video",
    "steady": "Stabilize Video",
    "stabilise": "Stabilize Video",
    "video stabilization": "Stabilize Video",
    "rolling shutter": "Stabilize Video",
    "super resolution": "Upscale Frames",
    "upscale video": "Upscale Frames",
    "video upscale": "Enhance Video",
    "2x": "Upscale Frames",
    "4x": "Enhance Video",
    "real-esrgan": "Upscale Frames",
    "deflicker": "Upscale Frames",
    "optical flow": "Estimate Flow",
    "camera path": "Smooth Trajectory",
    "before after": "Compare Frames",
    "psnr": "Compare Models",
    "fine-tune": "Train ESRGAN",
    "outpaint": "Warp/Pad Frames",
}


@ON_EVERY_FRONTEND
def test_search_finds_a_node_and_enter_places_it(frontend: Frontend) -> None:
    frontend.search("stabilize video")
    frontend.place_first_result()
    assert frontend.node_types() == ["SteadyScale_StabilizeVideo"]


@ON_NODES_2
def test_search_finds_nodes_by_what_people_type(frontend: Frontend) -> None:
    frontend.open_search("upscale video")
    frontend.take_screenshot("search")
    box = frontend.page.locator("input:focus")
    missing = []
    for words, name in SEARCHES.items():
        box.fill(words)
        if not frontend.has_result(name):
            missing.append(words)
    assert missing == []


@ON_EVERY_FRONTEND
@pytest.mark.parametrize("kind", ["SteadyScale_TrainESRGAN", "SteadyScale_CompressModel"])
def test_the_seed_of_a_new_node_stays(frontend: Frontend, kind: str) -> None:
    """A stored graph, which may say otherwise, is opened as it is."""
    new, stored = frontend.run_js(
        """(kind) => {
          const control = (node) => node.widgets[node.widgets.findIndex((widget) => widget.name === "seed") + 1];
          const node = LiteGraph.createNode(kind);
          app.graph.add(node);
          const before = control(node).value;
          control(node).value = "randomize";
          const copy = LiteGraph.createNode(kind);
          app.graph.add(copy);
          copy.configure({ ...node.serialize(), id: copy.id });
          return [before, control(copy).value];
        }""",
        kind,
    )
    assert (new, stored) == ("fixed", "randomize")


@ON_NODES_2
def test_a_node_is_dragged_from_the_library(frontend: Frontend) -> None:
    frontend.drag_from_library("Stabilize Video", 900, 300)
    frontend.page.wait_for_function("app.graph.nodes.length === 1")
    assert frontend.node_types() == ["SteadyScale_StabilizeVideo"]
    frontend.take_screenshot("dragged")


@ON_EVERY_FRONTEND
def test_the_template_browser_lists_them_in_order(frontend: Frontend) -> None:
    """Those for newcomers come first, whatever the order in which the file system has the files."""
    frontend.open_template_browser()
    for each in TEMPLATES:
        frontend.template_card(each).wait_for()
    assert frontend.template_names() == TEMPLATES
    frontend.page.wait_for_timeout(500)  # thumbnails
    frontend.take_screenshot("templates")


@ON_EVERY_FRONTEND
def test_the_template_browser_opens_one(frontend: Frontend) -> None:
    name = "Upscale a video"
    frontend.open_template_browser()
    frontend.template_card(name).click()
    count = len(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"])
    frontend.page.wait_for_function("(n) => app.graph.nodes.length === n", arg=count)
    assert frontend.unknown_node_types() == []


@ON_NODES_2
def test_app_template_opens_as_an_app(frontend: Frontend) -> None:
    """Settings of the app are beside the place of the result, without a graph."""
    frontend.open_template_browser()
    frontend.template_card("Upscale and stabilize (app)").click()
    for name in ("factor", "smoothing window [s]", "border mode"):
        frontend.page.get_by_text(name, exact=True).filter(visible=True).first.wait_for()
    skip = frontend.page.get_by_role("button", name="Skip")
    skip.wait_for()  # a tour that greets everyone
    skip.click()
    frontend.take_screenshot("app")
    assert frontend.page.get_by_role("button", name="Run").first.is_visible()
    frontend.run_js("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
    frontend.page.wait_for_selector("#graph-canvas", state="visible")


def test_the_pack_leaves_no_errors(frontend: Frontend) -> None:
    assert frontend.pack_errors == []
    assert frontend.page_errors == []
