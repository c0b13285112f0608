"""What users see: the real frontend in a real browser, as canvas and as Nodes 2.0, on the real server."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import browser_path, frontend, launch

pytestmark = pytest.mark.slow

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
RENDERERS = pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "nodes 2.0"])
PAIR = "Bind a prompt"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if browser_path() is None:
        reason = "There is no Chromium or Chrome on this machine. The frontend needs one: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


def workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))


def node_of(graph: dict, kind: str) -> dict:
    return next(node for node in graph["nodes"] if node["type"] == kind)


def only(graph: dict, *kinds: str) -> dict:
    """The graph without its other nodes."""
    graph = copy.deepcopy(graph)
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] in kinds]
    kept = {node["id"] for node in graph["nodes"]}
    graph["links"] = [link for link in graph["links"] if {link[1], link[3]} <= kept]
    present = {link[0] for link in graph["links"]}
    for node in graph["nodes"]:
        for slot in node.get("outputs", ()):
            slot["links"] = [link for link in slot.get("links") or () if link in present]
    return graph


def prompt_alone(text: str) -> tuple[dict, int]:
    """A graph of Bind Prompt and its CLIP, and the number of Bind Prompt."""
    graph = only(workflow(PAIR), "SBLoadDemoModel", "SBBindPrompt")
    node = node_of(graph, "SBBindPrompt")
    node["widgets_values"][0] = text
    return graph, node["id"]


def values(graph: dict) -> dict:
    return {node["id"]: node.get("widgets_values") or [] for node in graph["nodes"]}


@RENDERERS
def test_every_workflow_opens_converts_and_survives_saving(browser, server, vue_nodes: bool) -> None:
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        for name in NAMES:
            shipped = workflow(name)
            page.load(shipped, name)
            assert page.prompt() == json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8")), name
            saved = page.workflow()
            assert values(saved) == values(shipped), name
            page.load(saved, name)
            assert values(page.workflow()) == values(shipped), name
        assert page.complaints == []


@RENDERERS
def test_a_run_shows_entities_and_score_on_the_nodes(browser, server, vue_nodes: bool) -> None:
    graph = workflow(PAIR)
    bind, score = (node_of(graph, kind)["id"] for kind in ("SBBindPrompt", "SBScoreBinding"))
    with frontend(browser, server.url, size=(2600, 1200), **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph, PAIR)
        assert "Run the workflow" in page.panel(bind) and "Run the workflow" in page.panel(score)
        assert page.run()["end"] == "execution_success"
        chips = page.page.locator(".sb-entity")
        assert chips.all_inner_texts() == ["circle green", "square red"]
        hues = chips.evaluate_all("chips => chips.map(chip => getComputedStyle(chip).backgroundColor)")
        assert len(set(hues)) == 2
        tokens = page.page.locator(".sb-token").all_inner_texts()
        assert [token.split() for token in tokens][1:3] == [["2", "green"], ["3", "circle"]]
        assert "spaCy" in page.panel(bind)
        assert "image 4:" in page.panel(score) and "of the entities right" in page.panel(score)
        assert all(page.page.locator(".sb-panel").nth(i).is_visible() for i in range(2))
        assert values(page.workflow()) == values(graph), "the panels are not saved"
        assert page.complaints == []


@RENDERERS
def test_a_cached_run_fills_the_panels_of_a_reloaded_page(browser, server, vue_nodes: bool) -> None:
    graph, bind = prompt_alone("a yellow star and a blue heart")
    for _ in range(2):
        with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
            page.load(graph)
            assert page.run()["end"] == "execution_success"
            assert "star yellow" in page.panel(bind)


def test_coming_back_to_an_open_workflow_shows_its_last_run(browser, server) -> None:
    graph, bind = prompt_alone("a yellow star and a blue heart")
    with frontend(browser, server.url) as page:
        page.load(graph, "first")
        page.run()
        page.load(only(workflow(PAIR), "EmptyLatentImage"), "second")
        page.page.evaluate("app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
        page.page.wait_for_function(
            "id => app.rootGraph.getNodeById(id)?.semanticBindingPanel && document.querySelector('.sb-entity')",
            arg=bind,
        )
        assert page.page.locator(".sb-entity").all_inner_texts() == ["star yellow", "heart blue"]


@RENDERERS
def test_text_of_the_user_is_never_markup(browser, server, vue_nodes: bool) -> None:
    hostile = 'a red circle \U0001f600 <img src=x onerror="window.broken=1"> and a <b>blue</b> square'
    graph, bind = prompt_alone(hostile)
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        assert page.run()["end"] == "execution_success"
        panel = page.page.locator(".sb-panel")
        assert panel.locator(".sb-prompt").inner_text() == hostile
        assert panel.locator("img, b").count() == 0
        assert page.page.evaluate("window.broken") is None
        marked = panel.locator(".sb-prompt .sb-noun").all_inner_texts()
        assert "circle" in marked and "square" in marked, "marks stand right behind an emoji"
        assert page.complaints == []


def test_a_run_without_anything_for_the_panel_leaves_it_as_it_was(browser, server) -> None:
    graph, bind = prompt_alone("a red circle")
    with frontend(browser, server.url) as page:
        page.load(graph)
        before = page.panel(bind)
        for output in ("undefined", "null", "{}", "{semantic_binding: []}", "{images: []}"):
            page.page.evaluate(f"id => app.rootGraph.getNodeById(id).onExecuted({output})", bind)
        assert page.panel(bind) == before
        assert page.complaints == []


@RENDERERS
def test_the_panel_can_be_used_from_the_keyboard_and_fits_its_node(browser, server, vue_nodes: bool) -> None:
    words = ", ".join(f"a {colour} circle" for colour in ("red", "green", "blue", "yellow", "purple", "orange") * 3)
    graph, bind = prompt_alone(words)
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        page.run()
        panel = page.page.locator(".sb-panel")
        assert panel.get_attribute("aria-label")
        panel.focus()
        page.page.keyboard.press("End")
        page.page.wait_for_function("document.querySelector('.sb-panel').scrollTop > 0")
        panel.locator("summary").focus()
        page.page.keyboard.press("Enter")
        assert panel.locator("details").evaluate("details => details.open") is False
        for width in (300, 700):
            page.page.evaluate("([id, width]) => app.rootGraph.getNodeById(id).setSize([width, 600])", [bind, width])
            page.page.wait_for_timeout(500)
            overhang = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
            assert overhang == 0, "text wraps instead of running out of the node"
        assert page.complaints == []
