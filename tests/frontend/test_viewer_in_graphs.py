"""The viewer in a graph: zoomed, collapsed, copied, in a subgraph, opened again, with many words and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import attention_file
from attention_file import PEAKS
from browser import frontend
from pages import CONTRAST, EACH_ONCE, INNER_PANEL, RENDERERS, node_of, short_run
from viewing import Viewing, shown_file

pytestmark = pytest.mark.slow

WORDS = [*PEAKS, *(f"word{number}" for number in range(198))]
PICTURES = 16

ZOOM = """([id, scale]) => {
    app.canvas.ds.scale = scale;
    app.canvas.centerOnNode(app.rootGraph.getNodeById(id));
    app.canvas.setDirty(true, true);
}"""
COLLAPSE = "id => app.rootGraph.getNodeById(id).collapse()"
COPY = """id => {
    app.canvas.copyToClipboard([app.rootGraph.getNodeById(id)]);
    app.canvas.pasteFromClipboard();
    return app.rootGraph.nodes.at(-1).id;
}"""
INTO_A_SUBGRAPH = "id => { app.rootGraph.convertToSubgraph(new Set([app.rootGraph.getNodeById(id)])); }"


@pytest.fixture
def viewing(browser, each_frontend, request) -> Iterator[Viewing]:
    """A viewer of 200 words in one picture; cat and dog come first."""
    maps = attention_file.layered_maps(latents=1)[0][:1, :, :2]
    maps = torch.cat([maps, torch.full((1, 1, 198, 16, 16), 0.01)], dim=2)
    output = Path(each_frontend.base) / "output"
    graph = shown_file(attention_file.write(output, "words", [maps], WORDS, [1]))
    with frontend(browser, each_frontend.url, size=(1500, 1300), **{"Comfy.VueNodes.Enabled": request.param}) as page:
        page.load(graph)
        viewed = Viewing(page, node_of(graph, "SBPreviewAttention")["id"])
        viewed.run()
        yield viewed
        assert page.complaints == []


@pytest.mark.parametrize(("each_frontend", "viewing"), EACH_ONCE, indirect=True)
def test_a_viewer_of_many_words_and_pictures_among_other_nodes(viewing: Viewing, each_frontend) -> None:
    base = Path(each_frontend.base)
    see_many_words(viewing)
    see_it_zoomed(viewing)
    see_a_finger(viewing)
    see_it_collapsed_and_copied(viewing)
    see_it_in_a_subgraph(viewing)
    see_many_pictures(viewing, base / "output")
    see_it_opened_again(viewing, base / "temp")


def see_many_words(viewing: Viewing) -> None:
    assert viewing.panel.locator(".sb-chip").count() == 200
    chips = viewing.panel.locator(".sb-chips")
    assert chips.evaluate("chips => chips.scrollHeight > chips.clientHeight"), "they scroll"
    assert viewing.pictures().bounding_box()["height"] > 300, "and leave the picture its room"
    viewing.chip("cat").hover()
    viewing.chip("cat").focus()
    viewing.page.keyboard.press("End")
    assert viewing.titles() == ["word197, step 1 of 2"], "a pointer at rest is not in the keyboard's way"
    viewing.page.keyboard.press("Home")
    viewing.choose("Scale", "shared")
    assert viewing.ends() == [pytest.approx(0, abs=1e-6), pytest.approx(0.6, rel=0.01)]
    viewing.choose("Scale", "each map")


def see_it_zoomed(viewing: Viewing) -> None:
    row, column = PEAKS["dog"]
    for scale in (0.5, 2, 1):
        viewing.page.evaluate(ZOOM, [viewing.node, scale])
        viewing.page.wait_for_timeout(500)
        viewing.page.mouse.move(*viewing.place(row, column))
        assert viewing.ranked()[0] == ("dog", pytest.approx(0.3, rel=0.01)), scale
        viewing.page.mouse.move(*viewing.place(row - 4, column))
        assert viewing.ranked()[0] == ("dog", pytest.approx(0.1233, rel=0.02)), scale


def see_a_finger(viewing: Viewing) -> None:
    viewing.page.mouse.move(5, 5)
    before = viewing.page.evaluate("[...app.canvas.ds.offset]")
    fingers = viewing.page.context.new_cdp_session(viewing.page)
    fingers.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", viewing.place(2, 2))
    touch("touchMove", viewing.place(*PEAKS["cat"]))
    assert viewing.ranked()[0] == ("cat", pytest.approx(0.6, rel=0.01)), "a finger on the picture points"
    touch("touchEnd")
    assert viewing.page.evaluate("[...app.canvas.ds.offset]") == before, "and does not move the graph"
    box = viewing.chip("dog").bounding_box()
    touch("touchStart", (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
    touch("touchEnd")
    viewing.page.wait_for_function("document.querySelectorAll('.sb-chip')[1].ariaPressed === 'true'")
    fingers.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert viewing.titles() == ["dog, step 1 of 2"]


def see_it_collapsed_and_copied(viewing: Viewing) -> None:
    viewing.page.evaluate(COLLAPSE, viewing.node)
    viewing.panel.wait_for(state="hidden")
    viewing.page.evaluate(COLLAPSE, viewing.node)
    viewing.wait_for_maps()
    assert viewing.titles() == ["dog, step 1 of 2"], "it is as it was left"
    assert viewing.brightness(*PEAKS["dog"]) > viewing.brightness(*PEAKS["cat"]) + 40
    copy = viewing.page.evaluate(COPY, viewing.node)
    assert "Run the workflow" in viewing.frontend.panel(copy)
    viewing.page.evaluate("id => app.rootGraph.remove(app.rootGraph.getNodeById(id))", copy)
    assert viewing.titles() == ["dog, step 1 of 2"]


def see_it_in_a_subgraph(viewing: Viewing) -> None:
    viewing.page.evaluate(INTO_A_SUBGRAPH, viewing.node)
    viewing.page.wait_for_timeout(500)
    assert viewing.frontend.run()["end"] == "execution_success"
    inner = viewing.page.evaluate_handle(INNER_PANEL)
    viewing.page.wait_for_function(
        "panel => panel.querySelectorAll('.sb-chip').length === 200 && panel.querySelector('.sb-hint').hidden",
        arg=inner,
    )


def see_many_pictures(viewing: Viewing, output: Path) -> None:
    """In a graph that is opened in the place of the other one, which is not run yet."""
    maps = attention_file.layered_maps(PICTURES)[:1]
    graph = shown_file(attention_file.write(output, "pictures", maps, attention_file.LABELS, [1]))
    viewing.frontend.load(graph, "pictures")
    assert "Run the workflow" in viewing.panel.inner_text()
    viewing.run()
    assert viewing.panel.get_by_role("combobox", name="Picture").locator("option").count() == PICTURES
    viewing.choose("Picture", "15")
    viewing.chip("cat").click()
    viewing.panel.get_by_text("cat, step 1 of 6").wait_for()
    assert viewing.ends()[1] == pytest.approx(0.6 * 0.9**15, rel=0.01)


def see_it_opened_again(viewing: Viewing, temporary: Path) -> None:
    """The same files from ComfyUI's cache, and then what it says where ComfyUI has thrown them away."""
    graph = shown_file(f"pictures{attention_file.SUFFIX} [output]")
    viewing.frontend.load(graph, "again")
    viewing.run()
    viewing.frontend.load(graph, "and again")
    shutil.rmtree(temporary / "semantic_binding")
    assert viewing.frontend.run()["end"] == "execution_success"
    viewing.panel.get_by_text("are gone").wait_for()
    assert "Run the workflow again" in viewing.panel.inner_text()


@RENDERERS
def test_the_step_just_done_is_shown_where_it_is_asked_for(browser, server, vue_nodes: bool) -> None:
    graph = short_run("Bind a prompt", seed=41 + vue_nodes)
    recorder = node_of(graph, "SBRecordAttention")["id"]
    sampler = node_of(graph, "KSampler")["id"]
    with frontend(browser, server.url, size=(2200, 1300), **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
        page.load(graph)
        live = page.page.locator(".sb-live")
        assert page.run()["end"] == "execution_success"
        assert live.count() == 0
        page.choose(recorder, "live_preview", True)
        page.choose(sampler, "seed", 51 + vue_nodes)
        assert page.run()["end"] == "execution_success"
        page.show_node(recorder)
        live.get_by_text("Step 3 of 3, first picture").wait_for()
        maps = live.locator(".sb-live-map")
        chips = page.page.locator(".sb-viewer .sb-chip").all_inner_texts()
        assert live.locator(".sb-live-word").all_inner_texts() == chips
        assert all(maps.nth(index).is_visible() for index in range(len(chips)))
        seen = """canvas => [...canvas.getContext("2d").getImageData(0, 0, 96, 96).data]"""
        assert all(len(set(map_.evaluate(seen))) > 20 for map_ in live.locator("canvas").all())
        assert page.complaints == []


@pytest.mark.parametrize(("vue_nodes", "palette"), [(False, "light"), (True, "dark")], ids=["canvas", "nodes 2.0"])
def test_it_can_be_read_in_both_themes(browser, server, vue_nodes: bool, palette: str) -> None:
    name = attention_file.write(
        Path(server.base) / "output", "themes", attention_file.layered_maps(), attention_file.LABELS, [1, 1]
    )
    graph = shown_file(name)
    settings = {"Comfy.VueNodes.Enabled": vue_nodes, "Comfy.ColorPalette": palette}
    with frontend(browser, server.url, size=(1500, 1300), **settings) as page:
        page.load(graph)
        viewing = Viewing(page, node_of(graph, "SBPreviewAttention")["id"])
        viewing.run()
        viewing.chip("cat").click()
        page.page.mouse.move(*viewing.place(3, 12))
        viewing.settle()
        for mark, styled, least in (
            (".sb-shown", "color", 4.5),
            (".sb-end", "color", 4.5),
            (".sb-value-name", "color", 4.5),
            (".sb-chip", "color", 4.5),
            (".sb-control", "color", 4.5),
            (".sb-button", "borderTopColor", 3),
            (".sb-viewer select", "borderTopColor", 3),
        ):
            found = page.page.locator(mark).first.evaluate(CONTRAST, styled)
            assert found >= least, (palette, mark, found)
