"""A training from a MODEL to a file: what it computes, that it goes on after what stopped it, and what it leaves."""

import copy

import pytest
import torch

NAMES = ("loss", "noise loss", "token loss", "pixel loss", "attention within masks")


@pytest.fixture
def task_of(part, samples_of):
    def made(layout="sd1", token=1e-3, pixel=5e-5, digest="data"):
        return part("training.tokencompose").TokenCompose(samples_of(layout), digest, token, pixel)

    return made


@pytest.fixture
def train(part, task_of, settings_of, tiny):
    """``train(steps=4)``: the result, and what was told and shown."""

    def trained(model=None, task=None, preview=None, say=None, **settings):
        told, shown = [], []
        result = part("training.session").train_lora(
            model or tiny("sd1").model,
            task or task_of(),
            settings_of(**settings),
            preview,
            say or told.append,
            lambda *given: shown.append(given),
        )
        return result, told, shown

    return trained


def test_a_step_is_that_of_the_losses_written_out(part, train, task_of, settings_of, samples_of, tiny, comfy):
    """The noise loss from ComfyUI's own model call, the others from the losses of guidance, and a plain AdamW step."""
    import comfy.model_management

    model = tiny("sd1").model
    (result, _, _) = train(model, name="one step", steps=1, batch=1)
    seed, samples = 1, samples_of()
    chance = part("training.chance")
    (place,) = chance.samples_at(seed, 0, 1, 4)
    draw, sample = chance.generator_at(seed, 0), samples[place]
    time = torch.randint(1000, (1,), generator=draw)
    noise = torch.randn(4, 8, 8, generator=draw)[None]
    comfy.model_management.load_models_gpu([model])
    with torch.no_grad():
        base = model.model
        sigma = base.model_sampling.sigmas[time]
        noisy = sample.latent + sigma * noise
        clean = base.apply_model(noisy, sigma, c_crossattn=sample.context[None])
        of_noise = ((noisy - clean) / sigma - noise).square().mean()
    losses = {name: values[0] for name, values in result.curves.losses.items()}
    assert tuple(losses) == NAMES
    assert losses["noise loss"] == pytest.approx(float(of_noise), rel=1e-3)
    assert losses["loss"] == pytest.approx(
        losses["noise loss"] + 1e-3 * losses["token loss"] + 5e-5 * losses["pixel loss"], rel=1e-6
    )
    # From zero, AdamW's first step is the rate in the direction of each gradient.
    ups = [value.abs().max() for key, value in result.weights.items() if "lora_up" in key]
    # Of the middle's one patch, the queries and keys of self-attention have next to nothing to learn.
    assert sorted(ups)[2:] == pytest.approx([1e-2] * (len(ups) - 2), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sd1", "sd2"])
def test_attention_goes_into_the_masks(train, samples_of, tiny, part, layout):
    """More of it than at the same noise without training, learnt from one picture."""
    optimisation = part("training.loop").Optimisation
    task = part("training.tokencompose").TokenCompose(samples_of(layout)[:1], "one", 1.0, 0.0)
    curves = [
        train(
            tiny(layout).model,
            task,
            name=f"{layout} at {rate}",
            steps=32,
            batch=1,
            optimisation=optimisation(rate=rate),
        )[0].curves.losses
        for rate in (0.0, 1e-2)
    ]
    fixed, trained = ({name: sum(each[name][8:]) for name in NAMES} for each in curves)
    assert trained["token loss"] < 0.93 * fixed["token loss"]
    assert trained["attention within masks"] > fixed["attention within masks"]


@pytest.mark.slow
def test_sdxl_trains_too(train, task_of, tiny):
    result, _, _ = train(tiny("sdxl").model, task_of("sdxl"), name="sdxl", steps=2)
    assert tuple(result.curves.losses) == NAMES
    assert all(each > 0 for values in result.curves.losses.values() for each in values)


@pytest.mark.slow
def test_same_seed_same_bits_and_another_seed_another(train):
    first, again, other = (
        train(name=name, seed=seed)[0].weights for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "stopping"), [(0, KeyboardInterrupt), (2, RuntimeError("the machine is on fire"))])
def test_what_stops_it_loses_nothing(train, saved, stopping):
    whole, _, _ = train(name=f"whole {saved}", steps=6, accumulate=2)

    def stop(line):
        if line.startswith("step 3 "):
            raise stopping

    name = f"stopped {saved} {type(stopping).__name__}"
    with pytest.raises(BaseException, match=str(stopping) if isinstance(stopping, RuntimeError) else None):
        train(name=name, say=stop, steps=6, accumulate=2, save_every=saved)
    result, told, _ = train(name=name, steps=6, accumulate=2, save_every=saved)
    assert told[0] == "Goes on from step 3 of 6." and not result.found
    assert all(torch.equal(whole.weights[key], result.weights[key]) for key in whole.weights)
    assert result.curves.losses == whole.curves.losses


@pytest.mark.slow
def test_a_finished_one_is_found_and_goes_on_if_it_is_to_be_longer(train):
    first, _, _ = train(name="finished", steps=2)
    found, told, shown = train(name="finished", steps=2)
    assert found.found and not told and not shown
    assert all(torch.equal(first.weights[key], found.weights[key]) for key in first.weights)
    longer, told, _ = train(name="finished", steps=4)
    whole, _, _ = train(name="longer", steps=4)
    assert told[0] == "Goes on from step 2 of 4."
    assert all(torch.equal(whole.weights[key], longer.weights[key]) for key in whole.weights)
    with pytest.raises(ValueError, match="has 4 steps already"):
        train(name="finished", steps=2)


def test_names_of_others_are_not_overwritten(train, task_of, part, comfy):
    import folder_paths
    from safetensors.torch import save_file

    train(name="taken", steps=1)
    with pytest.raises(ValueError, match="other settings, data or model"):
        train(name="taken", steps=1, seed=5)
    with pytest.raises(ValueError, match="other settings, data or model"):
        train(task=task_of(digest="other data"), name="taken", steps=1)
    path = part("training.files").lora_path("elsewhere")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="a LoRA from elsewhere, which is not overwritten"):
        train(name="elsewhere")
    for name in ("", "  ", "../out", ".hidden"):
        with pytest.raises(ValueError, match="is no name for a LoRA"):
            train(name=name)
    assert folder_paths.get_full_path("loras", "taken.safetensors")


def test_an_unfinished_one_says_what_is_different(train):
    def stop(line):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        train(name="unfinished", say=stop)
    with pytest.raises(ValueError, match="batch was 2 and is 1; seed was 1 and is 9"):
        train(name="unfinished", seed=9, batch=1)


def test_a_checkpoint_that_cannot_be_read_says_so(train, part):
    path = part("training.files").checkpoint_path("spoilt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        train(name="spoilt")


@pytest.mark.slow
def test_the_model_is_as_before(train, tiny, comfy):
    """After success and after an error: weights, gradients, modes; also in inference mode, as ComfyUI runs nodes."""
    model = tiny("sd1").model
    unet = model.model.diffusion_model
    before = copy.deepcopy(unet.state_dict())

    def stop(line):
        raise RuntimeError("stop")

    with torch.inference_mode():
        result, _, _ = train(model, name="in inference mode", steps=2)
        with pytest.raises(RuntimeError, match="stop"):
            train(model, name="with an error", say=stop)
        assert torch.is_inference_mode_enabled()
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert not any(parameter.requires_grad and parameter.grad is not None for parameter in unet.parameters())
    assert all(not module._forward_hooks for module in unet.modules())
    plain, _, _ = train(model, name="outside of it", steps=2)
    assert all(torch.equal(plain.weights[key], result.weights[key]) for key in plain.weights)


@pytest.mark.slow
def test_interrupts_are_heard_in_a_step(train, comfy):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    def interrupt(line):
        if line.startswith("step 2 "):
            interrupt_current_processing(True)

    with pytest.raises(InterruptProcessingException):
        train(name="interrupted", say=interrupt)
    _, told, _ = train(name="interrupted")
    assert told[0] == "Goes on from step 2 of 4."


@pytest.mark.slow
def test_checkpointed_blocks_change_nothing(train):
    plain, _, _ = train(name="kept blocks", checkpointing=False)
    again, _, _ = train(name="blocks again", checkpointing=True)
    for key in plain.weights:
        assert torch.allclose(plain.weights[key], again.weights[key], atol=2e-4)


@pytest.mark.slow
def test_previews_are_shown_and_change_nothing(train, part, tiny):
    loaded = tiny("sd1")
    preview = part("training.preview").preview_of(loaded.clip, loaded.vae, ["a cat", "a dog"], (4, 8, 8), 3)
    with torch.inference_mode():
        shown_to, _, shown = train(name="with previews", preview=preview, preview_every=2)
        plain, _, _ = train(name="without previews")
    assert all(torch.equal(plain.weights[key], shown_to.weights[key]) for key in plain.weights)
    pictures = [picture for _, _, picture in shown if picture is not None]
    assert [step for step, _, picture in shown if picture is not None] == [2, 4]
    assert pictures[0].size == pictures[1].size and pictures[0].height > 3 * 150
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert part("training.preview").preview_of(loaded.clip, loaded.vae, [], (4, 8, 8), 3) is None
