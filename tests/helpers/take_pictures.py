"""The pictures of the example workflows, as the template browser shows them: each opened, run and photographed.

    .dev/venv/bin/python tests/helpers/take_pictures.py [NAME ...]

Those with nodes that need files (`NOT_RUN`) are left as they are, unless they are named.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from browser import frontend, launch  # noqa: E402
from examples import FILES, WORKFLOWS, kinds, ui  # noqa: E402

NOT_RUN = {"CheckpointLoaderSimple", "SBLoadSAM"}
IN_NODES_2 = {"Draw the regions"}
"""Whose canvas is not there in the older view."""

LEFT_OUT = (
    "SBLoadDemoModel",
    "EmptyLatentImage",
    "CLIPTextEncode",
    "VAEDecode",
    "MarkdownNote",
    "SolidMask",
    "EmptyImage",
)
WINDOW, WIDTH, LARGEST = (2200, 1500), 1100, 95_000

MENUS = {"left": 70, "top": 140, "right": 10, "bottom": 60}
"""Pixels at the edges of the window that the frontend's own bars may cover."""

PLAIN = {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False, "Comfy.NodeBadge.NodeSourceBadgeMode": "None"}

FIT = """([ids, menus, margin]) => {
    const nodes = app.rootGraph.nodes.filter(node => ids.includes(String(node.id)));
    const left = Math.min(...nodes.map(node => node.pos[0])) - margin;
    const top = Math.min(...nodes.map(node => node.pos[1])) - 3 * margin;
    const width = Math.max(...nodes.map(node => node.pos[0] + node.size[0])) + margin - left;
    const height = Math.max(...nodes.map(node => node.pos[1] + node.size[1])) + margin - top;
    const window = app.canvas.canvas.getBoundingClientRect();
    const across = window.width - menus.left - menus.right, down = window.height - menus.top - menus.bottom;
    const scale = Math.min(across / width, down / height);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [menus.left / scale - left, menus.top / scale - top];
    app.canvas.setDirty(true, true);
    return {x: window.x + menus.left, y: window.y + menus.top, width: width * scale, height: height * scale};
}"""


def photographed(page, name: str) -> Image.Image:
    """The nodes that matter of a workflow, after a run, no wider than the template browser has use for."""
    graph = ui(name)
    page.load(graph, name)
    if (ended := page.run())["end"] != "execution_success":
        raise RuntimeError(f"{name}: {ended}")
    page.page.wait_for_timeout(1500)
    picture = nodes_of(page, [node["id"] for node in graph["nodes"] if node["type"] not in LEFT_OUT], 25)
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


def nodes_of(page, ids: list[int], margin: int) -> Image.Image:
    """These nodes of the open workflow, as large as the window allows."""
    clip = page.page.evaluate(FIT, [[*map(str, ids)], MENUS, margin])
    page.page.wait_for_timeout(1000)
    return Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB")


def save(picture: Image.Image, path: Path, largest: int = LARGEST) -> None:
    """As a JPEG, in the best quality that is small enough."""
    for quality in range(88, 20, -4):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() <= largest:
            break
    path.write_bytes(data.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[name for name in FILES if not NOT_RUN & kinds(name)])
    parser.add_argument("--to", type=Path, default=WORKFLOWS, help="where the pictures go")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from demo.server import Server

    with Server() as server, sync_playwright() as playwright:
        browser = launch(playwright)
        for vue_nodes in (False, True):
            names = [name for name in arguments.names if (name in IN_NODES_2) == vue_nodes]
            with frontend(browser, server.url, size=WINDOW, **PLAIN, **{"Comfy.VueNodes.Enabled": vue_nodes}) as page:
                for name in sorted(names, key=lambda name: name.startswith("Reload")):
                    save(photographed(page, name), arguments.to / FILES[name].with_suffix(".jpg").name)
                    logging.info(name)


if __name__ == "__main__":
    main()
