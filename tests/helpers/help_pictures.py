"""The pictures of the help pages: what each node does, from the example workflows on the demo model.

    .dev/venv/bin/python tests/helpers/help_pictures.py [NODE ...]

Run it anew when the demo model, a workflow or a panel has changed. `NOT_RUN` needs a model that is not here.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

from browser import Frontend, frontend, launch
from clone import ROOT, headless
from examples import api, ui
from scenes import MOBILE_SAM
from take_pictures import PLAIN, WINDOW, nodes_of, save

NOT_RUN = "Detect and segment entities"

PICTURES = {
    "SBAssignMask": ("masks", "Assign masks to entities"),
    "SBAssignMasks": ("masks", "Assign a batch of masks"),
    "SBAttentionGuidance": ("pair", "Nothing left out with Attend-and-Excite"),
    "SBAttentionModulation": ("pair", "Attention modulation, plain and modulated"),
    "SBBindConditioning": ("photograph", "Bind an existing conditioning"),
    "SBBindPrompt": ("photograph", "Bind a prompt"),
    "SBComposeNoise": ("pair", "Compose noise"),
    "SBDetectEntities": ("photograph", "Detect and segment entities"),
    "SBEntitySubject": ("subjects", "Two subjects"),
    "SBJudgeBinding": ("output", "Judge binding", "overlay"),
    "SBLoadAttention": ("photograph", "Reload attention maps"),
    "SBLoadCaptioner": ("photograph", "Train with CoMat"),
    "SBLoadDemoLoRA": ("loras", "Compare trained LoRAs", "TokenCompose", "CoMat"),
    "SBLoadDemoModel": ("prompts", "Bind a prompt", "Attention step by step", "Masks from attention"),
    "SBLoadJudge": ("photograph", "Judge binding"),
    "SBLoadSAM": ("photograph", "Segment entities with SAM"),
    "SBLoadSubjectAdapter": ("photograph", "One subject"),
    "SBMasksFromAttention": ("masks", "Masks from attention"),
    "SBMasksFromBoxes": ("masks", "Masks from boxes"),
    "SBObjectFocusedAttention": ("pair", "Object-focused attention"),
    "SBPreviewAttention": ("photograph", "Bind a prompt"),
    "SBPreviewMasks": ("output", "Masks within one run", "images"),
    "SBPreviewTokenLosses": ("output", "Attribute binding with token merge", "plot"),
    "SBRecordAttention": ("output", "Bind an existing conditioning", "overlays", "SBPreviewAttention"),
    "SBSaveAttention": ("photograph", "Save attention maps"),
    "SBSaveTrainingData": ("photograph", "Make training data"),
    "SBScoreAttention": ("best", "Best of a batch"),
    "SBScoreBinding": ("output", "Bind a prompt", "overlay"),
    "SBSegmentEntities": ("masks", "Segment entities with SAM"),
    "SBSelfAttentionTemperature": ("pair", "Self-attention temperature"),
    "SBStageWeights": ("pair", "Stage weights"),
    "SBStructuredConditioning": ("pair", "Structured conditioning"),
    "SBSubjectInjection": ("subjects", "One subject"),
    "SBTokenArithmetic": ("pair", "Token arithmetic", "+ a square with a dot - a square"),
    "SBTokenMerge": ("pair", "Object binding with token merge"),
    "SBTokenOptimization": ("pair", "Attribute binding with token merge"),
    "SBTrainCoMat": ("loras", "Compare trained LoRAs", "CoMat"),
    "SBTrainTokenCompose": ("loras", "Compare trained LoRAs", "TokenCompose"),
    "SBTrainingData": ("photograph", "Make training data"),
}
"""How the picture of each node is made, and of which workflow."""

PIN_ALL = "words => words.forEach(word => word.click())"

TO = ROOT / "web" / "docs" / "pictures"
LARGEST, BYTES, CELL, GAP, EDGE, TITLE = (700, 640), 24_000, 160, 4, 20, 26
GROUND, INK = "#202024", "#e8e8ec"


def before(graph: dict, link: list) -> set[str]:
    """The nodes that the output of a node comes from, itself too."""
    wired = (value for value in graph[link[0]]["inputs"].values() if isinstance(value, list))
    return {link[0]}.union(*(before(graph, each) for each in wired))


def of_kind(graph: dict, kind: str) -> list[str]:
    """The ids of the nodes of a kind, in their order."""
    return sorted((each for each, node in graph.items() if node["class_type"] == kind), key=int)


def prompt_of(graph: dict) -> str:
    return '"{text}"'.format(**graph[of_kind(graph, "SBBindPrompt")[0]]["inputs"])


def decoded(graph: dict, behind: str = "") -> list:
    """The output of the node that decodes pictures first, or first behind a node, given by its id or its kind."""
    for each in of_kind(graph, "VAEDecode"):
        if not behind or any(behind in (one, graph[one]["class_type"]) for one in before(graph, [each, 0])):
            return [each, 0]
    raise LookupError(f"No picture is drawn behind {behind}.")


def panels(blocks: list[tuple[str, list[Image.Image]]], prompt: str = "") -> Image.Image:
    """Pictures in two rows, in titled blocks side by side; one that is alone in its block is as high as both rows."""
    wide, high = blocks[-1][1][0].size
    title = TITLE if blocks[0][0] else 0
    columns = [2 if len(images) == 1 else (len(images) + 1) // 2 for _, images in blocks]
    cell = min(CELL if title else wide, (LARGEST[0] - EDGE * len(blocks)) // sum(columns) - GAP)
    step = (cell + GAP, round(cell * high / wide) + GAP)
    sheet = Image.new(
        "RGB", (sum(columns) * step[0] + EDGE * len(blocks), 2 * step[1] + title + TITLE * bool(prompt)), GROUND
    )
    draw, left, font = ImageDraw.Draw(sheet), EDGE // 2, ImageFont.load_default(15)
    draw.text((left, sheet.height - TITLE), prompt, INK, font)
    for (name, images), across in zip(blocks, columns, strict=True):
        draw.text((left, 3), name, INK, font)
        size = [(2 if len(images) == 1 else 1) * each - GAP for each in step]
        for number, image in enumerate(images):
            place = (left + number % across * step[0], title + number // across * step[1])
            sheet.paste(image.resize(size, Image.Resampling.LANCZOS), place)
        left += across * step[0] + EDGE
    return sheet


class Studio:
    """A server; each method that `PICTURES` names makes the picture of a node of a kind."""

    def __init__(self, server):
        self.server, self.definitions = server, server.object_info()

    def graph(self, name: str) -> dict:
        graph = api(name)
        for node in graph.values():
            if node["class_type"] == "EmptyLatentImage":
                node["inputs"]["batch_size"] = max(node["inputs"]["batch_size"], 4)
        return graph

    def shown(self, graph: dict, link: list) -> list[Image.Image]:
        """The pictures of an output, of all that goes into it and nothing else."""
        needed = {each: graph[each] for each in before(graph, link)}
        needed["shown"] = {"class_type": "PreviewImage", "inputs": {"images": link}}
        made = self.server.run(needed, timeout=3600).outputs["shown"]["images"]
        return [Image.open(io.BytesIO(self.server.view(each))).convert("RGB") for each in made]

    def drawn(self, graph: dict, behind: str = "") -> list[Image.Image]:
        return self.shown(graph, decoded(graph, behind))

    def link(self, graph: dict, kind: str, output: str) -> list:
        """An output of the last node of a kind, by its name, or in capitals by its type."""
        outputs = self.definitions[kind]["output_name" if output.islower() else "output"]
        return [of_kind(graph, kind)[-1], outputs.index(output)]

    def without(self, graph: dict, kind: str) -> dict:
        """The graph with the nodes of a kind bypassed: what goes into them comes out, or what their binding is of."""
        told = self.definitions[kind]
        kinds = {name: spec[0] for group in told["input"].values() for name, spec in group.items()}

        def source(link):
            if not isinstance(link, list) or graph[link[0]]["class_type"] != kind:
                return link
            given = graph[link[0]]["inputs"]
            same = [value for name, value in given.items() if kinds.get(name) == told["output"][link[1]]]
            return source(same[0] if same else [given["binding"][0], 0])

        return {
            each: {**node, "inputs": {name: source(value) for name, value in node["inputs"].items()}}
            for each, node in graph.items()
        }

    def pair(self, kind: str, name: str, label: str = "with") -> Image.Image:
        graph = self.graph(name)
        link = decoded(graph, kind)
        plain, changed = self.shown(self.without(graph, kind), link), self.shown(graph, link)
        return panels([("without", plain), (label, changed)], prompt_of(graph))

    def subjects(self, kind: str, name: str) -> Image.Image:
        graph = self.graph(name)
        given = [graph[each]["inputs"]["image"] for each in of_kind(graph, "SBEntitySubject")]
        blocks = [("reference", [self.shown(graph, each)[0] for each in given])]
        if kind == "SBSubjectInjection":
            blocks.append(("text alone", self.drawn(self.without(graph, kind))))
        return panels([*blocks, ("with the reference", self.drawn(graph))], prompt_of(graph))

    def loras(self, kind: str, name: str, *trained: str) -> Image.Image:
        graph = self.graph(name)
        blocks = [("without a LoRA", self.drawn(graph))]
        for lora in of_kind(graph, "SBLoadDemoLoRA"):
            if (method := graph[lora]["inputs"]["trained_with"]) in trained:
                blocks.append((f"with a LoRA by {method}", self.drawn(graph, lora)))
        return panels(blocks, prompt_of(graph))

    def prompts(self, kind: str, *names: str) -> Image.Image:
        graphs = [self.graph(each) for each in names]
        return panels([(prompt_of(each), self.drawn(each)) for each in graphs])

    def best(self, kind: str, name: str) -> Image.Image:
        graph = self.graph(name)
        blocks = [("a batch", self.drawn(graph)), ("the best", self.shown(graph, self.link(graph, kind, "image")))]
        return panels(blocks, prompt_of(graph))

    def output(self, kind: str, name: str, output: str, of: str = "") -> Image.Image:
        graph = api(name)
        return panels([("", self.shown(graph, self.link(graph, of or kind, output)))])

    def masks(self, kind: str, name: str) -> Image.Image:
        graph = self.graph(name)
        inputs = {"binding": self.link(graph, kind, "SEMANTIC_BINDING"), "images": decoded(graph), "opacity": 0.35}
        graph["masks"] = {"class_type": "SBPreviewMasks", "inputs": inputs}
        return panels([("", self.shown(graph, ["masks", 0]))])


def photographs(page: Frontend, kinds: list[str]) -> Iterator[tuple[str, Image.Image]]:
    """The nodes of these kinds, workflow by workflow: what is saved in one is read in the next."""
    for name in sorted({PICTURES[kind][1] for kind in kinds}, key=lambda name: (name.startswith("Reload"), name)):
        graph = ui(name)
        page.load(graph, name)
        if name != NOT_RUN and (ended := page.run())["end"] != "execution_success":
            raise RuntimeError(f"{name}: {ended}")
        page.page.wait_for_timeout(1500)
        page.page.locator(".sb-chips .sb-chip").evaluate_all(PIN_ALL)
        for kind in (kind for kind in kinds if PICTURES[kind][1] == name):
            yield kind, nodes_of(page, [next(node["id"] for node in graph["nodes"] if node["type"] == kind)], 12)


def made(server, nodes: list[str]) -> Iterator[tuple[str, Image.Image]]:
    studio = Studio(server)
    kinds = [node for node in nodes if PICTURES[node][0] == "photograph"]
    for node in (node for node in nodes if node not in kinds):
        yield node, getattr(studio, PICTURES[node][0])(node, *PICTURES[node][1:])
    if kinds:
        with sync_playwright() as playwright, frontend(launch(playwright), server.url, WINDOW, **PLAIN) as page:
            yield from photographs(page, kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="*", default=list(PICTURES))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    TO.mkdir(exist_ok=True)
    with headless.Server() as server:
        (server.base / "models" / "sams").mkdir(parents=True)
        (server.base / "models" / "sams" / MOBILE_SAM.name).symlink_to(MOBILE_SAM)
        for node, picture in made(server, parser.parse_args().nodes):
            picture.thumbnail(LARGEST, Image.Resampling.LANCZOS)
            save(picture, TO / f"{node}.jpg", BYTES)
            logging.info(node)


if __name__ == "__main__":
    main()
