"""Train TokenCompose in graphs: with core's nodes behind it, cached, interrupted, and with what cannot be trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CAPTIONS = ("a cat on a sofa", "a dog and a ball", "a red car")
MASKED = (("cat", "sofa"), ("dog",), ())
SHORT = {"steps": 3, "accumulate": 1, "rank": 2, "alpha": 2.0, "learning_rate": 0.01, "save_every": 0}


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 64 x 64 pixels, two of them with masks."""
    chance = np.random.default_rng(1)
    for number, (caption, nouns) in enumerate(zip(CAPTIONS, MASKED, strict=True)):
        Image.fromarray(chance.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption)
        (tmp_path / str(number)).mkdir()
        for place, noun in enumerate(nouns):
            mask = np.zeros((64, 64), np.uint8)
            mask[:, place * 32 : place * 32 + 32] = 255
            Image.fromarray(mask).save(tmp_path / str(number) / f"{noun}.png")
    return tmp_path


@pytest.fixture
def graph_of(tiny, folder, part):
    """``graph_of("name", steps=2)``: a graph that trains and then draws with the LoRA of the wire, and plainly."""

    def made(name, checkpoint=None, **changes):
        options = part("training.tokencompose_task").INPUTS
        chosen = {key: option.default for key, option in options.items()} | {"preview_prompts": ""} | SHORT | changes
        wires = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "data": ["data", 0]}
        sampled = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        sampled |= {"positive": ["prompt", 0], "negative": ["prompt", 0], "latent_image": ["empty", 0]}
        nodes = {
            "load": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint or tiny("sd1").name}),
            "data": ("SBTrainingData", {"folder": str(folder), "size": 64}),
            "train": ("SBTrainTokenCompose", {**wires, **chosen, "name": name}),
            "lora": (
                "LoraModelLoader",
                {"model": ["load", 0], "lora": ["train", 0], "strength_model": 1.0, "bypass": False},
            ),
            "prompt": ("CLIPTextEncode", {"clip": ["load", 1], "text": "a cat and a dog"}),
            "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
            "plain": ("KSampler", {**sampled, "model": ["load", 0]}),
            "drawn": ("KSampler", {**sampled, "model": ["lora", 0]}),
            "graph": ("LossGraphNode", {"loss": ["train", 1], "filename_prefix": "loss"}),
        }
        return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}

    return made


def training_alone(graph):
    return {key: graph[key] for key in ("load", "data", "train")}


@pytest.mark.slow
def test_trained_loaded_and_drawn_with(run_graph, graph_of, comfy):
    graph = graph_of("cats/in a graph", preview_prompts="a cat\n\n a dog ", preview_every=2)
    outputs = {"weights": ["train", 0], "steps": ["train", 2], "curves": ["train", 3], "file": ["train", 4]}
    run = run_graph(graph, drawn=["drawn", 0], plain=["plain", 0], loss=["train", 1], **outputs)
    drawn, plain = (run.values[name]["samples"] for name in ("drawn", "plain"))
    assert (drawn - plain).abs().max() > 1e-3
    assert run.values["steps"] == 3 and len(run.values["loss"]["loss"]) == 3
    assert run.values["curves"].shape[-1] == 3 and run.values["curves"].shape[1] > 3 * 150, "with the previews"
    assert run.outputs["graph"]["images"] and run.outputs["train"]["images"]
    (text,) = run.outputs["train"]["text"]
    assert comfy.folder_paths.get_full_path("loras", run.values["file"])
    assert f"models/loras/{run.values['file']} is written. Steps: 3" in text and "token loss: " in text
    assert run.values["file"] in comfy.folder_paths.get_filename_list("loras")

    graph["lora"] = {
        "class_type": "LoraLoader",
        "inputs": {"model": ["load", 0], "clip": ["load", 1], "lora_name": run.values["file"]}
        | {"strength_model": 1.0, "strength_clip": 1.0},
    }
    again = run_graph(graph, drawn=["drawn", 0])
    assert torch.equal(again.values["drawn"]["samples"], drawn)


def test_it_runs_with_nothing_connected_and_again_only_when_the_file_is_gone(run_graph, graph_of, comfy):
    from safetensors.torch import load_file

    graph = training_alone(graph_of("kept", steps=1))
    run = run_graph(graph)
    (text,) = run.outputs["train"]["text"]
    assert "is written. Steps: 1" in text
    path = Path(comfy.folder_paths.get_full_path("loras", "kept.safetensors"))
    first = load_file(path)
    assert "train" in run_graph(graph).cached
    path.unlink()
    run = run_graph(graph)
    again = load_file(path)
    assert "train" not in run.cached and all(torch.equal(first[key], again[key]) for key in first)
    assert "train" in run_graph(graph).cached
    run_graph.forget()
    (text,) = run_graph(graph).outputs["train"]["text"]
    assert "was there already, trained with these settings. Steps: 1" in text


@pytest.mark.slow
def test_interrupted_it_goes_on(run_graph, graph_of, comfy):
    import comfy.model_management
    import comfy.utils

    whole = run_graph(training_alone(graph_of("uninterrupted", steps=4)), lora=["train", 0], loss=["train", 1]).values
    graph, seen = training_alone(graph_of("interrupted", steps=4)), []

    def interrupt(value, total, preview, node_id=None):
        if (value, total) == (2, 4):
            comfy.model_management.interrupt_current_processing(True)

    def watch(value, total, preview, node_id=None):
        seen.append((value, total))

    try:
        comfy.utils.set_progress_bar_global_hook(interrupt)
        with pytest.raises(run_graph.Interrupted):
            run_graph(graph)
        comfy.utils.set_progress_bar_global_hook(watch)
        result = run_graph(graph, lora=["train", 0], loss=["train", 1]).values
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert [step for step, total in seen if total == 4] == [3, 4]
    assert result["loss"] == whole["loss"]
    assert all(torch.equal(result["lora"][key], whole["lora"][key]) for key in whole["lora"])


def test_progress_and_pictures_are_shown_on_the_node(run_graph, graph_of, comfy):
    import comfy.utils

    shown = []
    comfy.utils.set_progress_bar_global_hook(lambda *given, node_id=None: shown.append(given))
    try:
        run_graph(training_alone(graph_of("shown", steps=2)))
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert [step[:2] for step in shown][-2:] == [(1, 2), (2, 2)]
    kind, picture, size = shown[-1][2]
    assert kind == "JPEG" and isinstance(picture, Image.Image) and size == max(picture.size)


def test_notes_of_the_captions_are_shown(run_graph, graph_of, folder):
    (folder / "2.txt").write_text("a red car " + "on a long road " * 30)
    (text,) = run_graph(training_alone(graph_of("long caption", steps=1))).outputs["train"]["text"]
    assert "2.png: its caption is longer than 75 tokens" in text


def test_an_empty_folder(run_graph, graph_of, folder, tmp_path):
    graph = training_alone(graph_of("no data"))
    graph["data"]["inputs"]["folder"] = str(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(run_graph.Failed, match="There is nothing to train with in"):
        run_graph(graph)


def test_a_checkpoint_without_a_vae(run_graph, graph_of, tiny, comfy):
    from safetensors.torch import load_file, save_file

    checkpoints = comfy.base / "models" / "checkpoints"
    weights = load_file(checkpoints / tiny("sd1").name)
    kept = {key: weight for key, weight in weights.items() if not key.startswith("first_stage_model.")}
    save_file(kept, checkpoints / "no-vae.safetensors")
    with pytest.raises(run_graph.Failed, match="There is no VAE"):
        run_graph(training_alone(graph_of("no vae", checkpoint="no-vae.safetensors")))


def test_a_model_that_predicts_a_flow_is_refused_before_anything_is_encoded(run_graph, graph_of):
    graph = training_alone(graph_of("flow"))
    graph["flow"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": ["load", 0], "shift": 3.0}}
    graph["train"]["inputs"]["model"] = ["flow", 0]
    with pytest.raises(run_graph.Failed, match="sampled by .*CONST"):
        run_graph(graph)


def test_names_and_others_files(run_graph, graph_of):
    for name in ("", "../elsewhere"):
        with pytest.raises(run_graph.Rejected, match="is no name for a LoRA"):
            run_graph(training_alone(graph_of(name)))
    run_graph(training_alone(graph_of("same name", steps=1)))
    with pytest.raises(run_graph.Failed, match="other settings, data or model, which is not overwritten"):
        run_graph(training_alone(graph_of("same name", steps=1, seed=4)))


def test_another_text_encoder_is_another_training(run_graph, graph_of):
    graph = training_alone(graph_of("layers", steps=1))
    run_graph(graph)
    graph["skip"] = {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["load", 1], "stop_at_clip_layer": -2}}
    graph["train"]["inputs"]["clip"] = ["skip", 0]
    with pytest.raises(run_graph.Failed, match="other settings, data or model"):
        run_graph(graph)


def test_a_loss_without_range_is_not_plotted(run_graph, graph_of):
    graph = graph_of("no range", steps=1)
    run = run_graph({key: graph[key] for key in ("load", "data", "train", "graph")})
    assert "graph" not in run.outputs
