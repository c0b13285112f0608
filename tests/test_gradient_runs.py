"""Passes with gradients in runs of the real ComfyUI: what they leave behind, what they need, and what they refuse."""

from collections import Counter

import pytest
import torch

from attention_reference import in_threads, record
from gradients import STILL, GradientBench, soft
from merge import GRADIENT, PLAN, unet_calls
from modulation_reference import Focus

KERNELS = ["attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch", "without gradient"]
LINES = 2 * (2 + 2)
"""Losses of PLAN in a run: two steps with two iterations of both kinds."""
REFUSED = "Another node takes gradients through the sampler's model calls"


def slowly(values, fast):
    """Parameters; all but the fast ones are for the slow tests."""
    return [pytest.param(value, marks=[] if value in fast else pytest.mark.slow) for value in values]


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

    monkeypatch.setattr(part("nodes.token_merge"), "reporter", lambda node: report)
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


@pytest.mark.parametrize("batch", slowly([1, 2], [2]))
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
        layer for layer in part("attention.layers").layers_of(sd1.model) if layer.key == ("output", 11, 0)
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
    entities, of_a_row = 2, part("attention.gradient").memory_of_a_row(sd1.model.model, [1, 4, 8, 8])
    assert merged < entities * of_a_row <= once < entities * of_a_row + merged
    assert 3 * entities * of_a_row <= thrice < 3 * entities * of_a_row + merged


@pytest.mark.parametrize("mode", slowly(["paper", "published code"], ["paper"]))
def test_short_of_memory(comfy, part, tiny, controlnet, monkeypatch, mode):
    """Rows that do not fit into one pass are computed one after the other, and it makes no difference."""
    one = GradientBench(comfy, part, soft(comfy, tiny, "sd1"))
    conds = controlnet(one.merged.conditioning, one.negative)
    model = one.optimized(mode=mode, token_step_size=100.0, row_step_size=0.005)
    whole = one.merged_latent(model, *conds, batch=2)
    monkeypatch.setattr(part("attention.gradient").ModelCall, "rows_at_once", 1)
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


@pytest.mark.parametrize("name", slowly(KERNELS, ["attention_split", "without gradient"]))
def test_attention_kernels(sd1, part, monkeypatch, name):
    """Whatever ComfyUI computes attention with: passes with gradients take PyTorch's, all others are left alone."""
    from comfy.ldm.modules import attention as core

    kernel = getattr(core, name, core.attention_pytorch)
    with_gradient, without = [], []

    @core.wrap_attn
    def chosen(q, k, v, heads, *args, **kwargs):
        (with_gradient if kwargs["transformer_options"].get(GRADIENT) else without).append(q.shape)
        with torch.no_grad():
            return kernel(q, k, v, heads, *args, **kwargs)

    model = sd1.optimized()
    expected = sd1.merged_latent(model)
    for module in (core, part("attention.patching")):
        monkeypatch.setattr(module, "optimized_attention", chosen)
    latent = sd1.merged_latent(model)
    assert not with_gradient
    assert len(without) == 2 * 2 * 16, "self- and cross-attention, 16 blocks, two steps"
    assert (latent - expected).abs().max() < 1e-3 * expected.abs().max()


def test_attention_override_of_another_pack(sd1, merged):
    """It sees every attention of every pass, and what it does has a gradient."""
    calls = []

    def override(function, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        calls.append((bool(options.get(GRADIENT)), function.__name__))
        return function(q, k, 1.1 * v, *args, **kwargs)

    def overridden(model):
        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = override
        return model

    without = sd1.merged_latent(overridden(sd1.merged.model))
    count = len(calls)
    assert (without - merged).abs().max() > 1e-3
    calls.clear()
    assert torch.equal(sd1.merged_latent(overridden(sd1.optimized(**STILL))), without)
    assert [ours for ours, _ in calls].count(False) == count
    assert {name for ours, name in calls if ours} == {"attention_pytorch"}
    assert len({ours for ours, _ in calls}) == 2
    moved = sd1.merged_latent(overridden(sd1.optimized()))
    assert (moved - without).abs().max() > 1e-3


@pytest.mark.parametrize("key", slowly(["pair", "triple"], ["pair"]))
@pytest.mark.parametrize("before", [True, False], ids=["theirs first", "theirs last"])
def test_another_pack_replaces_cross_attention(sd1, merged, key, before):
    """As IPAdapter packs do: it is called in passes with gradients as well, and they go through it."""
    from comfy.ldm.modules.attention import optimized_attention

    called = []

    def adapter(q, k, v, extra):
        called.append(bool(extra.get(GRADIENT)))
        return 0.5 * optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)

    def adapted(model):
        model = model.clone()
        for number in (4, 5, 7):
            model.set_model_attn2_replace(adapter, "input", number, 0 if key == "triple" else None)
        return model

    without = sd1.merged_latent(adapted(sd1.merged.model))
    assert (without - merged).abs().max() > 1e-3
    models = [
        sd1.optimized(adapted(sd1.merged.model), **plan) if before else adapted(sd1.optimized(**plan))
        for plan in (STILL, {})
    ]
    called.clear()
    assert torch.equal(sd1.merged_latent(models[0]), without)
    assert called.count(False) == 2 * 3
    with unet_calls(sd1.model) as calls:
        assert (sd1.merged_latent(models[1]) - without).abs().max() > 1e-3
    assert called.count(True) == 2 * 3 * sum(call.ours for call in calls)


def guided_from_outside(model, scale=0.1):
    """A node of another pack that takes gradients through a sampler's prediction."""
    from comfy.patcher_extension import WrappersMP

    def guided(executor, x, timestep, *args, **kwargs):
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().requires_grad_()
            found = executor(leaf, timestep.clone(), *args, **kwargs)
        return found.detach() + scale

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "another", guided)
    return clone


def test_nested_guidance_is_refused(sd1, merged):
    model = guided_from_outside(sd1.optimized())
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match=REFUSED):
        sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(), merged)


def test_guidance_around_a_model_call_is_refused(sd1, part, merged):
    """A node of another pack that takes gradients around every forward pass, as this pack does."""
    from comfy.patcher_extension import WrappersMP

    def guided(executor, x, *args, **kwargs):
        with part("attention.gradient").differentiable(executor.class_obj):
            return executor(x.clone().requires_grad_(), *args, **kwargs).detach()

    model = sd1.optimized().clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "another", guided)
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match=REFUSED):
        sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(), merged)


def test_flagged_model_calls_are_left_alone(sd1, merged):
    """Another pack's own passes with gradients carry the flag: in them nothing is merged, optimised or recorded."""
    from comfy.samplers import calc_cond_batch

    found = {}

    def once_more(model, name):
        def pre_cfg(args):
            options = {**args["model_options"]}
            options["transformer_options"] = {**options["transformer_options"], GRADIENT: True}
            own = calc_cond_batch(args["model"], [args["conds"][0]], args["input"], args["timestep"], options)[0]
            found.setdefault(name, []).append(own)
            return args["conds_out"]

        clone = model.clone()
        clone.set_model_sampler_pre_cfg_function(pre_cfg)
        return clone

    sd1.latent(once_more(sd1.model, "plain"), sd1.merged.conditioning, size=(8, 8))
    optimized = sd1.optimized()
    assert torch.equal(sd1.merged_latent(once_more(optimized, "optimized")), sd1.merged_latent(optimized))
    assert torch.equal(found["optimized"][0], found["plain"][0])
    assert len(found["optimized"]) == 2


def test_model_calls_in_threads(sd1, monkeypatch):
    """As with several GPUs: the passes with gradients are made before, on the device of the sampler."""
    sd1.apart(monkeypatch)
    expected = sd1.merged_latent(sd1.optimized())
    with torch.inference_mode(), sd1.unchanged():
        latent = sd1.merged_latent(in_threads(sd1.optimized()))
    assert (latent - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("last", slowly([True, False], [True]), ids=["recorder last", "recorder first"])
def test_recorder_sees_the_sampler_alone(sd1, part, merged, last):
    """No pass with gradients is recorded; what is recorded is the attention to the optimised tokens."""

    def recorded(plan):
        model = sd1.merged.model
        if last:
            model = sd1.optimized(model, **plan) if plan is not None else model
            model, maps = record(part, model, sd1.bound, keep=1)
        else:
            model, maps = record(part, model, sd1.bound, keep=1)
            model = sd1.optimized(model, **plan) if plan is not None else model
        latent = sd1.merged_latent(model, steps=3)
        return maps.find({"samples": latent})

    without, still, moved = recorded(None), recorded(STILL), recorded({})
    assert without.steps == still.steps == moved.steps
    for one, other, third in zip(without.grids, still.grids, moved.grids, strict=True):
        assert torch.equal(one.maps, other.maps)
        assert not torch.equal(one.maps, third.maps)


@pytest.mark.parametrize("same_layer", slowly([True, False], [False]))
def test_object_focused_attention_in_the_same_run(sd1, merged, same_layer):
    """Its assignment of patches is that of the sampler's calls, whatever passes there were before them."""
    focus = Focus(0.0, 1.0, same_layer=same_layer)

    def focused(model):
        return sd1.modulated(model, focus=focus)

    without = sd1.merged_latent(focused(sd1.merged.model), steps=3)
    assert not torch.equal(without, sd1.merged_latent(steps=3))
    for models in (sd1.optimized(focused(sd1.merged.model), **STILL), focused(sd1.optimized(**STILL))):
        assert torch.equal(sd1.merged_latent(models, steps=3), without)
    moved = sd1.merged_latent(focused(sd1.optimized()), steps=3)
    assert (moved - without).abs().max() > 1e-3


def test_plan_of_these_tests():
    assert LINES == sum(PLAN[f"{kind}_steps"] * PLAN[f"{kind}_iterations"] for kind in ("token", "entropy"))
