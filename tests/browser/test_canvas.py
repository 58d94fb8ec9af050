"""Test search, dragging and templates on the canvas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from frontend import Frontend

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("stabilize video", "SteadyScale_StabilizeVideo"),
        ("enhance video", "SteadyScale_EnhanceVideo"),
        ("load esrgan", "SteadyScale_LoadESRGANModel"),
    ],
)
def test_search_finds_a_node_and_enter_places_it(frontend: Frontend, words: str, kind: str) -> None:
    frontend.search(words)
    frontend.take_screenshot(f"search-{kind}")
    frontend.place_first_result()
    assert frontend.node_types() == [kind]


def test_a_node_is_dragged_from_the_library(frontend: Frontend) -> None:
    frontend.drag_from_library("Stabilize Video", 900, 300)
    frontend.page.wait_for_function("app.graph.nodes.length === 1")
    assert frontend.node_types() == ["SteadyScale_StabilizeVideo"]
    frontend.take_screenshot("dragged")


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_a_template_opens_and_is_what_its_api_file_says(frontend: Frontend, file: Path) -> None:
    frontend.drop_workflow(file)
    frontend.take_screenshot(f"template-{file.stem}")
    assert frontend.unknown_node_types() == []
    assert frontend.dialogs.count() == 0, frontend.dialogs.first.inner_text()
    wanted = json.loads((FOLDER / "api" / file.name).read_text(encoding="utf-8"))
    assert frontend.read_prompt() == {
        i: {"class_type": node["class_type"], "inputs": node["inputs"]} for i, node in wanted.items()
    }


def test_the_template_browser_lists_and_opens_them(frontend: Frontend) -> None:
    frontend.run_js("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    frontend.dialogs.get_by_text("steadyscale", exact=True).first.click()
    for file in TEMPLATES:
        frontend.page.locator(f'[data-testid="template-workflow-{file.stem}"]').first.wait_for()
    frontend.page.wait_for_timeout(500)  # thumbnails
    frontend.take_screenshot("templates")
    frontend.page.locator(f'[data-testid="template-workflow-{TEMPLATES[0].stem}"]').first.click()
    count = len(json.loads(TEMPLATES[0].read_text(encoding="utf-8"))["nodes"])
    frontend.page.wait_for_function("(n) => app.graph.nodes.length === n", arg=count)
    assert frontend.unknown_node_types() == []


def test_the_pack_leaves_no_errors_in_the_console(frontend: Frontend) -> None:
    assert frontend.pack_errors == []
