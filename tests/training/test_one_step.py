"""The losses of a step and their gradients, against a plain implementation in float64."""

import copy
import math

import pytest
import torch

BATCH, SIZE = 2, 64


class Plain:
    """A UNet in float64 with a LoRA in the forward of its layers, whose cross-attention keeps its probabilities."""

    def __init__(self, unet, adapters):
        self.unet = copy.deepcopy(unet).double()
        self.pairs = [
            {"down": pair.down.detach().double().requires_grad_(), "up": pair.up.detach().double().requires_grad_()}
            for pair in adapters.pairs
        ]
        self.maps = {}
        for path, pair in zip(adapters.paths, self.pairs, strict=True):
            layer = self.unet.get_submodule(path)
            scale = adapters.settings.alpha / adapters.settings.rank
            layer.forward = self._with_lora(layer.forward, pair, scale)

    def _with_lora(self, forward, pair, scale):
        return lambda x: forward(x) + scale * (x @ pair["down"].T @ pair["up"].T)

    def _attend(self, q, k, v, extra):
        heads = extra["n_heads"]
        q, k, v = (each.unflatten(-1, (heads, -1)).movedim(2, 1) for each in (q, k, v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        self.maps[(*extra["block"], extra["block_index"])] = weights
        return (weights @ v).movedim(1, 2).flatten(2)

    def __call__(self, x, times, context, layers):
        replace = {"attn2": {layer.key: self._attend for layer in layers}}
        return self.unet(x, times, context=context, transformer_options={"patches_replace": replace})


def cells(mask, side):
    """The published resizing, antialiased, and whatever is above 0."""
    small = torch.nn.functional.interpolate(mask.double()[None, None], (side, side), mode="bilinear", antialias=True)
    return (small[0, 0] > 0).flatten().double()


def grounding_losses(plain, layers, samples):
    """D.3 of the published code, noun by noun."""
    token = pixel = 0.0
    for place, sample in enumerate(samples):
        groups = {}
        for layer in layers:
            groups.setdefault((layer.block, layer.level), []).append(plain.maps[layer.key][place])
        for maps in groups.values():
            side = math.isqrt(maps[0].shape[1])
            for rows, mask in zip(sample.nouns.rows, sample.nouns.masks, strict=True):
                region = cells(mask, side)
                for each in maps:
                    shares = [
                        torch.stack([(head[:, row] * region).sum() / head[:, row].sum() for head in each]).mean()
                        for row in rows
                    ]
                    token = token + sum((1 - share) ** 2 for share in shares) / len(rows) / len(sample.nouns.rows)
                shown = sum(each.mean(0)[:, row] for each in maps for row in rows) / len(maps)
                entropy = -(region * shown.log() + (1 - region) * (1 - shown).log())
                pixel = pixel + entropy.mean() / len(sample.nouns.rows)
    return token / len(samples), pixel / len(samples)


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
def test_losses_and_gradients_are_those_of_a_plain_implementation(part, tiny, samples_of, prediction):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(tiny("sd1").model, prediction, False)
    lora, network_room = part("training.lora"), part("training.network")
    adapters = lora.Adapters(model.model.diffusion_model, lora.LoRASettings(4, 2.0, "attention"), 0)
    for pair in adapters.pairs:
        torch.nn.init.normal_(pair.up, std=0.02, generator=torch.Generator().manual_seed(1))
    network = network_room.Network(model, [adapters])
    task = part("training.tokencompose").TokenCompose(samples_of("sd1", SIZE), "data", 0.3, 0.1)
    layers = [layer for layer in network.layers if layer.block != "input"]
    chances = [part("training.chance").generator_at(3, place) for place in range(BATCH)]
    samples = task.samples[:BATCH]
    with network.ready():
        losses = task.losses(network, adapters, frozenset(layers), samples, chances)
        losses["loss"].backward()

    chances = [part("training.chance").generator_at(3, place) for place in range(BATCH)]
    times = torch.cat([torch.randint(1000, (1,), generator=chance) for chance in chances])
    noise = torch.stack([torch.randn(4, 8, 8, generator=chance) for chance in chances]).double()
    sigma = model.model.model_sampling.sigmas[times].double()[:, None, None, None]
    latent = torch.stack([each.latent for each in samples]).double()
    signal = 1 / (sigma**2 + 1).sqrt()
    plain = Plain(model.model.diffusion_model, adapters)
    context = torch.stack([each.context for each in samples]).double()
    output = plain((latent + sigma * noise) * signal, times.double(), context, layers)
    target = noise if prediction == "eps" else signal * noise - sigma * signal * latent
    of_noise = (output - target).square().mean()
    token, pixel = grounding_losses(plain, layers, samples)
    total = of_noise + 0.3 * token + 0.1 * pixel
    total.backward()

    expected = {"loss": total, "noise loss": of_noise, "token loss": token, "pixel loss": pixel}
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-3), name
    for kind in ("down", "up"):
        ours = torch.cat([getattr(pair, kind).grad.flatten() for pair in adapters.pairs]).double()
        theirs = torch.cat([pair[kind].grad.flatten() for pair in plain.pairs])
        assert (ours - theirs).norm() < 1e-3 * theirs.norm(), kind
