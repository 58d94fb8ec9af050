"""Help beside the canvas, and the same in Chinese."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from frontend import ON_EVERY_FRONTEND, ON_NODES_2, Frontend

import locales

pytestmark = pytest.mark.browser

NODE = "SteadyScale_WarpFrames"


@pytest.fixture
def chinese(frontend: Frontend) -> Iterator[Frontend]:
    frontend.set_language("zh")
    yield frontend
    frontend.set_language("en")


@ON_EVERY_FRONTEND
def test_the_help_of_a_node_opens_beside_the_canvas(frontend: Frontend) -> None:
    page = frontend.open_help(NODE)
    headings = page.locator("h2").all_inner_texts()
    assert headings == ["Inputs", "Outputs", "Recipes", "When something is wrong"]
    picture = page.locator("img").first
    frontend.page.wait_for_function("(image) => image.naturalWidth > 0", arg=picture.element_handle())
    frontend.take_screenshot("help")


@ON_NODES_2
def test_help_and_nodes_are_in_chinese(chinese: Frontend) -> None:
    """Older frontends overwrite the names of a pack's nodes with their own list."""
    page = chinese.open_help(NODE)
    chinese.take_screenshot("help-zh")
    assert page.locator("h2").all_inner_texts() == ["输入", "输出", "常用做法", "遇到问题时"]
    chinese.page.get_by_text("运行").first.wait_for()  # Run: the frontend itself speaks Chinese
    wanted = locales.read_texts("zh", "nodeDefs.json")[NODE]
    named = "([kind, name]) => LiteGraph.createNode(kind)?.title === name"
    chinese.page.wait_for_function(named, arg=[NODE, wanted["display_name"]])
    title, labels = chinese.run_js(
        """(kind) => {
          const node = LiteGraph.createNode(kind);
          app.graph.add(node);
          app.canvas.centerOnNode(node);
          return [node.title, Object.fromEntries(node.widgets.map((widget) => [widget.name, widget.label]))];
        }""",
        NODE,
    )
    chinese.page.wait_for_timeout(500)
    chinese.take_screenshot("canvas-zh")
    assert title == wanted["display_name"]
    assert labels == {name: wanted["inputs"][name]["name"] for name in ("border", "pad")}
