"""Recordings as values: found by their latent, upsampled, drawn, saved; and the nodes in whole graphs."""

import json
from dataclasses import replace

import pytest
import torch

from recordings import recording

MODEL, CLIP = ["model", 0], ["model", 1]


@pytest.fixture(scope="module")
def maps(part):
    return part("attention.maps.recording")


def test_recording_is_found_by_its_latent(maps):
    handle, latents = maps.AttentionMaps(), [torch.randn(2, 4, 8, 8) for _ in range(3)]
    recordings = [recording(maps) for _ in latents]
    for latent, made in zip(latents, recordings, strict=True):
        handle.add(latent, made)
    for latent, made in zip(latents, recordings, strict=True):
        assert handle.find({"samples": latent}) is made
        assert handle.find({"samples": latent.half()}) is made
        assert handle.find({"samples": latent.bfloat16()}) is made
        assert handle.find({"samples": latent + 1e-7}) is made, "as a node that masks and adds leaves it"
    again = recording(maps)
    handle.add(latents[0], again)
    assert handle.find({"samples": latents[0]}) is again
    broken = torch.full((1, 4, 8, 8), float("nan"))
    handle.add(broken, made)
    assert handle.find({"samples": broken.clone()}) is made


def test_recording_is_not_found(maps):
    handle, latent = maps.AttentionMaps(), torch.randn(1, 4, 8, 8)
    with pytest.raises(ValueError, match="latent input is not connected.*Connect the model output"):
        handle.find(None)
    with pytest.raises(ValueError, match="has not been sampled.*Connect the model output"):
        handle.find({"samples": latent})
    handle.add(latent, recording(maps))
    for other in (latent + 1e-3, latent[:, :, :4], torch.randn(2, 4, 8, 8)):
        with pytest.raises(ValueError, match="not returned by any of the last 1 runs.*not denoised_output"):
            handle.find({"samples": other})
    handle.add(latent, "the reason")
    with pytest.raises(ValueError, match="^the reason$"):
        handle.find({"samples": latent})
    for _ in range(maps.KEPT_RUNS):
        handle.add(torch.randn(1, 4, 8, 8), recording(maps))
    with pytest.raises(ValueError, match=f"last {maps.KEPT_RUNS} runs"):
        handle.find({"samples": latent})


def test_loaded_recording_needs_no_latent(maps):
    made = recording(maps)
    assert maps.AttentionMaps(fixed=made).find(None) is made
    assert maps.AttentionMaps(fixed=made).find({"samples": torch.zeros(1)}) is made


def test_mean_over_layers_and_normalisation(part, maps):
    """DAAM's own arithmetic on two keys of one grid: mean, minimum and maximum to 0 and 1, threshold .4."""
    heat = part("attention.maps.heatmaps")
    keys = torch.tensor([[[0.2, 0.4], [0.1, 0.3]], [[0.6, 0.2], [0.1, 0.1]]])
    made = recording(maps, [key[None, None, None] for key in keys])
    mean = heat.heat_maps(made, 0, (2, 2))
    assert torch.allclose(mean[0, 0], torch.tensor([[0.4, 0.3], [0.1, 0.2]]))
    scaled = heat.normalised(mean, *heat.ranges(mean, "each map"))
    assert torch.allclose(scaled[0, 0], torch.tensor([[1, 2 / 3], [0, 1 / 3]]))
    assert heat.masks_of(made, (2, 2), 0.4).tolist() == [[[1, 1], [0, 0]]]
    assert torch.allclose(heat.masks_of(made, (2, 2), 0), scaled[0])


def test_grids_weigh_by_their_layers(part, maps):
    heat = part("attention.maps.heatmaps")
    grids = (
        maps.Grid(0, ("a",), torch.full((1, 1, 1, 4, 4), 0.1)),
        maps.Grid(1, ("b", "c", "d"), torch.full((1, 1, 1, 2, 2), 0.5)),
    )
    made = recording(maps, [grids[0].maps], grids=grids)
    assert torch.allclose(heat.heat_maps(made, 0, (9, 7)), torch.full((1, 1, 9, 7), 0.4))


def test_upsampling_keeps_places_and_stays_above_0(part, maps):
    heat = part("attention.maps.heatmaps")
    values = torch.zeros(1, 1, 1, 4, 6)
    values[..., 1, 4] = 1
    upsampled = heat.heat_maps(recording(maps, [values]), 0, (64, 96))[0, 0]
    assert upsampled.min() == 0
    row, column = divmod(int(upsampled.argmax()), 96)
    assert 16 <= row < 32
    assert 64 <= column < 80


def test_ranges(part):
    heat = part("attention.maps.heatmaps")
    values = torch.tensor([[0.1, 0.3], [0.2, 0.6]])[None, :, None].expand(2, -1, -1, -1).clone()
    values[1] /= 2
    low, high = heat.ranges(values, "each map")
    assert torch.allclose(high.flatten(), torch.tensor([0.3, 0.6, 0.15, 0.3]))
    assert torch.allclose(low.flatten(), torch.tensor([0.1, 0.2, 0.05, 0.1]))
    low, high = heat.ranges(values, "shared")
    assert torch.allclose(low, torch.tensor(0.05))
    assert torch.allclose(high, torch.tensor(0.6))
    low, high = heat.ranges(values, "absolute")
    assert (low.unique().tolist(), high.unique().tolist()) == ([0], [1])
    flat = torch.full((1, 1, 2, 2), 0.3)
    assert heat.normalised(flat, *heat.ranges(flat, "each map")).abs().max() == 0


def test_masks_come_in_the_order_latent_then_label(part, maps):
    values = torch.zeros(2, 2, 3, 4, 4)
    for latent in range(2):
        for label in range(3):
            values[:, latent, label, latent, label] = 1
    masks = part("attention.maps.heatmaps").masks_of(recording(maps, [values]), (4, 4), 0.5)
    assert masks.shape == (6, 4, 4)
    assert masks.flatten(1).argmax(1).tolist() == [0, 1, 2, 4, 5, 6]
    assert masks.sum() == 6


@pytest.mark.parametrize("name", ["ember", "ocean", "grey"])
def test_colour_maps_grow_brighter(part, name):
    table = part("attention.maps.colours").colour_table(name)
    assert table.shape == (256, 3)
    assert 0 <= table.min() <= table.max() <= 1
    linear = torch.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    brightness = linear @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert brightness.diff().min() > 0
    assert brightness[-1] - brightness[0] > 0.85


def test_bare_overlay_mixes_grey_picture_and_colours(part, maps):
    pictures = part("attention.maps.pictures")
    values = torch.zeros(1, 1, 1, 2, 2)
    values[..., 0, 0] = 0.5
    made = recording(maps, [values], cell=1)
    image = torch.tensor([0.2, 0.4, 0.6]).expand(1, 2, 2, 3)
    style = pictures.Style("one by one", "absolute", "grey", 0.5, labels=False)
    found = pictures.overlays(made, image, style)
    assert found.shape == (1, 2, 2, 3)
    grey = part("attention.maps.colours").colour_table("grey")[[0, 128]]
    assert torch.allclose(found[0, 1, 1], grey[0] / 2 + 0.2, atol=1 / 255)
    assert torch.allclose(found[0, 0, 0], grey[1] / 2 + 0.2, atol=1 / 255)


def test_sheets(part, maps):
    """Sizes and order of the pictures in both layouts; every label changes its own column only."""
    pictures = part("attention.maps.pictures")
    made = recording(maps, [torch.rand(2, 2, 3, 4, 4)])
    images = torch.rand(2, 32, 32, 3)
    grid = pictures.overlays(made, images, pictures.Style("grid", "each map", "ember", 0.6, True))
    assert grid.shape[0] == 2
    assert grid.shape[2] > 4 * 256
    assert grid.shape[1] > 2 * 256
    alone = pictures.overlays(made, None, pictures.Style("grid", "shared", "ember", 0.6, True))
    assert grid.shape[2] - alone.shape[2] > 256
    single = pictures.overlays(made, images, pictures.Style("one by one", "each map", "ocean", 0.6, True))
    assert single.shape[0] == 2 * 2 * 3
    bare = pictures.overlays(made, images, pictures.Style("one by one", "each map", "ocean", 0.6, False))
    assert bare.shape == (12, 32, 32, 3)
    renamed = recording(maps, [made.grids[0].maps], labels=("cat", "horse", "bird"))
    other = pictures.overlays(renamed, images, pictures.Style("grid", "each map", "ember", 0.6, True))
    columns = (other != grid).any(-1).any(1).any(0).nonzero().flatten()
    assert 2 * 256 < columns.min() <= columns.max() < 3 * 256 + 64


def test_wrong_number_of_images(part, maps):
    pictures = part("attention.maps.pictures")
    style = pictures.Style("grid", "each map", "ember", 0.6, True)
    with pytest.raises(ValueError, match="There are 3 images but the recording is of 2 latents"):
        pictures.overlays(recording(maps), torch.rand(3, 32, 32, 3), style)


def test_files_hold_everything(part, maps, comfy):
    from safetensors import safe_open

    files = part("attention.maps.files")
    made = recording(maps)
    fine, coarse = made.grids
    made = replace(made, grids=(fine, replace(coarse, affinity=torch.rand(2, 4, 4))))
    name = files.save(made, "some where/%year% maps")
    assert name.startswith("some where/20")
    assert name.endswith(" maps_00001_.attention.safetensors [output]")
    assert files.save(made, "some where/%year% maps") != name
    assert name in files.available()
    assert files.exists(name)
    loaded = files.load(name)
    for one, other in zip(loaded.grids, made.grids, strict=True):
        assert (one.level, one.layers) == (other.level, other.layers)
        assert torch.equal(one.maps, other.maps)
    assert loaded.grids[0].affinity is None
    assert torch.equal(loaded.grids[1].affinity, made.grids[1].affinity)
    for field in ("prompt", "labels", "entities", "latent_size", "cell", "steps", "sigmas"):
        assert getattr(loaded, field) == getattr(made, field)
    path = comfy.folder_paths.get_annotated_filepath(name)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["semantic_binding"])
    assert header["labels"] == ["cat", "dog", "bird"]
    assert header["dimensions"] == "step, latent, label, height, width"


def test_files_stay_in_their_folders(part, maps, comfy):
    from safetensors.torch import save_file

    files = part("attention.maps.files")
    outside = comfy.base / "secret.attention.safetensors"
    save_file({"x": torch.zeros(1)}, outside)
    assert not files.exists("../secret.attention.safetensors [output]")
    assert not files.exists(str(outside))
    with pytest.raises(ValueError, match="Invalid file path"):
        files.load("../secret.attention.safetensors")
    with pytest.raises(Exception, match="outside the output folder"):
        files.save(recording(maps), "../elsewhere")
    inside = comfy.folder_paths.get_input_directory() + "/other.attention.safetensors"
    save_file({"x": torch.zeros(1)}, inside)
    assert "other.attention.safetensors" in files.available()
    with pytest.raises(ValueError, match="was not written by Save Attention"):
        files.load("other.attention.safetensors")


@pytest.fixture
def graph(tiny):
    """Checkpoint to preview, with stock nodes for all the rest."""
    name = tiny("sd1").name

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    preview = {
        "layout": "grid",
        "normalisation": "each map",
        "colour_map": "ember",
        "opacity": 0.6,
        "mask_threshold": 0.4,
        "labels": True,
    }
    sampling = {
        "steps": 2,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "negative": ["negative", 0],
        "latent_image": ["empty", 0],
    }
    recording = {
        "record": "entities",
        "words": "",
        "resolution": "auto",
        "start": 0.0,
        "end": 1.0,
        "aggregation": "mean over steps",
        "keep_every": 1,
        "self_attention": False,
        "point_x": 0.5,
        "point_y": 0.5,
    }
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=name),
        "bind": node("SBBindPrompt", clip=CLIP, text="a red cat and a blue dog", entities="cat: red | dog: blue"),
        "negative": node("CLIPTextEncode", clip=CLIP, text="bad"),
        "empty": node("EmptyLatentImage", width=128, height=64, batch_size=2),
        "record": node("SBRecordAttention", model=MODEL, binding=["bind", 1], **recording),
        "sample": node("KSampler", model=["record", 0], positive=["bind", 0], seed=1, **sampling),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 2]),
        "show": node("SBPreviewAttention", maps=["record", 1], latent=["sample", 0], images=["decode", 0], **preview),
    }


SHOWN = {"sheets": ["show", 0], "masks": ["show", 1]}


def test_whole_graph(run_graph, graph):
    done = run_graph(graph, **SHOWN)
    assert done.values["sheets"].shape[0] == 2
    assert done.values["masks"].shape == (4, 64, 128)
    assert 0 < done.values["masks"].mean() < 1
    assert len(done.outputs["show"]["images"]) == 2


def test_cached_sampler_and_changed_viewer(run_graph, graph):
    first = run_graph(graph, **SHOWN)
    graph["show"]["inputs"]["mask_threshold"] = 0.0
    second = run_graph(graph, **SHOWN)
    assert torch.equal(first.values["sheets"], second.values["sheets"])
    assert second.values["masks"].unique().numel() > 100


def test_one_model_sampled_twice(run_graph, graph):
    """Each viewer finds the run of its own sampler."""
    graph["sample 2"] = {"class_type": "KSampler", "inputs": {**graph["sample"]["inputs"], "seed": 2}}
    links = {"latent": ["sample 2", 0], "images": ["decode 2", 0]}
    graph["decode 2"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample 2", 0], "vae": ["model", 2]}}
    graph["show 2"] = {"class_type": "SBPreviewAttention", "inputs": {**graph["show"]["inputs"], **links}}
    both = run_graph(graph, one=["show", 0], two=["show 2", 0]).values
    assert not torch.equal(both["one"], both["two"])
    run_graph.forget()
    del graph["sample 2"], graph["decode 2"], graph["show 2"]
    assert torch.equal(run_graph(graph, **SHOWN).values["sheets"], both["one"])


def test_two_recorders_on_two_models(run_graph, graph, tiny):
    graph["model 2"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": tiny("sdxl").name}}
    for name in ("bind", "negative", "record", "sample", "decode", "show"):
        inputs = {
            key: [f"{value[0]} 2", value[1]] if isinstance(value, list) and value[0] != "empty" else value
            for key, value in graph[name]["inputs"].items()
        }
        graph[f"{name} 2"] = {"class_type": graph[name]["class_type"], "inputs": inputs}
    done = run_graph(graph, one=["show", 1], two=["show 2", 1])
    assert done.values["one"].shape == done.values["two"].shape == (4, 64, 128)
    assert not torch.equal(done.values["one"], done.values["two"])


def test_advanced_sampler(run_graph, graph):
    """SamplerCustomAdvanced: its first output is found, denoised_output is not."""

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    graph["noise"] = node("RandomNoise", noise_seed=1)
    graph["sampler"] = node("KSamplerSelect", sampler_name="euler")
    schedule = {"scheduler": "normal", "steps": 2, "denoise": 1.0}
    graph["sigmas"] = node("BasicScheduler", model=["record", 0], **schedule)
    links = {"positive": ["bind", 0], "negative": ["negative", 0]}
    graph["guider"] = node("CFGGuider", model=["record", 0], cfg=3.0, **links)
    names = ("noise", "guider", "sampler", "sigmas")
    advanced = node("SamplerCustomAdvanced", **{name: [name, 0] for name in names}, latent_image=["empty", 0])
    expected = run_graph(graph, **SHOWN).values
    graph["sample"] = advanced
    assert torch.equal(run_graph(graph, **SHOWN).values["sheets"], expected["sheets"])
    graph["sigmas"]["inputs"]["steps"] = 4
    graph["sigmas"] = node("SplitSigmas", sigmas=["all sigmas", 0], step=2)
    graph["all sigmas"] = node("BasicScheduler", model=["record", 0], **{**schedule, "steps": 4})
    graph["show"]["inputs"]["latent"] = ["sample", 1]
    with pytest.raises(run_graph.Failed, match="not denoised_output"):
        run_graph(graph, **SHOWN)


def test_wrong_wiring(run_graph, graph):
    def fails(match):
        with pytest.raises(run_graph.Failed, match=match):
            run_graph(graph, **SHOWN)

    latent = graph["show"]["inputs"].pop("latent")
    fails("latent input is not connected")
    graph["show"]["inputs"]["latent"] = ["empty", 0]
    fails("has not been sampled|not returned by any")
    graph["show"]["inputs"]["latent"] = latent
    graph["sample"]["inputs"].update(model=MODEL, seed=7)
    fails("has not been sampled|not returned by any")
    graph["sample"]["inputs"]["model"] = ["record", 0]
    graph["sample"]["inputs"]["positive"] = ["negative", 0]
    fails("was not given the conditioning of")


def test_save_and_load_nodes(run_graph, graph):
    graph["save"] = {
        "class_type": "SBSaveAttention",
        "inputs": {"maps": ["record", 1], "latent": ["sample", 0], "filename_prefix": "attention/test"},
    }
    saved = run_graph(graph, file=["save", 0], **SHOWN)
    name = saved.values["file"]
    assert saved.outputs["save"]["text"] == [f"Saved as {name}"]
    inputs = {key: value for key, value in graph["show"]["inputs"].items() if key not in ("latent", "images")}
    load = {
        "load": {"class_type": "SBLoadAttention", "inputs": {"file": name}},
        "show": {"class_type": "SBPreviewAttention", "inputs": {**inputs, "maps": ["load", 0]}},
    }
    loaded = run_graph(load, **SHOWN)
    assert torch.equal(loaded.values["masks"], saved.values["masks"])
    load["load"]["inputs"]["file"] = "attention/none.attention.safetensors [output]"
    with pytest.raises(run_graph.Rejected, match="There is no attention file"):
        run_graph(load, **SHOWN)
