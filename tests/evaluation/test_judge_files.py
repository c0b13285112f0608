"""Where judges come from: folders, the hub's cache, and what is said of other folders."""

import json
import sys

import pytest

import tiny_judges

pytestmark = pytest.mark.usefixtures("asked_hosts")


@pytest.fixture
def load(run_graph, comfy, part, monkeypatch, judges_folder):
    """Runs Load Judge in a graph."""
    node = part("nodes.evaluation.load_judge").SBLoadJudge
    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "SBLoadJudge", node)

    def run(judge, download=False):
        graph = {"load": {"class_type": "SBLoadJudge", "inputs": {"judge": judge, "download": download}}}
        return run_graph(graph, judge=["load", 0])

    return run


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("blip", "BlipJudge", "blip: BlipForQuestionAnswering, 0 MB, answers questions"),
        ("qwen", "VisionLanguageJudge", "qwen: Qwen2_5_VLForConditionalGeneration, 20 MB, answers questions"),
        ("paligemma", "VisionLanguageJudge", "paligemma: PaliGemmaForConditionalGeneration, 0 MB, answers questions"),
        ("clip", "CaptionJudge", "clip: CLIPModel, 0 MB, compares captions"),
        ("siglip", "CaptionJudge", "siglip: SiglipModel, 0 MB, compares captions"),
        ("demo world", "ShapesJudge", "demo world: answers questions about the shapes of the demo model"),
    ],
)
def test_kinds_are_known_by_their_files(load, judge_files, name, kind, told):
    run = load(name)
    assert type(run.values["judge"]).__name__ == kind
    assert run.values["judge"].name == name
    (text,) = run.outputs["load"]["text"]
    assert text.startswith(told)


def test_judges_are_listed(judge_files, judges_folder, part):
    found = judge_files.available()
    assert {"blip", "qwen", "paligemma", "clip", "siglip"} <= set(found)
    assert not {"captions", "original"} & set(found)
    assert found[-2:] == ["demo world", "text encoder"]
    default = part("nodes.evaluation.load_judge").SBLoadJudge.define_schema().inputs[0].default
    assert default == "Salesforce/blip-vqa-capfilt-large"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "captions",
            "holds a model of the class BlipForConditionalGeneration. A judge is BlipForQuestionAnswering, CLIP",
        ),
        ("original", r"has no config.json, but model_base_vqa_capfilt_large.pth. A judge is a folder as transformers"),
        ("nothing", 'There is no judge "nothing": neither a folder of that name in .*judges, nor one of Salesforce/'),
        ("..", 'There is no judge "..":'),
    ],
)
def test_other_folders_are_refused(load, run_graph, name, told):
    with pytest.raises(run_graph.Rejected, match=told):
        load(name)


@pytest.mark.parametrize("told", ["{", "[]", json.dumps({"architectures": None}), json.dumps({"model_type": "qwen"})])
def test_a_config_that_cannot_be_read_is_no_judge(judge_files, judges_folder, told):
    (judges_folder / "odd").mkdir(exist_ok=True)
    (judges_folder / "odd" / "config.json").write_text(told, "utf-8")
    with pytest.raises(ValueError, match="holds a model of the class unknown"):
        judge_files.folder_of("odd")
    assert "odd" not in judge_files.available()


@pytest.mark.parametrize(("name", "missing"), [("blip", "processor_config.json"), ("clip", "processor_config.json")])
def test_a_missing_processor_is_told(load, run_graph, judges_folder, name, missing):
    folder = judges_folder / f"{name} alone"
    getattr(tiny_judges, f"write_{name}")(folder)
    (folder / missing).unlink()
    with pytest.raises(run_graph.Failed, match="no complete processor|could not load the judge in .*alone. Check"):
        load(folder.name)


def test_damaged_files_are_told(load, run_graph, judges_folder):
    tiny_judges.write_blip(judges_folder / "damaged")
    (judges_folder / "damaged" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(run_graph.Failed, match="could not load the judge in .*damaged. Check that its files are"):
        load("damaged")


def test_weights_that_are_missing_are_told(load, judges_folder):
    from safetensors.torch import load_file, save_file

    tiny_judges.write_blip(judges_folder / "lacking")
    path = judges_folder / "lacking" / "model.safetensors"
    weights = load_file(path)
    weights.pop("vision_model.post_layernorm.weight")
    save_file(weights, path, metadata={"format": "pt"})
    (text,) = load("lacking").outputs["load"]["text"]
    assert "lack 1 of its weights, which are random (the first: vision_model.post_layernorm.weight)" in text


def test_a_repository_is_taken_from_the_hub_s_cache(load, hub, judge_files):
    name = "Salesforce/blip-vqa-base"
    cached = hub / f"models--{name.replace('/', '--')}"
    tiny_judges.write_blip(cached / "snapshots" / "1a2b")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1a2b", "utf-8")
    assert load(name).values["judge"].name == name


def test_repositories_are_downloaded_only_if_asked_for(load, run_graph, hub, asked_hosts):
    with pytest.raises(run_graph.Failed, match=r"not in the Hugging Face cache .* Switch download on .*\(1.5 GB\)"):
        load("Salesforce/blip-vqa-base")
    assert not asked_hosts
    with pytest.raises(run_graph.Failed, match="blip-vqa-base could not be downloaded; put its files into a folder"):
        load("Salesforce/blip-vqa-base", download=True)
    assert set(asked_hosts) == {"huggingface.co"}
    asked_hosts.clear()


def test_a_judge_is_loaded_once_and_again_when_its_files_have_changed(load, judges_folder):
    tiny_judges.write_blip(judges_folder / "changing")
    first = load("changing").values["judge"]
    assert load("changing").values["judge"] is first
    tiny_judges.write_blip(judges_folder / "changing")
    assert load("changing").values["judge"] is not first


def test_without_transformers_the_error_says_so(load, run_graph, judge_files, monkeypatch):
    judge_files._read.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        run_graph.Failed, match="A judge needs the package transformers.*pip install --upgrade transfor"
    ):
        load("blip")
