"""What can be chosen for a training, as JSON says it."""

import pytest


@pytest.fixture
def options(part):
    return part("training.options")


def test_defaults_and_what_is_given(options):
    found = options.chosen_of({"name": "a", "learning_rate": 1, "preview_prompts": ["a cat"]}, options.SHARED)
    assert found.keys() == options.SHARED.keys()
    assert found["name"] == "a" and found["preview_prompts"] == ("a cat",)
    assert found["learning_rate"] == 1.0 and isinstance(found["learning_rate"], float)
    assert (found["steps"], found["accumulate"], found["checkpointing"]) == (2000, 4, True)


def test_settings(options):
    given = {"name": "a", "rank": 8, "alpha": 4, "targets": "cross-attention", "schedule": "cosine", "warm_up": 5}
    given |= {"learning_rate": 0.5, "clip_norm": 0.25, "seed": 2**64 - 1, "checkpointing": False}
    settings = options.settings_of(options.chosen_of(given, options.SHARED))
    assert (settings.lora.rank, settings.lora.alpha, settings.lora.targets) == (8, 4.0, "cross-attention")
    optimisation = settings.optimisation
    assert (optimisation.rate, optimisation.schedule, optimisation.warm_up, optimisation.clip) == (
        0.5,
        "cosine",
        5,
        0.25,
    )
    assert (optimisation.betas, optimisation.weight_decay) == ((0.9, 0.999), 1e-2)
    assert (settings.name, settings.seed, settings.checkpointing) == ("a", 2**64 - 1, False)
    assert (settings.save_every, settings.preview_every) == (200, 100)


def test_unknown_and_missing_ones_are_listed_with_what_there_is(options):
    known = {"data": options.Option(None), **options.SHARED}
    with pytest.raises(ValueError) as caught:
        options.chosen_of({"step": 3}, known)
    told = str(caught.value)
    assert told.startswith(
        '"step" is unknown, "data" is missing. There are: "data" (has to be given), "name" (\'trained\')'
    )
    assert '"steps" (2000)' in told and '"preview_prompts" ([])' in told


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 0, "a whole number from 1 to"),
        ("steps", 2.5, "a whole number from 1 to"),
        ("steps", True, "a whole number from 1 to"),
        ("steps", "3", "a whole number from 1 to"),
        ("learning_rate", "1e-4", "a number from 1e-09 to 1.0"),
        ("learning_rate", float("nan"), "a number from 1e-09 to 1.0"),
        ("checkpointing", 1, "true or false"),
        ("targets", "all", "one of: attention, cross-attention, attention and feed-forward"),
        ("name", 3, "a text"),
        ("preview_prompts", "a cat", "a list of texts"),
        ("preview_prompts", ["a cat", 3], "a list of texts"),
    ],
)
def test_what_is_not_allowed(options, name, value, allowed):
    with pytest.raises(ValueError, match=f'"{name}" is .*It must be {allowed}'):
        options.chosen_of({name: value}, options.SHARED)


def test_weights_are_told_apart(part, tiny):
    """Also those of a LoRA, whether ComfyUI has already put it into them or not."""
    import comfy.model_management
    import torch

    digest = part("training.identity").weights_digest
    model = tiny("sd1", own=True).model
    first = digest(model)
    patched = []
    for strength in (0.5, 0.75):
        clone = model.clone()
        clone.add_patches({"diffusion_model.out.2.bias": (torch.ones(4),)}, strength)
        patched.append(digest(clone))
        comfy.model_management.load_models_gpu([clone])
        assert digest(clone) == patched[-1]
    assert len({first, *patched}) == 3
    comfy.model_management.load_models_gpu([model])
    assert digest(model) == first != digest(model, "diffusion_model.out.")
    with torch.no_grad():
        model.model.diffusion_model.out[2].bias[1] += 1e-3
    assert digest(model) != first
