"""The UNet with adapters: what it predicts, what it shows, its gradients, and that nothing of it stays behind."""

import copy
import math

import pytest
import torch

LORA = {"rank": 4, "alpha": 2.0, "targets": "attention"}


@pytest.fixture
def lora(part):
    return part("training.lora")


@pytest.fixture
def network_of(part, lora, tiny):
    def made(layout="sd1", checkpointing=False, count=1, **settings):
        model = tiny(layout).model
        adapters = [
            lora.Adapters(model.model.diffusion_model, lora.LoRASettings(**LORA | settings), seed)
            for seed in range(count)
        ]
        for each in adapters:
            for pair in each.pairs:
                torch.nn.init.normal_(pair.up, std=0.1, generator=torch.Generator().manual_seed(1))
        return part("training.network").Network(model, adapters, checkpointing)

    return made


def given(network, rows=2, seed=0):
    chance = torch.Generator().manual_seed(seed)
    width = network.base.model_config.unet_config["context_dim"]
    vector = network.base.adm_channels
    return {
        "noisy": torch.randn(rows, 4, 8, 8, generator=chance),
        "sigma": torch.tensor([0.7, 3.0])[:rows],
        "context": torch.randn(rows, 77, width, generator=chance),
        "vector": torch.randn(rows, vector, generator=chance) if vector else None,
    }


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_it_predicts_what_a_sampler_gets(network_of, layout):
    from comfy.ldm.modules.attention import attention_pytorch

    network = network_of(layout)
    inputs = given(network)
    with network.ready(), torch.no_grad():
        output = network.predict(**inputs)
        found = network.denoised(inputs["noisy"], inputs["sigma"], output)
        expected = network.base.apply_model(
            inputs["noisy"],
            inputs["sigma"],
            c_crossattn=inputs["context"],
            transformer_options={
                "optimized_attention_override": lambda _, *args, **own: attention_pytorch(*args, **own)
            },
            **({} if inputs["vector"] is None else {"y": inputs["vector"]}),
        )
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_adapters_are_the_lora_that_is_written(network_of, part, layout, comfy):
    """ComfyUI's own loader makes of the written weights what the adapters made of the output."""
    import comfy.sd

    network = network_of(layout, targets="attention and feed-forward")
    (adapters,) = network.adapters
    inputs = given(network)
    with network.ready(), torch.no_grad():
        output = network.predict(**inputs, adapters=adapters)
        plain = network.predict(**inputs)
    assert (output - plain).abs().max() > 1e-3
    originals = {path: network.unet.get_submodule(path).weight.clone() for path in adapters.paths}
    weights = adapters.weights(part("training.network").kohya_names(network.patcher))
    assert len(weights) == 3 * len(adapters.paths)
    loaded, _ = comfy.sd.load_lora_for_models(network.patcher, None, weights, 1.0, 0.0)
    assert len(loaded.patches) == len(adapters.paths)
    patched = part("training.network").Network(loaded)
    with patched.ready(), torch.no_grad():
        for path, pair in zip(adapters.paths, adapters.pairs, strict=True):
            change = patched.unet.get_submodule(path).weight - originals[path]
            assert torch.allclose(change, pair.scale * pair.up @ pair.down, atol=1e-5)
        # The tiny SDXL answers a change of the last digit with another picture.
        if layout == "sd1":
            assert torch.allclose(patched.predict(**inputs), output, atol=1e-4)


def test_names_are_those_of_kohyas_tools(part, tiny):
    names = part("training.network").kohya_names(tiny("sd1").model)
    down = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    assert names["input_blocks.1.1.transformer_blocks.0.attn2.to_k"] == f"{down}_attn2_to_k"
    assert names["input_blocks.1.1.transformer_blocks.0.attn1.to_out.0"] == f"{down}_attn1_to_out_0"
    mid = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj"
    assert names["middle_block.1.transformer_blocks.0.ff.net.0.proj"] == mid
    names = part("training.network").kohya_names(tiny("sdxl").model)
    path = "input_blocks.4.1.transformer_blocks.1.attn2.to_k"
    assert names[path] == "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_finite_differences(network_of, part, checkpointing):
    """Of a loss of output and attention, to adapters and to the noisy latent, with blocks computed again too."""
    network = network_of(checkpointing=checkpointing)
    (adapters,) = network.adapters
    inputs = given(network)
    layers = part("training.grounding").published_layers(network.layers)
    rows = torch.tensor([[3, 4], [7, 7]])

    def loss(noisy):
        watch = part("training.network").Watch(layers, rows)
        output = network.predict(**inputs | {"noisy": noisy}, adapters=adapters, watch=watch)
        return output.square().mean() + sum(each.maps.square().mean() for each in watch.seen) * 10

    with network.ready():
        noisy = inputs["noisy"].clone().requires_grad_()
        pair = adapters.pairs[5]
        found = torch.autograd.grad(loss(noisy), [noisy, pair.up])
        for tensor, gradient in ((noisy, found[0]), (pair.up, found[1])):
            direction = gradient / gradient.norm()
            step = 2e-4
            with torch.no_grad():
                values = []
                for sign in (1, -1):
                    tensor.add_(direction, alpha=sign * step)
                    values.append(float(loss(noisy)))
                    tensor.add_(direction, alpha=-sign * step)
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.02)


def test_blocks_that_are_computed_again_give_the_same_gradients(network_of, part):
    """Also where other adapters act by the time they are computed again."""
    gradients = []
    for checkpointing in (False, True):
        network = network_of(checkpointing=checkpointing, count=2)
        first, second = network.adapters
        inputs = given(network)
        with network.ready():
            output = network.predict(**inputs, adapters=first)
            judged = network.predict(**inputs | {"noisy": output}, adapters=second)
            judged.square().mean().backward()
        gradients.append([each.up.grad for adapters in (first, second) for each in adapters.pairs])
    for plain, again in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        assert torch.allclose(plain, again, rtol=1e-3, atol=1e-6)


def test_attention_shown_is_that_of_the_layer(network_of, part):
    network = network_of()
    inputs = given(network)
    rows = torch.tensor([[0, 5, 76], [1, 1, 2]])
    every = torch.arange(77).expand(2, -1)
    layers = part("training.grounding").published_layers(network.layers)
    shown = []
    with network.ready(), torch.no_grad():
        plain = network.predict(**inputs)
        for watched in (rows, every):
            watch = part("training.network").Watch(layers, watched)
            assert torch.allclose(network.predict(**inputs, watch=watch), plain, atol=1e-4)
            shown.append(watch.seen)
    assert [each.layer for each in shown[0]] == [layer for layer in network.layers if layer in layers]
    for few, all_ in zip(*shown, strict=True):
        assert few.maps.shape[2] == math.prod(few.grid)
        assert torch.allclose(all_.maps.sum(-1), torch.ones(()), atol=1e-5)
        assert torch.equal(few.maps[0], all_.maps[0][..., [0, 5, 76]])
        assert torch.equal(few.maps[1], all_.maps[1][..., [1, 1, 2]])


def test_nothing_stays_behind(network_of, comfy):
    """Of hooks, forwards, weights and global state, after an error in the middle too."""
    import comfy.model_management

    network = network_of(checkpointing=True)
    (adapters,) = network.adapters
    inputs = given(network)
    before = copy.deepcopy(network.unet.state_dict())
    with pytest.raises(RuntimeError), network.ready():
        network.predict(**inputs, adapters=adapters).square().mean().backward()
        network.predict(**inputs | {"context": inputs["context"][..., :3]}, adapters=adapters)
    assert not comfy.model_management.in_training and not adapters.enabled
    for module in network.unet.modules():
        assert not module._forward_hooks and "forward" not in vars(module)
    for name, weight in network.unet.state_dict().items():
        assert torch.equal(weight, before[name])
    assert all(weight.grad is None for weight in network.unet.parameters())


@pytest.mark.parametrize(
    ("sampling", "prediction"), [("eps", "eps"), ("v_prediction", "v"), ("x0", None), ("img_to_img", None)]
)
def test_nodes_that_change_the_sampling_are_heard(part, tiny, comfy, sampling, prediction):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3

    network = part("training.network").Network
    (model,) = ModelSamplingDiscrete().patch(tiny("sd1").model, sampling, False)
    if prediction:
        assert network(model).prediction == prediction
    else:
        with pytest.raises(ValueError, match="training knows models that predict noise"):
            network(model)
    (flow,) = ModelSamplingSD3().patch(tiny("sd1").model, 3.0)
    with pytest.raises(ValueError, match="sampled by .*CONST"):
        network(flow)
