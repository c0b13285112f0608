"""The viewer of recorded attention on a page of the frontend."""

from __future__ import annotations

from playwright.sync_api import Locator

import attention_file
from browser import Frontend
from pages import node_of, only, workflow

# The mean of red, green and blue, 0 to 255, around the middle of a cell of the picture that is shown in a place.
BRIGHTNESS = """([index, row, column, size]) => {
    const canvas = document.querySelectorAll(".sb-picture")[index];
    const at = (place, length) => Math.round(((place + 0.5) / size) * length) - 2;
    const { data } = canvas.getContext("2d").getImageData(at(column, canvas.width), at(row, canvas.height), 4, 4);
    return data.reduce((sum, value) => sum + value, -16 * 255) / 48;
}"""


class Viewing:
    """``node`` is the Preview Attention of an open workflow that was run."""

    def __init__(self, page: Frontend, node: int):
        self.frontend, self.page, self.node = page, page.page, node
        self.panel = page.page.locator(".sb-viewer")

    def run(self) -> None:
        assert self.frontend.run()["end"] == "execution_success"
        self.frontend.show_node(self.node)
        self.wait_for_maps()

    def wait_for_maps(self) -> None:
        self.panel.locator(".sb-picture").first.wait_for()

    def settle(self) -> None:
        """Until what was last done is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def chip(self, name: str) -> Locator:
        return self.panel.get_by_role("button", name=name, exact=True)

    def pictures(self) -> Locator:
        return self.panel.locator(".sb-stage:visible .sb-picture")

    def titles(self) -> list[str]:
        self.settle()
        return self.panel.locator(".sb-stage:visible .sb-shown").all_inner_texts()

    def ends(self, index: int = 0) -> list[float]:
        """The numbers at the ends of the scale of a picture."""
        self.settle()
        return [float(text) for text in self.panel.locator(".sb-stage").nth(index).locator(".sb-end").all_inner_texts()]

    def ranked(self) -> list[tuple[str, float]]:
        self.settle()
        rows = self.panel.locator(".sb-ranked li")
        names = rows.locator(".sb-value-name").all_inner_texts()
        return list(zip(names, map(float, rows.locator(".sb-value").all_inner_texts()), strict=True))

    def brightness(self, row: int, column: int, index: int = 0, size: int = attention_file.SIZE) -> float:
        self.settle()
        return self.page.evaluate(BRIGHTNESS, [index, row, column, size])

    def place(self, row: int, column: int, index: int = 0, size: int = attention_file.SIZE) -> tuple[float, float]:
        """The middle of a cell of a square picture, on the page."""
        box = self.pictures().nth(index).bounding_box()
        side = min(box["width"], box["height"])
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        return left + (column + 0.5) / size * side, top + (row + 0.5) / size * side

    def choose(self, label: str, value: str) -> None:
        self.panel.get_by_role("combobox", name=label, exact=True).select_option(value)

    def slide(self, label: str, value: float) -> None:
        self.panel.get_by_role("slider", name=label, exact=True).fill(str(value))


def shown_file(name: str) -> dict:
    """A workflow that loads a file of attention and shows it."""
    graph = only(workflow("Reload attention maps"), "SBLoadAttention", "SBPreviewAttention")
    node_of(graph, "SBLoadAttention")["widgets_values"] = [name]
    node_of(graph, "SBPreviewAttention")["size"] = [560, 900]
    return graph
