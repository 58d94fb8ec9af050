"""Drive ComfyUI's frontend in a real Chromium."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import schemas
from comfyhost import Host
from playwright.sync_api import Browser, Locator, Route, TimeoutError

NEWEST, OLDEST = "newest", "oldest"
CANVASES = {"nodes2": (NEWEST, True), "classic": (NEWEST, False), "oldest": (OLDEST, False)}
"""What the fixture `frontend` opens: (frontend, whether in Nodes 2.0), by the name of the canvas."""
ON_NODES_2 = pytest.mark.parametrize("frontend", ["nodes2"], indirect=True)
ON_EVERY_FRONTEND = pytest.mark.parametrize(
    "frontend",
    # Opening the page of the oldest frontend takes 40 s of CPU time.
    [pytest.param(name, marks=pytest.mark.slow if kind == OLDEST else ()) for name, (kind, _) in CANVASES.items()],
    indirect=True,
)

READY_CONDITION = "window.app?.graph && window.app?.extensionManager"
NOTE_TYPES = ("Note", "MarkdownNote")
NODES_2 = "Comfy.VueNodes.Enabled"
LIBRARY_SELECTOR = ".node-library-tab-button, [aria-label*='Node Library']"
EVENT_TYPES = ("progress", "executed", "execution_success", "execution_error", "execution_interrupted")
DROP_SCRIPT = """([text, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name, { type: "application/json" }));
  return data;
}"""
LAYOUT_SCRIPT = """() => {
  const { scale, offset } = app.canvas.ds;
  const origin = app.canvas.canvas.getBoundingClientRect();
  const box = (node) => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    if (element) {  // Nodes 2.0
      const { left, top, width, height } = element.getBoundingClientRect();
      return [(left - origin.left) / scale - offset[0], (top - origin.top) / scale - offset[1],
              width / scale, height / scale];
    }
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    const height = node.flags.collapsed ? 0 : node.size[1];
    return [node.pos[0], node.pos[1] - title, node.size[0], height + title];
  };
  return {
    scale,
    view: [-offset[0], -offset[1], origin.width / scale, origin.height / scale],
    nodes: Object.fromEntries(app.graph.nodes.map((node) => [`${node.id} ${node.type}`, box(node)])),
    groups: Object.fromEntries(app.graph.groups.map((group) => [group.title, [...group.pos, ...group.size]])),
  };
}"""
MIN_TEXT_PIXELS = 10.5  # of readable text, on a screen of 1600 x 900
NODE_TEXTS = ".comfy-markdown *, .comfy-markdown-content *, [data-node-id] *"
CANVAS_FONT_PIXELS = 12  # of settings that the classic canvas draws, at a scale of 1
TEXT_SIZE_SCRIPT = """(selector) => {
  const texts = [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility()
    && [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
  const factor = (element) => element.getBoundingClientRect().height / (element.offsetHeight || 1);
  return texts.map((element) => parseFloat(getComputedStyle(element).fontSize) * factor(element));
}"""
IMAGES_SCRIPT = """(kind) => {
  const node = app.graph.nodes.find((node) => node.type === kind);
  const element = document.querySelector(`[data-node-id="${node.id}"]`);
  const images = element ? [...element.querySelectorAll("img")] : node.imgs ?? [];  // Nodes 2.0, or the classic canvas
  const mean = (image) => {
    const drawing = new OffscreenCanvas(16, 16).getContext("2d");
    drawing.drawImage(image, 0, 0, 16, 16);
    const values = drawing.getImageData(0, 0, 16, 16).data.filter((_, index) => index % 4 < 3);
    return values.reduce((total, value) => total + value, 0) / values.length;
  };
  return images.filter((image) => image.naturalWidth && !image.closest(".steadyscale-compare"))
    .map((image) => [image.src, image.naturalWidth, image.naturalHeight, mean(image)]);
}"""
WATCH_SCRIPT = """(kinds) => {
  window.steadyscaleSeen = [];
  for (const kind of kinds)
    window.comfyAPI.api.api.addEventListener(kind, (e) => window.steadyscaleSeen.push([kind, e.detail]));
}"""


class DisplayedImage(NamedTuple):
    """An image on a node: its URL, its size in pixels, the mean of its values from 0 to 255."""

    address: str
    width: int
    height: int
    mean: float


class Frontend:
    """An open page of a frontend that `host` serves, or of another one in `folder`.

    version: of the frontend, for the names of screenshots.
    """

    def __init__(
        self, browser: Browser, host: Host, version: str, screenshot_folder: Path, folder: Path | None = None
    ) -> None:
        self.host, self.version, self.screenshot_folder = host, version, screenshot_folder
        self.canvas = "classic"
        self.page_errors: list[str] = []  # what no script caught
        self.pack_errors: list[str] = []  # what the console says of the pack's own files
        self.definitions: dict[str, Any] = host.get("/object_info")
        for node in schemas.read_schemas():  # hosts before 0.10 do not send them
            self.definitions[node.node_id]["search_aliases"] = list(node.search_aliases)
        # The first visit of a user opens dialogs and banners, which would lie over everything.
        host.fetch("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Locale": "en", NODES_2: False})
        self.page = browser.new_page(viewport={"width": 1600, "height": 900}, locale="en-US", reduced_motion="reduce")
        self.page.set_default_timeout(60_000)  # other tests run beside
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.on(
            "console", lambda message: self._on_console(message.type, message.text, message.location.get("url", ""))
        )
        self.page.route("**/api/object_info", lambda route: route.fulfill(json=self.definitions))
        if folder is not None:
            self._serve_files(folder)
        self.page.goto(host.url, wait_until="domcontentloaded")
        self._wait_until_ready()

    def _serve_files(self, folder: Path) -> None:
        """Answer requests for a frontend's files from a folder: one host serves every frontend."""

        def file_of(url: str) -> Path:
            return folder / (urlsplit(url).path.lstrip("/") or "index.html")

        def answer(route: Route) -> None:
            route.fulfill(path=file_of(route.request.url))

        self.page.route(lambda url: url.startswith(self.host.url) and file_of(url).is_file(), answer)
        # Of ComfyUI's own templates, which are not installed here. Without their list the oldest frontend opens none.
        self.page.route("**/templates/index.json", lambda route: route.fulfill(json=[]))

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
        folder = self.screenshot_folder / f"{self.version}-{self.canvas}"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png")

    # -- what a person does

    def clear_canvas(self) -> None:
        """An empty canvas, without dialogs, at its usual zoom."""
        for _ in range(4):
            self.page.keyboard.press("Escape")  # also lets go of a node that newer frontends hang on the pointer
            self.page.wait_for_timeout(150)
            if self.dialogs.count() == 0:
                break
        self.run_js("() => { app.graph.clear(); app.canvas.ds.reset(); app.graph.setDirtyCanvas(true, true); }")

    def use_canvas(self, name: str) -> None:
        """Switch to the canvas `classic` or `nodes2`, where the frontend has both."""
        if name != self.canvas:
            self.run_js("([key, on]) => app.extensionManager.setting.set(key, on)", [NODES_2, name == "nodes2"])
            self.canvas = name

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

    def open_search(self, words: str) -> None:
        """Double-click the canvas and type into the search."""
        for _ in range(4):  # a page that is still settling lets a double click pass
            self.page.mouse.dblclick(800, 450)
            with suppress(TimeoutError):
                self.page.wait_for_function("document.activeElement?.tagName === 'INPUT'", timeout=5000)
                break
        self.page.keyboard.type(words)

    def set_widget(self, kind: str, name: str, value: object) -> None:
        """Change a setting of the node of that type."""
        self.run_js(
            """([kind, name, value]) => {
              const node = app.graph.nodes.find((node) => node.type === kind);
              node.widgets.find((widget) => widget.name === name).value = value;
            }""",
            [kind, name, value],
        )

    def center_on(self, kind: str) -> None:
        """Move the node of that type to the middle of the view."""
        self.run_js("(kind) => app.canvas.centerOnNode(app.graph.nodes.find((node) => node.type === kind))", kind)
        self.page.wait_for_timeout(300)

    def search(self, words: str) -> None:
        """Search, and wait for a result whose text has the words."""
        self.open_search(words)
        self.page.get_by_role("option").filter(has_text=re.compile(re.escape(words), re.IGNORECASE)).first.wait_for()

    def has_result(self, name: str) -> bool:
        """Whether the search lists a node of that name within three seconds."""
        option = self.page.get_by_role("option").filter(has_text=name)
        with suppress(TimeoutError):
            option.first.wait_for(timeout=3000)
            return True
        return False

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

    def open_template_browser(self) -> None:
        """Open the templates of the pack."""
        self.run_js("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.dialogs.get_by_text("steadyscale", exact=True).first.click()

    def template_card(self, name: str) -> Locator:
        return self.page.locator(f'[data-testid="template-workflow-{name}"]').first

    def template_names(self) -> list[str]:
        """The names of the displayed cards, in their order."""
        cards = self.page.locator('[data-testid^="template-workflow-"]').all()
        ids = [card.get_attribute("data-testid") or "" for card in cards]
        return [each.removeprefix("template-workflow-") for each in ids]

    def run_workflow(self) -> None:
        """Presses Run, and waits until the host has finished, one way or another."""
        self.press_run()
        self.wait_for_end()

    def press_run(self) -> None:
        self.run_js("() => { window.steadyscaleSeen.length = 0; }")
        self.page.get_by_test_id("queue-button").first.click()

    def wait_for_end(self) -> None:
        """Wait until the run has succeeded, failed or been interrupted."""
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
        oldest = self.page.locator("button.help-button")
        self.page.get_by_test_id("info-button").or_(oldest).first.click()
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

    def read_layout(self) -> dict[str, Any]:
        """Boxes [x, y, width, height] in pixels of the graph, titles included.

        `nodes` by id and type, `groups` by title, the `view`, and the `scale` of the canvas.
        """
        return self.run_js(LAYOUT_SCRIPT)

    def text_sizes(self) -> list[float]:
        """Heights in pixels of the screen of the text in notes and of that on nodes."""
        drawn = [CANVAS_FONT_PIXELS * self.read_layout()["scale"]] if self.canvas == "classic" else []
        return [*self.font_sizes(NODE_TEXTS), *drawn]

    def font_sizes(self, selector: str) -> list[float]:
        """Heights in pixels of the screen of the text in elements of a CSS selector."""
        return self.run_js(TEXT_SIZE_SCRIPT, selector)

    def displayed_images(self, kind: str) -> list[DisplayedImage]:
        """The images on the node of that type, those of our slider aside."""
        return [DisplayedImage(*image) for image in self.run_js(IMAGES_SCRIPT, kind)]

    def wait_for_image(self, kind: str) -> DisplayedImage:
        """Wait until the node of that type displays an image; return the first."""
        self.page.wait_for_function(f"(kind) => ({IMAGES_SCRIPT})(kind).length > 0", arg=kind)
        return self.displayed_images(kind)[0]

    def wait_for_frame(self, kind: str) -> DisplayedImage:
        """Wait until the node of that type displays a frame while it runs; return it."""
        found = "([url]) => url.startsWith('blob:')"  # an output has the address of a file
        is_running = "!window.steadyscaleSeen.some(([name]) => name === 'execution_success')"
        self.page.wait_for_function(f"(kind) => {is_running} && ({IMAGES_SCRIPT})(kind).some({found})", arg=kind)
        return next(image for image in self.displayed_images(kind) if image.address.startswith("blob:"))

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
