"""What users see: the real frontend in a real browser, as canvas and as Nodes 2.0, on the real server."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, sync_playwright

from browser import Frontend, browser_path, frontend, launch
from clone import ROOT

pytestmark = pytest.mark.slow

WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
RENDERERS = pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "nodes 2.0"])
PAIR = "Bind a prompt"
WEIGHTS = "Stage weights"
MERGED = "Attribute binding with token merge"
BYPASSED = 4

INNER_PANEL = """() => app.rootGraph.nodes.find(node => node.subgraph).subgraph.nodes[0].widgets
    .find(widget => widget.name === "semantic_binding_panel").element"""

# The contrast of an element's colour against its panel's ground, as WCAG reckons it; the browser reads the colours.
CONTRAST = """(element, styled) => {
    const luminance = colour => {
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data].map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = getComputedStyle(element.closest(".sb-panel")).backgroundColor;
    const [lower, higher] = [getComputedStyle(element)[styled], ground].map(luminance).sort((a, b) => a - b);
    return (higher + 0.05) / (lower + 0.05);
}"""


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
        for slot in node.get("inputs", ()):
            slot["link"] = slot["link"] if slot["link"] in present else None
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


def short_run(name: str, seed: int, steps: int = 3) -> dict:
    """A shipped workflow for one picture in a few steps; the seed keeps ComfyUI from taking it from its cache."""
    graph = workflow(name)
    for node in graph["nodes"]:
        match node["type"]:
            case "EmptyLatentImage":
                node["widgets_values"][2] = 1
            case "KSampler":
                node["widgets_values"][0], node["widgets_values"][2] = seed, steps
    return graph


def drawn_weights(entities_last: float) -> dict:
    """The workflow of Stage Weights with curves that were drawn."""
    graph = short_run(WEIGHTS, seed=round(1000 * entities_last))
    curves = [
        {"points": points, "interpolation": "linear"}
        for points in ([[0, 0.6], [1, 0.4]], [[0, 0.4], [1, entities_last]])
    ]
    node_of(graph, "SBStageWeights")["widgets_values"] = ["drawn", *curves, "weight 1"]
    return graph


def weights_of(page: Frontend) -> Locator:
    """The panel with the picture of the weights; no more than one of the open nodes has it."""
    return page.page.locator('.sb-panel[aria-label="Weights over the run"]')


def sent(page: Frontend, kind: str) -> dict:
    """What the open workflow sends to the server as inputs of its node of a kind."""
    return next(node["inputs"] for node in page.prompt().values() if node["class_type"] == kind)


@RENDERERS
def test_inputs_of_a_shape_and_of_a_mode_come_and_go(browser, server, vue_nodes: bool) -> None:
    graph = only(workflow(WEIGHTS), "SBObjectFocusedAttention", "SBStageWeights")
    ids = {kind: node_of(graph, kind)["id"] for kind in ("SBObjectFocusedAttention", "SBStageWeights")}
    ends = {f"shape.{name}" for name in ("global_start", "global_end", "entity_start", "entity_end")}
    cases = [
        ("SBStageWeights", "shape", "drawn", {"shape.global_curve", "shape.entity_curve"}),
        ("SBStageWeights", "shape", "step", ends | {"shape.switch_at"}),
        ("SBStageWeights", "shape", "cosine", ends),
        ("SBObjectFocusedAttention", "mode", "soft", {"mode.penalty"}),
        ("SBObjectFocusedAttention", "mode", "hard", set()),
    ]
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        for kind, name, option, expected in cases:
            page.choose(ids[kind], name, option)
            inputs = sent(page, kind)
            assert inputs[name] == option
            assert {key for key in inputs if key.startswith(f"{name}.")} == expected
            saved = page.workflow()
            page.load(saved)
            assert values(page.workflow()) == values(saved) and sent(page, kind) == inputs
        assert page.complaints == []


def test_curves_are_drawn_with_the_mouse_saved_and_sent(browser, server) -> None:
    graph = drawn_weights(0.6)
    node = node_of(graph, "SBStageWeights")["id"]
    with frontend(browser, server.url, size=(2000, 1500), **{"Comfy.VueNodes.Enabled": True}) as page:
        page.load(graph)
        page.show_node(node)
        editors = page.page.get_by_test_id("curve-editor")
        assert editors.count() == 2, "one for the words of no entity, one for the entities"
        box = editors.nth(1).bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.page.mouse.move(*middle)
        page.page.mouse.down()
        page.page.mouse.move(middle[0], box["y"] + box["height"] * 0.1, steps=4)
        page.page.mouse.up()
        inputs = sent(page, "SBStageWeights")
        assert len(inputs["shape.global_curve"]["points"]) == 2
        points = inputs["shape.entity_curve"]["points"]
        assert len(points) == 3 and points[1][0] == pytest.approx(0.5, abs=0.03) and points[1][1] > 0.85
        saved = page.workflow()
        page.load(saved)
        assert sent(page, "SBStageWeights") == inputs, "what was drawn is saved"
        assert page.run()["end"] == "execution_success"
        told = weights_of(page).locator(".sb-dot.sb-of-entities title").all_text_contents()
        assert "step 2 of 3" in told[1] and float(told[1].split()[-1]) == pytest.approx(2 * points[1][1], abs=0.2)
        assert page.complaints == []
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": False}) as page:
        page.load(saved)
        assert sent(page, "SBStageWeights") == inputs, "the canvas keeps what it cannot draw"


@RENDERERS
def test_a_run_shows_the_weights_of_its_steps_and_warns_without_the_mask(browser, server, vue_nodes: bool) -> None:
    steps = 5 if vue_nodes else 4
    focused = short_run(WEIGHTS, seed=11, steps=steps)
    alone = copy.deepcopy(focused)
    node_of(alone, "SBObjectFocusedAttention")["mode"] = BYPASSED
    node = node_of(focused, "SBStageWeights")["id"]
    with frontend(browser, server.url, size=(2600, 1200), **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        for graph, warned in ((focused, False), (alone, True)):
            page.load(graph, f"warned {warned}")
            assert "Run the workflow" in page.panel(node)
            assert page.run()["end"] == "execution_success"
            panel = weights_of(page)
            for of in ("words", "entities"):
                assert panel.locator(f".sb-dot.sb-of-{of}").count() == steps
                assert panel.locator(f".sb-weights .sb-line.sb-of-{of}").is_visible()
            assert f"{steps} in this run" in page.panel(node)
            assert f"The run had {steps} steps." in panel.locator(".sb-weights > title").text_content()
            assert "words of no entity from 1.2 to 0.8" in panel.locator(".sb-weights > title").text_content()
            assert panel.locator(".sb-warning").count() == warned
            assert ("No Object-Focused Attention in this run" in page.panel(node)) == warned
            assert values(page.workflow()) == values(graph), "the panels are not saved"
        assert page.complaints == []


def test_weights_and_steps_are_those_of_the_last_run_when_the_node_comes_from_the_cache(browser, server) -> None:
    graph = short_run(WEIGHTS, seed=21)
    weights, sampler = (node_of(graph, kind)["id"] for kind in ("SBStageWeights", "KSampler"))
    with frontend(browser, server.url) as page:
        page.load(graph)
        for entity_end, seed in ((1.2, 21), (1.7, 21), (1.2, 22), (1.2, 22)):
            page.choose(weights, "shape.entity_end", entity_end)
            page.choose(sampler, "seed", seed)
            assert page.run()["end"] == "execution_success"
            told = weights_of(page).locator("title").all_text_contents()
            assert f"entities' words from 0.8 to {entity_end}. The run had 3 steps." in told[0]
            assert f"step 3 of 3, entities' words: {entity_end}" in told[-1]
        saved = page.workflow()
        assert page.complaints == []
    with frontend(browser, server.url) as page:
        page.load(saved)
        assert page.run()["end"] == "execution_success"
        assert "from 0.8 to 1.2." in weights_of(page).locator("title").first.text_content(), "nothing had to run"


def test_before_a_run_has_begun_the_node_hints_at_the_mask(browser, server) -> None:
    graph = only(workflow(WEIGHTS), "SBStageWeights")
    node = node_of(graph, "SBStageWeights")["id"]
    curves = {"words": [1.2, 1.0, 0.8], "entities": [0.8, 1.0, 4.2]}
    with frontend(browser, server.url) as page:
        page.load(graph)
        for focused in (False, True):
            output = {"semantic_binding_weights": [{**curves, "focused": focused}]}
            page.page.evaluate("([id, output]) => app.rootGraph.getNodeById(id).onExecuted(output)", [node, output])
            assert ("Use it together with Object-Focused Attention" in page.panel(node)) != focused
            assert weights_of(page).locator(".sb-dot, .sb-warning").count() == 0
            assert page.panel(node).split()[:3] == ["0", "1", "5"], "the axis reaches the largest weight"
        assert page.complaints == []


def test_the_combined_node_shows_weights_only_while_they_are_on(browser, server) -> None:
    graph = short_run("Attention modulation, plain and modulated", seed=12)
    graph = only(graph, *{node["type"] for node in graph["nodes"]} - {"SBPreviewAttention", "SBScoreBinding"})
    node = node_of(graph, "SBAttentionModulation")
    with frontend(browser, server.url) as page:
        page.load(graph)
        assert page.run()["end"] == "execution_success"
        assert weights_of(page).locator(".sb-dot").count() == 6
        page.choose(node["id"], "stage_weights", False)
        assert page.run()["end"] == "execution_success"
        assert page.panel(node["id"]).strip() == "Stage weights are off."
        assert page.complaints == []


def test_a_node_in_a_subgraph_gets_the_steps_of_its_run(browser, server) -> None:
    graph = short_run(WEIGHTS, seed=13)
    node = node_of(graph, "SBStageWeights")["id"]
    with frontend(browser, server.url) as page:
        page.load(graph)
        page.page.evaluate("id => app.rootGraph.convertToSubgraph(new Set([app.rootGraph.getNodeById(id)]))", node)
        assert any(":" in node_id for node_id in page.prompt()), "the server knows it by an execution id"
        assert page.run()["end"] == "execution_success"
        assert page.page.evaluate_handle(INNER_PANEL).evaluate("panel => panel.querySelectorAll('.sb-dot').length") == 6
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


@pytest.mark.parametrize("name", ["Masks from attention", "Masks from boxes", "Assign a batch of masks"])
def test_nodes_that_make_masks_tell_whose_they_are(browser, server, name: str) -> None:
    graph = short_run(name, seed=17)
    makers = ("SBMasksFromAttention", "SBMasksFromBoxes", "SBAssignMasks")
    with frontend(browser, server.url) as page:
        page.load(graph)
        assert page.run()["end"] == "execution_success"
        [told] = [page.panel(node["id"]) for node in graph["nodes"] if node["type"] in makers]
        assert "circle: " in told and "square: " in told
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
            assert "circle + green" in page.panel(merge["id"])
            assert 'circle: "a green circle"' in page.panel(optimise["id"])
            progress = page.page.get_by_text(
                re.compile(r"^step 3 of 3, iteration \d+, \w+ loss: circle [\d.]+, square")
            )
            assert progress.count() == 1 and progress.is_visible()
            panel = page.page.locator('.sb-panel[aria-label="What is optimised"]')
            above, below = panel.bounding_box(), progress.bounding_box()
            assert above["y"] + above["height"] <= below["y"] + 1 and below["height"] > 5
        assert page.complaints == []


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_the_picture_of_the_weights_can_be_read_in_both_themes(browser, server, palette: str) -> None:
    graph = only(workflow(WEIGHTS), "SBStageWeights")
    node = node_of(graph, "SBStageWeights")["id"]
    output = {"semantic_binding_weights": [{"words": [1.2, 0.8], "entities": [0.8, 1.2], "focused": False}]}
    run = {"words": [1.2, 0.8], "entities": [0.8, 1.2], "focused": False}
    with frontend(browser, server.url, **{"Comfy.ColorPalette": palette}) as page:
        page.load(graph)
        page.page.evaluate(
            "([id, output]) => app.rootGraph.getNodeById(id).onExecuted(output)",
            [node, output | {"stage_weights": run}],
        )
        panel = weights_of(page)
        for mark, styled, least in (
            (".sb-weights text", "fill", 4.5),
            (".sb-line.sb-of-words", "stroke", 3),
            (".sb-line.sb-of-entities", "stroke", 3),
            (".sb-warning", "color", 4.5),
        ):
            assert panel.locator(mark).first.evaluate(CONTRAST, styled) >= least, (palette, mark)
