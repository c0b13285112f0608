"""The losses of token optimization and its anchors, against examples computed by hand and slow versions."""

import math
from types import SimpleNamespace

import pytest
import torch

ATTENTION = torch.tensor([[0.2, 0.1], [0.1, 0.2], [0.1, 0.3], [0.1, 0.1]])
"""Of four patches in a 2 x 2 grid to two words."""


@pytest.fixture(scope="module")
def maths(part):
    """Modules of the pack's attention, by name."""
    return lambda name: part(f"attention.{name}")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_entropy_of_two_composites(maths):
    module = maths("token_merge.binding_losses")
    maps = module.composite_maps(ATTENTION[None], [[0], [1]])
    assert maps[0, 0].tolist() == pytest.approx((0.549834, 0.450166, 0.401312, 0.5), abs=1e-6)
    losses = module.entropy_loss(maps)[0]
    assert losses.tolist() == pytest.approx((2.019089, 2.024831), abs=1e-5)
    assert losses.sum().item() == pytest.approx(4.043920, abs=1e-5)
    assert module.doubled_entropy(torch.full((1024,), 1 / 1024)).item() == pytest.approx(13.842568, abs=1e-5)


def test_map_of_a_composite_at_two_places(maths):
    """Where the encoders of SDXL have it at different rows, it is the mean of both."""
    module = maths("token_merge.binding_losses")
    attention = torch.rand(2, 12, 5, generator=generator()).double()
    found = module.composite_maps(attention, [[1], [0, 3]])
    for latent in range(2):
        for cell in range(12):
            powers = [math.exp(value / 0.5) for value in attention[latent, cell].tolist()]
            shares = [power / sum(powers) for power in powers]
            expected = shares[1], (shares[0] + shares[3]) / 2
            assert found[latent, :, cell].tolist() == pytest.approx(expected)


def test_maps_without_any_contrast(maths):
    """Nothing is divided by 0, in the loss and in its gradient."""
    module = maths("token_merge.binding_losses")
    maps = torch.full((1, 2, 4), 0.25, requires_grad=True)
    losses = module.entropy_loss(maps), module.pose_loss(maps, (2, 2))
    (gradient,) = torch.autograd.grad(sum(loss.sum() for loss in losses), maps)
    assert all(loss.isfinite().all() for loss in losses)
    assert gradient.isfinite().all()


def test_schedules(maths):
    module, thresholds = maths("token_merge.binding_losses"), maths("token_merge.presets").THRESHOLDS
    strengths = [3 * module.strength(step, 50) for step in (0, 1, 2, 49)]
    assert strengths == pytest.approx((3, 2.938776, 2.877551, 0), abs=1e-6)
    assert module.strength(0, 1) == 1
    assert [module.threshold_of_sum(thresholds[0], count, 1024) for count in (2, 1, 3)] == [24, 11, 37]
    assert module.threshold_of_sum(thresholds[7], 2, 1024) == 19
    assert [2 * module.threshold_of_entity(each, 1024) for each in thresholds] == [
        module.threshold_of_sum(each, 2, 1024) for each in thresholds
    ]


def test_thresholds_follow_the_grid(maths):
    """A picture of a quarter of the cells with the same spread has a loss that is 2 ln 4 lower for every entity."""
    module = maths("token_merge.binding_losses")
    assert module.threshold_of_entity(26, 1024) - module.threshold_of_entity(26, 256) == pytest.approx(2.772589)
    assert module.threshold_of_sum(26, 3, 1024) - module.threshold_of_sum(26, 3, 256) == pytest.approx(3 * 2.772589)
    wide, small = (module.doubled_entropy(torch.full((cells,), 1 / cells).double()) for cells in (1024, 256))
    assert (wide - small).item() == pytest.approx(2.772589, abs=0.02)


def test_pose_of_two_maps(maths):
    maps = torch.tensor([[[1, 0, 0, 1], [0, 1, 0, 1]]], dtype=torch.float32)
    assert maths("token_merge.binding_losses").pose_loss(maps, (2, 2)).item() == pytest.approx(8.5)
    first, both = torch.tensor([[[0.0, 1, 0, 1]]]), maths("token_merge.binding_losses").pose_loss(maps, (2, 2)).item()
    twice = maths("token_merge.binding_losses").pose_loss(first.expand(1, 2, 4), (2, 2)).item()
    assert twice - both == pytest.approx(0.1 * 22**2 - 3.6), "the first has its place at (10, 16)"


def test_pose_on_a_wide_grid(maths):
    """Against loops, on 3 x 5 cells."""
    maps = torch.rand(2, 2, 15, generator=generator()).double()
    found = maths("token_merge.binding_losses").pose_loss(maps, (3, 5))
    for latent in range(2):
        expected = 0.0
        for number, (left, top) in enumerate([(10, 16), (25, 16)]):
            values = maps[latent, number]
            values = ((values - values.min()) / (values.max() - values.min())).view(3, 5)
            mass = float(values.sum())
            x = sum(float(values[i, j]) * 32 * j / 4 for i in range(3) for j in range(5)) / mass
            y = sum(float(values[i, j]) * 32 * i / 2 for i in range(3) for j in range(5)) / mass
            expected += 0.2 * ((x - left) ** 2 + (y - top) ** 2) / 2
        assert float(found[latent]) == pytest.approx(expected)


def test_layers_of_the_entropy_loss(maths, tiny):
    def chosen(layout, height, width):
        layers = maths("engine.layers").layers_of(tiny(layout).model)
        return {layer.key for layer in maths("token_merge.refinement").entropy_layers(layers, height, width)}

    published = {("output", 1, 1), ("output", 1, 2), ("output", 1, 3)}
    assert chosen("sdxl", 128, 128) == chosen("sdxl", 16, 32) == published
    assert chosen("sd1", 64, 64) == chosen("sd2", 64, 96) == {("output", 3, 0), ("output", 4, 0), ("output", 5, 0)}


class Toy:
    """A network of which a row of the context is all: it predicts noise 0.01 row, plus 0.1 of its input."""

    def __init__(self, sampling, rows_at_once=1000, of_input=0.0):
        self.model_sampling, self.of_input, self.calls = sampling, of_input, []
        self.rows_at_once = rows_at_once
        self.class_obj = self
        self.current_patcher = SimpleNamespace(get_free_memory=lambda device: self.rows_at_once)

    def __call__(self, x, sigma, c_concat, context, control, options, **extra):
        assert len(x) == len(sigma) == len(context) == len(extra["y"])
        self.calls.append((len(x), context.shape[1], control, extra["y"]))
        noise = 0.01 * context.mean(1)[:, :, None, None]
        noise = noise + self.of_input * self.model_sampling.calculate_input(sigma, x)
        return self.model_sampling.calculate_denoised(sigma, noise, x)


@pytest.fixture(scope="module")
def sampling(tiny):
    return tiny("sd1").model.model.model_sampling


@pytest.fixture
def toy_call(maths, sampling, monkeypatch):
    """``toy_call(x, sigma, ...)``: a model call of the toy network, which is its ``executor``."""
    monkeypatch.setattr(maths("engine.gradient"), "memory_of_a_row", lambda model, shape: 1)

    def call(x, sigma, **of_toy):
        gradient, calls, rows = maths("engine.gradient"), maths("engine.calls"), maths("engine.rows")
        toy = Toy(sampling, **of_toy)
        chunk = rows.Chunk(0, len(x), rows.BoundCond("key", 1, None))
        pass_ = calls.Call(0, len(x), (False,), (chunk,), 1, differentiated=True)
        y = torch.arange(len(x)).view(-1, 1) + torch.ones(len(x), 4 + gradient.SIZE_EMBEDDINGS)
        given = {"c_concat": None, "context": torch.zeros(len(x), 1, x.shape[1]), "control": {"output": [x]}}
        levels = torch.full((len(x),), sigma).to(x)
        return gradient.ModelCall(toy, x, levels, **given, options={}, extra={"y": y}, call=pass_, patched=None)

    return call


def test_token_update_of_a_toy_network(maths, toy_call):
    """One update reaches the target, and the next ones stay there."""
    call = toy_call(torch.randn(1, 2, 1, 1, generator=generator()).double(), 3.0)
    anchor = torch.tensor([[[2.0, 0.0]]]).double()
    targets = maths("token_merge.anchors").Anchors([anchor], call.x).predict(call, None, None, False)
    tokens = torch.tensor([[[1.0, 0.0]]]).double()
    for expected, loss in (((2.0, 0.0), 5e-5), ((2.0, 0.0), 0.0)):
        tokens, losses = targets.improved(tokens, 10000.0, maths("token_merge.binding_losses").binding_loss)
        assert tokens.flatten().tolist() == pytest.approx(expected, abs=1e-6)
        assert losses.item() == pytest.approx(loss, abs=1e-12)


@pytest.mark.parametrize("rows_at_once", [1000, 2, 1])
def test_tokens_of_each_entity_and_latent_go_their_own_way(maths, toy_call, rows_at_once):
    """Two entities and three latents, with all rows in one pass or in several: each as by itself."""
    x = torch.randn(3, 2, 2, 2, generator=generator()).double()
    call = toy_call(x, 3.0, rows_at_once=rows_at_once, of_input=0.1)
    anchors = [torch.randn(1, length, 2, generator=generator(length)) for length in (2, 3)]
    targets = maths("token_merge.anchors").Anchors(anchors, x).predict(call, None, None, False)
    tokens = torch.randn(3, 2, 2, generator=generator(1)).double()
    found, losses = targets.improved(tokens, 1000.0, maths("token_merge.binding_losses").binding_loss)
    assert found.shape == (3, 2, 2) and losses.shape == (3, 2)
    assert max(rows for rows, *_ in call.executor.calls) == min(6, rows_at_once)
    assert all(control is None and not y[:, :4].any() for _, _, control, y in call.executor.calls)
    for latent in range(3):
        for entity in range(2):
            short = 0.01 * (tokens[latent, entity] - anchors[entity].double().mean(1)[0])
            assert losses[latent, entity].item() == pytest.approx(short.square().mean().item(), abs=1e-7)
            expected = tokens[latent, entity] - 1000 * 0.01 * short
            torch.testing.assert_close(found[latent, entity], expected, rtol=0, atol=1e-5)


def test_guidance_of_a_toy_network(maths):
    """Noise 0.1 without a prompt, 0.3 for the anchor phrase, guidance 7.5; a step from noise level 2 to 1."""
    x = torch.randn(1, 1, 2, 2, generator=generator()).double()
    advanced = maths("token_merge.anchors").advanced
    denoised, null = x - 2 * 0.3, x - 2 * 0.1
    torch.testing.assert_close(advanced(x, denoised, null, 2.0, 1.0, 7.5, False), x - 1.6)
    torch.testing.assert_close(advanced(x, denoised, null, 2.0, 1.0, 7.5, True), x / 5**0.5 + 1.4)
    torch.testing.assert_close(advanced(x, denoised, denoised, 2.0, 1.0, 1.0, False), x - 0.3)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("rows_at_once", [1000, 3])
def test_latents_of_anchors_over_steps(maths, part, toy_call, published, rows_at_once):
    """Against loops: two entities, two latents, three steps, with a negative prompt of another length."""
    negative = part("attention.engine.calls").Negative(torch.randn(1, 4, 2, generator=generator(9)), 5.0)
    contexts = [torch.randn(1, length, 2, generator=generator(length)) for length in (2, 3)]
    x = torch.randn(2, 2, 2, 2, generator=generator()).double()
    anchors, slow, sigmas = maths("token_merge.anchors").Anchors(contexts, x), {}, (4.0, 2.5, 1.0)
    for step, sigma in enumerate(sigmas):
        call = toy_call(torch.full_like(x, torch.nan), sigma, rows_at_once=rows_at_once, of_input=0.1)
        last = step == len(sigmas) - 1
        targets = anchors.predict(call, negative, None if last else sigmas[step + 1], published)
        assert max(rows for rows, *_ in call.executor.calls) == min(4 if last else 8, rows_at_once)
        for entity, context in enumerate(contexts):
            for latent in range(2):
                own = slow.get((entity, latent), x[latent])
                scaled = own / (1 + sigma**2) ** 0.5

                def noise(of, scaled=scaled):
                    return 0.01 * of.double().mean(1)[0][:, None, None] + 0.1 * scaled

                said, null = noise(context), noise(negative.context)
                torch.testing.assert_close(
                    targets.denoised.unflatten(0, (2, 2))[entity, latent], own - sigma * said, rtol=1e-6, atol=1e-6
                )
                if not last:
                    guided = null + 5 * (null - said) if published else null + 5 * (said - null)
                    slow[entity, latent] = (scaled if published else own) + (sigmas[step + 1] - sigma) * guided
    for (entity, latent), expected in slow.items():
        torch.testing.assert_close(anchors.latents[entity, latent], expected, rtol=1e-6, atol=1e-6)
    assert (anchors.latents - x).abs().max() > 0.1


def test_anchors_without_guidance(maths, toy_call):
    """Without a negative prompt, or at CFG 1, nothing is computed for it, unless the published code's slip needs it."""
    x = torch.randn(1, 2, 2, 2, generator=generator()).double()
    negative_of, context = maths("engine.calls").Negative, torch.ones(1, 2, 2)
    for negative, published, expected in (
        (None, False, 1),
        (None, True, 1),
        (negative_of(torch.zeros(1, 2, 2), 1.0), False, 1),
        (negative_of(torch.zeros(1, 2, 2), 1.0), True, 2),
        (negative_of(torch.zeros(1, 2, 2), 2.0), False, 2),
    ):
        call = toy_call(x, 3.0)
        anchors = maths("token_merge.anchors").Anchors([context], x)
        anchors.predict(call, negative, 2.0, published)
        assert sum(rows for rows, *_ in call.executor.calls) == expected
        assert (anchors.latents[0] - x).abs().max() > 1e-3


@pytest.mark.parametrize("layout", ["sd1", "sd2"])
def test_binding_loss_is_of_the_networks_output(maths, tiny, layout):
    """Whatever the noise level and the kind of prediction: the mean square of how much two outputs differ."""
    sampling = tiny(layout).model.model.model_sampling
    x, one, other = torch.randn(3, 2, 4, 5, 6, generator=generator()).double()
    sigma = torch.tensor([7.0, 0.4]).double()
    gradient = maths("engine.gradient")
    toy = SimpleNamespace(class_obj=SimpleNamespace(model_sampling=sampling))
    call = gradient.ModelCall(toy, x, sigma, None, None, None, {}, {}, None, None)
    predicted, target = (sampling.calculate_denoised(sigma, output, x) for output in (one, other))
    found = maths("token_merge.binding_losses").binding_loss(predicted, target, call.output_scale)
    torch.testing.assert_close(found, (one - other).square().mean((1, 2, 3)))
