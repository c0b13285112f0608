"""The blueprints as a user meets them: found by the words of a problem, put into a graph, and sent as their inside."""

from __future__ import annotations

from browser import frontend

BOUND, TWO_PASSES = "Bound Sampler (no color bleed)", "Bound Sampler (attribute binding, two passes)"
EMPTY = {"nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}
NODES = "() => app.rootGraph.nodes.map(node => [node.title, node.id])"
STRENGTH = """() => {
    const widget = app.rootGraph.nodes[0].widgets.find(widget => widget.name === "strength");
    widget.value = 2.5;
    widget.callback?.(2.5);
}"""


def added(page, words: str, name: str) -> None:
    """Puts the first node that the search finds, which is to be the named one, into an empty graph, as a user does."""
    page.load(EMPTY)
    search = page.page.get_by_role("combobox", name="Add a node...")
    for _ in range(10):
        page.page.mouse.dblclick(800, 400)
        page.page.wait_for_timeout(1000)
        if search.is_visible():
            break
    search.press_sequentially(words, delay=20)
    page.page.locator("[role=option]").first.get_by_text(name, exact=True).wait_for()
    page.page.keyboard.press("Enter")
    search.wait_for(state="hidden")
    page.page.mouse.click(800, 400)
    page.page.wait_for_function("app.rootGraph.nodes.length === 1")


def test_it_is_found_by_the_problem_it_solves(browser, each_frontend) -> None:
    with frontend(browser, each_frontend.url) as page:
        for words, name in (("color bleed", BOUND), ("attribute binding", TWO_PASSES), ("bound sampler", BOUND)):
            added(page, words, name)
            [(title, node_id)] = page.page.evaluate(NODES)
            assert title == name
            page.page.evaluate(STRENGTH)
            prompt = page.prompt()
            assert all(each.startswith(f"{node_id}:") for each in prompt)
            inputs = [node["inputs"] for node in prompt.values()]
            assert [each["mode.penalty"] for each in inputs if "mode.penalty" in each] == [2.5]
        assert page.complaints == []
