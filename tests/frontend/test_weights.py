"""The curves of stage weights: drawn, saved, sent, and shown with what a run made of them."""

from __future__ import annotations

import copy

import pytest
from playwright.sync_api import Locator

from browser import Frontend, frontend
from pages import (
    BYPASSED,
    CONTRAST,
    INNER_PANEL,
    RENDERERS,
    node_of,
    only,
    sent,
    short_run,
    values,
    workflow,
)

WEIGHTS = "Stage weights"


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
    with frontend(browser, server.url, fresh=True) as page:
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
