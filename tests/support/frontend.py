"""Drive ComfyUI's frontend in a real Chromium."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from comfyhost import Host
from playwright.sync_api import Browser, Locator, TimeoutError

READY_CONDITION = "window.app?.graph && window.app?.extensionManager"
NOTE_TYPES = ("Note", "MarkdownNote")
TEXT_SETTINGS = {"LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.1, "LiteGraph.Canvas.MinFontSizeForLOD": 0}
"""Text on nodes is drawn at every zoom, in older and in newer frontends."""
LIBRARY_SELECTOR = ".node-library-tab-button, [aria-label*='Node Library']"
EVENT_TYPES = ("progress", "executed", "execution_success", "execution_error", "execution_interrupted")
DROP_SCRIPT = """([text, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type: "application/json" }));
  return data;
}"""
WATCH_SCRIPT = """(kinds) => {
  window.steadyscaleSeen = [];
  for (const kind of kinds)
    window.comfyAPI.api.api.addEventListener(kind, (e) => window.steadyscaleSeen.push([kind, e.detail]));
}"""


class Frontend:
    """An open page; version: of the frontend, for the names of screenshots."""

    def __init__(self, browser: Browser, host: Host, version: str, screenshot_folder: Path) -> None:
        self.host, self.version, self.screenshot_folder = host, version, screenshot_folder
        self.page_errors: list[str] = []  # what no script caught
        self.pack_errors: list[str] = []  # what the console says of the pack's own files
        self.definitions: dict[str, Any] = host.get("/object_info")
        screenshot_folder.mkdir(parents=True, exist_ok=True)
        # The first visit of a user opens dialogs and banners, which would lie over everything.
        host.fetch("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Locale": "en", **TEXT_SETTINGS})
        self.page = browser.new_page(viewport={"width": 1600, "height": 900}, locale="en-US")
        self.page.set_default_timeout(180_000)  # other tests run beside
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.on(
            "console", lambda message: self._on_console(message.type, message.text, message.location.get("url", ""))
        )
        self.page.goto(host.url, wait_until="domcontentloaded")
        self._wait_until_ready()

    def _on_console(self, kind: str, text: str, url: str) -> None:
        # A language without a page of its own is asked for and answered with 404; the English page follows.
        if kind == "error" and "/extensions/steadyscale/" in url and "/docs/" not in url:
            self.pack_errors.append(text)

    def _wait_until_ready(self) -> None:
        self.page.wait_for_function(READY_CONDITION)
        self.page.evaluate(WATCH_SCRIPT, list(EVENT_TYPES))

    def run_js(self, code: str, *values: Any) -> Any:
        """Call a JavaScript function with `values`; the frontend is `app`."""
        return self.page.evaluate(f"async (values) => await ({code})(...values)", list(values))

    def take_screenshot(self, name: str) -> None:
        self.page.screenshot(path=self.screenshot_folder / f"{name}.png")

    # -- what a person does

    def clear_canvas(self) -> None:
        """An empty canvas, without dialogs, at its usual zoom."""
        for _ in range(4):
            self.page.keyboard.press("Escape")  # also lets go of a node that newer frontends hang on the pointer
            self.page.wait_for_timeout(150)
            if self.dialogs.count() == 0:
                break
        self.run_js("() => { app.graph.clear(); app.canvas.ds.reset(); app.graph.setDirtyCanvas(true, true); }")

    def set_language(self, language: str) -> None:
        """Set the language and reload the page, as the frontend requires."""
        self.run_js("(l) => app.extensionManager.setting.set('Comfy.Locale', l)", language)
        self.page.reload(wait_until="domcontentloaded")
        self._wait_until_ready()

    def drop_workflow(self, file: Path) -> None:
        """Drops a workflow file on the canvas and waits until all of its nodes are there."""
        text = file.read_text(encoding="utf-8")
        self.page.wait_for_selector("#graph-canvas")
        data = self.page.evaluate_handle(DROP_SCRIPT, [text, file.name])
        self.page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": data, "clientX": 700, "clientY": 450})
        self.page.wait_for_function("(n) => app.graph.nodes.length === n", arg=len(json.loads(text)["nodes"]))
        self.run_js("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(700)  # it glides

    def search(self, words: str) -> None:
        """Double-click the canvas, type into the search and wait for a result."""
        for _ in range(4):  # a page that is still settling lets a double click pass
            self.page.mouse.dblclick(800, 450)
            with suppress(TimeoutError):
                self.page.wait_for_function("document.activeElement?.tagName === 'INPUT'", timeout=5000)
                break
        self.page.keyboard.type(words)
        self.page.get_by_role("option").filter(has_text=re.compile(re.escape(words), re.IGNORECASE)).first.wait_for()

    def place_first_result(self) -> None:
        """Press Enter in the search, on an empty canvas, and wait for the node."""
        for _ in range(4):  # the list takes Enter only when it has been sorted
            self.page.keyboard.press("Enter")
            with suppress(TimeoutError):
                self.page.wait_for_function("app.graph.nodes.length > 0", timeout=10_000)
                return
        raise AssertionError("Enter placed no node")

    def drag_from_library(self, title: str, x: int, y: int) -> None:
        """Looks a node up in the sidebar and drags it to a point of the canvas."""
        self.page.locator(LIBRARY_SELECTOR).first.click()
        self.page.get_by_placeholder("Search Nodes...").first.fill(title)
        self.page.get_by_text(title, exact=True).last.drag_to(
            self.page.locator("#graph-canvas"), target_position={"x": x, "y": y}
        )
        self.page.locator(LIBRARY_SELECTOR).first.click()

    def run_workflow(self) -> None:
        """Presses Run, and waits until the host has finished, one way or another."""
        self.run_js("() => { window.steadyscaleSeen.length = 0; }")
        self.page.get_by_test_id("queue-button").first.click()
        over = "window.steadyscaleSeen.some(([kind]) => /^execution_(success|error|interrupted)$/.test(kind))"
        self.page.wait_for_function(over, timeout=180_000)

    def open_help(self, kind: str) -> Locator:
        """Add a node to the empty canvas and open its help; return the page."""
        self.clear_canvas()
        self.run_js(
            """(kind) => {
              const node = LiteGraph.createNode(kind);
              app.graph.add(node);
              app.canvas.selectNode(node);
              app.canvas.centerOnNode(node);
              app.graph.setDirtyCanvas(true, true);
            }""",
            kind,
        )
        self.page.get_by_test_id("info-button").first.click()
        page = self.page.locator(".node-help-content").first
        page.locator("h2").first.wait_for()
        return page

    # -- what a person sees

    @property
    def dialogs(self) -> Locator:
        return self.page.locator("[role=dialog]:visible")

    def node_types(self) -> list[str]:
        """The kinds of the nodes on the canvas."""
        return self.run_js("() => app.graph.nodes.map((node) => node.type)")

    def unknown_node_types(self) -> list[str]:
        """Types of nodes that are not registered; the frontend draws them red."""
        return self.run_js(
            "() => app.graph.nodes.map((node) => node.type).filter((t) => !LiteGraph.registered_node_types[t])"
        )

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the host has sent of that kind since Run was pressed."""
        return [data for name, data in self.run_js("() => window.steadyscaleSeen") if name == kind]

    def read_prompt(self) -> dict[str, dict[str, Any]]:
        """The prompt that Run would queue: {node id: {class_type, inputs}}."""
        drawn = self.run_js("() => app.graphToPrompt().then((made) => made.output)")
        return {
            i: self._keep_declared_inputs(node) for i, node in drawn.items() if node["class_type"] not in NOTE_TYPES
        }

    def _keep_declared_inputs(self, node: dict[str, Any]) -> dict[str, Any]:
        parts = self.definitions[node["class_type"]]["input"]
        known = {*parts.get("required", {}), *parts.get("optional", {})}
        inputs = {name: value for name, value in node["inputs"].items() if name in known}
        return {"class_type": node["class_type"], "inputs": inputs}

    def playing_videos(self) -> list[str]:
        """URLs of saved videos that play in the page without an error."""
        return self.run_js(
            """() => [...document.querySelectorAll("video")]
              .filter((v) => v.src.includes("type=output") && v.videoWidth > 0 && v.duration > 0 && !v.error)
              .map((v) => v.src)"""
        )
