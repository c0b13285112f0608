"""Losses of CoMat against worked examples and slow versions in float64, its discriminator, and whom it asks for."""

import math

import pytest
import torch

from attention_reference import bind


@pytest.fixture
def losses(part):
    return part("training.comat.losses")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_likelihood_of_the_worked_example(losses):
    """Token probabilities .5, .25 and 1 of a vocabulary of 4; the first token is never scored."""
    probabilities = torch.tensor([[[0.5, 1 / 6, 1 / 6, 1 / 6], [0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0], [0.25] * 4]])
    logits = probabilities.double().clamp(min=1e-300).log()
    tokens, scored = torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool)
    assert losses.negative_log_likelihood(logits, tokens, scored, 0.0).item() == pytest.approx(2.079442 / 3, abs=1e-6)
    first = torch.tensor([[False, True, False, False]])
    assert losses.negative_log_likelihood(logits, tokens, first, 0.0).item() == pytest.approx(0.693147, abs=1e-6)
    assert losses.negative_log_likelihood(logits, tokens, first, 0.1).item() == pytest.approx(0.775543, abs=1e-6)


def test_likelihood_is_that_of_every_text_by_itself(losses):
    logits = torch.randn(3, 6, 11, generator=generator(), dtype=torch.float64)
    tokens = torch.randint(11, (3, 6), generator=generator(1))
    scored = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 1, 0]], dtype=torch.bool)
    found = losses.negative_log_likelihood(logits, tokens, scored, 0.1)
    for text in range(3):
        terms = []
        for place in range(1, 6):
            if scored[text, place]:
                weights = logits[text, place - 1].exp() / logits[text, place - 1].exp().sum()
                logs = [math.log(weight) for weight in weights]
                terms.append(-0.9 * logs[tokens[text, place]] - 0.1 * sum(logs) / 11)
        assert found[text].item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_crops_of_512_pixels_are_510(losses):
    picture = torch.arange(512.0)[None, :, None, None] * 1000 + torch.arange(512.0)[None, None, :, None]
    corners = set()
    for seed in range(100):
        cropped = losses.randomly_cropped(picture, generator(seed))
        assert cropped.shape == (1, 510, 510, 1)
        corners.add(divmod(int(cropped[0, 0, 0, 0]), 1000))
    assert corners == {(top, left) for top in range(3) for left in range(3)}
    small = torch.rand(1, 128, 223, 3)
    assert torch.equal(losses.randomly_cropped(small, generator()), small)


def test_adversarial_losses_of_the_worked_example(losses):
    assert losses.generator_loss(torch.tensor([[[0.0, 2.0]]])).item() == pytest.approx(0.410038, abs=1e-6)
    drawn, real = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, -1.0]]])
    assert losses.discriminator_loss(drawn, real).item() == pytest.approx(1.111650, abs=1e-6)


def test_adversarial_losses_are_cross_entropies_of_all_patches(losses):
    drawn, real = torch.randn(2, 3, 4, 5, generator=generator(), dtype=torch.float64) * 3

    def cross_entropy(logits, target):
        sigmoids = [1 / (1 + math.exp(-each)) for each in logits.flatten().tolist()]
        return [-math.log(each if target else 1 - each) for each in sigmoids]

    of_generator = cross_entropy(drawn, 1)
    of_discriminator = cross_entropy(drawn, 0) + cross_entropy(real, 1)
    assert losses.generator_loss(drawn).item() == pytest.approx(sum(of_generator) / 60, rel=1e-12)
    assert losses.discriminator_loss(drawn, real).item() == pytest.approx(sum(of_discriminator) / 120, rel=1e-12)


def test_attribute_losses_are_added_up_over_steps(part, losses):
    grounding, network = part("training.grounding"), part("training.network")
    Layer = part("attention.engine.calls").Layer
    layers = [Layer("middle", 0, 0, 3), Layer("output", 3, 0, 2)]
    nouns = [
        grounding.Nouns(((1, 2), (3,)), (torch.rand(2, 8, 8, generator=generator(1)) > 0.6).float()),
        grounding.Nouns(((4,),), torch.zeros(1, 8, 8)),
    ]

    def step(seed):
        drawing = generator(seed)
        return [
            network.Seen(layer, (size, size), torch.rand(2, 2, size**2, 3, generator=drawing, requires_grad=True) / 4)
            for layer, size in zip(layers, (2, 4), strict=True)
        ]

    steps = [step(2), step(3)]
    found = losses.attribute_losses(steps, nouns)
    alone = [grounding.losses_of(each, nouns) for each in steps]
    assert torch.allclose(found.token, alone[0].token + alone[1].token)
    assert torch.allclose(found.pixel, alone[0].pixel + alone[1].pixel)
    assert torch.allclose(found.share, (alone[0].share + alone[1].share) / 2)
    # A noun that was not found: 1 for each layer of each step of Stable Diffusion 1's (middle 1, a decoder's grid 3).
    assert found.token[1].item() == pytest.approx(2 * (1 + 3))


def test_parts_are_weighted_and_can_be_left_out(losses):
    parts = [torch.tensor(each) for each in (2.0, 0.5, 10.0, 20.0)]
    assert losses.total(losses.Weights(), *parts).item() == pytest.approx(2 + 0.5 + 0.01 + 0.001)
    assert losses.total(losses.Weights(fidelity=0.5), fidelity=parts[1]).item() == pytest.approx(0.25)
    with pytest.raises(ValueError, match="All parts of CoMat are off"):
        losses.total(losses.Weights())


@pytest.mark.parametrize("layout", ["sd1", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_the_discriminator_is_a_line_on_the_network_s_output(part, tiny, layout):
    network_file, lora = part("training.network"), part("training.lora")
    loaded = tiny(layout)
    unet = loaded.model.model.diffusion_model
    adapters, others = (lora.Adapters(unet, lora.LoRASettings(2, 2.0, "attention"), seed) for seed in (0, 1))
    network = network_file.Network(loaded.model, [adapters, others])
    width, vectors = loaded.model.model.model_config.unet_config["context_dim"], loaded.model.model.adm_channels
    context = torch.randn(1, 77, width, generator=generator())
    vector = torch.randn(1, vectors, generator=generator(1)) if vectors else None
    latents = torch.randn(2, 4, 16, 12, generator=generator(2)).requires_grad_()
    make = part("training.comat.discriminator").Discriminator
    judge, same = (make(network, adapters, context, 0.0413, 4, seed=7, vector=vector) for _ in range(2))
    given = []
    handle = unet.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        with torch.inference_mode(False), network.ready():
            logits = judge(latents)
            output = network.predict(
                latents * math.sqrt(1 + 0.0413**2),
                torch.full((2,), 0.0413),
                context.repeat(2, 1, 1),
                None if vector is None else vector.repeat(2, 1),
                adapters,
            )
            part("training.comat.losses").discriminator_loss(logits[:1], logits[1:]).backward()
    finally:
        handle.remove()
    assert torch.allclose(given[0], latents, atol=1e-6), "the network gets the latent itself"
    expected = torch.einsum("bchw,c->bhw", output, judge.head.weight[0]) + judge.head.bias
    assert logits.shape == (2, 16, 12)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.equal(judge.head.weight, same.head.weight)
    assert {name.partition(".")[0] for name, _ in judge.named_parameters()} == {"adapters", "head"}
    assert latents.grad.abs().max() > 0
    assert judge.head.weight.grad.abs().max() > 0
    assert all(pair.up.grad.abs().max() > 0 for pair in adapters.pairs)
    assert all(weight.grad is None for weight in [*others.parameters(), *unet.parameters()])


@pytest.mark.parametrize(
    ("prompt", "entities", "wanted"),
    [
        ("a red car and a white sheep", "car: red | sheep: white", {"car": (2, 3), "sheep": (6, 7)}),
        ("a Red Car and a sheep", "car: red | sheep", {"car": (2, 3)}),
        ("a red dog and a dog and a blue cat", "dog: red | dog | cat: blue", {"cat": (9, 10)}),
        ("a blue sky and green fields and a red hat", "sky: blue | fields: green | hat: red", {"hat": (9, 10)}),
        ("a big red shiny car", "car: big, red, shiny", {}),
        ("a big red car", "car: big, red", {"car": (2, 3, 4)}),
        ("a cat wearing a hat", "cat: wearing a hat", {}),
        ("a black cat wearing a hat", "cat: black, wearing a hat", {"cat": (2, 3)}),
        ("a fire truck", "fire truck", {"fire truck": (2, 3)}),
    ],
)
def test_nouns_with_attributes_are_asked_for(part, tiny, prompt, entities, wanted):
    binding = bind(part, tiny("sd1").clip, prompt, entities).binding
    found = part("training.comat.asked").asked(binding)
    rows = {each.entity.name: each.rows for each in found}
    assert set(rows) == set(wanted)
    pieces = binding.encoders[0].rows
    for name, expected in wanted.items():
        words = [prompt.lower().split()[row - 1] for row in expected]
        assert "".join(pieces[row].piece.strip() for row in rows[name]).replace("</w>", "") == "".join(words)
