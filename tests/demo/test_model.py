"""The demo model under ComfyUI's own nodes, which know nothing of it."""

import copy
import time

import numpy as np
import pytest

LOADER = {"class_type": "SBLoadDemoModel", "inputs": {}}


def encode(text, clip=("load", 1)):
    return {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": list(clip)}}


def sampler(model=("load", 0), latent=("latent", 0), positive=("positive", 0), seed=1, steps=4, denoise=1.0):
    return {
        "class_type": "KSampler",
        "inputs": {
            "model": list(model),
            "positive": list(positive),
            "negative": ["negative", 0],
            "latent_image": list(latent),
            "seed": seed,
            "steps": steps,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": denoise,
        },
    }


def graph(batch=1, text="a red circle and a blue square", **nodes):
    return {
        "load": LOADER,
        "positive": encode(text),
        "negative": encode(""),
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": batch}},
        **nodes,
    }


@pytest.fixture(scope="module")
def loader(part):
    return part("demo.loader")


@pytest.fixture
def give(comfy, monkeypatch):
    """``give("TestImages", images)``: a node of that type that gives the value; the node of the graph is returned."""
    from given import giving_node

    def _give(name, value):
        monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, name, giving_node(value))
        return {"class_type": name, "inputs": {}}

    return _give


@pytest.fixture
def inference():
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def demo(graph_runner):
    """The loaded model, clip and vae."""
    graph_runner.forget()
    run = graph_runner({"load": LOADER}, model=["load", 0], clip=["load", 1], vae=["load", 2])
    return run.values


def render_scenes(part, count, seed=0):
    """Rendered scenes (N, 128, 128, 3) with their captions."""
    import torch

    world, captions = part("world.scenes"), part("world.captions")
    rng = np.random.default_rng(seed)
    scenes = [world.sample_scene(rng) for _ in range(count)]
    images = torch.from_numpy(np.stack([world.render(scene) for scene in scenes]))
    return images, [captions.plain_caption(scene.things) for scene in scenes]


def test_stock_nodes_draw_what_is_asked_for(run_graph):
    text = "a red circle"
    words = {"text": text, "entities": "circle: red", "conditioning": ["positive", 0], "clip": ["load", 1]}
    drawn = {
        "sample": sampler(steps=20),
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["load", 2]}},
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["decode", 0], "vae": ["load", 2]}},
        "again": {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["load", 2]}},
        "bind": {"class_type": "SBBindConditioning", "inputs": words},
        "score": {"class_type": "SBScoreBinding", "inputs": {"image": ["decode", 0], "binding": ["bind", 1]}},
    }
    run = run_graph(graph(batch=4, text=text, **drawn), image=["decode", 0], again=["again", 0], score=["score", 0])
    image, again = run.values["image"].numpy(), run.values["again"].numpy()
    assert image.shape == (4, 128, 128, 3)
    assert run.values["score"] >= 0.75, run.outputs["score"]["text"]
    noise = np.mean((image.clip(0, 1) - again.clip(0, 1)) ** 2)
    assert 10 * np.log10(1 / noise) > 30


def test_prompt_weights_change_their_row_only(demo, part, inference, comfy):
    encoder = comfy.nodes.CLIPTextEncode()
    plain = encoder.encode(demo["clip"], "a red circle")[0][0][0]
    weighted = encoder.encode(demo["clip"], "a (red:1.4) circle")[0][0][0]
    changed = (plain != weighted).any(-1)[0]
    assert plain.shape == (1, 77, part("demo.architecture").TEXT_CONFIG["hidden_size"])
    assert changed.nonzero().flatten().tolist() == [2]


def test_clip_set_last_layer(run_graph):
    last = {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["load", 1], "stop_at_clip_layer": -2}}
    nodes = {"last": last, "other": encode("a red circle", clip=("last", 0)), "same": encode("a red circle")}
    values = run_graph({"load": LOADER, **nodes}, other=["other", 0], same=["same", 0]).values
    other, same = values["other"][0][0], values["same"][0][0]
    assert other.shape == same.shape
    assert (other - same).abs().max() > 0.01


def test_networks_compute_what_they_did_in_training(part, loader, demo, inference, monkeypatch):
    """A wrong head count has the same shapes and loads without a word; only what is computed tells."""
    import torch

    trained = part("demo.measure").DemoNetworks(loader.WEIGHTS, part("demo.computing").named("cpu", "float32"))
    noised = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    timesteps, text = torch.tensor([300.0, 700.0]), "a red circle with a dot and a blue square"
    context = trained.encoder.encode([text])
    expected = trained.unet(noised, timesteps, context.repeat(2, 1, 1))

    def text_error(clip):
        return (clip.encode_from_tokens(clip.tokenize(text)) - context).abs().max()

    def unet_error(model):
        return (model.model.diffusion_model(noised, timesteps, context.repeat(2, 1, 1)) - expected).abs().max()

    assert text_error(demo["clip"]) < 1e-4
    assert unet_error(demo["model"]) < 1e-4
    other = loader.load_clip()
    for layer in other.cond_stage_model.clip_l.transformer.text_model.encoder.layers:
        layer.self_attn.heads = 8
    assert text_error(other) > 1e-2
    monkeypatch.setitem(loader.DemoConfig.unet_extra_config, "num_heads", 8)
    assert unet_error(loader.load_model()) > 1e-2


def test_training_a_lora_and_loading_it_again(part, run_graph, give, comfy):
    from safetensors.torch import load_file

    images, captions = render_scenes(part, 2)
    with_pictures = {
        "pixels": give("TestImages", images),
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["pixels", 0], "vae": ["load", 2]}},
        "plain": sampler(),
    }
    train = {
        "class_type": "TrainLoraNode",
        "inputs": {
            "model": ["load", 0],
            "latents": ["encode", 0],
            "positive": ["positive", 0],
            "batch_size": 1,
            "grad_accumulation_steps": 1,
            "steps": 2,
            "learning_rate": 0.01,
            "rank": 4,
            "optimizer": "AdamW",
            "loss_function": "MSE",
            "seed": 0,
            "training_dtype": "fp32",
            "lora_dtype": "fp32",
            "quantized_backward": False,
            "algorithm": "LoRA",
            "gradient_checkpointing": True,
            "checkpoint_depth": 1,
            "offloading": False,
            "existing_lora": "[None]",
            "bucket_mode": False,
            "bypass_mode": False,
        },
    }
    trained = {
        "train": train,
        "save": {"class_type": "SaveLoRA", "inputs": {"lora": ["train", 0], "prefix": "loras/demo"}},
        "lora": {
            "class_type": "LoraModelLoader",
            "inputs": {"model": ["load", 0], "lora": ["train", 0], "strength_model": 1.0, "bypass": False},
        },
        "changed": sampler(model=("lora", 0)),
    }
    wanted = {"plain": ["plain", 0], "changed": ["changed", 0], "lora": ["train", 0], "loss": ["train", 1]}
    values = run_graph(graph(text=captions[0], **with_pictures, **trained), **wanted).values
    assert len(values["loss"]["loss"]) == 2
    saved = next((comfy.base / "output" / "loras").glob("demo*.safetensors"))
    assert load_file(saved).keys() == values["lora"].keys()
    plain, changed = values["plain"]["samples"], values["changed"]["samples"]
    assert (changed - plain).abs().max() > 0.01

    folder = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    saved.rename(folder / "demo.safetensors")
    stock = {
        "class_type": "LoraLoader",
        "inputs": {
            "model": ["load", 0],
            "clip": ["load", 1],
            "lora_name": "demo.safetensors",
            "strength_model": 1.0,
            "strength_clip": 1.0,
        },
    }
    nodes = {"stock": stock, "loaded": sampler(model=("stock", 0)), "plain": sampler()}
    again = run_graph(graph(text=captions[0], **nodes), loaded=["loaded", 0], plain=["plain", 0]).values
    assert (again["loaded"]["samples"] - changed).abs().max() < 1e-4
    assert (again["plain"]["samples"] == plain).all()


def test_copies_are_independent(demo, loader):
    model = demo["model"]
    for copied in (model.clone(force_deepcopy=True), model.clone(disable_dynamic=True, force_deepcopy=True)):
        assert copied.model is not model.model
        assert type(copied.model.latent_format) is loader.DemoLatent
    for patcher in (demo["clip"].patcher, demo["vae"].patcher):
        factory, arguments = patcher.cached_patcher_init
        assert factory(*arguments, disable_dynamic=True).model is not patcher.model


def test_checkpoint_save_writes_the_weights(run_graph, comfy, loader):
    inputs = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "filename_prefix": "checkpoints/demo"}
    run_graph({"load": LOADER, "save": {"class_type": "CheckpointSave", "inputs": inputs}})
    from safetensors.torch import load_file

    saved = load_file(next((comfy.base / "output" / "checkpoints").glob("demo*.safetensors")))
    weights = loader.read_weights()
    names = [name for name in weights if not name.startswith("shapes.")]
    assert [name for name in names if (saved[name].float() - weights[name].float()).abs().max() > 1e-3] == []


def test_previews_have_the_pictures_colours(part, demo, loader, inference, monkeypatch):
    """The constants are the least squares fit, and coloured cells of scenes it has not seen get colours like theirs."""
    import comfy.cli_args
    import torch
    from latent_preview import get_previewer

    preview = part("demo.preview")
    factors, bias = preview.fit_preview(demo["vae"], loader.DemoLatent().scale_factor)
    assert np.abs(factors - preview.PREVIEW_FACTORS).max() < 0.02
    assert np.abs(bias - preview.PREVIEW_BIAS).max() < 0.02

    monkeypatch.setattr(comfy.cli_args.args, "preview_method", comfy.cli_args.LatentPreviewMethod.Latent2RGB)
    model = demo["model"].model
    previewer = get_previewer(torch.device("cpu"), model.latent_format)
    latents, cells = preview.encoded_scenes(demo["vae"], np.random.default_rng(99), 8)
    latents = model.process_latent_in(torch.from_numpy(latents).movedim(-1, 1))
    shown = np.stack([np.asarray(previewer.decode_latent_to_preview(each[None]), np.float32) for each in latents])
    coloured = preview.chroma(cells) > 0.5
    hues = [rgb[coloured] - rgb[coloured].mean(-1, keepdims=True) for rgb in (shown / 127.5 - 1.0, cells)]
    assert np.corrcoef(hues[0].flatten(), hues[1].flatten())[0, 1] > 0.8


def test_loading_again_is_cheap_and_changes_nothing_global(run_graph, comfy, loader):
    from comfy import latent_formats, supported_models

    def state():
        return (
            list(supported_models.models),
            copy.deepcopy(comfy.folder_paths.folder_names_and_paths),
            sorted(vars(latent_formats)),
            copy.deepcopy(supported_models.SD15.unet_config),
            copy.deepcopy(supported_models.SD15.unet_extra_config),
            supported_models.SD15.latent_format,
        )

    before = state()
    run_graph({"load": LOADER}, model=["load", 0])
    start = time.perf_counter()
    run_graph.forget()
    run_graph({"load": LOADER}, model=["load", 0])
    assert time.perf_counter() - start < 3.0
    assert state() == before


def test_weights_file_is_small(loader):
    assert loader.WEIGHTS.stat().st_size <= 25 * 1024 * 1024


def test_weights_of_other_head_counts(loader, monkeypatch):
    monkeypatch.setattr(loader, "UNET_HEADS", 8)
    with pytest.raises(ValueError, match="other head counts"):
        loader.read_weights()


def test_missing_weights(loader, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        loader.read_weights(tmp_path / "model.safetensors")


def test_lfs_pointer(loader, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        loader.load_model(path)


@pytest.mark.parametrize("content", [b"", b"no safetensors file", b"\xff" * 64])
def test_damaged_weights(loader, tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        loader.load_model(path)


def test_weights_of_something_else(loader, tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is not the demo model"):
        loader.load_clip(path)


@pytest.mark.parametrize(
    ("part_name", "load"), [("UNet", "load_model"), ("text encoder", "load_clip"), ("autoencoder", "load_vae")]
)
def test_weights_that_do_not_fit(loader, tmp_path, part_name, load):
    from safetensors import safe_open
    from safetensors.torch import save_file

    prefix = {"UNet": loader.UNET_PREFIX, "text encoder": loader.TEXT_PREFIX, "autoencoder": loader.VAE_PREFIX}[
        part_name
    ]
    with safe_open(loader.WEIGHTS, "pt") as file:
        weights, metadata = {name: file.get_tensor(name) for name in loader.read_weights()}, file.metadata()
    del weights[next(name for name in sorted(weights) if name.startswith(prefix) and name.endswith(".weight"))]
    path = tmp_path / "model.safetensors"
    save_file(weights, path, metadata)
    with pytest.raises(ValueError, match=f"do not fit its {part_name}; of 1 tensors"):
        getattr(loader, load)(path)
