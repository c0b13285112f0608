"""The demo world's captioner as it is shipped: transformers loads it, and it tells true captions from near misses."""

import numpy as np
import pytest
import torch

from clone import ROOT

FOLDER = ROOT / "demo" / "captioner"
NEAR_MISSES = ("colours exchanged", "one thing more", "a mark moved")
SCENES = 40


@pytest.fixture(scope="module")
def scorer(part):
    """What loads and asks it in the measurement."""
    cpu = part("demo.computing").named("cpu", "float32")
    return part("demo.measure_captioner").Scorer(FOLDER, cpu)


def test_it_is_small_and_complete():
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert {"config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt"} < set(files)
    assert sum(files.values()) <= 2.5e6


def test_transformers_loads_it(comfy):
    from safetensors.torch import load_file
    from transformers import BlipForConditionalGeneration

    _, told = BlipForConditionalGeneration.from_pretrained(FOLDER, local_files_only=True, output_loading_info=True)
    assert not any(told.values()), told
    assert {value.dtype for value in load_file(FOLDER / "model.safetensors").values()} == {torch.float16}


def test_its_processor_prepares_pictures_and_words_as_in_its_training(part):
    from transformers import BlipProcessor

    network, world = part("demo.captioner_network"), part("demo.captioner_world")
    processor = BlipProcessor.from_pretrained(FOLDER, local_files_only=True)
    picture = world.pictured([world.sample_any_scene(np.random.default_rng(1))])
    pixels = (picture * 255).round().to(torch.uint8)
    caption = "an orange star with a bar, a heart"
    read = processor(images=pixels, text=f"{network.PREFIX} {caption}", return_tensors="pt")
    assert (read["pixel_values"] - network.prepared(pixels / 255)).abs().max() < 0.02, "a step of 8 bits and a half"
    ids, labels = network.tokens_of(processor.tokenizer, [caption])
    assert torch.equal(read["input_ids"], ids)
    scored = labels[0][labels[0] != network.IGNORED]
    assert processor.tokenizer.convert_ids_to_tokens(scored.tolist()) == [*caption.replace(",", " ,").split(), "[SEP]"]


def test_it_knows_the_words_of_prompts_and_takes_any_other(part):
    from transformers import BertTokenizer

    prompts, captions = part("evaluation.prompts"), part("world.captions")
    tokenizer, rng = BertTokenizer.from_pretrained(FOLDER, local_files_only=True), np.random.default_rng(0)
    texts = [prompt.text for name in prompts.PROMPT_SETS for prompt in prompts.draw_prompts(name, 20)]
    scenes = [part("world.scenes").sample_scene(rng) for _ in range(200)]
    texts += [captions.sample_caption(rng, scene.things) for scene in scenes]
    unknown = tokenizer.unk_token_id
    assert not [text for text in texts if unknown in tokenizer(text)["input_ids"]]
    assert tokenizer("A Red dog!")["input_ids"] == tokenizer("a red [UNK] [UNK]")["input_ids"]


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_true_captions_are_told_from_near_misses(part, scorer, near_miss):
    rows = part("demo.measure_captioner").told(scorer, np.random.default_rng(5), near_miss, SCENES)
    assert len(rows) == SCENES
    for told in ("caption", "picture"):
        assert sum(getattr(row, told) for row in rows) >= 0.9 * SCENES, told


def test_training_asks_it_as_it_is_measured(part, scorer):
    """By training's own Captioner; that one does not cut off what resizing makes brighter than white."""
    import comfy.model_management

    world, files = part("demo.captioner_world"), part("training.comat.captioner_files")
    rng = np.random.default_rng(3)
    scenes = [world.sample_any_scene(rng) for _ in range(4)]
    captions = [part("world.captions").plain_caption(scene.things) for scene in scenes]
    pictures = world.pictured(scenes)
    with torch.inference_mode():
        captioner = files.load(files.DEMO_WORLD, False)
        comfy.model_management.load_models_gpu([captioner.patcher])
    found = captioner.negative_log_likelihood(pictures.movedim(1, 3), captions, smoothing=0.0)
    torch.testing.assert_close(found.detach(), scorer.losses(pictures, captions), atol=0.02, rtol=0.0)


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_its_gradient_leads_to_the_picture_that_was_asked_for(part, scorer, near_miss):
    """From a near miss's picture with a trace of that of the caption in it, towards the latter. Without the trace, it
    does not tell where a thing that is missing is wanted."""
    world, network, captions = (
        part(name) for name in ("demo.captioner_world", "demo.captioner_network", "world.captions")
    )
    rng = np.random.default_rng(6)
    pairs = [world.NEAR_MISSES[near_miss](rng) for _ in range(SCENES)]
    wrong, right = (world.pictured(list(scenes)) for scenes in zip(*pairs, strict=True))
    texts = [captions.plain_caption(pair.other.things) for pair in pairs]
    with torch.inference_mode(False), torch.enable_grad():
        pictures = torch.lerp(wrong, right, 0.2).requires_grad_()
        ids, labels = network.tokens_of(scorer.tokenizer, texts)
        logits = scorer.captioner(pixel_values=network.prepared(pictures), input_ids=ids).logits
        network.caption_losses(logits, labels).sum().backward()
    slopes = (pictures.grad * (right - wrong)).sum((1, 2, 3))
    assert (slopes < 0).float().mean() >= 0.8


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_near_misses_differ_in_one_thing(part, near_miss):
    world, rng = part("demo.captioner_world"), np.random.default_rng(2)
    for scene, other in (world.NEAR_MISSES[near_miss](rng) for _ in range(SCENES)):
        content = [sorted((t.x, t.y, t.shape, t.colour, str(t.mark)) for t in each.things) for each in (scene, other)]
        if near_miss == "one thing more":
            assert set(content[0]) < set(content[1]) and len(other.things) == len(scene.things) + 1
            continue
        place = {"colours exchanged": 3, "a mark moved": 4}[near_miss]
        differing = [(one, two) for one, two in zip(*content, strict=True) if one != two]
        (first, first_other), (second, second_other) = differing
        assert (first[place], second[place]) == (second_other[place], first_other[place])
        assert all(one[:place] + one[place + 1 :] == two[:place] + two[place + 1 :] for one, two in differing)


def test_what_is_on_patches(part):
    """Mirrored or not, the patch with a thing's centre has its numbers, and the picture's corner has none."""
    world, scenes = part("demo.captioner_world"), part("world.scenes")
    names = part("world.names")
    things = (
        scenes.Thing("heart", "green", "bar", 40.0, 88.0, 22.0),
        scenes.Thing("cross", "red", None, 92.0, 30.0, 20.0),
    )
    scene = scenes.Scene(things, (0.5, 0.5, 0.5))
    for each in (scene, world.mirrored(scene)):
        found = world.content_of_patches(each, 8)
        for thing in each.things:
            numbers = names.SHAPES.index(thing.shape), names.COLOURS.index(thing.colour)
            mark = 2 if thing.mark is None else names.MARKS.index(thing.mark)
            assert found[:, int(thing.y / 16), int(thing.x / 16)].tolist() == [*numbers, mark]
        assert (found[:, -1, -1] == world.NONE).all()
    assert torch.allclose(world.pictured([scene]).flip(3), world.pictured([world.mirrored(scene)]), atol=1e-5)


def test_which_is_likelier(part):
    """Against counting pairs; losses 1, 3 of right pictures, 2, 4 of wrong ones: three of four pairs in order."""
    area, error = part("demo.measure_captioner").right_is_likelier(
        np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 1, 0]) == 1
    )
    assert area == 0.75
    assert error == pytest.approx(np.sqrt((0.1875 + (0.6 - 0.5625) + (2 * 0.5625 / 1.75 - 0.5625)) / 4))
