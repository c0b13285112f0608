"""What users see: the real frontend in a real browser, as canvas and as Nodes 2.0, on the real server."""

from __future__ import annotations

import re

import pytest

from browser import frontend
from examples import FILES, api
from pages import PAIR, RENDERERS, node_of, only, prompt_alone, short_run, values, workflow

pytestmark = pytest.mark.slow


MERGED = "Attribute binding with token merge"


def with_every_node() -> list[str]:
    """Titles of workflows that together have every kind of node that the shipped ones have."""
    seen: set[str] = set()
    chosen = []
    for name in FILES:
        kinds = {node["type"] for node in workflow(name)["nodes"]}
        if kinds - seen:
            chosen.append(name)
            seen |= kinds
    return chosen


@RENDERERS
def test_every_workflow_opens_converts_and_survives_saving(browser, server, vue_nodes: bool) -> None:
    """All of them on the canvas; as Nodes 2.0 so many that each node is there, which is what is rendered there."""
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        for name in with_every_node() if vue_nodes else FILES:
            shipped = workflow(name)
            page.load(shipped, name)
            assert page.prompt() == api(name), name
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
        with frontend(browser, server.url, fresh=True, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
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
        frame = panel.element_handle()
        page.page.wait_for_function("panel => panel.scrollHeight > panel.clientHeight", arg=frame)
        panel.press("End")
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


@RENDERERS
def test_masks_and_focus_tell_what_they_do(browser, server, vue_nodes: bool) -> None:
    graph = short_run("Assign masks to entities", seed=14)
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        assert page.run()["end"] == "execution_success"
        told = {node["id"]: page.panel(node["id"]) for node in graph["nodes"] if node["type"] == "SBAssignMask"}
        assert [text.split(":")[0] for text in told.values()] == ["circle", "square"]
        assert all("covers 50% of the picture" in text for text in told.values())
        assert "fixed by masks" in page.panel(node_of(graph, "SBObjectFocusedAttention")["id"])
        assert page.complaints == []


@pytest.mark.parametrize(
    "name", ["Masks from attention", "Masks from boxes", "Draw the regions", "Assign a batch of masks"]
)
def test_nodes_that_make_masks_tell_whose_they_are(browser, server, name: str) -> None:
    graph = short_run(name, seed=17)
    makers = ("SBMasksFromAttention", "SBMasksFromBoxes", "SBAssignMasks")
    with frontend(browser, server.url) as page:
        page.load(graph)
        assert page.run()["end"] == "execution_success"
        [told] = [page.panel(node["id"]) for node in graph["nodes"] if node["type"] in makers]
        nouns = re.findall(r"\b(?:circle|square|star)\b", node_of(graph, "SBBindPrompt")["widgets_values"][0])
        assert len(nouns) == 2 and all(f"{noun}: " in told for noun in nouns)
        assert page.complaints == []


@RENDERERS
def test_merging_and_optimising_tell_what_they_do(browser, server, vue_nodes: bool) -> None:
    graph = short_run(MERGED, seed=15 + vue_nodes)
    merge, optimise = (node_of(graph, kind) for kind in ("SBTokenMerge", "SBTokenOptimization"))
    merge["widgets_values"] = [1.1, 1.2, "substituted", "", 0, "of the prompt"]
    with frontend(browser, server.url, size=(2600, 1600), **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        sampler = next(node["id"] for node in graph["nodes"] if node.get("title") == "KSampler (merged)")
        for seed in (15, 16):
            page.choose(sampler, "seed", seed + 10 * vue_nodes)
            assert page.run()["end"] == "execution_success"
            page.show_node(optimise["id"])
            assert 'End tokens are those of: "a circle and a square"' in page.panel(merge["id"])
            assert "circle + blue" in page.panel(merge["id"])
            assert 'circle: "a blue circle"' in page.panel(optimise["id"])
            progress = page.page.get_by_text(
                re.compile(r"^step 3 of 3, iteration \d+, \w+ loss: circle [\d.]+, square")
            )
            assert progress.count() == 1 and progress.is_visible()
            panel = page.page.locator('.sb-panel[aria-label="What is optimised"]')
            above, below = panel.bounding_box(), progress.bounding_box()
            assert above["y"] + above["height"] <= below["y"] + 1 and below["height"] > 5
        assert page.complaints == []
