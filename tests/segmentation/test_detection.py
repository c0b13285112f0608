"""Detection by words: the detectors of transformers, small and random, in the folders they are looked for in."""

import json
from functools import partial

import pytest
import torch

import tiny_detectors

pytestmark = pytest.mark.usefixtures("asked_hosts")

SIZE = (48, 80)
INPUTS = {
    **{"box_threshold": 0.0, "text_threshold": 0.0, "with_attributes": False, "boxes_per_entity": "all"},
    **{"skip_background": True, "not_found": "empty mask", "download": False},
}
WRITERS = {
    "dino": tiny_detectors.write_grounding_dino,
    "mm-dino": partial(tiny_detectors.write_grounding_dino, kind="MMGroundingDino"),
    "owl": tiny_detectors.write_owl,
    "owl-vit": partial(tiny_detectors.write_owl, kind="OwlViT"),
}


@pytest.fixture(scope="module")
def folder(comfy):
    """models/grounding-dino with both kinds of detectors, and a folder of something else."""
    folder = comfy.base / "models" / "grounding-dino"
    for name, write in WRITERS.items():
        write(folder / name)
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}), "utf-8")
    (folder / "original").mkdir()
    (folder / "original" / "groundingdino_swint_ogc.pth").touch()
    return folder


@pytest.fixture
def detection(part):
    return part("segmentation.detection")


@pytest.fixture
def files(part):
    return part("segmentation.detector_files")


@pytest.fixture
def bind(part):
    """``bind("cat", ("dog", ("red",)), ...)``: a binding of entities with these nouns and attributes."""
    parsing = part("parsing.binding")

    def entity(noun, attributes=(), count=1):
        phrases = tuple(parsing.Phrase(word, ()) for word in attributes)
        return parsing.Entity(noun, parsing.Phrase(noun, ()), phrases, count=count)

    def make(*given):
        entities = [entity(each) if isinstance(each, str) else entity(*each) for each in given]
        return parsing.Binding("key", "prompt", "prompt", parsing.with_unique_names(entities), (), "manual")

    return make


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, *SIZE, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def detect(run_graph, comfy, part, monkeypatch, folder, pictures):
    """Runs Detect Entities in a graph, with the inputs that differ from INPUTS."""
    from given import giving_node

    names = comfy.nodes.NODE_CLASS_MAPPINGS
    monkeypatch.setitem(names, "SBDetectEntities", part("nodes.segmentation.detect").SBDetectEntities)

    def run(binding, image=pictures[:1], **inputs):
        graph = {"detect": {"class_type": "SBDetectEntities", "inputs": {**INPUTS, "model": "dino", **inputs}}}
        for name, value in (("binding", binding), ("image", image)):
            monkeypatch.setitem(names, f"Give {name}", giving_node(value))
            graph[name] = {"class_type": f"Give {name}", "inputs": {}}
            graph["detect"]["inputs"][name] = [name, 0]
        wanted = {name: ["detect", place] for place, name in enumerate(("binding", "bboxes", "report"))}
        run_graph.forget()
        return run_graph(graph, **wanted)

    return run


@pytest.fixture
def direct(folder):
    """``direct("owl", picture, text)``: the output of transformers' own classes, and its boxes in pixels."""

    def run(name, picture, text):
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        processor = AutoProcessor.from_pretrained(folder / name, local_files_only=True)
        model = AutoModelForZeroShotObjectDetection.from_pretrained(folder / name, local_files_only=True).eval()
        pixels = (picture * 255).round().to(torch.uint8).numpy()
        inputs = processor(images=pixels, text=text, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        found = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[SIZE])
        return outputs.logits[0].sigmoid(), found[0]["boxes"], inputs["input_ids"][0].tolist()

    return run


def corners(found):
    return torch.tensor(
        [[each["x"], each["y"], each["x"] + each["width"], each["y"] + each["height"]] for each in found]
    )


def thinned(boxes, scores):
    """Places of boxes that overlap none with a higher score by more than half, the slow and obvious way."""
    import torchvision

    return torchvision.ops.nms(boxes, scores, 0.5)


@pytest.mark.parametrize("name", WRITERS)
def test_boxes_are_those_of_transformers(detect, direct, bind, pictures, name):
    run = detect(bind("cat"), model=name)
    probabilities, boxes, _ = direct(name, pictures[0], "cat." if "dino" in name else [["cat"]])
    scores = probabilities[:, 1] if "dino" in name else probabilities[:, 0]
    height, width = SIZE
    boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores = boxes[visible], scores[visible]
    kept = thinned(boxes, scores)
    (found,) = run.values["bboxes"]
    assert 1 < len(found) == len(kept)
    assert torch.allclose(corners(found), boxes[kept], atol=1e-3)
    assert torch.allclose(torch.tensor([each["score"] for each in found]), scores[kept], atol=1e-6)
    assert {each["label"] for each in found} == {"cat"}


@pytest.mark.parametrize("name", WRITERS)
def test_every_box_is_the_noun_s_that_it_fits_best(detection, files, direct, folder, pictures, name):
    queries = [detection.Query("a black cat", "cat"), detection.Query("dog", "dog")]
    boxes, scores = detection.found_in(files.load(name, False), pictures[0], queries, 0.0, 0.0)
    text = "a black cat. dog." if "dino" in name else [["a black cat", "dog"]]
    probabilities, _, tokens = direct(name, pictures[0], text)
    if "dino" in name:
        a, black, cat, dog = (1030 + tiny_detectors.WORDS.index(word) for word in ("a", "black", "cat", "dog"))
        assert tokens == [101, a, black, cat, 1012, dog, 1012, 102]
        probabilities = torch.stack([probabilities[:, 1:4].amax(1), probabilities[:, 5]], 1)
    assert len(boxes) == len(scores) > 4
    for score in scores:
        assert (probabilities - score).abs().amax(1).min() < 1e-6
    assert scores.argmax(1).unique().tolist() == [0, 1]


def test_the_noun_itself_has_to_fit(detection, files, direct, folder, pictures):
    """Boxes that fit "black" and not "cat" are not the black cat's."""
    query = detection.Query("a black cat", "cat")
    probabilities, _, _ = direct("dino", pictures[0], "a black cat.")
    phrase, noun = probabilities[:, 1:4].amax(1), probabilities[:, 3]
    limit = noun.median().item()
    boxes, scores = detection.found_in(files.load("dino", False), pictures[0], [query], 0.0, limit)
    assert torch.allclose(scores[:, 0].sort().values, phrase[noun > limit].sort().values, atol=1e-6)
    assert 0 < len(boxes) < len(probabilities)


@pytest.mark.parametrize("name", WRITERS)
def test_the_box_threshold_is_the_least_score(detect, bind, name):
    def scores(limit):
        (found,) = detect(bind("cat"), model=name, box_threshold=limit).values["bboxes"]
        return [each["score"] for each in found]

    everything = scores(0.0)
    limit = round(everything[len(everything) // 2], 4)
    assert scores(limit) == [score for score in everything if score > limit]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("with_attributes", [False, True])
def test_entities_with_one_noun_never_share_a_box(detect, bind, name, with_attributes):
    run = detect(bind(("dog", ("red",)), ("dog", ("blue",))), model=name, with_attributes=with_attributes)
    (found,) = run.values["bboxes"]
    assert sorted(each["label"] for each in found) == ["dog", "dog 2"]
    red, blue = run.values["binding"].entities
    assert red.box and blue.box and red.box != blue.box
    if not with_attributes:
        assert red.box[0] + red.box[2] < blue.box[0] + blue.box[2]
    assert "dog: " in run.values["report"] and "more found and left out" in run.values["report"]


def test_phrases_take_the_boxes_that_fit_them_best(detection, bind):
    red, blue = bind("dog", "dog").entities
    boxes = torch.tensor([[0.0, 0.0, 0.2, 1.0], [0.3, 0.0, 0.5, 1.0], [0.6, 0.0, 0.8, 1.0]])
    scores = torch.tensor([[0.9, 0.8], [0.7, 0.3], [0.6, 0.5]])
    found = detection.matched(boxes, scores, [(red, 0), (blue, 1)])
    assert {name: [round(each.score, 3) for each in shares] for name, shares in found.items()} == {
        "dog": [0.9],
        "dog 2": [0.5],
    }
    assert found["dog 2"][0].box == pytest.approx((0.6, 0.0, 0.8, 1.0))


def test_overlapping_boxes_are_thinned_out(detection):
    boxes = torch.rand(40, 4, generator=torch.Generator().manual_seed(1))
    boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] * 0.5], 1)
    scores = torch.rand(40, generator=torch.Generator().manual_seed(2))
    kept = detection.distinct(boxes, scores)
    assert kept == thinned(boxes, scores).tolist()
    assert 1 < len(kept) < 40


@pytest.mark.parametrize(
    ("with_attributes", "phrase"), [(False, "st bernard"), (True, "a black st bernard")], ids=["noun", "phrase"]
)
def test_what_is_asked_for(detection, bind, with_attributes, phrase):
    (entity,) = bind(("St. Bernard", ("Black",))).entities
    assert detection.query_of(entity, with_attributes) == (phrase, "st bernard")


def test_as_many_boxes_as_in_the_prompt(detect, bind):
    everything = detect(bind("dog")).values["bboxes"][0]
    assert len(everything) > 2
    for count in (1, 2):
        run = detect(bind(("dog", (), count)), boxes_per_entity="as many as in the prompt")
        assert run.values["bboxes"][0] == everything[:count]
    assert f"dog: {len(everything) - 2} more found and left out" in run.values["report"]


def test_regions_are_boxes_or_masks_of_every_picture(detect, bind, pictures, part):
    run = detect(bind("cat"), pictures, boxes_per_entity="as many as in the prompt")
    (cat,) = run.values["binding"].entities
    frames = run.values["bboxes"]
    assert cat.mask.shape == (2, *SIZE) and len(frames) == 2
    for mask, frame in zip(cat.mask, frames, strict=True):
        assert mask.sum().item() == pytest.approx(frame[0]["width"] * frame[0]["height"], rel=1e-3)
    for place in range(2):
        alone = detect(bind("cat"), pictures[place : place + 1], boxes_per_entity="as many as in the prompt")
        (one,) = alone.values["binding"].entities
        assert one.mask is None
        assert torch.allclose(part("segmentation.boxes").rectangles([one.box], SIZE), cat.mask[place], atol=1e-4)
    assert run.values["report"].splitlines()[0].startswith("picture 1, cat: found, score ")
    assert run.outputs["detect"]["text"] == [run.values["report"]]


def test_backgrounds_are_skipped(detect, bind):
    run = detect(bind("snow", "cat"))
    assert {each["label"] for each in run.values["bboxes"][0]} == {"cat"}
    assert run.values["binding"].entities[0].mask is None
    assert "snow: skipped, it is a background or abstract" in run.values["report"]
    run = detect(bind("snow", "cat"), skip_background=False)
    assert {each["label"] for each in run.values["bboxes"][0]} == {"snow", "cat"}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_not_found_has_an_empty_mask_or_stops(detect, bind, run_graph, name):
    run = detect(bind("cat"), model=name, box_threshold=1.0)
    (cat,) = run.values["binding"].entities
    assert cat.mask.shape == (1, *SIZE) and not cat.mask.any()
    assert run.values["bboxes"] == [[]]
    assert run.values["report"] == "cat: not found, its mask is empty"
    with pytest.raises(run_graph.Failed, match="Not found in the picture: cat"):
        detect(bind("cat"), model=name, box_threshold=1.0, not_found="stop")


def test_detectors_of_the_folder_are_listed(folder, files, part):
    known = [*WRITERS, *files.REPOSITORIES]
    assert [each for each in files.available() if each in known] == known, "tests of other rooms put theirs there too"
    assert files.available()[0] == part("nodes.segmentation.detect").SBDetectEntities.define_schema().inputs[2].default


def test_folders_of_other_packs_are_kept(comfy, files, folder, tmp_path):
    import folder_paths

    kept = list(folder_paths.get_folder_paths("grounding-dino"))
    tiny_detectors.write_owl(tmp_path / "other" / "owl 2")
    folder_paths.add_model_folder_path("grounding-dino", str(tmp_path))
    try:
        assert "other/owl 2" in files.available()
        assert files.load("other/owl 2", False).module.config.model_type == "owlv2"
    finally:
        folder_paths.folder_names_and_paths["grounding-dino"][0][:] = kept


def test_a_detector_is_loaded_once_and_by_comfyui(detect, bind, files):
    import comfy.model_management as management

    detect(bind("cat"))
    detector = files.load("dino", False)
    assert any(loaded.model is detector.patcher for loaded in management.current_loaded_models)
    detect(bind("cat"), download=True)
    assert files.load("dino", True) is detector


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bert", "holds a model of the type bert. Detectors are of the types: grounding-dino, mm-grounding-dino"),
        ("original", r"has no config.json, but groundingdino_swint_ogc.pth. .* \.pth file of the original"),
        ("nothing", 'There is no detector "nothing": neither a folder of that name in .*grounding-dino, nor one of'),
        ("..", 'There is no detector "..":'),
    ],
)
def test_other_folders_are_refused(detect, bind, run_graph, name, told):
    with pytest.raises(run_graph.Rejected, match=told):
        detect(bind("cat"), model=name)


def test_a_repository_is_taken_from_the_hub_s_cache(detect, bind, hub, files):
    name = files.REPOSITORIES[2]
    cached = hub / f"models--{name.replace('/', '--')}"
    tiny_detectors.write_owl(cached / "snapshots" / "1a2b")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1a2b", "utf-8")
    run = detect(bind("cat"), model=name)
    assert run.values["bboxes"] == detect(bind("cat"), model="owl").values["bboxes"]


def test_repositories_are_downloaded_only_if_asked_for(detect, bind, run_graph, hub, files, asked_hosts):
    name = files.REPOSITORIES[0]
    with pytest.raises(
        run_graph.Failed, match="not in the Hugging Face cache .* Switch download on .* in .*grounding-"
    ):
        detect(bind("cat"), model=name)
    assert not asked_hosts
    with pytest.raises(run_graph.Failed, match="grounding-dino-tiny could not be downloaded; put its files into a fol"):
        detect(bind("cat"), model=name, download=True)
    assert set(asked_hosts) == {"huggingface.co"}
    asked_hosts.clear()


def test_damaged_files_are_told(detect, bind, run_graph, folder):
    tiny_detectors.write_owl(folder / "damaged")
    (folder / "damaged" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(run_graph.Failed, match="could not load the detector in .*damaged. Check that its files are"):
        detect(bind("cat"), model="damaged")


def test_weights_that_are_missing_are_told(detect, bind, folder):
    from safetensors.torch import load_file, save_file

    tiny_detectors.write_owl(folder / "lacking")
    path = folder / "lacking" / "model.safetensors"
    weights = load_file(path)
    weights.pop("class_head.dense0.weight")
    save_file(weights, path, metadata={"format": "pt"})
    report = detect(bind("cat"), model="lacking").values["report"]
    assert "lack 1 of its weights, which are random (the first: class_head.dense0.weight)" in report


def test_too_many_words_are_told(detect, bind, run_graph):
    nouns = [f"{first} {second}" for first in tiny_detectors.WORDS[:7] for second in tiny_detectors.WORDS[7:10]]
    with pytest.raises(run_graph.Failed, match="phrases are 65 tokens for the detector, which reads 64"):
        detect(bind(*nouns))


def test_without_transformers_the_error_says_so(detect, bind, run_graph, files, monkeypatch):
    import sys

    files._read.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(run_graph.Failed, match="needs the package transformers.*pip install --upgrade transformers"):
        detect(bind("cat"))
