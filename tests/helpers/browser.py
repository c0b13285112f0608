"""A real browser on the real frontend, for the tests of what users see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import requests
from playwright.sync_api import Browser, Page, Playwright

WEB = Path(__file__).resolve().parents[2] / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "microsoft-edge")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.ColorPalette": "dark",
    "Comfy.Locale": "en",
}

# What it draws is there with the second frame.
LOAD = """async ([graph, name]) => {
    await app.loadGraphData(graph, true, true, name);
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
}"""

RUN = """async () => {
    const api = app.api, ends = ["execution_success", "execution_error", "execution_interrupted"];
    const ended = new Promise(resolve => ends.forEach(end =>
        api.addEventListener(end, event => resolve({end, ...event.detail}), {once: true})));
    await app.queuePrompt(0);
    return await ended;
}"""


PANEL = """id => app.rootGraph.getNodeById(id).widgets
    .find(widget => widget.name === "semantic_binding_panel").element"""

SHOW = """id => {
    app.canvas.ds.scale = 1;
    app.canvas.centerOnNode(app.rootGraph.getNodeById(id));
}"""

CHOOSE = """([id, name, value]) => {
    const widget = app.rootGraph.getNodeById(id).widgets.find(widget => widget.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""

CLEAR = """async () => {
    const { workflow } = app.extensionManager;
    app.canvas.ds.reset();
    await app.loadGraphData({ version: 0.4, nodes: [], links: [], groups: [], last_node_id: 0, last_link_id: 0 });
    for (const open of [...workflow.openWorkflows])
        if (open !== workflow.activeWorkflow) await workflow.closeWorkflow(open);
}"""

LEFT: WeakKeyDictionary[Browser, dict[tuple, Frontend]] = WeakKeyDictionary()
"""By browser, and then by server and settings: pages that tests have left in order."""

MOST_LEFT = 2
"""Of a browser: one for each rendering. A page that waits takes a tenth of a core."""


def browser_path() -> str | None:
    """The Chromium-like browser of this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)


class Frontend:
    """One open page of the frontend. ``complaints`` are the console errors and exceptions that come from this pack."""

    def __init__(self, page: Page):
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text, message.location.get("url", "")))
        page.on("pageerror", lambda error: self._note("error", error.stack or str(error), ""))

    def _note(self, kind: str, text: str, url: str) -> None:
        if kind in ("error", "warning") and any(file.name in text + url for file in WEB.rglob("*.js")):
            self.complaints.append(f"{kind}: {text} {url}")

    def clear(self) -> None:
        """Leaves the page as it was opened, but for what the user's profile remembers."""
        self.page.keyboard.press("Escape")
        self.page.mouse.move(0, 0)
        self.page.evaluate(CLEAR)
        self.complaints.clear()

    def load(self, workflow: dict, name: str = "test") -> None:
        """Opens a workflow as the user's Open command does."""
        self.page.evaluate(LOAD, [workflow, name])

    def run(self) -> dict:
        """Queues the open workflow and waits for its end; ``end`` of the answer says which one it was."""
        return self.page.evaluate(RUN)

    def prompt(self) -> dict:
        """The API form of the open workflow, made by the frontend's own conversion."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def workflow(self) -> dict:
        """The open workflow as the frontend saves it."""
        return self.page.evaluate("() => app.rootGraph.serialize()")

    def choose(self, node_id: int, widget: str, value: Any) -> None:
        """Sets a widget of a node as a user's choice does."""
        self.page.evaluate(CHOOSE, [node_id, widget, value])

    def show_node(self, node_id: int) -> None:
        """Brings a node to the middle of the window, in its full size."""
        self.page.evaluate(SHOW, node_id)
        self.page.wait_for_timeout(500)

    def panel(self, node_id: int) -> str:
        """The text on the panel that this pack adds to a node."""
        return self.page.evaluate(f"id => ({PANEL})(id).innerText", node_id)


@contextmanager
def frontend(
    browser: Browser, url: str, size: tuple[int, int] = (1600, 1000), *, fresh: bool = False, **settings: Any
) -> Iterator[Frontend]:
    """A page of a server's frontend, with nothing open in it; nothing outside the server can be reached from it.

    It is one that an earlier test of this browser has left, with the same settings, unless it is to be ``fresh``: in a
    profile of its own, where nothing was done before. A page in which something failed is given to nobody.
    """
    left = LEFT.setdefault(browser, {})
    of = (url, tuple(sorted(settings.items())))
    opened = None if fresh else left.pop(of, None)
    if opened is None:
        opened = open_page(browser, url, settings, size)
    opened.page.set_viewport_size({"width": size[0], "height": size[1]})
    try:
        yield opened
        opened.clear()
    except BaseException:
        opened.page.context.close()
        raise
    while of in left or len(left) >= MOST_LEFT:
        left.pop(of if of in left else next(iter(left))).page.context.close()
    left[of] = opened


def open_page(browser: Browser, url: str, settings: dict[str, Any], size: tuple[int, int]) -> Frontend:
    """A page of a server's frontend in a fresh browser profile."""
    requests.post(f"{url}/settings", json=SETTINGS | settings, timeout=10).raise_for_status()
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    host = urlsplit(url).netloc
    context.route(lambda address: urlsplit(address).netloc != host, lambda route: route.abort())
    context.set_default_timeout(120_000)
    opened = Frontend(context.new_page())
    opened.page.goto(url)
    opened.page.wait_for_function(
        "window.app?.vueAppReady && window.app.rootGraph && window.app.isGraphReady !== false"
    )
    opened.page.wait_for_selector("#graph-canvas")
    return opened
