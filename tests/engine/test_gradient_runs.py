"""Passes with gradients in runs of the real ComfyUI: what they leave behind, what they need, and what they refuse."""

from collections import Counter

import pytest
import torch

from attention_reference import record
from gradients import STILL, GradientBench, slowly, soft
from merge import GRADIENT, PLAN, unet_calls

LINES = 2 * (2 + 2)
"""Losses of PLAN in a run: two steps with two iterations of both kinds."""


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return GradientBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def sdxl(comfy, part, tiny):
    return GradientBench(comfy, part, tiny("sdxl"))


@pytest.fixture(scope="module")
def plain(sd1):
    """The latents of a run without the pack's nodes."""
    return sd1.latent(size=(8, 8))


@pytest.fixture(scope="module")
def merged(sd1):
    """Those of the merged prompt."""
    return sd1.merged_latent()


def reporting(part, monkeypatch, act):
    """Have ``act(number)`` called with every line of progress; returns the lines."""
    lines = []

    def report(text):
        lines.append(text)
        act(len(lines))

    monkeypatch.setattr(part("nodes.token_merge.optimization"), "reporter", lambda node: report)
    return lines


def interrupt():
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


def test_run_leaves_nothing(sd1, plain, merged):
    model = sd1.optimized()
    with torch.inference_mode(), sd1.unchanged(model):
        first = sd1.merged_latent(model)
    assert first.is_inference()
    assert (first - merged).abs().max() > 1e-3
    assert torch.equal(sd1.latent(size=(8, 8)), plain)
    assert torch.equal(sd1.merged_latent(), merged)
    assert torch.equal(sd1.merged_latent(model), first)


def test_nothing_is_left_between_steps(sd1):
    """A sampler's own work, and that of its callbacks, is in inference mode and without gradients."""
    from comfy.sample import sample

    modes = []

    def callback(step, denoised, x, steps):
        weights = sd1.model.model.diffusion_model.parameters()
        tensors = denoised, x, *weights
        modes.append(
            (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), all(t.is_inference() for t in tensors))
        )

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    conds, latent = (sd1.merged.conditioning, sd1.negative), torch.zeros_like(noise)
    with torch.inference_mode():
        sample(sd1.optimized(), noise, 3, 4.0, "euler", "normal", *conds, latent, callback=callback, disable_pbar=True)
    assert modes == [(True, False, True)] * 3


@pytest.mark.parametrize("line", slowly(range(1, LINES + 1), [1, 3, LINES]))
def test_interrupt_at_any_iteration(sd1, part, merged, monkeypatch, line):
    from comfy.model_management import InterruptProcessingException

    lines = reporting(part, monkeypatch, lambda number: interrupt() if number == line else None)
    model, losses = sd1.optimize(sd1.merged.model)
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(InterruptProcessingException):
        sd1.merged_latent(model)
    assert len(lines) == line, "the next iteration is not begun"
    with pytest.raises(ValueError, match="Nothing has been optimised"):
        losses.find({"samples": merged})
    assert torch.equal(sd1.merged_latent(), merged)


@pytest.mark.parametrize("line", [2, 4])
def test_error_in_the_middle(sd1, part, merged, monkeypatch, line):
    def fail(number):
        if number == line:
            raise ZeroDivisionError

    reporting(part, monkeypatch, fail)
    model = sd1.optimized()
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ZeroDivisionError):
        sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(), merged)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_error_within_a_pass(sd1, merged, where):
    """While the network's tensors are wrapped, and with a graph half made."""

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if where == "forward":
                raise ZeroDivisionError
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ZeroDivisionError

    def patch(h, options):
        return Failing.apply(h) if options.get(GRADIENT) else h

    broken = sd1.optimized()
    broken.set_model_input_block_patch(patch)
    with torch.inference_mode(), sd1.unchanged(broken), pytest.raises(ZeroDivisionError):
        sd1.merged_latent(broken)
    assert torch.equal(sd1.merged_latent(), merged)


def test_weights_in_a_pass_are_the_same_memory(sd1):
    """Ordinary tensors without gradients, on the storage of those that were loaded."""
    network = sd1.model.model
    loaded = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    buffers = {name for name, buffer in network.named_buffers() if buffer.is_inference()}

    def look(call, chunk, found):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            with torch._C.DisableTorchFunction():  # within the pass, operations are given ordinary tensors in any case
                assert not tensor.is_inference() and not tensor.requires_grad
            assert name not in loaded or tensor.data_ptr() == loaded[name]
        given = call.x, call.sigma, call.context, found, call.options["sigmas"], *call.extra.values()
        assert not any(each.is_inference() for each in given if torch.is_tensor(each))

    sd1.probed(look)
    assert buffers, "the noise schedule of the model is a buffer"


@pytest.mark.parametrize("mode", ["paper", "published code"])
@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_steps_of_size_0_give_the_same_bits(request, name, mode):
    one = request.getfixturevalue(name)
    run = {"batch": 2, "size": (8, 12)}
    with unet_calls(one.model) as calls:
        latent = one.merged_latent(one.optimized(mode=mode, **STILL), **run)
    assert sum(call.ours for call in calls) > LINES
    assert torch.equal(latent, one.merged_latent(**run))


@pytest.mark.parametrize(
    "changes", [{"token_steps": 0, "entropy_steps": 0}, {"token_iterations": 0, "entropy_steps": 0}]
)
def test_no_iterations_give_the_same_bits(sd1, merged, changes):
    assert torch.equal(sd1.merged_latent(sd1.optimized(**changes)), merged)


@pytest.fixture(scope="module")
def controlnet(comfy, tmp_path_factory):
    """``controlnet(positive, negative)``: both with a ControlNet."""
    from comfy.controlnet import load_controlnet

    from tiny_controlnet import write_controlnet

    path = tmp_path_factory.mktemp("control") / "control.safetensors"
    write_controlnet(path)
    with torch.inference_mode():
        control = load_controlnet(str(path))
    hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    apply = comfy.nodes.ControlNetApplyAdvanced().apply_controlnet
    return lambda positive, negative: apply(positive, negative, control, hint, 1.0, 0.0, 1.0)


@pytest.fixture
def controlled(sd1, controlnet):
    """The merged and the negative conditioning with a ControlNet."""
    return controlnet(sd1.merged.conditioning, sd1.negative)


@pytest.mark.parametrize("batch", slowly([1, 2], [1]))
def test_controlnet_survives(sd1, controlled, batch):
    """What a ControlNet adds is used up in a pass (each list is emptied), and is there for all others."""
    with_control = sd1.merged_latent(None, *controlled, batch=batch)
    assert (with_control - sd1.merged_latent(batch=batch)).abs().max() > 1e-3
    with unet_calls(sd1.model) as calls:
        still = sd1.merged_latent(sd1.optimized(**STILL), *controlled, batch=batch)
    assert torch.equal(still, with_control)
    assert [call.control for call in calls if not call.ours] == [True] * 2
    entropy = [call for call in calls if call.ours and call.chunks[0][1].shape[1] == 77 and call.control]
    assert len(entropy) == 2 * 2, "the maps are those of the run; anchors and composites are by themselves"
    moved = sd1.merged_latent(sd1.optimized(), *controlled, batch=batch)
    assert (moved - with_control).abs().max() > 1e-3


def test_gradient_with_a_controlnet(sd1, part, controlled):
    """The skip connections that it adds to are needed once more on the way back."""
    layers = frozenset(
        layer for layer in part("attention.engine.layers").layers_of(sd1.model) if layer.key == ("output", 11, 0)
    )

    def look(call, chunk, found):
        def attention(x):
            return call.with_(x=x).attention(layers, torch.eye(77))[0].probabilities[0, 5, 6]

        x = call.x.requires_grad_()
        (gradient,) = torch.autograd.grad(attention(x), x)
        step = 0.01 * gradient / gradient.norm()
        with torch.no_grad():
            expected = float(attention(x + step) - attention(x - step))
        assert float((gradient * step).sum()) * 2 == pytest.approx(expected, rel=0.05)

    sd1.probed(look, None, *controlled)


def test_passes_for_maps_end_with_the_last_layer(sdxl, part):
    """The rest of the network is not computed for the entropy loss, but is for the binding loss."""
    network, counts = sdxl.model.model.diffusion_model, Counter()
    blocks, (_, transformer) = network.output_blocks, network.output_blocks[1]
    parts = {"first": network.input_blocks[0][0], "seen": transformer.transformer_blocks[3].attn2.to_q}
    parts |= {"after": transformer.proj_out, "next": blocks[2][0], "last": network.out}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: counts.update([name])) for name, module in parts.items()
    ]
    sdxl.merged_latent(sdxl.optimized(token_steps=0, entropy_iterations=3))
    assert counts == {"first": 2 + 2 * 3, "seen": 2 + 2 * 3, "after": 2, "next": 2, "last": 2}
    counts.clear()
    sdxl.merged_latent(sdxl.optimized(entropy_steps=0, token_iterations=3))
    assert counts == dict.fromkeys(parts, 2 + 2 * (1 + 3))
    for handle in handles:
        handle.remove()


@pytest.mark.slow
def test_memory_is_reserved(sd1, part, monkeypatch):
    """What a backward pass needs, for all rows at a time, up to ComfyUI's estimate for one evaluation; and the weights
    are loaded as a whole."""
    import comfy.model_management

    asked, load = [], comfy.model_management.load_models_gpu

    def watched(models, *args, **options):
        if models[0].model is sd1.model.model:
            asked.append(options)
        return load(models, *args, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", watched)
    sd1.merged_latent()
    sd1.merged_latent(sd1.optimized())
    sd1.merged_latent(sd1.optimized(), batch=3)
    merged, once, thrice = (options["memory_required"] for options in asked)
    assert [options["force_full_load"] for options in asked] == [False, True, True]
    entities, of_a_row = 2, part("attention.engine.gradient").memory_of_a_row(sd1.model.model, [1, 4, 8, 8])
    assert merged < entities * of_a_row <= once < entities * of_a_row + merged
    assert 3 * entities * of_a_row <= thrice < 3 * entities * of_a_row + merged


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["paper", "published code"])
def test_short_of_memory(comfy, part, tiny, controlnet, monkeypatch, mode):
    """Rows that do not fit into one pass are computed one after the other, and it makes no difference."""
    one = GradientBench(comfy, part, soft(comfy, tiny, "sd1"))
    conds = controlnet(one.merged.conditioning, one.negative)
    model = one.optimized(mode=mode, token_step_size=100.0, row_step_size=0.005)
    whole = one.merged_latent(model, *conds, batch=2)
    monkeypatch.setattr(part("attention.engine.gradient").ModelCall, "rows_at_once", 1)
    with unet_calls(one.model) as calls:
        split = one.merged_latent(model, *conds, batch=2)
    assert {len(call.x) for call in calls if call.ours} == {1}
    assert (split - whole).abs().max() < 1e-4 * whole.abs().max()
    assert (split - one.merged_latent(None, *conds, batch=2)).abs().max() > 1e-2 * whole.abs().max()


def test_weights_that_can_be_dropped_are_not_wanted(sd1, part, monkeypatch):
    """Under dynamic memory management a backward pass would find other weights than the forward pass."""
    asked, clone = [], type(sd1.model).clone

    def watched(self, *args, **options):
        asked.append(options)
        return clone(self, *args, **options)

    monkeypatch.setattr(type(sd1.model), "clone", watched)
    sd1.merge()
    record(part, sd1.model, sd1.bound)
    assert asked == [{}, {}]
    sd1.optimized()
    assert asked[2:] == [{"disable_dynamic": True}]


def test_model_that_cannot_be_loaded_a_second_time(sd1, monkeypatch):
    def fail(self, disable_dynamic=False):
        assert disable_dynamic
        raise RuntimeError("Cannot create non-dynamic delegate.")

    monkeypatch.setattr(type(sd1.model), "clone", fail)
    with pytest.raises(ValueError, match="its loader cannot give one .Cannot create .* --disable-dynamic-vram"):
        sd1.optimized()


def test_plan_of_these_tests():
    assert LINES == sum(PLAN[f"{kind}_steps"] * PLAN[f"{kind}_iterations"] for kind in ("token", "entropy"))
