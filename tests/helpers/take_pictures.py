"""The pictures of the example workflows, as the template browser shows them: each opened, run and photographed.

    .dev/venv/bin/python tests/helpers/take_pictures.py [NAME ...]

Those that need files which the demo model does not bring (`NOT_RUN`) are left as they are, unless they are named.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from browser import frontend, launch  # noqa: E402

WORKFLOWS = ROOT / "workflows"
NOT_RUN = ("Detect and segment entities", "Object binding on SDXL", "Segment entities with SAM", "Your own checkpoint")
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

FIT = """([ids, margin]) => {
    const nodes = app.rootGraph.nodes.filter(node => ids.includes(String(node.id)));
    const left = Math.min(...nodes.map(node => node.pos[0])), top = Math.min(...nodes.map(node => node.pos[1]));
    const right = Math.max(...nodes.map(node => node.pos[0] + node.size[0]));
    const bottom = Math.max(...nodes.map(node => node.pos[1] + node.size[1]));
    const {width, height} = app.canvas.canvas.getBoundingClientRect();
    const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [margin / scale - left, margin / scale - top];
    app.canvas.setDirty(true, true);
    return [(right - left) * scale + 2 * margin, (bottom - top) * scale + 2 * margin];
}"""


def photographed(page, name: str) -> Image.Image:
    """The nodes that matter of a workflow, after a run."""
    graph = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    page.load(graph, name)
    if (ended := page.run())["end"] != "execution_success":
        raise RuntimeError(f"{name}: {ended}")
    page.page.wait_for_timeout(1500)
    shown = [str(node["id"]) for node in graph["nodes"] if node["type"] not in LEFT_OUT]
    width, height = page.page.evaluate(FIT, [shown, 40])
    page.page.wait_for_timeout(1000)
    area = page.page.locator("#graph-canvas").bounding_box()
    clip = {"x": area["x"], "y": area["y"], "width": min(width, area["width"]), "height": min(height, area["height"])}
    return Image.open(io.BytesIO(page.page.screenshot(clip=clip))).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    """As a JPEG, no wider than the template browser has use for, in the best quality that is small enough."""
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    for quality in range(88, 20, -4):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() <= LARGEST:
            break
    path.write_bytes(data.getvalue())


def main() -> None:
    names = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[name for name in names if name not in NOT_RUN])
    parser.add_argument("--to", type=Path, default=WORKFLOWS, help="where the pictures go")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from demo.server import Server

    with Server() as server, sync_playwright() as playwright:
        with frontend(launch(playwright), server.url, size=WINDOW) as page:
            for name in sorted(arguments.names, key=lambda name: name.startswith("Reload")):
                save(photographed(page, name), arguments.to / f"{name}.jpg")
                logging.info(name)


if __name__ == "__main__":
    main()
