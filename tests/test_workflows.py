"""The shipped example graphs: they run, both forms are the same, and ComfyUI serves them and their help.

Here with fewer steps; as they are they are run by test_demo_run.py.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from clone import ROOT
from effects import EFFECTS, SIDE
from examples import FILES, NUMBERED, WORKFLOWS, api, kinds, ui
from gradients import slowly
from scenes import mobile_sam
from subgraphs import NOTES, sent
from tiny_detectors import write_grounding_dino

NAMES = list(FILES)
WITH_SAM, WITH_DETECTOR = "Segment entities with SAM", "Detect and segment entities"
NEEDING_FILES = {"CheckpointLoaderSimple", "SBLoadSAM"}
SHOWING = (
    "SaveImage",
    "SBPreviewAttention",
    "SBPreviewMasks",
    "SBPreviewTokenLosses",
    "SBScoreBinding",
    "MaskPreview",
)
TELLING = (
    "SBScoreBinding",
    "SBSaveAttention",
    "SBAssignMask",
    "SBAssignMasks",
    "SBMasksFromAttention",
    "SBMasksFromBoxes",
    "SBObjectFocusedAttention",
    "SBTokenMerge",
    "SBTokenArithmetic",
    "SBTokenOptimization",
    "SBAttentionGuidance",
    "SBStructuredConditioning",
    "SBComposeNoise",
    "SBLoadSubjectAdapter",
    "SBEntitySubject",
    "SBSubjectInjection",
    "SBSaveTrainingData",
    "SBTrainingData",
    "SBTrainTokenCompose",
    "SBTrainCoMat",
)
NEEDS = {"Reload attention maps": "Save attention maps"}


RUNNING = [name for name in NAMES if not NEEDING_FILES & kinds(name)]


def short(name: str) -> dict:
    """The graph with six steps for twenty."""
    graph = api(name)
    for node in graph.values():
        match node["class_type"]:
            case "KSampler":
                node["inputs"]["steps"] = 6
            case "SBTrainTokenCompose" | "SBTrainCoMat":
                node["inputs"] |= {"name": f"{node['inputs']['name']}, short", "steps": 2}
            case "SBSaveTrainingData":
                node["inputs"]["folder"] += ", short"
    return graph


def pictures(server, run) -> dict[str, list[Image.Image]]:
    return {
        node_id: [Image.open(io.BytesIO(server.view(image))) for image in shown["images"]]
        for node_id, shown in run.outputs.items()
        if "images" in shown
    }


def contrast(image: Image.Image) -> int:
    return max(high - low for low, high in image.convert("RGB").getextrema())


def test_every_workflow_has_its_three_files() -> None:
    assert NAMES and {path.name for path in (WORKFLOWS / "api").glob("*.json")} == {
        each.name for each in FILES.values()
    }
    for path in FILES.values():
        picture = path.with_suffix(".jpg")
        assert picture.stat().st_size < 100_000
        assert Image.open(picture).size[0] >= 400


def test_their_pictures_show_what_they_do() -> None:
    """Squares, as the template browser's cards are; of what cannot be run on the demo model, the graph."""
    assert {*EFFECTS} <= {*NAMES}
    for name in EFFECTS:
        assert Image.open(FILES[name].with_suffix(".jpg")).size == (SIDE, SIDE)


def test_their_files_are_numbered_for_the_template_browser() -> None:
    """Which has no order of its own for the templates of a pack but that of the files, or of the alphabet."""
    numbers = [NUMBERED.fullmatch(path.stem).group(1) for path in FILES.values()]
    assert len({*numbers}) == len(numbers) == len(list(WORKFLOWS.glob("*.json")))


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *(ROOT / "web" / "docs").glob("*.md")], ids=lambda path: path.stem
)
def test_the_templates_that_pages_speak_of_are_there(page: Path) -> None:
    told = re.findall(r"[Tt]emplates? ((?:\*[^*]+\*(?:, | and )?)+)", page.read_text("utf-8"))
    assert {name for names in told for name in re.findall(r"\*([^*]+)\*", names)} <= {*NAMES}


@pytest.mark.parametrize("name", slowly(RUNNING, ["Bind a prompt", "Attention guidance", "Two subjects"]))
def test_it_runs_and_yields_pictures(server, name: str) -> None:
    if name in NEEDS:
        server.run(short(NEEDS[name]))
    graph = short(name)
    run = server.run(graph)
    shown = pictures(server, run)
    for node_id, node in graph.items():
        if node["class_type"] in SHOWING:
            assert shown[node_id], f"{node['class_type']} shows nothing"
            assert all(contrast(image) > 50 for image in shown[node_id])
        if node["class_type"] in ("SBBindPrompt", "SBBindConditioning"):
            assert json.loads(run.outputs[node_id]["semantic_binding"][0])["entities"]
        if node["class_type"] in TELLING:
            assert run.outputs[node_id]["text"][0]
        if node["class_type"] in ("SBStageWeights", "SBAttentionModulation"):
            assert run.outputs[node_id]["semantic_binding_weights"][0]["focused"]


def test_the_step_by_step_sheet_has_one_row_for_each_kept_step(server) -> None:
    graph = api("Attention step by step")
    [viewer] = [node_id for node_id, node in graph.items() if node["class_type"] == "SBPreviewAttention"]
    heights = []
    for every in (4, 10):
        for node in graph.values():
            if node["class_type"] == "SBRecordAttention":
                node["inputs"]["keep_every"] = every
        [sheet] = pictures(server, server.run(graph))[viewer]
        heights.append(sheet.height)
    assert heights[0] > 2.2 * heights[1], "20 steps: every 4th gives five rows, every 10th two"


@pytest.mark.parametrize("name", NAMES)
def test_the_two_forms_are_the_same_graph(server, name: str) -> None:
    drawn = {
        node_id: {key: node[key] for key in ("class_type", "inputs")}
        for node_id, node in sent(ui(name), server.object_info()).items()
    }
    written = {node_id: {key: node[key] for key in ("class_type", "inputs")} for node_id, node in api(name).items()}
    assert drawn == written


@pytest.mark.parametrize("name", NAMES)
def test_it_is_laid_out_to_be_read(name: str) -> None:
    graph = ui(name)
    assert any(node["type"] in NOTES for node in graph["nodes"]) and graph["groups"]
    boxes = [(*node["pos"], *node["size"]) for node in graph["nodes"]]
    for number, (x, y, width, height) in enumerate(boxes):
        assert any(
            left <= x and top <= y - 30 and x + width <= left + across and y + height <= top + down
            for left, top, across, down in (group["bounding"] for group in graph["groups"])
        ), "a node reaches out of its group"
        for x2, y2, width2, height2 in boxes[number + 1 :]:
            apart = x + width <= x2 or x2 + width2 <= x or y + height + 30 <= y2 or y2 + height2 + 30 <= y
            assert apart, "two nodes overlap"


@pytest.mark.parametrize("name", NAMES)
def test_it_names_no_path_of_a_machine(name: str) -> None:
    for graph in (ui(name), api(name)):
        assert not re.search(r'"(/[a-z]+/|~/|[A-Za-z]:\\\\)', json.dumps(graph))


def test_comfyui_lists_and_serves_them_as_templates(server) -> None:
    assert sorted(server.get("/workflow_templates").json()[ROOT.name]) == [path.stem for path in FILES.values()]
    for name, path in FILES.items():
        served = f"/api/workflow_templates/{ROOT.name}/{path.stem}"
        assert server.get(f"{served}.json").json() == ui(name)
        assert server.get(f"{served}.jpg").content == path.with_suffix(".jpg").read_bytes()


def test_every_node_is_in_a_workflow_that_runs(pack_nodes: dict) -> None:
    assert set(pack_nodes) <= set.union(*map(kinds, (*RUNNING, WITH_SAM, WITH_DETECTOR)))


def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(server, pack_nodes: dict) -> None:
    for node_id, node in pack_nodes.items():
        page = server.get(f"/extensions/{ROOT.name}/docs/{node_id}.md").content.decode("utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        inputs = [name for kind in ("required", "optional") for name in node["input_order"].get(kind, ())]
        missing = [name for name in (*inputs, *node["output_name"]) if f"`{name}`" not in page]
        assert not missing, f"the help page of {node_id} does not tell of {missing}"


@pytest.fixture(scope="module")
def pack_nodes(server) -> dict:
    nodes = {
        node_id: node
        for node_id, node in server.object_info().items()
        if node["python_module"] == f"custom_nodes.{ROOT.name}"
    }
    assert nodes
    return nodes


@pytest.fixture
def models(comfy) -> Path:
    """The folder of ComfyUI's models, with MobileSAM and a small random Grounding DINO in it."""
    folder = comfy.base / "models"
    weights = folder / "sams" / "mobile_sam.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    if not weights.exists():
        weights.symlink_to(mobile_sam())
    write_grounding_dino(folder / "grounding-dino" / "tiny")
    comfy.folder_paths.filename_list_cache.clear()
    return folder


@pytest.mark.parametrize("name", [WITH_SAM, WITH_DETECTOR])
def test_the_templates_that_need_models_run_with_them(models, run_graph, name: str) -> None:
    graph = api(name)
    for node in graph.values():
        match node["class_type"]:
            case "SBDetectEntities":
                node["inputs"] |= {"model": "tiny", "box_threshold": 0.0, "text_threshold": 0.0}
            case "EmptyLatentImage":
                node["inputs"] |= {"width": 192, "height": 128, "batch_size": 1}
            case "KSampler":
                node["inputs"]["steps"] = 4
    run = run_graph(graph)
    for node_id, node in graph.items():
        if node["class_type"] in ("SBLoadSAM", "SBSegmentEntities", "SBDetectEntities"):
            assert run.outputs[node_id]["text"][0]
        if node["class_type"] in SHOWING:
            assert run.outputs[node_id]["images"]
