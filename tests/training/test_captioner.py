"""The captioner: a small random BLIP in the folders it is looked for in, against transformers' own loss."""

import json

import pytest
import torch

from tiny_captioner import SIZE, write_captioner

pytestmark = pytest.mark.usefixtures("asked_hosts")

PROMPTS = ["A Red cat", "two hats and the blue catfish"]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def folder(comfy):
    folder = comfy.base / "models" / "captioners"
    write_captioner(folder / "tiny")
    write_captioner(folder / "questions", "BlipForImageTextRetrieval")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def files(part):
    return part("training.comat.captioner_files")


@pytest.fixture
def captioner(files, folder):
    """As a node loads it: within inference mode."""
    import comfy.model_management

    with torch.inference_mode():
        files._read.cache_clear()
        loaded = files.load("tiny", False)
        comfy.model_management.load_models_gpu([loaded.patcher])
    return loaded


@pytest.fixture
def load(run_graph, comfy, part, monkeypatch, folder):
    """Runs Load Captioner in a graph."""
    node = part("nodes.training.captioner").SBLoadCaptioner
    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "SBLoadCaptioner", node)

    def run(captioner="tiny", download=False):
        inputs = {"captioner": captioner, "download": download}
        graph = {"load": {"class_type": "SBLoadCaptioner", "inputs": inputs}}
        return run_graph(graph, captioner=["load", 0])

    return run


def pictures(size=(SIZE, SIZE), seed=0):
    return torch.rand(2, *size, 3, generator=torch.Generator().manual_seed(seed))


def theirs(folder, pixels, prompt, smoothing):
    """The loss of transformers' own class, with its smoothing set, as the published code asks for it."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    tokenizer = BlipProcessor.from_pretrained(folder / "tiny", local_files_only=True).tokenizer
    module = BlipForConditionalGeneration.from_pretrained(folder / "tiny", local_files_only=True).eval()
    module.text_decoder.label_smoothing = smoothing
    ids = tokenizer(f"a photography of {prompt.lower()}", return_tensors="pt").input_ids
    labels = ids.clone()
    labels[:, :4] = -100
    assert tokenizer.convert_ids_to_tokens(ids[0])[:4] == ["[CLS]", "a", "photography", "of"]
    assert labels[0, -1] == tokenizer.sep_token_id
    with torch.no_grad():
        return module(pixels, ids, labels=labels).loss.item()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_likelihood_is_transformers_loss_of_each_picture(captioner, folder, smoothing):
    images = pictures()
    with torch.inference_mode(False):
        found = captioner.negative_log_likelihood(images, PROMPTS, smoothing)
    mean, std = (torch.tensor(each) for each in (CLIP_MEAN, CLIP_STD))
    pixels = ((images - mean) / std).permute(0, 3, 1, 2)
    expected = [theirs(folder, pixels[place : place + 1], PROMPTS[place], smoothing) for place in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert abs(expected[0] - expected[1]) > 0.01


def test_smoothing_is_that_of_the_published_run(captioner):
    with torch.inference_mode(False):
        given, default = (
            captioner.negative_log_likelihood(pictures(), PROMPTS, *each).tolist() for each in ((0.1,), ())
        )
    assert default == given


def test_pictures_are_resized_as_torchvision_does(captioner, folder):
    from torchvision.transforms import InterpolationMode, Normalize, Resize

    images = pictures((90, 61), seed=1)
    resized = Resize((SIZE, SIZE), InterpolationMode.BICUBIC, antialias=True)(images.permute(0, 3, 1, 2))
    pixels = Normalize(CLIP_MEAN, CLIP_STD)(resized)
    with torch.inference_mode(False):
        found = captioner.negative_log_likelihood(images, PROMPTS, 0.1)
    expected = [theirs(folder, pixels[place : place + 1], PROMPTS[place], 0.1) for place in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_pictures_are_nearly_what_the_processor_of_blip_makes(captioner, folder):
    """It resizes bytes, without a gradient."""
    from transformers import BlipProcessor

    rough = 0.3 + 0.4 * pictures((12, 12))[:1].permute(0, 3, 1, 2)
    smooth = torch.nn.functional.interpolate(rough, (90, 60), mode="bicubic")[0]
    processor = BlipProcessor.from_pretrained(folder / "tiny", local_files_only=True)
    expected = processor.image_processor((smooth * 255).round().to(torch.uint8), return_tensors="pt").pixel_values
    found = captioner._pixels(smooth.permute(1, 2, 0)[None])
    assert (found - expected).abs().max() < 2 / 255 / min(CLIP_STD)


def test_gradients_reach_the_picture_and_pass_finite_differences(captioner):
    """The weights are inference tensors, as those that a node has moved to a GPU, and are so again afterwards."""
    with torch.inference_mode():
        for each in captioner.module.double().modules():
            for name, weight in each._parameters.items():
                each._parameters[name] = torch.nn.Parameter(weight.clone(), requires_grad=False)
    weights = {name: weight for name, weight in captioner.module.named_parameters()}
    assert all(weight.is_inference() for weight in weights.values())
    with torch.inference_mode(False):
        images = pictures((48, 40), seed=2).double().requires_grad_()
        captioner.negative_log_likelihood(images, PROMPTS).sum().backward()
        way = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

        def loss(step):
            with torch.no_grad():
                return captioner.negative_log_likelihood(images + step * way, PROMPTS).sum().item()

        expected = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert (images.grad * way).sum().item() == pytest.approx(expected, rel=1e-6)
    assert abs(expected) > 0.01
    assert all(weight is weights[name] for name, weight in captioner.module.named_parameters())
    assert all(weight.grad is None for weight in weights.values())


def test_pictures_and_prompts_are_as_many(captioner):
    with pytest.raises(ValueError, match="There are 2 pictures and 1 prompts; each picture needs its own"):
        captioner.negative_log_likelihood(pictures(), PROMPTS[:1])
    with pytest.raises(ValueError, match="reads 24 tokens and the longest prompt has 35: a a a"):
        captioner.check(["a " * 30, "cat"])
    captioner.check(["a " * 19, "cat"])


def test_memory_is_what_a_backward_pass_keeps(files, folder):
    write_captioner(folder / "larger", size=96)
    captioner = files.load("larger", False)
    own = {weight.untyped_storage().data_ptr() for weight in captioner.module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.inference_mode(False):
        images = pictures((96, 96)).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = captioner.negative_log_likelihood(images, ["cat", "dog"])
    assert loss.requires_grad
    assert captioner.memory(2) == pytest.approx(sum(kept.values()), rel=0.15)


def test_the_panel_says_what_was_loaded(load, folder, files):
    run = load()
    assert run.values["captioner"] is files.load("tiny", False)
    assert run.values["captioner"].lacking == ()
    (text,) = run.outputs["load"]["text"]
    assert text.startswith(f"tiny: BLIP, 0 MB, looks at {SIZE} x {SIZE} pixels")


def test_captioners_of_the_folder_are_listed(folder, files, part):
    found = files.available()
    assert found[-2:] == [files.REPOSITORY, "demo world"]
    assert "tiny" in found
    assert not {"questions", "empty"} & set(found)
    assert part("nodes.training.captioner").SBLoadCaptioner.define_schema().inputs[0].default == files.REPOSITORY


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("questions", "holds a model of the class BlipForImageTextRetrieval. A captioner is of the class BlipForCond"),
        ("empty", "has no config.json, but nothing. A captioner is a folder as transformers saves it"),
        ("nothing", 'There is no captioner "nothing": neither a folder of that name in .*captioners, nor Salesforce/'),
        ("..", 'There is no captioner "..":'),
    ],
)
def test_other_folders_are_refused(load, run_graph, name, told):
    with pytest.raises(run_graph.Rejected, match=told):
        load(name)


def test_the_repository_is_taken_from_the_hub_s_cache(load, hub, files):
    cached = hub / f"models--{files.REPOSITORY.replace('/', '--')}"
    write_captioner(cached / "snapshots" / "1a2b")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1a2b", "utf-8")
    assert load(files.REPOSITORY).values["captioner"].module.config.vision_config.image_size == SIZE


def test_the_repository_is_downloaded_only_if_asked_for(load, run_graph, hub, files, asked_hosts):
    with pytest.raises(run_graph.Failed, match="not in the Hugging Face cache .* Switch download on .* in .*captio"):
        load(files.REPOSITORY)
    assert not asked_hosts
    with pytest.raises(run_graph.Failed, match="captioning-large could not be downloaded; put its files into a folder"):
        load(files.REPOSITORY, download=True)
    assert set(asked_hosts) == {"huggingface.co"}
    asked_hosts.clear()


def test_the_demo_world_s_captioner_is_that_of_the_pack(load, run_graph, files, monkeypatch, tmp_path):
    assert files.DEMO_FOLDER.parent.joinpath("model.safetensors").is_file()
    monkeypatch.setattr(files, "DEMO_FOLDER", tmp_path / "captioner")
    with pytest.raises(run_graph.Rejected, match="captioner has no config.json, but nothing"):
        load("demo world")
    write_captioner(tmp_path / "captioner")
    assert load("demo world").values["captioner"].module.config.vision_config.image_size == SIZE


def test_a_captioner_is_loaded_again_when_its_files_have_changed(load, folder):
    write_captioner(folder / "changing")
    first = load("changing").values["captioner"]
    assert load("changing").values["captioner"] is first
    write_captioner(folder / "changing")
    assert load("changing").values["captioner"] is not first


def test_damaged_files_are_told(load, run_graph, folder):
    write_captioner(folder / "damaged")
    (folder / "damaged" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(run_graph.Failed, match="could not load the captioner in .*damaged. Check that its files are"):
        load("damaged")


def test_weights_that_are_missing_are_told(load, folder):
    from safetensors.torch import load_file, save_file

    write_captioner(folder / "lacking")
    path = folder / "lacking" / "model.safetensors"
    weights = load_file(path)
    weights.pop("vision_model.post_layernorm.weight")
    save_file(weights, path, metadata={"format": "pt"})
    (text,) = load("lacking").outputs["load"]["text"]
    assert "lack 1 of its weights, which are random (the first: vision_model.post_layernorm.weight)" in text


def test_a_config_that_cannot_be_read_is_no_captioner(files, folder):
    for text in ("{", "[]", json.dumps({"model_type": "blip"})):
        (folder / "odd").mkdir(exist_ok=True)
        (folder / "odd" / "config.json").write_text(text, "utf-8")
        with pytest.raises(ValueError, match="holds a model of the class unknown"):
            files.folder_of("odd")
        assert "odd" not in files.available()


def test_without_transformers_the_error_says_so(load, run_graph, files, monkeypatch):
    import sys

    files._read.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(run_graph.Failed, match="needs the package transformers.*pip install --upgrade transformers"):
        load()
