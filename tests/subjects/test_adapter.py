"""The adapter's checkpoint: read by its tensors, computed as by transformers, its UNet set on a model and off again."""

import pickle

import pytest
import torch

from injecting import slow_fusion, slow_pixels
from modulate import Workbench
from tiny_adapter import FULL, Sizes, names_of_unet, random_unet, weights_of, write

SIZES = Sizes()


@pytest.fixture(scope="module")
def folder(comfy):
    path = comfy.base / "models" / "fastcomposer"
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return Workbench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def load(part):
    """``load("tiny.bin", model)``: the node's ADAPTER and MODEL, and what it shows."""

    def of(name, model=None):
        with torch.inference_mode():
            found = part("nodes.subjects.adapter").SBLoadSubjectAdapter.execute(name, model)
        return *found.args, found.ui["text"][0]

    return of


def transformers_embedding(weights: dict, sizes: Sizes, pixels: torch.Tensor) -> torch.Tensor:
    """That of transformers' own CLIP, with the weights as ComfyUI holds them: in 16 bits where it does."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        config = CLIPVisionConfig(**sizes.vision_config, attn_implementation="eager")
        model = CLIPVisionModelWithProjection(config).eval()
    in_32_bits = ("visual_projection", "pre_layrnorm", "post_layernorm")
    own = {}
    for name, value in weights.items():
        if name.startswith("image_encoder.") and not name.endswith("position_ids"):
            name = name.removeprefix("image_encoder.")
            own[name] = value.float() if any(each in name for each in in_32_bits) else value.half().float()
    told = model.load_state_dict(own, strict=False, assign=True)
    assert not told.unexpected_keys and all(name.endswith("position_ids") for name in told.missing_keys)
    model.vision_model.embeddings.position_ids = torch.arange((sizes.image // sizes.patch) ** 2 + 1)[None]
    with torch.no_grad():
        return model(pixels[None].float()).image_embeds[0]


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_checkpoint_is_read_by_its_tensors(load, part, folder, suffix):
    """Whatever its name; the embedding of a picture is the one that transformers' encoder has for slow pixels."""
    sizes = SIZES if suffix == "safetensors" else Sizes(width=48, hidden=128, heads=2, layers=3, patch=8, image=24)
    weights = weights_of(sizes)
    write(weights, folder / f"any name.{suffix}", sizes.heads)
    adapter, _, told = load(f"any name.{suffix}")
    assert adapter.width == sizes.width and not adapter.has_unet and adapter.unknown == ()
    assert f"sees {sizes.image} x {sizes.image} pixels" in told and "no UNet in the file." in told
    images = torch.rand(2, 30, 21, 3, generator=torch.Generator().manual_seed(4))
    Subject, references = part("subjects.subject").Subject, part("subjects.preprocess").references
    expected = [transformers_embedding(weights, sizes, slow_pixels(image, sizes.image)) for image in images]
    steps = []
    subjects = [Subject(references(images, None), number, 1.0) for number in (0, 1, 2)]
    found = adapter.embeddings(subjects, lambda: steps.append(1))
    for one, other in zip(found, [(expected[0] + expected[1]) / 2, *expected], strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()
    assert len(steps) == 4
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * expected[0].abs().max()


def test_heads_are_64_columns_unless_the_file_says_otherwise(load, folder):
    weights = weights_of(SIZES)
    for heads, expected in ((4, 4), (None, 1)):
        write(weights, folder / "heads.safetensors", heads)
        adapter = load("heads.safetensors")[0]
        assert adapter.patcher.model.vision_model.encoder.layers[0].self_attn.heads == expected
    for heads, message in ((5, "64 columns, which cannot be shared by 5"), ("many", "which is no number of heads")):
        write(weights, folder / "heads.safetensors", heads)
        with pytest.raises(ValueError, match=message):
            load("heads.safetensors")


def without(weights, *names):
    return {name: value for name, value in weights.items() if name not in names}


def test_checkpoints_that_are_none(load, folder):
    weights = weights_of(SIZES)
    fc1, norm = "postfuse_module.mlp2.fc1.weight", "image_encoder.vision_model.post_layernorm.bias"
    wrong = {
        r"Missing: 'mlp2.fc1.bias'": without(weights, "postfuse_module.mlp2.fc1.bias"),
        rf"missing: {norm}\.": without(weights, norm),
        rf"of another shape: {fc1} is \(32, 31\), not \(32, 32\)": {**weights, fc1: weights[fc1][:, 1:]},
        rf"missing: {norm}; unknown: image_encoder.other": {
            **without(weights, norm),
            "image_encoder.other": norm_of(1),
        },
        r"no checkpoint of FastComposer: it has no image_encoder and postfuse_module.*model\.a": {
            "model.a": norm_of(1)
        },
        r"it has no postfuse_module": {k: v for k, v in weights.items() if not k.startswith("postfuse_module")},
        r"gives 16 numbers, and its fusion head takes 32": {
            **weights,
            "image_encoder.visual_projection.weight": torch.zeros(16, 64),
        },
    }
    for message, tensors in wrong.items():
        write(tensors, folder / "wrong.bin")
        with pytest.raises(ValueError, match=message):
            load("wrong.bin")
    (folder / "wrong.bin").write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match="is damaged or no checkpoint with tensors alone"):
        load("wrong.bin")


def norm_of(width):
    return torch.ones(width)


def test_what_is_beside_the_known_parts_is_told(load, folder):
    tensors = {**weights_of(SIZES), "image_encoder.logit_scale": norm_of(1), "ema.decay": norm_of(1)}
    write(tensors, folder / "more.bin")
    adapter, _, told = load("more.bin")
    assert adapter.unknown == ("image_encoder.logit_scale", "ema.decay")
    assert "Unknown tensors, not used: image_encoder.logit_scale, ema.decay" in told


class Harmful:
    def __reduce__(self):
        return print, ("a checkpoint has run code",)


def test_code_in_a_checkpoint_is_not_run(load, folder, capsys):
    (folder / "harmful.bin").write_bytes(pickle.dumps({"a": Harmful()}))
    torch.save({"a": Harmful()}, folder / "harmful.pt")
    for name in ("harmful.bin", "harmful.pt"):
        with pytest.raises(ValueError, match="is damaged or no checkpoint with tensors alone"):
            load(name)
    assert "has run code" not in capsys.readouterr().out


def test_which_checkpoints_there_are(part, folder, monkeypatch, tmp_path):
    checkpoint, node = part("subjects.checkpoint"), part("nodes.subjects.adapter").SBLoadSubjectAdapter
    write(weights_of(SIZES), folder / "below" / "this.safetensors")
    (folder / "readme.txt").write_text("no checkpoint", "utf-8")
    files = checkpoint.available()
    assert any(name.replace("\\", "/") == "below/this.safetensors" for name in files)
    assert "readme.txt" not in files and files[-1] == "demo model"
    assert 'There is no subject adapter "readme.txt"' in node.validate_inputs("readme.txt")
    assert node.validate_inputs("demo model") is True
    monkeypatch.setattr(checkpoint, "DEMO", tmp_path / "subjects.safetensors")
    write(weights_of(SIZES), checkpoint.DEMO, SIZES.heads)
    assert node.execute("demo model").args[0].name == "demo model"
    before = node.fingerprint_inputs("demo model")
    write(weights_of(Sizes(width=16)), checkpoint.DEMO, SIZES.heads)
    assert node.fingerprint_inputs("demo model") != before


def loaded_weights(model) -> dict:
    """The weights of a MODEL's UNet as it samples."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)
    return {name: value.clone() for name, value in model.model.diffusion_model.state_dict().items()}


@pytest.mark.parametrize("part_of_it", ["", "attn2"])
def test_its_unet_is_set_on_the_model_and_undone_with_the_clone(bench, load, folder, part_of_it):
    """All of it, or only some of its tensors; the model it was set on stays as it was."""
    own, names = bench.model.model.diffusion_model.state_dict(), names_of_unet(bench.model)
    assert set(names.values()) == set(own)
    unet = {name: value for name, value in random_unet(bench.model).items() if part_of_it in name}
    write({**weights_of(SIZES), **unet}, folder / "with unet.bin")
    before, plain = loaded_weights(bench.model), bench.latent()
    adapter, model, told = load("with unet.bin", bench.model)
    assert adapter.has_unet and f"Its UNet is set on the model: {len(unet)} tensors." in told
    latent = bench.latent(model)
    assert (latent - plain).abs().max() > 1e-2 * plain.abs().max()
    found = loaded_weights(model)
    for name, key in names.items():
        assert torch.equal(found[key], unet.get(name, before[key])), key
    assert torch.equal(bench.latent(), plain)
    after = loaded_weights(bench.model)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_loras_add_to_its_unet_wherever_they_stand(bench, load, folder):
    from comfy.sd import load_lora_for_models

    unet, lora = random_unet(bench.model), bench.lora_weights(".attn2.to_q")
    write({**weights_of(SIZES), **unet}, folder / "with unet.bin")
    before = load("with unet.bin", load_lora_for_models(bench.model, None, lora, 1.0, 0.0)[0])[1]
    behind = load_lora_for_models(load("with unet.bin", bench.model)[1], None, lora, 1.0, 0.0)[0]
    one, other, plain = bench.latent(before), bench.latent(behind), bench.latent(load("with unet.bin", bench.model)[1])
    assert torch.equal(one, other)
    assert (one - plain).abs().max() > 1e-3 * plain.abs().max()


def test_a_unet_of_another_kind_of_model(bench, load, tiny, folder):
    write({**weights_of(SIZES), **random_unet(bench.model)}, folder / "with unet.bin")
    message = (
        "is for a model with rows of 32 numbers, and the MODEL is a model with rows of 96 numbers of the kind Tiny"
    )
    with pytest.raises(ValueError, match=message):
        load("with unet.bin", tiny("sdxl").model)
    write({**weights_of(SIZES), "unet.conv_in.weight": torch.zeros(32, 9, 3, 3)}, folder / "with unet.bin")
    with pytest.raises(ValueError, match=r"conv_in.weight is \(32, 9, 3, 3\), not \(32, 4, 3, 3\)"):
        load("with unet.bin", bench.model)
    write({**weights_of(SIZES), "unet.another": torch.zeros(3)}, folder / "with unet.bin")
    with pytest.raises(ValueError, match="the MODEL has no: another"):
        load("with unet.bin", bench.model)
    assert [load("with unet.bin")[0].has_unet, "no model is connected" in load("with unet.bin")[2]] == [True, True]


def test_a_file_without_unet_passes_the_model_on(bench, load, folder):
    write(weights_of(SIZES), folder / "plain.bin")
    _, model, told = load("plain.bin", bench.model)
    assert model is bench.model and "so the model is passed on as it is" in told


def test_a_model_output_without_a_model(part, comfy, run_graph, folder, tiny, monkeypatch):
    """Who uses it is told; the adapter can be used."""
    write(weights_of(SIZES), folder / "plain.bin")
    node = part("nodes.subjects.adapter").SBLoadSubjectAdapter
    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "SBLoadSubjectAdapter", node)
    graph = {"load": {"class_type": "SBLoadSubjectAdapter", "inputs": {"checkpoint": "plain.bin"}}}
    assert run_graph(graph, adapter=["load", 0]).values["adapter"].width == SIZES.width
    sent = []
    run_graph.executor.server.send_sync = lambda event, message, client: sent.append((event, message))
    assert "model" not in run_graph(graph, model=["load", 1]).values
    (error,) = (message for event, message in sent if event == "execution_error")
    assert "connect one to its model input" in error["exception_message"]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 2e-2)])
def test_the_released_layout_at_full_size(load, part, folder, dtype, tolerance):
    """2.9 million weights in the fusion head, 303 million in the encoder, and a UNet that fits Stable Diffusion 1.5."""
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    full = {"image_size": 32, "in_channels": 4, "out_channels": 4, "legacy": False, "use_spatial_transformer": True}
    full |= {"channel_mult": [1, 2, 4, 4], "num_res_blocks": [2, 2, 2, 2], "transformer_depth_middle": 1}
    full |= {"transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3}
    config = comfy.supported_models.SD15({**full, **comfy.supported_models.SD15.unet_config})
    config.set_inference_dtype(torch.float16, None)
    model = ModelPatcher(config.get_model({}, device="meta"), torch.device("cpu"), torch.device("cpu"))
    exact = weights_of(FULL)
    weights = {name: value.to(dtype) for name, value in exact.items()}
    own = model.model.diffusion_model.state_dict()
    unet = {name: torch.zeros(1, dtype=dtype).expand(own[key].shape) for name, key in names_of_unet(model).items()}
    path = write({**weights, **unet}, folder / f"full {dtype}.bin".replace("torch.", ""))
    try:
        adapter, patched, told = load(path.name, model)
    finally:
        path.unlink()
    assert "for Stable Diffusion 1 (rows of 768 numbers)" in told and "224 x 224 pixels" in told
    assert sum(value.numel() for value in adapter.fusion.parameters()) == 2_958_336
    assert sum(value.numel() for value in adapter.patcher.model.parameters()) == 303_966_208
    assert len(patched.patches) == len(unet) == 686
    generator = torch.Generator().manual_seed(3)
    row, embedding = torch.randn(768, generator=generator), torch.randn(768, generator=generator)
    expected = slow_fusion(exact, row, embedding)
    assert (adapter.fusion(row.to(dtype), embedding) - expected).abs().max() < tolerance
    image = torch.rand(1, 300, 200, 3, generator=generator)
    subject = part("subjects.subject").Subject(part("subjects.preprocess").references(image, None), 0, 1.0)
    found = adapter.embeddings([subject], lambda: None)[0]
    expected = transformers_embedding(weights, FULL, slow_pixels(image[0], 224))
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
