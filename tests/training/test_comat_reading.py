"""Prompts to train with: encoded as core does, bound as Bind Prompt does, and what is said of those without effect."""

import pytest
import torch

from attention_reference import bind, encode

TEXTS = ["a (red:1.3) cat and a blue dog", "two hats", "a red cat, a blue cat and a green hat"]
LONG = "a red cat and " + "very " * 90 + "blue dog"


@pytest.fixture
def reading(part):
    return part("training.comat.reading")


def no_parser():
    raise AssertionError("nothing is to be parsed here")


def parser(part):
    return lambda: part("parsing.models").load("auto", [])


@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_prompts(reading, part, tiny, layout):
    loaded = tiny(layout)
    with torch.inference_mode():
        found = reading.read(TEXTS, loaded.model, loaded.clip, 64, [""] * 3, parser(part))
    assert [each.text for each in found.prompts] == [TEXTS[0].replace("(red:1.3)", "red"), *TEXTS[1:]]
    for text, prompt in zip([*TEXTS, ""], [*found.prompts, found.empty], strict=True):
        ((context, options),) = encode(loaded.clip, text)
        assert torch.equal(prompt.context, context[0]) and not prompt.context.is_inference()
        if layout == "sdxl":
            sizes = {"width": 64, "height": 64, "crop_w": 0, "crop_h": 0, "target_width": 64, "target_height": 64}
            vector = loaded.model.model.encode_adm(
                pooled_output=options["pooled_output"], device=torch.device("cpu"), **sizes
            )
            assert torch.allclose(prompt.vector, vector[0])
        else:
            assert prompt.vector is None
    binding = bind(part, loaded.clip, TEXTS[0], "").binding
    groups = [(each.name, binding.positions((each.noun, *each.attributes))) for each in binding.entities]
    assert [(each.entity.name, each.rows) for each in found.prompts[0].asked] == groups
    assert [len(each.asked) for each in found.prompts] == [2, 0, 1] and found.empty.asked == ()
    assert found.notes == ("No noun with an attribute, so no attention is held: 1 prompts (two hats)",)


def test_entities_by_hand_and_none(reading, tiny):
    loaded = tiny("sd1")
    read = [TEXTS[0], "the hat"]
    found = reading.read(read, loaded.model, loaded.clip, 64, ["dog: blue", "hat"], no_parser)
    assert [[one.entity.name for one in each.asked] for each in found.prompts] == [["dog"], []]
    unbound = reading.read(read, loaded.model, loaded.clip, 64, None, no_parser)
    assert all(each.asked == () for each in unbound.prompts) and unbound.notes == ()
    assert unbound.digest != found.digest
    with pytest.raises(ValueError, match='Prompt 2, "the hat": In "entities" but not in the prompt: "dog"'):
        reading.read(read, loaded.model, loaded.clip, 64, ["dog: blue", "dog"], no_parser)


def test_long_prompts_are_cut(reading, tiny):
    loaded = tiny("sd1")
    found = reading.read([LONG], loaded.model, loaded.clip, 64, ["cat: red | dog: blue"], no_parser)
    assert found.prompts[0].context.shape[0] == 77
    assert [each.entity.name for each in found.prompts[0].asked] == ["cat"]
    assert found.notes[0].startswith("Longer than 75 tokens, the rest is left out: 1 prompts (a red cat and very")


def test_lines(reading):
    assert reading.lines_of(" a cat \n\n  \na dog\n") == ["a cat", "a dog"]
    assert reading.described("cat: red\n\n", 3) == ["cat: red", "", ""]
    assert reading.described(" \n", 2) == ["", ""]
    with pytest.raises(ValueError, match="There are no prompts to train with"):
        reading.lines_of(" \n ")
    with pytest.raises(ValueError, match="There are 3 lines of entities for 2 prompts"):
        reading.described("a\n\nb", 2)


def test_it_can_be_stopped_before_each_prompt(reading, tiny):
    loaded, called = tiny("sd1"), []

    def step(number):
        called.append(number)
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reading.read(TEXTS, loaded.model, loaded.clip, 64, None, no_parser, step)
    assert called == [1, 2]
