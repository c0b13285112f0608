"""What the untrained model draws: it is its own, kept over interrupts, and drawn anew for other prompts."""

import pytest
import torch

from gradients import soft

SHAPE = (4, 8, 8)


@pytest.fixture
def bench(comfy, part, tiny, tmp_path):
    """``draw(count)`` in a folder of the test, with adapters that change what the network gives."""
    untrained, reading = part("training.comat.untrained"), part("training.comat.reading")
    lora = part("training.lora")
    loaded = soft(comfy, tiny, "sd1")
    adapters = lora.Adapters(loaded.model.model.diffusion_model, lora.LoRASettings(2, 2.0, "attention"), 0)
    for pair in adapters.pairs:
        torch.nn.init.ones_(pair.up)
    network = part("training.network").Network(loaded.model, [adapters])
    read = reading.read(["a red cat", "a blue dog"], loaded.model, loaded.clip, 64, None, None)

    def draw(count, prompts=read.prompts, step=lambda done, count: None, steps=2):
        drawing = untrained.Drawing(SHAPE, steps, 7.5, 1, 5)
        with torch.inference_mode(False):
            return untrained.latents_of_untrained(network, prompts, read.empty, count, drawing, tmp_path, step)

    draw.prompts, draw.network, draw.empty, draw.module = read.prompts, network, read.empty, untrained
    return draw


def test_it_is_the_plain_model_that_draws_each_prompt_in_turn(bench, part):
    rolling, chance = part("training.comat.rollout"), part("training.chance")
    found = bench(3)
    assert found.shape == (3, *SHAPE) and not found.requires_grad
    for number, latent in enumerate(found):
        draw = chance.generator_at(6, number)
        noise = torch.randn(1, *SHAPE, generator=draw)
        prompt = bench.prompts[number % 2]
        pair = [rolling.Prompts(each.context[None]) for each in (prompt, bench.empty)]
        network = part("training.network").Network(bench.network.patcher)
        with torch.inference_mode(False), network.ready():
            guided = rolling.Guided(network, *pair, 7.5)
            sigmas = rolling.ddpm_sigmas(network.sampling, 2).clone()
            expected = rolling.rollout(guided, network.denoised, sigmas, noise, draw).latent[0]
        assert torch.allclose(latent, expected, atol=1e-3 * float(expected.std()))


def test_they_are_kept(bench):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    told = []

    def tell(*numbers):
        told.append(numbers)

    whole = bench(3, steps=1)
    assert torch.equal(bench(3, step=tell, steps=1), whole) and not told
    assert torch.equal(bench(2, step=tell, steps=1), whole[:2]) and not told

    def stop(done, count):
        tell(done, count)
        interrupt_current_processing(done == 1)

    other = bench.prompts[::-1]
    with pytest.raises(InterruptProcessingException):
        bench(3, other, stop, steps=1)
    assert told == [(0, 3), (1, 3)]
    found = bench(3, other, tell, steps=1)
    assert told[2:] == [(1, 3), (2, 3)]
    assert not torch.equal(found[0], whole[0])


def test_each_prompt_is_compared_with_its_own(bench):
    number_for = bench.module.number_for

    def numbers(place, prompts, count):
        return {number_for(place, prompts, count, torch.Generator().manual_seed(seed)) for seed in range(40)}

    assert numbers(1, 3, 8) == {1, 4, 7} and numbers(2, 3, 8) == {2, 5}
    assert numbers(2, 3, 2) == {0, 1}
