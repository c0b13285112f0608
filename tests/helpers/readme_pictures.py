"""The pictures of the README and of the registry: one prompt plain and bound with its maps, and the banner.

.dev/venv/bin/python tests/helpers/readme_pictures.py
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from examples import api  # noqa: E402
from thumbnails import GAP, GROUND, INK, first_of, verdicts  # noqa: E402

PICTURES = ROOT / "pictures"
TITLE = "Attention modulation, plain and modulated"
PLAIN, BOUND = "plain", "bound"
BATCH, PROMPT = 8, "a blue star and a green circle"
WIDE = 1200
BANNER = (1260, 540)


def graph() -> dict:
    """The workflow, its pictures, maps and verdicts by the names of its rows."""
    made = api(TITLE)
    for node in made.values():
        match node["class_type"]:
            case "EmptyLatentImage":
                node["inputs"]["batch_size"] = BATCH
            case "SBBindPrompt":
                node["inputs"]["text"] = PROMPT
    previews = [node_id for node_id, node in made.items() if node["class_type"] == "SBPreviewAttention"]
    binding = [first_of(made, "SBBindPrompt"), 1]
    for row, preview in zip((PLAIN, BOUND), previews, strict=True):
        pictures = made[preview]["inputs"]["images"]
        made |= {
            row: {"class_type": "PreviewImage", "inputs": {"images": pictures}},
            f"{row} maps": {"class_type": "PreviewImage", "inputs": {"images": [preview, 0]}},
            f"{row} judged": {"class_type": "SBScoreBinding", "inputs": {"image": pictures, "binding": binding}},
        }
    return {key: node for key, node in made.items() if node["class_type"] != "SaveImage"}


def plain_and_bound(rows: dict[str, Image.Image]) -> Image.Image:
    """The sheet of each row, one below the other, under the prompt."""
    text, small = (ImageFont.load_default(size) for size in (34, 28))
    fitted = {
        row: sheet.resize(
            (WIDE - 2 * GAP, round(sheet.height * (WIDE - 2 * GAP) / sheet.width)), Image.Resampling.LANCZOS
        )
        for row, sheet in rows.items()
    }
    picture = Image.new("RGB", (WIDE, 56 + sum(sheet.height + 46 for sheet in fitted.values())), GROUND)
    pen = ImageDraw.Draw(picture)
    pen.text((GAP + 4, 8), f'"{PROMPT}"', INK, text)
    top = 56
    for row, sheet in fitted.items():
        pen.text((GAP + 4, top + 2), row, INK, small)
        picture.paste(sheet, (GAP, top + 40))
        top += sheet.height + 46
    return picture


def banner(pictures: dict[str, list[Image.Image]]) -> Image.Image:
    """Icon and name beside three pictures of each row."""
    made = Image.new("RGB", BANNER, GROUND)
    pen = ImageDraw.Draw(made)
    icon = Image.open(PICTURES / "icon.png").resize((150, 150), Image.Resampling.LANCZOS)
    made.paste(icon, (50, 90))
    for line, text, size in ((270, "Semantic", 72), (345, "Binding", 72), (440, "each object its own attributes", 27)):
        pen.text((50, line), text, INK, ImageFont.load_default(size))
    side = 230
    for row, (label, shown) in enumerate(pictures.items()):
        top = 16 + row * (side + 28)
        pen.text((480, top - 2), label, INK, ImageFont.load_default(20))
        for column, each in enumerate(shown[:3]):
            made.paste(each.resize((side, side), Image.Resampling.BICUBIC), (480 + column * (side + 14), top + 24))
    return made


def main() -> None:
    from demo.server import Server

    with Server() as server:
        run = server.run(graph())
        shown = {
            name: [Image.open(io.BytesIO(server.view(image))).convert("RGB") for image in run.outputs[name]["images"]]
            for row in (PLAIN, BOUND)
            for name in (row, f"{row} maps")
        }
    wrong, right = (verdicts(run.outputs[f"{row} judged"]) for row in (PLAIN, BOUND))
    order = sorted(range(BATCH), key=lambda place: (wrong[place] == "ok", right[place] != "ok"))
    sheet = plain_and_bound({row: shown[f"{row} maps"][order[0]] for row in (PLAIN, BOUND)})
    sheet.save(PICTURES / "plain-and-bound.jpg", quality=90, optimize=True, progressive=True)
    made = banner({row: [shown[row][place] for place in order] for row in (PLAIN, BOUND)})
    made.save(PICTURES / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
