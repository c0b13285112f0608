"""Train CoMat in graphs: from prompts to a LoRA that core loads and samples with, and what cannot be trained."""

from __future__ import annotations

import pytest
import torch

from scenes import mobile_sam
from tiny_captioner import write_captioner
from tiny_detectors import write_grounding_dino

SHORT = {"steps": 1, "accumulate": 1, "rank": 2, "alpha": 2.0, "learning_rate": 0.01, "save_every": 0, "size": 64}
SHORT |= {"sampling_steps": 1, "gradient_steps": 1, "captured_steps": 1, "preview_prompts": ""}
PROMPTS = "a red cat and a blue dog\n\n the cat "
BY_HAND = "cat: red | dog: blue\ncat"


@pytest.fixture
def graph_of(tiny, part, comfy):
    """``graph_of("name", masks="attention")``: a graph that trains; changes by name, those of a choice with its name
    in front."""
    folder = comfy.base / "models" / "captioners" / "comat"
    if not folder.exists():
        write_captioner(folder)

    def made(name, wires=(), **changes):
        options = part("training.comat.options").INPUTS
        plain = {key: option.default for key, option in options.items()} | SHORT
        chosen = {"prompts": PROMPTS, "entities": BY_HAND, "masks": "attention", "fidelity": "as published"}
        chosen |= {f"masks.{each}": plain.pop(each) for each in ("token_weight", "pixel_weight")}
        chosen |= {f"fidelity.{each}": plain.pop(each) for each in ("fidelity_weight", "discriminator_rate")}
        chosen["fidelity.untrained_pictures"] = plain.pop("untrained_pictures")
        for each in ("detector", "box_threshold", "text_threshold", "download"):
            chosen[f"masks.{each}"] = plain.pop(each)
        links = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], **dict(wires)}
        nodes = {
            "load": ("CheckpointLoaderSimple", {"ckpt_name": tiny("sd1").name}),
            "captioner": ("SBLoadCaptioner", {"captioner": "comat", "download": False}),
            "train": ("SBTrainCoMat", {**links, **plain, **chosen, **changes, "name": name}),
        }
        return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}

    return made


CAPTIONER = {"captioner": ["captioner", 0]}


@pytest.mark.slow
def test_trained_loaded_and_drawn_with(run_graph, graph_of, part):
    graph = graph_of("comat/in a graph", CAPTIONER)
    sampled = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sampled |= {"positive": ["prompt", 0], "negative": ["prompt", 0], "latent_image": ["empty", 0]}
    lora = {"model": ["load", 0], "lora": ["train", 0], "strength_model": 1.0, "bypass": False}
    nodes = {
        "lora": ("LoraModelLoader", lora),
        "prompt": ("CLIPTextEncode", {"clip": ["load", 1], "text": "a red cat"}),
        "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "plain": ("KSampler", {**sampled, "model": ["load", 0]}),
        "drawn": ("KSampler", {**sampled, "model": ["lora", 0]}),
    }
    graph |= {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}
    run = run_graph(graph, drawn=["drawn", 0], plain=["plain", 0], steps=["train", 2])
    drawn, plain = (run.values[name]["samples"] for name in ("drawn", "plain"))
    assert (drawn - plain).abs().max() > 1e-3 and run.values["steps"] == 1
    (text,) = run.outputs["train"]["text"]
    for name in ("concept loss", "fidelity loss", "token loss", "attention within masks", "discriminator loss"):
        assert f"{name}: " in text
    assert "No noun with an attribute, so no attention is held: 1 prompts (the cat)" in text
    assert part("training.files").checkpoint_path("comat/in a graph").with_name("untrained.pt").exists()


@pytest.mark.slow
def test_a_detector_and_segment_anything_say_where_nouns_are(run_graph, graph_of, comfy):
    """Real weights of MobileSAM, a small random Grounding DINO that finds everything everywhere."""
    weights = comfy.base / "models" / "sams" / "mobile_sam.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    if not weights.exists():
        weights.symlink_to(mobile_sam())
    # A square of its usual size would have a single patch on its last level.
    write_grounding_dino(comfy.base / "models" / "grounding-dino" / "comat", sides=(128, 128))
    comfy.folder_paths.filename_list_cache.clear()
    chosen = {"masks": "detector", "masks.detector": "comat", "fidelity": "off"}
    chosen |= {"masks.box_threshold": 0.0, "masks.text_threshold": 0.0}
    graph = graph_of("comat/by a detector", {"segmenter": ["sam", 0]}, **chosen)
    graph["sam"] = {"class_type": "SBLoadSAM", "inputs": {"checkpoint": weights.name}}
    run = run_graph(graph, steps=["train", 2])
    (text,) = run.outputs["train"]["text"]
    assert run.values["steps"] == 1 and "token loss: " in text and "attention within masks: " in text


def test_parts_are_off_and_defaults_are_the_published(run_graph, graph_of, part, monkeypatch):
    """What the widgets make of the task, without training it."""
    made, node = [], part("nodes.training.comat")

    def catch(cls, model, clip, vae, task, chosen, notes):
        made.append(task)
        raise ValueError("caught")

    monkeypatch.setattr(node, "trained", catch)

    def task(wires=CAPTIONER, **changes):
        with pytest.raises(run_graph.Failed, match="caught"):
            run_graph(graph_of("caught", wires, **changes))
        return made[-1]

    usual = task()
    assert (usual.matching, usual.concentrating, usual.faithful) == (True, True, True)
    assert vars(usual.fidelity) == {"rate": 2e-5, "pictures": 2} and not usual.rollouts.detached
    assert vars(usual.weights) == {"concept": 1.0, "fidelity": 1.0, "token": 1e-3, "pixel": 5e-5}
    assert usual.latent_shape == (4, 8, 8)
    alone = task((), **{"masks": "off", "fidelity": "custom", "fidelity.fidelity_weight": 0.3})
    assert (alone.matching, alone.concentrating, alone.faithful) == (False, False, True)
    assert alone.weights.fidelity == 0.3
    bare = task(masks="demo world", fidelity="off", detached="yes")
    assert not bare.faithful and bare.rollouts.detached and bare.finder == part("training.comat.finding").ByShape()
    assert len({each.identity["data"] for each in (usual, alone, bare)}) == 3


def test_published_values_for_sdxl(part):
    options = part("training.comat.options")
    chosen = {"fidelity": "as published", "untrained_pictures": 0}
    fidelity, weight = options.fidelity_of(chosen, 7, sdxl=True)
    assert (fidelity.rate, fidelity.pictures, weight) == (5e-5, 7, 0.5)


def test_a_choice_that_there_is_not(run_graph, graph_of):
    with pytest.raises((run_graph.Failed, run_graph.Rejected), match="masks must be one of: detector, attention"):
        run_graph(graph_of("refused", masks="by hand"))


def test_what_cannot_be_trained_says_why(run_graph, graph_of):
    off = {"masks": "off", "fidelity": "off"}
    for message, changes in {
        "All parts of CoMat are off": off,
        "There are no prompts to train with": {"prompts": " \n"},
        'masks "detector" there must be a segmenter: connect Load SAM': {"masks": "detector"},
        "3 of 2 steps cannot have gradients": {"gradient_steps": 3, "sampling_steps": 2},
        "3 lines of entities for 2 prompts": {"entities": "a\nb\nc"},
        'Prompt 2, "the cat": In "entities" but not in the prompt': {"entities": "cat\ndog"},
    }.items():
        with pytest.raises(run_graph.Failed, match=message):
            run_graph(graph_of("refused", **changes))
    with pytest.raises(run_graph.Rejected, match="is no name for a LoRA"):
        run_graph(graph_of("../elsewhere"))


def test_without_a_graph(part, tiny, comfy, tmp_path):
    """The task that run.py makes of a file of options."""
    options = part("training.comat.options")
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    write_captioner(comfy.base / "models" / "captioners" / "comat")
    chosen = part("training.options").chosen_of(
        {"prompts": str(tmp_path / "prompts.txt"), "captioner": "comat", "masks": "demo world", "entities": BY_HAND}
        | {"size": 128, "untrained_pictures": 5},
        options.OPTIONS,
    )
    loaded, said = tiny("sd1"), []
    with torch.inference_mode():
        task, notes = options.from_options(chosen, loaded.model, loaded.vae, loaded.clip, said.append)
    assert task.matching and task.concentrating and task.fidelity.pictures == 5 and task.latent_shape == (4, 16, 16)
    assert said == ["reading prompt 1 of 2", "reading prompt 2 of 2"] and len(notes) == 1
    with pytest.raises(ValueError, match="There is no file"):
        options.from_options(chosen | {"prompts": "nowhere.txt"}, loaded.model, loaded.vae, loaded.clip, said.append)
    with pytest.raises(ValueError, match='"size" is 100. It must be a multiple of 64'):
        options.from_options(chosen | {"size": 100}, loaded.model, loaded.vae, loaded.clip, said.append)


def test_the_schema(part):
    schema = part("nodes.training.comat").SBTrainCoMat.GET_SCHEMA()
    assert all(each.tooltip for each in (*schema.inputs, *schema.outputs))
    assert len({each.id for each in schema.inputs}) == len(schema.inputs)
