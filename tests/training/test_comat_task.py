"""CoMat as a training: each of its parts alone, what a step is, and that it goes on after whatever stopped it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gradients import slowly, soft
from tiny_captioner import write_captioner

TEXTS = ["a red cat and a blue dog", "the cat"]
ENTITIES = ["cat: red | dog: blue", "cat"]
SIZE = 64
WEIGHTS = {"concept loss": 1.0, "fidelity loss": 1.0, "token loss": 0.5, "pixel loss": 0.25}
PARTS = {"concept": "concept loss", "fidelity": "fidelity loss", "attributes": "token loss"}


@pytest.fixture(scope="module")
def loaded(comfy, tiny):
    """A tiny model in which rounding does not grow, with the VAE of its checkpoint."""
    found = soft(comfy, tiny, "sd1")
    found.vae = tiny("sd1").vae
    return found


@pytest.fixture(scope="module")
def captioner(part, comfy):
    write_captioner(comfy.base / "models" / "captioners" / "comat")
    with torch.inference_mode():
        return part("training.comat.captioner_files").load("comat", False)


@pytest.fixture(scope="module")
def prompts(part, loaded):
    with torch.inference_mode():
        return part("training.comat.reading").read(TEXTS, loaded.model, loaded.clip, SIZE, ENTITIES, None)


@pytest.fixture
def task_of(part, loaded, captioner, prompts):
    """``task_of("concept", "fidelity")``: CoMat with these parts, all of them without any; changes by name."""
    comat = part("training.comat.task")
    finding, decoding, losses = (part(f"training.comat.{name}") for name in ("finding", "decoding", "losses"))

    def made(*parts, rollouts=None, **changes):
        parts = parts or tuple(PARTS)
        chosen = {
            "prompts": prompts,
            "latent_shape": (4, SIZE // 8, SIZE // 8),
            "decoder": decoding.decoder_of(loaded.vae, 4),
            "captioner": captioner if "concept" in parts else None,
            "finder": finding.ByAttention() if "attributes" in parts else None,
            "fidelity": comat.Fidelity(rate=1e-3, pictures=2) if "fidelity" in parts else None,
            "weights": losses.Weights(token=0.5, pixel=0.25),
            "rollouts": comat.Rollouts(**{"steps": 2, "gradient_steps": 1, "captured_steps": 1} | (rollouts or {})),
            "digest": "networks",
        }
        return comat.CoMat(**chosen | changes)

    return made


@pytest.fixture
def train(part, task_of, settings_of, loaded):
    """``train(task, steps=2)``: the result, and what was told."""

    def trained(task=None, say=None, **settings):
        told = []
        chosen = settings_of(**{"steps": 1, "batch": 2} | settings)
        train_lora = part("training.session").train_lora
        result = train_lora(loaded.model, task or task_of(), chosen, None, say or told.append, lambda *_: None)
        return result, told

    return trained


@pytest.mark.parametrize("name", PARTS)
def test_each_part_trains_alone(train, task_of, name):
    result, _ = train(task_of(name), name=f"only {name}")
    losses = {each: values[0] for each, values in result.curves.losses.items()}
    expected = {
        "concept": ["loss", "concept loss"],
        "fidelity": ["loss", "fidelity loss", "discriminator loss"],
        "attributes": ["loss", "token loss", "pixel loss", "attention within masks"],
    }
    assert list(losses) == expected[name]
    ups = torch.stack([value.abs().max() for key, value in result.weights.items() if "lora_up" in key])
    assert (ups > 5e-3).float().mean() > 0.5  # layers behind the last that was looked at get no gradient from it
    assert losses["loss"] == pytest.approx(weighted(losses))


def weighted(losses):
    return sum(weight * losses.get(name, 0.0) for name, weight in WEIGHTS.items())


def clean_latent(network, x, sigma, prompts):
    """By ComfyUI's own model call."""
    from comfy.ldm.modules.attention import attention_pytorch

    context = torch.stack([each.context for each in prompts])
    options = {"optimized_attention_override": lambda _, *args, **own: attention_pytorch(*args, **own)}
    return network.base.apply_model(x, sigma.expand(len(x)), c_crossattn=context, transformer_options=options)


def plain_rollout(network, prompts, empty, draw, steps, behind_noise=lambda draw: None):
    """DDPM with guidance, written out; ``behind_noise`` draws what else is drawn before the first step."""
    x = torch.randn(len(prompts), 4, SIZE // 8, SIZE // 8, generator=draw)
    behind_noise(draw)
    sigmas = [network.sampling.sigmas[time] for time in range((steps - 1) * (1000 // steps) + 1, 0, -(1000 // steps))]
    x = x * (1 + sigmas[0] ** 2).sqrt()
    for sigma, following in zip(sigmas, [*sigmas[1:], torch.tensor(0.0)], strict=True):
        without = clean_latent(network, x, sigma, [empty] * len(prompts))
        clean = without + 7.5 * (clean_latent(network, x, sigma, prompts) - without)
        kept = (following / sigma) ** 2
        x = clean + kept * (x - clean) + following * (1 - kept).sqrt() * torch.randn(x.shape, generator=draw)
    return x


@pytest.mark.slow
def test_a_step_is_that_of_the_losses_written_out(part, train, task_of, prompts, captioner, loaded):
    """Both stages of the first step, in which adapters do nothing yet, by ComfyUI's own calls of UNet and VAE."""
    chance, rolling = part("training.chance"), part("training.comat.rollout")
    result, _ = train(task_of(rollouts={"steps": 3, "gradient_steps": 2}), name="one step")
    losses = {name: values[0] for name, values in result.curves.losses.items()}
    assert losses["loss"] == pytest.approx(weighted(losses), rel=1e-5)

    def steps(draw):
        rolling.steps_captured(rolling.steps_with_gradient(3, 2, draw), 1, draw)

    network = part("training.network").Network(loaded.model)
    with torch.inference_mode(False), network.ready(0.0, [captioner.patcher, loaded.vae.patcher]), torch.no_grad():
        places = chance.samples_at(1, 0, 2, 2)
        chosen = [prompts.prompts[place] for place in places]
        latent = plain_rollout(network, chosen, prompts.empty, chance.generator_at(1, 0), 3, steps)
        untrained = plain_rollout(network, prompts.prompts, prompts.empty, chance.generator_at(2, 0), 3)[places]
        pictures = loaded.vae.first_stage_model.decode(network.base.process_latent_out(latent)) / 2 + 0.5
        concept = captioner.negative_log_likelihood(pictures.movedim(1, -1), [each.text for each in chosen]).mean()

        head = part("training.comat.discriminator").Discriminator(network, None, None, 1.0, 4, 1).head
        sigma = network.sampling.sigmas[1]
        logits = []
        for each in (latent, untrained):
            noisy = each * (1 + sigma**2).sqrt()
            noise = (noisy - clean_latent(network, noisy, sigma, [prompts.empty] * 2)) / sigma
            logits.append((noise * head.weight.view(1, 4, 1, 1)).sum(1) + head.bias)
    assert losses["concept loss"] == pytest.approx(float(concept), rel=1e-3)
    sigmoids = [each.sigmoid() for each in logits]
    assert losses["fidelity loss"] == pytest.approx(float(-sigmoids[0].log().mean()), rel=1e-3)
    real, fake = -sigmoids[1].log().mean(), -(1 - sigmoids[0]).log().mean()
    assert losses["discriminator loss"] == pytest.approx(float(real + fake) / 2, rel=1e-3)


def test_the_gradient_is_that_of_the_loss(part, task_of, prompts, captioner, loaded):
    """By finite differences, along the gradient itself; all steps have gradients, so that nothing is held constant."""
    lora, network_file = part("training.lora"), part("training.network")
    task = task_of(rollouts={"gradient_steps": 2})
    unet = loaded.model.model.diffusion_model
    both = [lora.Adapters(unet, lora.LoRASettings(2, 2.0, "attention"), seed) for seed in (0, 1)]
    draw = torch.Generator().manual_seed(4)
    for pair in both[0].pairs:
        torch.nn.init.normal_(pair.up, std=0.02, generator=draw)
    parameters = list(both[0].parameters())
    network = network_file.Network(loaded.model, both, False)

    def loss():
        given = network, both[0], discriminator, prompts.prompts[:1], torch.Generator().manual_seed(7), False
        return task.losses(*given)[0]["loss"]

    with torch.inference_mode(False), network.ready(0.0, task.patchers):
        discriminator = task._discriminator(network, 3)
        gradient = torch.autograd.grad(loss(), parameters)
        slope = sum(each.square().sum() for each in gradient).sqrt()
        values = []
        for size in (2e-3, -2e-3):
            with torch.no_grad():
                for parameter, each in zip(parameters, gradient, strict=True):
                    parameter += size * each / slope
                values.append(loss().item())
                for parameter, each in zip(parameters, gradient, strict=True):
                    parameter -= size * each / slope
    assert (values[0] - values[1]) / 4e-3 == pytest.approx(float(slope), rel=1e-3)


def discriminator_of(part, name):
    """Its weights, after the training of that name."""
    return part("training.files").load_checkpoint(part("training.files").checkpoint_path(name))["loop"]["modules"][1]


def same(some, others):
    return all(torch.equal(some[key], others[key]) for key in some)


@pytest.mark.slow
def test_each_stage_trains_its_own_alone(part, train, task_of):
    """The discriminator's step is the same however much its verdict counts, the LoRA's at any rate of its opponent."""
    comat, weights = part("training.comat.task"), part("training.comat.losses").Weights

    def run(name, **changes):
        return train(task_of("fidelity", rollouts={"steps": 1}, **changes), name=name, batch=1)[0]

    first = run("plain")
    more = run("counts more", weights=weights(fidelity=9.0))
    faster = run("faster", fidelity=comat.Fidelity(1e-1, 2))
    found = [discriminator_of(part, name) for name in ("plain", "counts more", "faster")]
    assert same(found[0], found[1]) and not same(found[0], found[2])
    assert same(first.weights, faster.weights)
    assert more.curves.losses["loss"][0] == pytest.approx(9 * first.curves.losses["loss"][0])


@pytest.mark.slow
def test_what_stops_it_loses_nothing(part, train, task_of):
    """Neither steps nor the pictures of the untrained model."""
    drawings = []
    task = task_of(drawing=lambda *numbers: drawings.append(numbers), rollouts={"steps": 1})
    whole, _ = train(task, name="whole", steps=3)
    assert drawings == [(0, 2)]

    class Stopping:
        """Finds as the task's own does, and stops in the second step, when pictures were decoded."""

        calls = 0

        def find(self, pictures, entities, maps=None):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return task.finder.find(pictures, entities, maps)

    with pytest.raises(KeyboardInterrupt):
        train(replace(task, finder=Stopping()), name="stopped", steps=3)
    drawings.clear()
    result, told = train(task, name="stopped", steps=3)
    assert told[0] == "Goes on from step 1 of 3." and not drawings
    assert same(whole.weights, result.weights) and whole.curves.losses == result.curves.losses
    assert same(discriminator_of(part, "whole"), discriminator_of(part, "stopped"))


def state_of(*modules):
    tensors = [
        tensor
        for module in modules
        for each in module.modules()
        for own in (each._parameters, each._buffers)
        for tensor in own.values()
        if tensor is not None
    ]
    hooks = sum(len(each._forward_hooks) for module in modules for each in module.modules())
    patched = sum("forward" in vars(each) for module in modules for each in module.modules())
    return tensors, hooks, patched


@pytest.mark.parametrize("checkpointing", slowly([False, True], [True]))
def test_all_is_as_before_an_interrupt(train, task_of, loaded, captioner, checkpointing):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    modules = loaded.model.model, loaded.vae.first_stage_model, captioner.module
    before, values = state_of(*modules), [tensor.clone() for tensor in state_of(*modules)[0]]
    assert sum(tensor.is_inference() for tensor in before[0]) > 100

    class Interrupting:
        def find(self, pictures, entities, maps=None):
            assert not pictures.requires_grad
            interrupt_current_processing(True)
            return torch.ones(1, len(entities), *pictures.shape[1:3])

    with torch.inference_mode(), pytest.raises(InterruptProcessingException):
        task = task_of(finder=Interrupting(), rollouts={"steps": 1})
        train(task, name=f"interrupted {checkpointing}", batch=1, steps=2, checkpointing=checkpointing)
    after = state_of(*modules)
    assert after[1:] == before[1:]
    assert all(now is then for now, then in zip(after[0], before[0], strict=True))
    assert all(torch.equal(now, then) for now, then in zip(after[0], values, strict=True))


def test_a_picture_in_which_nothing_is_found_counts_nothing(train, task_of):
    class Blind:
        def find(self, pictures, entities, maps=None):
            return torch.zeros(1, len(entities), *pictures.shape[1:3])

    result, _ = train(task_of("attributes", finder=Blind()), name="blind")
    losses = result.curves.losses
    assert losses["token loss"] == losses["pixel loss"] == losses["loss"] == [0.0]
    assert all(not value.any() for key, value in result.weights.items() if "lora_up" in key)


def test_what_cannot_be_trained_is_refused(part, task_of, prompts):
    weights = part("training.comat.losses").Weights
    with pytest.raises(ValueError, match="All parts of CoMat are off, so there is nothing to train by. Connect"):
        task_of("none")
    with pytest.raises(ValueError, match="All parts of CoMat are off"):
        task_of(weights=weights(0.0, 0.0, 0.0, 0.0))
    unasked = prompts._replace(prompts=prompts.prompts[1:])
    with pytest.raises(ValueError, match="in no prompt is there a noun with an attribute"):
        task_of("attributes", prompts=unasked)
    with pytest.raises(ValueError, match="4 of 2 steps cannot have gradients"):
        task_of(rollouts={"gradient_steps": 4})


def test_all_that_the_result_depends_on_is_told(part, task_of):
    """In JSON; and the memory of each part is."""
    import json

    comat = part("training.comat.task")
    task = task_of()
    told = json.dumps(task.identity)
    others = [
        task_of(rollouts={"detached": True}),
        task_of(digest="other networks"),
        task_of("fidelity"),
        task_of("concept", "attributes"),
        task_of(fidelity=comat.Fidelity(1e-3, 4)),
        replace(task, weights=part("training.comat.losses").Weights()),
    ]
    assert len({told, *(json.dumps(each.identity) for each in others)}) == 7
    assert task.rows(3) == 9 and task_of("concept").rows(3) == 6
    assert task.more_memory(2, True) == 2 * task.more_memory(1, True) > task_of("attributes").more_memory(2, True) == 0
    assert len(task.patchers) == 2 and len(task_of("attributes").patchers) == 1 and not task_of("fidelity").patchers
    finder = part("training.comat.finding").BySegmenter(*(SimpleNamespace(patcher=name) for name in ("words", "masks")))
    found = task_of("attributes", finder=finder)
    assert found.patchers[1:] == ["words", "masks"] and found.more_memory(1, True) == 2**31
