"""ComfyUI's help panel on the real frontends, with this pack's pages."""

from __future__ import annotations

import pytest

from browser import frontend
from clone import ROOT
from pages import PAIR, workflow

pytestmark = pytest.mark.slow

PICTURES = 'img[src*="/docs/pictures/"]'
TITLE = """id => {
    const node = app.rootGraph.getNodeById(id);
    app.canvas.ds.scale = 0.5;
    app.canvas.centerOnNode(node);
    const {scale, offset} = app.canvas.ds, {left, top} = app.canvas.canvas.getBoundingClientRect();
    return [(node.pos[0] + node.size[0] / 2 + offset[0]) * scale + left, (node.pos[1] - 15 + offset[1]) * scale + top];
}"""
"""The place of a node's title in the window, when all of the node can be seen."""


def test_help_pages_show_their_pictures(browser, each_frontend) -> None:
    graph = workflow(PAIR)
    with frontend(browser, each_frontend.url, **{"Comfy.Canvas.SelectionToolbox": True}) as page:
        page.load(graph, PAIR)
        for node in (node for node in graph["nodes"] if node["type"].startswith("SB")):
            title = page.page.evaluate(TITLE, node["id"])
            page.page.wait_for_timeout(500)
            page.page.mouse.click(*title)
            if not page.page.locator(PICTURES).count():
                page.page.get_by_test_id("info-button").click()
            address = f"/extensions/{ROOT.name}/docs/pictures/{node['type']}.jpg"
            picture = page.page.locator(f'img[src="{address}"]')
            picture.wait_for()
            picture.evaluate("image => image.decode()")
            assert picture.evaluate("image => image.naturalWidth") >= 300
            assert picture.get_attribute("alt")
        assert page.complaints == []
