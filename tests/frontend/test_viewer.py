"""The viewer of recorded attention: on the frontend that ComfyUI pins and on the newest, in both renderings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import attention_file
from attention_file import LABELS, PEAKS
from browser import frontend
from pages import RENDERERS, node_of, short_run, values
from viewing import Viewing, shown_file

pytestmark = pytest.mark.slow

LAYERS = [1, 3]
GREY = 118


def looking(step: int = 0, latent: int = 0) -> torch.Tensor:
    """The values of the made-up file that are to be shown, ``(labels, 16, 16)``."""
    return attention_file.expected(attention_file.layered_maps(), LAYERS)[step, latent]


def close(value: float) -> pytest.approx:
    """Equal but for 8 bits and for the three digits that are shown."""
    return pytest.approx(value, rel=0.01, abs=0.003)


def affinity() -> torch.Tensor:
    """Every patch looks at itself, and all of the first row at the last patch as well."""
    made = torch.eye(256).repeat(2, 1, 1)
    made[:, :16, 255] = 0.5
    made[:, :16] *= 2 / 3
    return made


@pytest.fixture
def viewing(browser, each_frontend, request) -> Iterator[Viewing]:
    """A viewer of the made-up file."""
    vue_nodes = request.param
    output = Path(each_frontend.base) / "output"
    name = attention_file.write(output, "layered", attention_file.layered_maps(), LABELS, LAYERS, affinity=affinity())
    graph = shown_file(name)
    settings = {"Comfy.VueNodes.Enabled": vue_nodes}
    with frontend(browser, each_frontend.url, size=(1500, 1300), **settings) as page:
        page.load(graph)
        viewed = Viewing(page, node_of(graph, "SBPreviewAttention")["id"])
        assert "Run the workflow" in viewed.panel.inner_text()
        viewed.run()
        yield viewed
        assert page.complaints == []
        assert page.page.evaluate("window.broken") is None, "text is text"


in_both = pytest.mark.parametrize("viewing", [False, True], indirect=True, ids=["canvas", "nodes 2.0"])


@in_both
def test_words_places_pins_steps_layers_and_scales(viewing: Viewing) -> None:
    see_words(viewing)
    see_places(viewing)
    see_pins_and_steps(viewing)
    see_layers_scales_and_pictures(viewing)
    see_the_saved_picture(viewing)


def see_words(viewing: Viewing) -> None:
    """A word that is pointed at lays its map over the picture, and takes it away again."""
    high, low = PEAKS["cat"], PEAKS["dog"]
    assert viewing.panel.locator(".sb-chip").all_inner_texts() == LABELS
    assert viewing.brightness(*high) == viewing.brightness(*low) == GREY
    viewing.chip("cat").hover()
    assert viewing.titles() == ["cat, step 1 of 6"]
    assert viewing.ends() == [close(looking()[0].min().item()), close(looking()[0].max().item())]
    assert viewing.brightness(*high) > GREY + 20 > GREY - 20 > viewing.brightness(*low)
    viewing.chip("dog").hover()
    assert viewing.brightness(*low) > GREY + 20 > GREY - 20 > viewing.brightness(*high)
    viewing.page.mouse.move(5, 5)
    assert viewing.brightness(*high) == viewing.brightness(*low) == GREY
    hues = viewing.panel.locator(".sb-chip").evaluate_all("chips => chips.map(chip => chip.style.cssText)")
    assert len(set(hues)) == 3 and hues[2] == "", "a word of no entity has no colour"


def see_places(viewing: Viewing) -> None:
    """A place that is pointed at ranks the words there, and shows who looks at it where no word is shown."""
    for place in ((3, 12), (11, 4), (0, 0), (15, 15), (7, 9)):
        viewing.page.mouse.move(*viewing.place(*place))
        ranked = viewing.ranked()
        assert dict(ranked) == {name: close(looking()[label][place].item()) for label, name in enumerate(LABELS)}
        assert [value for _, value in ranked] == sorted((value for _, value in ranked), reverse=True)
    viewing.page.mouse.move(*viewing.place(15, 15))
    viewing.panel.get_by_text("Patches that look here").wait_for()
    assert viewing.ends() == [0, 1]
    assert viewing.brightness(15, 15) > viewing.brightness(0, 3) > viewing.brightness(7, 7) + 20
    viewing.page.mouse.move(*viewing.place(7, 7))
    assert viewing.brightness(0, 3) < GREY - 20 < GREY + 20 < viewing.brightness(7, 7)
    viewing.page.mouse.click(*viewing.place(3, 12))
    viewing.page.mouse.move(5, 5)
    assert viewing.ranked()[0] == ("cat", close(looking()[0][3, 12].item())), "a click keeps the place"
    viewing.page.mouse.click(*viewing.place(3, 12))
    viewing.page.mouse.move(5, 5)
    assert viewing.ranked() == []


def see_pins_and_steps(viewing: Viewing) -> None:
    high, low = PEAKS["cat"], PEAKS["dog"]
    for name in ("cat", "dog"):
        viewing.chip(name).click()
    viewing.page.mouse.move(5, 5)
    assert viewing.titles() == ["cat, step 1 of 6", "dog, step 1 of 6"]
    left, right = (viewing.pictures().nth(index).bounding_box() for index in range(2))
    assert right["x"] >= left["x"] + left["width"] and abs(left["y"] - right["y"]) < 1
    assert viewing.brightness(*high, 0) > viewing.brightness(*high, 1) + 40
    assert viewing.brightness(*low, 1) > viewing.brightness(*low, 0) + 40
    viewing.slide("Step", 1)
    assert viewing.titles() == ["cat, step 3 of 6", "dog, step 3 of 6"]
    assert viewing.brightness(*low, 0) > viewing.brightness(*high, 0) + 40
    viewing.page.mouse.move(*viewing.place(*high, index=1))
    assert viewing.ranked()[0] == ("dog", close(looking(step=1)[1][high].item()))
    viewing.panel.get_by_role("button", name="Play").click()
    viewing.panel.get_by_text("cat, step 5 of 6").wait_for()
    viewing.panel.get_by_text("cat, step 1 of 6").wait_for()
    viewing.panel.get_by_role("button", name="Pause").click()
    viewing.slide("Step", 0)
    viewing.chip("dog").click()
    viewing.page.mouse.move(5, 5)
    assert viewing.titles() == ["cat, step 1 of 6"]


def see_layers_scales_and_pictures(viewing: Viewing) -> None:
    fine, coarse = (each[0, 0, 0] for each in attention_file.layered_maps())
    everything = attention_file.expected(attention_file.layered_maps(), LAYERS)[:, 0]
    viewing.choose("Layers", "0")
    assert viewing.ends() == [close(fine.min().item()), close(fine.max().item())]
    viewing.choose("Layers", "1")
    assert viewing.ends()[1] == close(attention_file.expected([coarse.expand(1, 1, 1, 8, 8)], [1]).max().item())
    viewing.choose("Layers", "-1")
    viewing.choose("Scale", "shared")
    assert viewing.ends() == [close(everything.min().item()), close(everything.max().item())]
    viewing.choose("Scale", "absolute")
    assert viewing.ends() == [0, 1]
    viewing.choose("Scale", "each map")
    viewing.slide("Opacity", 0)
    assert viewing.brightness(3, 12) == GREY
    viewing.slide("Opacity", 1)
    assert viewing.brightness(3, 12) > 200
    viewing.choose("Picture", "1")
    highest = close(looking(latent=1)[0].max().item())
    for _ in range(100):
        if viewing.ends()[1] == highest:
            break
        viewing.page.wait_for_timeout(50)
    assert viewing.ends()[1] == highest
    viewing.choose("Picture", "0")


def see_the_saved_picture(viewing: Viewing) -> None:
    with viewing.page.expect_download() as caught:
        viewing.panel.get_by_role("button", name="Save PNG").click()
    assert caught.value.suggested_filename == "attention cat.png"
    saved = Image.open(io.BytesIO(Path(caught.value.path()).read_bytes())).convert("L")
    assert saved.size == (512, 512 + 44), "the picture and a line that says what it is"
    row, column = PEAKS["cat"]
    assert saved.getpixel((32 * column + 16, 32 * row + 16)) > 200 > 80 > saved.getpixel((32 * 4, 32 * 11))


@in_both
def test_it_can_be_used_from_the_keyboard(viewing: Viewing) -> None:
    page = viewing.page
    viewing.pictures().focus()
    page.keyboard.press("ArrowRight")
    viewing.settle()
    assert viewing.panel.locator(".sb-ranking .sb-hint").inner_text() == "Row 9, column 9 of 16 × 16"
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert dict(viewing.ranked())["cat"] == close(looking()[0][0, 7].item())
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "cat", "the picture, the ranking, the words"
    assert viewing.titles() == ["cat, step 1 of 6"]
    assert len(viewing.ranked()) == 3, "Enter keeps the place"
    page.keyboard.press("ArrowRight")
    assert viewing.titles() == ["dog, step 1 of 6"]
    page.keyboard.press("Space")
    viewing.settle()
    assert viewing.chip("dog").get_attribute("aria-pressed") == "true"
    for key in ("Delete", "Backspace"):
        page.keyboard.press(key)
    assert page.evaluate("id => Boolean(app.rootGraph.getNodeById(id))", viewing.node), "Delete is not the graph's here"
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate("""() => {
            const { activeElement: focused } = document;
            return focused.ariaLabel ?? focused.textContent;
        }""")
        )
    assert order == ["Picture", "Step", "Play", "Layers", "Scale", "Opacity", "Sheet"]
    viewing.panel.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    assert viewing.titles() == ["dog, step 3 of 6"]
    viewing.pictures().focus()
    page.keyboard.press("Escape")
    assert viewing.ranked() == []


@RENDERERS
def test_a_run_is_shown_over_its_picture_and_its_sheet_lies_behind(browser, each_frontend, vue_nodes: bool) -> None:
    graph = short_run("Attention step by step", seed=31 + vue_nodes)
    node = node_of(graph, "SBPreviewAttention")["id"]
    sampler = node_of(graph, "KSampler")["id"]
    settings = {"Comfy.VueNodes.Enabled": vue_nodes}
    with frontend(browser, each_frontend.url, size=(1500, 1300), **settings) as page:
        page.load(graph)
        viewing = Viewing(page, node)
        viewing.run()
        assert viewing.brightness(0, 0) != GREY, "the picture"
        chips = viewing.panel.locator(".sb-chip")
        chips.nth(1).click()
        viewing.panel.get_by_role("button", name="Sheet").click()
        sheet = viewing.panel.get_by_alt_text("Sheet of all maps")
        sheet.wait_for()
        page.page.wait_for_function("document.querySelector('.sb-sheet img').naturalWidth > 500")
        assert viewing.pictures().count() == 0
        page.page.wait_for_timeout(500)
        shown = "id => (app.rootGraph.getNodeById(id).imgs ?? []).length"
        assert page.page.evaluate(shown, node) == 0, "the frontend's own preview of the sheets stays away"
        assert page.page.locator(f'[data-node-id="{node}"] .image-preview').count() == 0
        viewing.panel.get_by_role("button", name="Sheet").click()
        assert values(page.workflow()) == values(graph), "nothing of it is saved"

        name = chips.nth(1).inner_text()
        page.choose(sampler, "seed", 71 + vue_nodes)
        viewing.run()
        assert viewing.titles() == [f"{name}, step 1 of 3"], "what was pinned stays pinned"
        assert page.complaints == []
