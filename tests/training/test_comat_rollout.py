"""Rollouts of CoMat: the steps with gradients, DDPM in sigmas, what the gradient is of, and what is captured."""

import pytest
import torch

from gradients import soft

SHAPE = (2, 4, 3, 5)


@pytest.fixture
def rollout(part):
    return part("training.comat.rollout")


@pytest.fixture
def sampling(comfy):
    import comfy.model_sampling

    return comfy.model_sampling.ModelSamplingDiscrete()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(dtype=torch.float64):
    return torch.randn(SHAPE, generator=generator(1), dtype=dtype)


def denoised(noisy, sigma, output):
    return noisy - sigma[:, None, None, None] * output


class Smooth(torch.nn.Module):
    """A network of two parameters that looks at the latent, its neighbours and the noise level."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([0.7, -0.4], dtype=torch.float64))

    def forward(self, noisy, sigma):
        level = sigma[:, None, None, None]
        x = noisy / (1 + level**2).sqrt()
        return torch.tanh(self.weights[0] * x + self.weights[1] * x.roll(1, -1)) + 0.1 * level.log1p()


def test_published_steps_have_gradients(rollout):
    found = [rollout.steps_with_gradient(50, 5, generator(seed)) for seed in range(200)]
    assert {steps[0] for steps in found} == set(range(10))
    assert all(steps == [steps[0] + 10 * number for number in range(5)] for steps in found)
    assert [3, 13, 23, 33, 43] in found


@pytest.mark.parametrize(("count", "wanted", "starts"), [(52, 5, 12), (7, 3, 3), (4, 4, 1), (6, 1, 6)])
def test_as_many_steps_as_asked_for(rollout, count, wanted, starts):
    found = {tuple(rollout.steps_with_gradient(count, wanted, generator(seed))) for seed in range(300)}
    assert len(found) == starts
    assert all(len(steps) == wanted and steps[-1] < count for steps in found)


@pytest.mark.parametrize("wanted", [0, 8])
def test_too_many_or_no_steps_are_refused(rollout, wanted):
    with pytest.raises(ValueError, match=f"{wanted} of 7 steps cannot have gradients. Set gradient steps to 1 to 7"):
        rollout.steps_with_gradient(7, wanted, generator())


def test_captured_steps_are_drawn_with_replacement(rollout):
    steps = [3, 13, 23, 33, 43]
    found = [rollout.steps_captured(steps, 2, generator(seed)) for seed in range(1000)]
    assert all(set(each) <= set(steps) and each == sorted(set(each)) for each in found)
    assert sum(len(each) == 1 for each in found) / 1000 == pytest.approx(0.2, abs=0.04)


def test_timesteps_are_those_of_the_published_sampler(rollout, sampling):
    sigmas = rollout.ddpm_sigmas(sampling, 50)
    assert [sampling.timestep(each).item() for each in sigmas[:-1]] == list(range(981, 0, -20))
    assert sigmas[0].item() == pytest.approx(13.1204, abs=1e-3)
    assert sigmas[-1] == 0
    with pytest.raises(ValueError, match="cannot be drawn in 1001 steps. Take 1 to 1000"):
        rollout.ddpm_sigmas(sampling, 1001)


def plain_ddpm(network, betas, count, start, draws):
    """Ho et al. 2020 in alphas: the latent ``sqrt(a) x0 + sqrt(1 - a) noise`` from step to step."""
    alphas = torch.cumprod(1 - betas, 0)
    z = start
    for number, t in enumerate(range((count - 1) * (1000 // count) + 1, -1, -(1000 // count))):
        before = t - 1000 // count
        alpha, alpha_before = alphas[t], alphas[before] if before >= 0 else torch.tensor(1.0).double()
        beta = 1 - alpha / alpha_before
        sigma = ((1 - alpha) / alpha).sqrt()
        output = network(z / alpha.sqrt(), sigma.expand(len(z)))
        clean = (z - (1 - alpha).sqrt() * output) / alpha.sqrt()
        mean = alpha_before.sqrt() * beta / (1 - alpha) * clean
        mean = mean + (1 - beta).sqrt() * (1 - alpha_before) / (1 - alpha) * z
        variance = (1 - alpha_before) / (1 - alpha) * beta
        z = mean + variance.sqrt() * draws[number]
    return z


@torch.no_grad()
@pytest.mark.parametrize("count", [50, 7])
def test_it_is_ddpm(rollout, sampling, count):
    network = Smooth()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    assert torch.allclose(sampling.sigmas.double(), ((1 - alphas) / alphas).sqrt(), rtol=1e-5)
    drawing = generator(5)
    draws = [torch.randn(SHAPE, generator=drawing).double() for _ in range(count)]
    rolled = rollout.rollout(
        lambda noisy, sigma, _: (network(noisy, sigma), None),
        denoised,
        rollout.ddpm_sigmas(sampling, count),
        noise(),
        generator(5),
    )
    expected = plain_ddpm(network, betas, count, noise(), draws)
    assert expected.std() > 0.1
    assert torch.allclose(rolled.latent, expected, atol=1e-4)
    assert rolled.captured == {}


class Recorded:
    """A network that remembers what it gave and was given, and gives the same again where it is a constant."""

    def __init__(self, network, detached, gradient_steps):
        self.network, self.detached, self.gradient_steps = network, detached, gradient_steps
        self.inputs, self.outputs, self.replaying = [], [], False

    def __call__(self, noisy, sigma, _):
        if not self.replaying:
            self.inputs.append(noisy.detach().clone())
            output = self.network(noisy, sigma)
            self.outputs.append(output.detach().clone())
            return output, None
        step = self.step
        self.step += 1
        if step not in self.gradient_steps:
            return self.outputs[step], None
        return self.network(self.inputs[step] if self.detached else noisy, sigma), None

    def again(self):
        self.replaying, self.step = True, 0
        return self


@pytest.mark.parametrize("detached", [False, True])
def test_gradients_pass_finite_differences(rollout, sampling, detached):
    """Steps without gradient, and where it is detached the inputs of the others, are constants."""
    network, steps = Smooth(), [1, 3, 5]
    sigmas = rollout.ddpm_sigmas(sampling, 7)
    recorded = Recorded(network, detached, steps)

    def loss(predict, **options):
        latent = rollout.rollout(predict, denoised, sigmas, noise(), generator(2), **options).latent
        return (latent**3).sum()

    loss(recorded, with_gradient=steps, detached=detached).backward()
    found = network.weights.grad.clone()
    expected = []
    for place in range(2):
        values = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                network.weights[place] += change
                values.append(loss(recorded.again()).item())
                network.weights[place] -= change
        expected.append((values[0] - values[1]) / 2e-6)
    assert torch.allclose(found, torch.tensor(expected).double(), rtol=1e-6)
    assert (found.abs() > 1e-2).all()


def test_detaching_changes_the_gradient_and_not_the_picture(rollout, sampling):
    network, sigmas = Smooth(), rollout.ddpm_sigmas(sampling, 7)

    def run(detached):
        rolled = rollout.rollout(
            lambda noisy, sigma, _: (network(noisy, sigma), None),
            denoised,
            sigmas,
            noise(),
            generator(2),
            with_gradient=[1, 3, 5],
            detached=detached,
        )
        return rolled.latent, torch.autograd.grad(rolled.latent.sum(), network.weights)[0]

    (plain, own), (cut, other) = run(False), run(True)
    assert torch.equal(plain, cut)
    assert not torch.allclose(own, other, rtol=1e-2)


def test_only_the_chosen_steps_make_a_graph(rollout, sampling):
    network, graphs = Smooth(), []

    def predict(noisy, sigma, _):
        output = network(noisy, sigma)
        graphs.append((noisy.requires_grad, output.requires_grad))
        return output, None

    sigmas = rollout.ddpm_sigmas(sampling, 6)
    rollout.rollout(predict, denoised, sigmas, noise(), generator(), with_gradient=[2, 4])
    assert graphs == [(False, False), (False, False), (False, True), (True, False), (True, True), (True, False)]
    assert not rollout.rollout(predict, denoised, sigmas, noise(), generator()).latent.requires_grad


def test_captured_steps_keep_the_graph_of_what_they_show(rollout, sampling):
    network = Smooth()

    def predict(noisy, sigma, capture):
        output = network(noisy, sigma)
        return output, (output**2).sum() if capture else None

    def run(**steps):
        return rollout.rollout(
            predict, denoised, rollout.ddpm_sigmas(sampling, 6), noise(), generator(), detached=True, **steps
        )

    rolled = run(with_gradient=[1, 3, 5], captured=[1, 5])
    assert set(rolled.captured) == {1, 5}
    (found,) = torch.autograd.grad(rolled.captured[5], network.weights)
    assert found.abs().min() > 0
    with pytest.raises(ValueError, match=r"Steps \[2\] are to be captured and have no gradient"):
        run(with_gradient=[1, 3, 5], captured=[1, 2])


def test_the_same_generator_draws_the_same_picture(rollout, sampling):
    network = Smooth()

    def run(seed):
        sigmas = rollout.ddpm_sigmas(sampling, 4)
        return rollout.rollout(lambda x, s, _: (network(x, s), None), denoised, sigmas, noise(), generator(seed)).latent

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2), atol=0.1)


@pytest.mark.parametrize("layout", ["sd1", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_a_network_is_guided_and_shows_its_attention(comfy, part, tiny, rollout, layout):
    network_file, lora, grounding = (part(f"training.{name}") for name in ("network", "lora", "grounding"))
    loaded = soft(comfy, tiny, layout)
    adapters = lora.Adapters(loaded.model.model.diffusion_model, lora.LoRASettings(2, 2.0, "attention"), 0)
    network = network_file.Network(loaded.model, [adapters])
    draw = generator(3)
    width = loaded.model.model.model_config.unet_config["context_dim"]
    vectors = loaded.model.model.adm_channels

    def prompts(rows=77):
        vector = torch.randn(2, vectors, generator=draw) if vectors else None
        return rollout.Prompts(torch.randn(2, rows, width, generator=draw), vector)

    positive, negative, longer = prompts(), prompts(), prompts(154)
    layers = grounding.published_layers(network.layers)
    rows = torch.tensor([[1, 2], [5, 0]])
    x, sigma = torch.randn(2, 4, 16, 16, generator=draw), torch.tensor([3.0, 3.0])
    with torch.inference_mode(False), network.ready():
        guided = rollout.Guided(network, positive, negative, 7.5, adapters, layers, rows)
        apart = [network.predict(x, sigma, *each, adapters).detach() for each in (positive, negative)]
        expected = apart[1] + 7.5 * (apart[0] - apart[1])
        output, nothing = guided(x, sigma, False)
        shown, seen = guided(x, sigma, True)
        assert nothing is None
        close = {"rtol": 0, "atol": 1e-3 * float(expected.std())}
        assert torch.allclose(output, expected, **close)
        assert torch.allclose(shown, expected, **close)
        assert {each.layer for each in seen} == layers
        assert all(each.maps.shape[0] == 2 and each.maps.shape[-1] == 2 for each in seen)
        other, _ = rollout.Guided(network, positive, longer, 1.0, adapters)(x, sigma, False)
        assert torch.allclose(other, apart[0], **close)
        sum(each.maps.square().sum() for each in seen).backward()
    assert any(pair.up.grad is not None and pair.up.grad.abs().max() > 0 for pair in adapters.pairs)


def test_a_rollout_of_a_network_trains_its_adapters(part, tiny, rollout):
    network_file, lora = part("training.network"), part("training.lora")
    loaded = tiny("sd1")
    adapters = lora.Adapters(loaded.model.model.diffusion_model, lora.LoRASettings(2, 2.0, "attention"), 0)
    network = network_file.Network(loaded.model, [adapters])
    width = loaded.model.model.model_config.unet_config["context_dim"]
    context = [torch.randn(1, 77, width, generator=generator(place)) for place in range(2)]
    with torch.inference_mode(False), network.ready():
        guided = rollout.Guided(network, *map(rollout.Prompts, context), 7.5, adapters)
        start = torch.randn(1, 4, 16, 16, generator=generator(4))
        sigmas = rollout.ddpm_sigmas(network.sampling, 4).clone()
        rolled = rollout.rollout(guided, network.denoised, sigmas, start, generator(5), with_gradient=[0, 2])
        assert rolled.latent.isfinite().all()
        rolled.latent.square().mean().backward()
    assert all(pair.up.grad.abs().max() > 0 for pair in adapters.pairs)
