"""Words of a prompt that are given to other entities on the node: by mouse, finger, menu and keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator

from browser import Frontend, frontend
from pages import CONTRAST, EACH_ONCE, RENDERERS, middle, node_of, prompt_alone, sent, values

pytestmark = pytest.mark.slow

SAILOR = "a young sailor with a red cap and a wooden box next to a big black dog"
READ = ["sailor young with a red cap a wooden box", "dog big black"]
STEPS = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
RELEASE = "() => window.dispatchEvent(new MouseEvent('mouseup'))"
WATCH_CLICKS = """() => {
    window.clicked = false;
    window.addEventListener("click", () => (window.clicked = true), { capture: true, once: true });
}"""
ZOOM = """([id, scale]) => {
    const node = app.rootGraph.getNodeById(id), { ds, canvas } = app.canvas;
    ds.scale = scale;
    ds.offset[0] = canvas.clientWidth / 2 / scale - node.pos[0] - node.size[0] / 2;
    ds.offset[1] = canvas.clientHeight * 0.8 / scale - node.pos[1] - node.size[1];
    app.canvas.setDirty(true, true);
}"""


class Chips:
    """The panel of Bind Prompt on a page, after a run."""

    def __init__(self, page: Frontend, prompt: str, entities: str = ""):
        self.frontend, self.page = page, page.page
        self.graph, self.node = prompt_alone(prompt)
        node_of(self.graph, "SBBindPrompt")["widgets_values"][1] = entities
        page.load(self.graph)
        assert page.run()["end"] == "execution_success"
        page.show_node(self.node)
        self.settle()

    def settle(self) -> None:
        """What the frontend does after an edit is over, and what has changed is a step that can be undone."""
        self.page.wait_for_timeout(700)
        self.page.evaluate(RELEASE)

    @property
    def entities(self) -> list[str]:
        return self.page.locator(".sb-entity").all_inner_texts()

    @property
    def written(self) -> str:
        return self.frontend.prompt()[str(self.node)]["inputs"]["entities"]

    @property
    def steps(self) -> int:
        return self.page.evaluate(STEPS)

    def part(self, text: str) -> Locator:
        return self.page.locator(".sb-entities .sb-pick").get_by_text(text, exact=True)

    def word(self, text: str) -> Locator:
        return self.page.locator(".sb-prompt .sb-pick").get_by_text(text, exact=True)

    def entity(self, number: int) -> Locator:
        return self.page.locator(".sb-entity").nth(number)

    def target(self, text: str) -> Locator:
        return self.page.locator(".sb-target").get_by_text(text, exact=True)

    def drag(self, what: Locator, to: Locator) -> None:
        self.page.mouse.move(*middle(what))
        self.page.mouse.down()
        for steps in (3, 1):
            self.page.mouse.move(*middle(to), steps=steps)
        self.page.mouse.up()
        self.settle()

    def tap(self, what: Locator) -> None:
        """With a finger; once more where the browser makes no click of it, as it happens on a busy machine."""
        self.page.evaluate(WATCH_CLICKS)
        for _ in range(5):
            self.finger(middle(what))
            if self.page.evaluate("clicked"):
                return

    def finger(self, *places: tuple[float, float]) -> None:
        """Puts a finger down, moves it along the places and lifts it."""
        touches = self.page.context.new_cdp_session(self.page)
        kinds = ["touchStart"] + ["touchMove"] * (len(places) - 1)
        for kind, (x, y) in zip(kinds, places, strict=True):
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.settle()

    def choose(self, what: Locator, choice: str) -> None:
        what.click()
        self.page.get_by_role("menuitemradio", name=choice, exact=True).click()
        self.settle()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()


@pytest.mark.parametrize(("each_frontend", "vue_nodes"), EACH_ONCE, indirect=["each_frontend"])
def test_every_way_to_move_a_word_is_written_sent_and_undone_in_one_step(
    browser, each_frontend, vue_nodes: bool
) -> None:
    with frontend(browser, each_frontend.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        chips = Chips(page, SAILOR)
        assert chips.entities == READ
        done = [(chips.steps, "", READ)]

        def did(written: str, *entities: str) -> None:
            assert chips.written == written and chips.entities == list(entities)
            assert chips.steps == done[0][0] + len(done)
            done.append((chips.steps, written, list(entities)))

        chips.drag(chips.part("young"), to=chips.entity(1))
        did(
            "sailor: with a red cap, + a wooden box | dog: young, big, black",
            "sailor with a red cap a wooden box",
            "dog young big black",
        )
        before, over = middle(chips.part("black")), middle(chips.entity(0))
        chips.finger(before, (over[0], before[1]), over)
        did(
            "sailor: black, with a red cap, + a wooden box | dog: young, big",
            "sailor black with a red cap a wooden box",
            "dog young big",
        )
        chips.tap(chips.part("big"))
        assert chips.page.locator(".sb-menu").is_visible(), "a tap after a drag by finger"
        chips.tap(chips.page.get_by_role("menuitemradio", name="Of no entity"))
        did(
            "sailor: black, with a red cap, + a wooden box | dog: young",
            "sailor black with a red cap a wooden box",
            "dog young",
        )
        chips.part("with a red cap").focus()
        chips.press("Enter", "Home", "ArrowDown", "ArrowDown", "Enter")
        assert chips.page.evaluate("document.activeElement.ariaLabel") == "cap, entity", "the focus follows the word"
        did(
            "sailor: black, + a wooden box | cap: red | dog: young",
            "sailor black a wooden box",
            "cap red",
            "dog young",
        )
        chips.drag(chips.word("next"), to=chips.target("an entity of its own"))
        did(
            "sailor: black, + a wooden box | cap: red | next | dog: young",
            "sailor black a wooden box",
            "cap red",
            "next",
            "dog young",
        )
        chips.choose(chips.part("cap"), "Of dog")
        did(
            "sailor: black, + a wooden box | next | dog: young, + red ... cap",
            "sailor black a wooden box",
            "next",
            "dog young red cap",
        )
        chips.part("next").focus()
        chips.press("Delete")
        did(
            "sailor: black, + a wooden box | dog: young, + red ... cap",
            "sailor black a wooden box",
            "dog young red cap",
        )

        for _, written, entities in done[-2::-1]:
            chips.press("Control+z")
            assert (chips.written, chips.entities) == (written, entities)
        for _, written, entities in done[1:]:
            chips.press("Control+Shift+z")
            assert (chips.written, chips.entities) == (written, entities)
        assert page.run()["end"] == "execution_success"
        assert chips.entities == done[-1][2], "the server understands what was shown"
        assert "entities given by hand" in page.panel(chips.node)
        saved = page.workflow()
        page.load(saved)
        assert values(page.workflow()) == values(saved) and chips.written == done[-1][1]
        assert page.complaints == []


@pytest.mark.parametrize(("vue_nodes", "zoom"), [(False, 0.5), (True, 2)], ids=["canvas, small", "nodes 2.0, large"])
def test_words_are_dragged_at_every_zoom_and_menus_stay_in_the_window(browser, server, vue_nodes: bool, zoom) -> None:
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        chips = Chips(page, SAILOR)
        page.page.evaluate(ZOOM, [chips.node, zoom])
        chips.settle()
        chips.drag(chips.part("young"), to=chips.entity(1))
        assert chips.entities == ["sailor with a red cap a wooden box", "dog young big black"]
        chips.part("black").click()
        menu = page.page.locator(".sb-menu")
        box, (width, height) = menu.bounding_box(), (1600, 1000)
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= width and box["y"] + box["height"] <= height
        assert menu.locator(".sb-choice").first.bounding_box()["height"] >= 32, "the zoom does not make it smaller"
        page.page.keyboard.press("Escape")
        assert menu.count() == 0 and "black" in page.page.evaluate("document.activeElement.ariaLabel")
        assert page.complaints == []


def test_what_is_uncertain_is_marked_until_it_is_chosen(browser, server) -> None:
    with frontend(browser, server.url) as page:
        chips = Chips(page, SAILOR)
        marked = page.page.locator(".sb-entities .sb-doubt")
        assert marked.all_inner_texts() == ["a wooden box"]
        assert marked.get_attribute("title") == '"box": of the sailor? It was read so.'
        marked.click()
        assert page.page.locator(".sb-question").inner_text() == '"box": of the sailor? It was read so.'
        page.page.get_by_role("menuitemradio", name="Of sailor").click()
        chips.settle()
        assert marked.count() == 0 and chips.entities == READ
        assert chips.written == "sailor: young, with a red cap, + a wooden box | dog: big, black"
        assert page.complaints == []


def test_a_drag_that_ends_nowhere_changes_nothing_and_clicks_nothing(browser, server) -> None:
    with frontend(browser, server.url) as page:
        chips = Chips(page, SAILOR)
        steps = chips.steps
        chips.drag(chips.part("young"), to=page.page.locator(".sb-tokens summary"))
        chips.drag(chips.part("young"), to=chips.entity(0))
        page.page.mouse.move(*middle(chips.part("young")))
        page.page.mouse.down()
        page.page.mouse.move(*middle(chips.entity(1)), steps=4)
        page.page.keyboard.press("Escape")
        page.page.mouse.up()
        chips.settle()
        assert (chips.entities, chips.written, chips.steps) == (READ, "", steps)
        assert page.page.locator(".sb-menu, .sb-ghost, .sb-over, .sb-dragging").count() == 0
        chips.part("young").focus()
        page.page.keyboard.press("Enter")
        assert page.page.locator(".sb-menu").is_visible(), "a key after a drag by mouse"
        page.page.mouse.click(5, 5)
        assert page.page.locator(".sb-menu").count() == 0
        assert page.complaints == []


def test_when_all_is_let_go_nothing_is_parsed_again(browser, server) -> None:
    with frontend(browser, server.url) as page:
        chips = Chips(page, "a red circle")
        chips.choose(chips.word("circle"), "Of no entity")
        assert chips.written == "|" and "No entities." in page.panel(chips.node)
        assert page.run()["end"] == "execution_success"
        assert "No entities." in page.panel(chips.node) and "entities given by hand" in page.panel(chips.node)
        chips.choose(chips.word("circle"), "An entity of its own")
        chips.choose(chips.word("red"), "Of circle")
        assert chips.written == "circle: red" and chips.entities == ["circle red"]
        assert page.complaints == []


def test_what_is_not_of_this_run_cannot_be_changed(browser, server) -> None:
    with frontend(browser, server.url) as page:
        chips = Chips(page, "a red circle and a green square")
        picks = page.page.locator(".sb-pick")
        page.choose(chips.node, "entities", "circle")
        assert "The entities are not those of this run" in page.panel(chips.node) and picks.count() == 0
        page.choose(chips.node, "entities", "")
        assert picks.count() > 0
        page.choose(chips.node, "text", "a blue star")
        assert "The prompt is not that of this run" in page.panel(chips.node) and picks.count() == 0
        page.choose(chips.node, "text", "a red circle/* round */ and a green square")
        assert picks.count() > 0, "a comment is not sent"
        assert page.complaints == []


@RENDERERS
def test_copies_and_collapsed_nodes_keep_to_themselves(browser, server, vue_nodes: bool) -> None:
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        chips = Chips(page, SAILOR)
        chips.choose(chips.part("young"), "Of dog")
        written = chips.written

        def entities() -> list[str]:
            nodes = sorted(page.workflow()["nodes"], key=lambda node: int(node["id"]))
            return [node["widgets_values"][1] for node in nodes if node["type"] == "SBBindPrompt"]

        page.page.evaluate(
            """id => {
                const node = app.rootGraph.getNodeById(id);
                app.canvas.copyToClipboard([node]);
                app.canvas.pasteFromClipboard({ position: [node.pos[0] + 600, node.pos[1]] });
                node.collapse();
            }""",
            chips.node,
        )
        chips.settle()
        page.page.evaluate("id => app.rootGraph.getNodeById(id).collapse()", chips.node)
        chips.settle()
        assert entities() == [written, written]
        chips.choose(chips.part("young"), "Of sailor")
        assert chips.entities == READ
        assert entities() == [chips.written, written] and chips.written != written
        assert page.complaints == []


@RENDERERS
def test_words_are_moved_in_a_subgraph(browser, server, vue_nodes: bool) -> None:
    graph, node = prompt_alone(SAILOR)
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        page.page.evaluate(
            """id => {
                const { node } = app.rootGraph.convertToSubgraph(new Set([app.rootGraph.getNodeById(id)]));
                app.canvas.setGraph(node.subgraph);
            }""",
            node,
        )
        assert page.run()["end"] == "execution_success"
        page.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.centerOnNode(app.canvas.graph.nodes[0]); }")
        page.page.wait_for_timeout(700)
        page.page.evaluate(RELEASE)
        chips = page.page.locator(".sb-entity")
        assert chips.all_inner_texts() == READ
        page.page.locator(".sb-entities .sb-pick").get_by_text("young", exact=True).click()
        page.page.get_by_role("menuitemradio", name="Of dog").click()
        page.page.wait_for_timeout(700)
        edited = ["sailor with a red cap a wooden box", "dog young big black"]
        assert chips.all_inner_texts() == edited
        assert sent(page, "SBBindPrompt")["entities"].endswith("dog: young, big, black")
        page.page.keyboard.press("Control+z")
        page.page.wait_for_timeout(1000)
        assert chips.all_inner_texts() == READ and sent(page, "SBBindPrompt")["entities"] == ""
        assert page.complaints == []


@RENDERERS
def test_a_prompt_of_two_hundred_words_can_be_changed_to_its_end(browser, server, vue_nodes: bool) -> None:
    colours, things = "red green blue white black".split(), "ball cube cup chair lamp vase book clock".split()
    named = [f"a {colours[i % 5]} {things[i % 8]} number{chr(97 + i)}" for i in range(24)]
    prompt = ", ".join(f"{each} near the old wall" for each in named)
    assert len(prompt.split()) > 185
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        chips = Chips(page, prompt)
        panel = page.page.locator(".sb-panel")
        page.page.locator(".sb-prompt .sb-pick").first.focus()
        page.page.keyboard.press("End")
        before = chips.entities
        chips.press("Enter", "Home", "Enter")
        assert chips.entities[0].split() == [*before[0].split(), "wall"]
        assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") == 0
        took = page.page.evaluate(
            """id => {
                const started = performance.now(), panel = app.rootGraph.getNodeById(id).semanticBindingPanel;
                panel.show(app.nodeOutputs[id]);
                return performance.now() - started;
            }""",
            chips.node,
        )
        assert took < 1000
        assert page.run()["end"] == "execution_success"
        assert page.complaints == []


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_chips_and_menus_can_be_read_in_both_themes(browser, server, palette: str) -> None:
    with frontend(browser, server.url, **{"Comfy.ColorPalette": palette}) as page:
        chips = Chips(page, SAILOR)
        for mark in (".sb-entities .sb-attribute", ".sb-prompt .sb-free", ".sb-entities .sb-doubt", ".sb-target"):
            assert page.page.locator(mark).first.evaluate(CONTRAST, "color") >= 4.5, mark
        chips.part("young").click()
        for mark in (".sb-choice", ".sb-question"):
            assert page.page.locator(mark).first.evaluate(CONTRAST, "color") >= 4.5, mark
        assert page.complaints == []


@RENDERERS
def test_words_of_the_user_are_never_markup_in_menus(browser, server, vue_nodes: bool) -> None:
    with frontend(browser, server.url, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        chips = Chips(page, '\U0001f600 a red <img src=x onerror="window.broken=1"> circle and a <b>blue</b> square')
        word = page.page.locator(".sb-prompt .sb-free").first
        text = word.inner_text()
        word.click()
        assert page.page.locator(".sb-question").inner_text() == text
        assert page.page.locator(".sb-menu img, .sb-menu b, .sb-panel img").count() == 0
        page.page.keyboard.press("Escape")
        chips.choose(chips.part("circle"), "Of square")
        assert page.run()["end"] == "execution_success"
        assert page.page.evaluate("window.broken") is None
        assert page.complaints == []
