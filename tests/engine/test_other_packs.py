"""Beside ways in which other packs patch ComfyUI, each imitated: they compose, or an error says why they do not."""

import functools
import math
from contextlib import contextmanager
from types import MethodType

import pytest
import torch

from attention_reference import record, sample
from modulate import ALL
from techniques import TECHNIQUES, TechniquesBench

PACK = __name__.partition(".")[0]
"""What errors call the functions of this file."""
ON_THE_PROMPT = ["recorder", "modulation", "attend and excite"]
"""Those that act on the attention to the prompt."""


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return TechniquesBench(comfy, part, tiny("sd1"))


def every_other_row(q, k, v, extra):
    """CLIP NegPip: keys and values are rows of the context in turn."""
    return q, k[:, 0::2], v[:, 1::2]


def test_text_encoder_that_doubles_rows_is_refused(bench, tiny, monkeypatch):
    """The other half of CLIP NegPip."""
    clip = tiny("sd1", own=True).clip
    model = clip.cond_stage_model.clip_l
    encode = model.encode_token_weights

    def doubled(pairs):
        rows, *rest = encode(pairs)
        return rows.repeat_interleave(2, 1), *rest

    monkeypatch.setattr(model, "encode_token_weights", doubled)
    node = bench.part("nodes.parsing.prompt").SBBindPrompt
    with torch.inference_mode(), pytest.raises(ValueError, match="makes 154 rows of 77 tokens.*CLIP NegPip"):
        node.execute(clip, "a red cat", "cat: red")


def test_contexts_of_one_row_are_given_twice(bench):
    """No patch that takes every other row is left without keys, which would end the process."""
    seen = []

    def patch(q, k, v, extra):
        seen.append(k.shape[1])
        return every_other_row(q, k, v, extra) if k.shape[1] == 2 else (q, k, v)

    model = bench.merged.model.clone()
    model.set_model_attn2_patch(patch)
    optimized, losses = bench.optimize(model)
    ran = bench.run(optimized, bench.merged.conditioning)
    assert ran.latent.isfinite().all()
    assert set(seen) == {2, 77}
    plain, others = bench.optimize(bench.merged.model)
    expected = bench.run(plain, bench.merged.conditioning).entries(others)
    assert ran.entries(losses)[0].values[0] == pytest.approx(expected[0].values[0], rel=1e-4)


@pytest.mark.parametrize("technique", ON_THE_PROMPT)
def test_every_other_row_of_the_prompt_is_refused(bench, technique):
    """Of an even number of rows, so that the pack itself has no problem."""
    model, positive = bench.with_technique(technique)
    (joined,) = bench.comfy.nodes.ConditioningConcat().concat(positive, bench.encode("a park"))
    model = model.clone()
    model.set_model_attn2_patch(every_other_row)
    with pytest.raises(ValueError, match="leaves 77 of the 154 rows of the prompt.*NegPip"):
        bench.run(model, joined)


def guided_by_itself(model, positive, negative, nag_negative):
    """KSamplerWithNAG: a guider that is called past ComfyUI's wrapper of predictions, and a network whose forward
    function gives its attention more prompts than pictures; all is undone only when all goes well."""
    from comfy.samplers import CFGGuider

    unet, more = model.model.diffusion_model, nag_negative[0][0]

    def attended(self, x, context=None, value=None, mask=None, transformer_options=None):
        count = len(context) - len(x)
        value = context if value is None else value
        own = type(self).forward(self, x, context[:-count], value[:-count], mask, transformer_options)
        guided = type(self).forward(self, x[-count:], context[-count:], transformer_options=transformer_options)
        own = own.clone()
        own[-count:] = 0.5 * own[-count:] + 0.5 * guided
        return own

    def forward(self, x, timesteps=None, context=None, **kwargs):
        modules = [module for name, module in self.named_modules() if name.endswith("attn2")]
        for module in modules:
            module.forward = MethodType(attended, module)
        length = math.lcm(context.shape[1], more.shape[1])
        parts = [each.repeat(1, length // each.shape[1], 1) for each in (context, more.to(context))]
        found = type(self).forward(self, x, timesteps, torch.cat(parts), **kwargs)
        for module in modules:
            del module.forward
        return found

    class Guider(CFGGuider):
        def __call__(self, *args, **kwargs):
            return self.predict_noise(*args, **kwargs)

        def sample(self, *args, **kwargs):
            unet.forward = MethodType(functools.partial(forward), unet)
            found = super().sample(*args, **kwargs)
            del unet.forward
            return found

    guider = Guider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(4.0)
    return guider


@pytest.mark.parametrize("technique", [name for name in TECHNIQUES if name not in ("nothing", "composition")])
def test_a_guider_that_takes_the_forward_functions_over(bench, technique):
    """What changes the prompt's rows or self-attention works; what acts on attention to the prompt says so, and leaves
    nothing of that guider behind."""
    model, positive = bench.with_technique(technique)
    before, blurred = bench.run().latent, bench.encode("blurred")

    def ran(model, positive):
        return bench.guided(guided_by_itself(model, positive, bench.negative, blurred)).latent

    plain = ran(bench.model, bench.positive)
    if technique in ("merge", "structured"):
        assert (ran(model, positive) - plain).abs().max() > 1e-3
        return
    with pytest.raises(ValueError, match="attention to . prompts for . pictures.*normalised attention guidance"):
        ran(model, positive)
    assert torch.equal(bench.run().latent, before)
    assert torch.equal(ran(bench.model, bench.positive), plain)


def test_an_error_before_the_first_step_leaves_nothing_either(bench):
    """The sampler is not given the bound prompt."""
    before = bench.run().latent
    model = bench.modulated(focus=ALL["focus"])
    with pytest.raises(ValueError, match="nothing to act on"):
        bench.guided(guided_by_itself(model, bench.negative, bench.negative, bench.encode("blurred")))
    assert torch.equal(bench.run().latent, before)


def test_temperature_beside_such_a_guider(bench):
    from modulation_reference import Temperature

    blurred = bench.encode("blurred")
    found = [
        bench.guided(guided_by_itself(model, bench.positive, bench.negative, blurred)).latent
        for model in (bench.model, bench.modulated(temperature=Temperature(0.4, 0.0, 1.0)))
    ]
    assert (found[0] - found[1]).abs().max() > 1e-3


class PastTheWrappers:
    """A guider of another pack that asks the network itself."""

    def __new__(cls, model, positive):
        from comfy.samplers import CFGGuider

        class Guider(CFGGuider):
            def predict_noise(self, x, timestep, model_options=None, seed=None):
                context = positive[0][0]
                return self.inner_model.apply_model(x, timestep, c_crossattn=context, transformer_options={})

        guider = Guider(model)
        guider.set_conds(positive, positive)
        return guider


@pytest.mark.slow
@pytest.mark.parametrize("technique", [name for name in TECHNIQUES if name not in ("nothing", "composition")])
def test_a_guider_past_the_wrappers_is_named(bench, technique):
    model, positive = bench.with_technique(technique)
    with pytest.raises(ValueError, match=rf"had no effect on this picture.*the guider Guider of {PACK}"):
        bench.sampled(PastTheWrappers(model, positive), size=(8, 8))


@pytest.mark.parametrize("technique", ON_THE_PROMPT)
def test_replaced_functions_are_named(bench, technique):
    """Another pack's forward functions in the place of the transformer blocks', which know no replacements."""
    from comfy.ldm.modules.attention import BasicTransformerBlock

    def forward(self, x, context=None, transformer_options=None):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context=context)
        return x + self.ff(self.norm3(x))

    model, positive = bench.with_technique(technique)
    blocks = [each for each in bench.model.model.modules() if isinstance(each, BasicTransformerBlock)]
    for block in blocks:
        block.forward = MethodType(forward, block)
    named = f"forward functions of {PACK}"
    told = "keeps the attention layers" if technique == "attend and excite" else named
    try:
        with pytest.raises(ValueError, match=told):
            bench.run(model, positive)
    finally:
        for block in blocks:
            del block.forward


def test_a_recorder_is_named_before_a_viewer_asks(bench):
    model, maps = record(bench.part, bench.model, bench.bound)
    with pytest.raises(ValueError, match="Record Attention had no effect"):
        bench.sampled(PastTheWrappers(model, bench.positive), size=(8, 8))
    latent = sample(bench.comfy, model, bench.positive, bench.negative, size=(8, 8))
    assert maps.find(latent).grids, "the next run is recorded"


def test_techniques_without_anything_to_do_stay_silent(bench):
    """Outside their steps, or with settings that change nothing."""
    from modulation_reference import Temperature, Weights

    still = bench.modulated(temperature=Temperature(1.0), weights=Weights((1.0, 1.0), (1.0, 1.0)))
    assert torch.equal(bench.run(still).latent, bench.run().latent)


def test_a_conditioning_that_no_step_uses_is_told(bench, caplog):
    """Its timestep range ends before the run begins, beside one that is not bound."""
    model = bench.modulated(**ALL)
    with caplog.at_level("WARNING"):
        bench.run(model, bench.positive)
        assert "was not used at any step" not in caplog.text
        (early,) = bench.comfy.nodes.ConditioningSetTimestepRange().set_range(bench.positive, 0.0, 0.001)
        bench.run(model, [*early, *bench.encode("a park")], denoise=0.5)
    assert "was not used at any step of this run" in caplog.text


@pytest.mark.parametrize("technique", ["recorder", "modulation", "structured", "attend and excite"])
def test_noise_on_what_the_model_gets(bench, technique):
    """CADS: conditionings are copied in every step, and the copies' text changed."""

    def noisy(model):
        def function(executor, network, conds, x, timestep, options):
            changed = []
            for group in conds:
                copies = [{**cond, "model_conds": {**cond["model_conds"]}} for cond in group or ()]
                for cond in copies:
                    text = cond["model_conds"]["c_crossattn"]
                    cond["model_conds"]["c_crossattn"] = text._copy_with(text.cond * 1.01)
                changed.append(copies)
            return executor(network, changed, x, timestep, options)

        clone = model.clone()
        clone.add_wrapper_with_key("calc_cond_batch", "another", function)
        return clone

    model, positive = bench.with_technique(technique)
    plain = bench.run(noisy(bench.model)).latent
    found = bench.run(noisy(model), positive).latent
    assert torch.equal(found, plain) == (technique == "recorder")
    if technique == "recorder":
        recording, maps = record(bench.part, bench.model, bench.bound)
        latent = sample(bench.comfy, noisy(recording), bench.positive, bench.negative, size=(8, 8))
        assert maps.find(latent).grids


@pytest.mark.parametrize("technique", ["attend and excite", "optimization"])
def test_blocks_without_gradients_are_told(bench, technique):
    """Token Perturbation Guidance has every block's forward function compute without them."""
    from comfy.ldm.modules.attention import BasicTransformerBlock

    model, positive = bench.with_technique(technique)
    blocks = [each for each in bench.model.model.modules() if isinstance(each, BasicTransformerBlock)]
    for block in blocks:
        block.forward = torch.no_grad()(MethodType(BasicTransformerBlock.forward, block))
    try:
        with pytest.raises(ValueError, match="a part of this model without gradients"):
            bench.run(model, positive)
    finally:
        for block in blocks:
            del block.forward


@contextmanager
def computed_twice(model):
    """Reference ControlNets: before each pass one of another picture, in the same model call."""
    network = model.model.diffusion_model
    original = network._forward

    def forward(x, *args, **kwargs):
        with torch.no_grad():
            original(x.flip(-1), *args, **kwargs)
        return original(x, *args, **kwargs)

    network._forward = forward
    try:
        yield
    finally:
        del network._forward


@pytest.mark.parametrize("technique", ["recorder", "modulation", "structured", "merge"])
def test_a_network_that_is_computed_twice(bench, technique):
    """What it says of the other picture is thrown away. Object-Focused Attention has seen it too."""
    model, positive = bench.with_technique(technique)
    once = bench.run(model, positive).latent
    with computed_twice(bench.model):
        found = bench.run(model, positive).latent
    assert found.isfinite().all()
    assert torch.equal(found, once) or technique == "modulation"


@pytest.mark.parametrize("technique", ["attend and excite", "optimization"])
def test_gradients_of_a_network_that_is_computed_twice(bench, technique):
    model, positive = bench.with_technique(technique)
    with computed_twice(bench.model), pytest.raises(ValueError, match="without gradients"):
        bench.run(model, positive)


def test_packs_around_the_network_are_named_when_it_fails(bench):
    """They may keep what they have begun to when the pass with gradients ends before its last layer."""
    from comfy.patcher_extension import WrappersMP

    begun = []

    def wrapper(executor, x, *args, **kwargs):
        torch.cat([*begun, x])
        begun.append(torch.zeros(1))
        found = executor(x, *args, **kwargs)
        begun.clear()
        return found

    model, positive = bench.with_technique("optimization")
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "theirs", wrapper)
    with pytest.raises(ValueError, match=f"functions of {PACK} on this model.*[Tt]ensors must"):
        bench.run(model, positive)


@pytest.mark.parametrize("technique", ["optimization", "composition"])
def test_attention_of_others_that_takes_only_what_it_knows(bench, technique):
    """Dense Diffusion: a mask over the rows of the prompt, made for one positive and one negative conditioning."""
    from comfy.ldm.modules.attention import optimized_attention

    mask = torch.ones(2, 77)

    def attend(q, k, v, extra):
        assert len(extra["cond_or_uncond"]) <= 2
        return optimized_attention(q, k * mask[:1, :, None], v, extra["n_heads"])

    model, positive = bench.with_technique(technique)
    model = model.clone()
    for layer in bench.part("attention.engine.layers").layers_of(model):
        model.set_model_attn2_replace(attend, *layer.key)
    with pytest.raises(ValueError, match=f"functions of {PACK} on this model: take their nodes off"):
        bench.run(model, positive)


def test_layers_that_hand_on_fewer_options(bench):
    """The blocks of reference ControlNets know nothing of attn_precision."""
    q, k, v = torch.randn(3, 1, 4, 8)
    attend = bench.part("attention.engine.patching")._attention
    assert torch.equal(attend(q, k, v, {"n_heads": 2}), attend(q, k, v, {"n_heads": 2, "attn_precision": None}))
