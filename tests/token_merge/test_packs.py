"""Semantic token merge with optimisation next to what else patches a model, the pack's other techniques included."""

import pytest
import torch

from attention_reference import record
from merge import COMPOSITES, PLAN, MergeBench, close, expected_shapes, shapes, values
from modulate import GROUPS
from modulation_reference import Focus, Temperature, Weights

SLOW = pytest.mark.slow
ALL = {"temperature": Temperature(0.6, 0.0, 0.6), "focus": Focus(0.0, 1.0), "weights": Weights()}


@pytest.fixture(scope="module")
def demo(comfy, part):
    return MergeBench.on_demo_model(comfy, part)


@pytest.fixture(scope="module", params=["sd1", pytest.param("sdxl", marks=SLOW)])
def bench(request, comfy, part, tiny):
    """Of one text encoder and of two; that the published numbers come out on each layout is in test_agreement.py."""
    return MergeBench(comfy, part, tiny(request.param))


@pytest.fixture(scope="module")
def without(bench):
    """A run next to nothing else, and its losses."""
    return bench.checked()


def differ(entries, others):
    """Whether any loss of the first step is another."""
    return [each.values for each in entries if each.step == 0] != [each.values for each in others if each.step == 0]


def test_lora(bench, without):
    """Gradients go through the patched weights, which are the model's own again afterwards."""
    model = bench.with_lora(".attn2.to_q", ".attn2.to_k", ".attn2.to_v")
    assert differ(bench.checked(model=model)[1], without[1])
    again, entries = bench.checked()
    assert torch.equal(again.latent, without[0].latent)
    assert entries == without[1]


@pytest.mark.slow
def test_lora_that_comes_with_a_conditioning(bench, without):
    """Hooks patch the weights for the calls of one conditioning: also for those that are differentiated."""
    from comfy import hooks as core

    group = core.create_hook_lora(bench.lora_weights(".attn2.to_v"), 1.0, 0.0)

    def hooked(conditioning):
        return core.set_hooks_for_conditioning(conditioning, group)

    before = {name: weight.clone() for name, weight in bench.model.model.state_dict().items()}
    assert differ(bench.checked(around=hooked)[1], without[1])
    after = bench.model.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("layout", ["sd1", pytest.param("sdxl", marks=SLOW)])
def test_controlnet(comfy, part, tiny, tmp_path, layout):
    """It takes part where the attention to the whole prompt is looked at, and not where a token stands alone."""
    bench = MergeBench(comfy, part, tiny(layout))
    _, apply = bench.controlnet(tmp_path, layout, (64, 64))
    negative = apply(bench.negative, bench.negative)[1]

    def controlled(conditioning):
        return apply(conditioning, bench.negative)[0]

    ran, entries = bench.checked(around=controlled, negative=negative)
    assert all(call.control for call in ran.own)
    with_control = [call for call in ran.passes if call.control]
    assert len(with_control) == sum(each.loss == "entropy" for each in entries)
    assert {rows.shape[1] for call in with_control for _, rows in call.chunks} == {77}
    plain, others = bench.checked()
    of_loss = [
        [each for each in found if each.loss == loss] for loss in ("binding", "entropy") for found in (entries, others)
    ]
    assert not differ(of_loss[0], of_loss[1])
    assert differ(of_loss[2], of_loss[3])
    assert not torch.equal(ran.latent, plain.latent)


def stock(name, model):
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_hypertile import HyperTile
    from comfy_extras.nodes_model_advanced import RescaleCFG
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
    from comfy_extras.nodes_nag import NAGuidance
    from comfy_extras.nodes_tomesd import TomePatchModel

    made = {
        "HyperTile": lambda: HyperTile.execute(model, 32, 2, 0, False),
        "ToMe": lambda: TomePatchModel.execute(model, 0.5),
        "FreeU": lambda: FreeU_V2.execute(model, 1.1, 1.2, 0.9, 0.2),
        "NAG": lambda: NAGuidance.execute(model, 3.0, 0.5, 2.0),
        "RescaleCFG": lambda: RescaleCFG().patch(model, 0.7),
        "Downscale": lambda: PatchModelAddDownscale.execute(model, 3, 2.0, 0.0, 0.9, True, "bicubic", "bicubic"),
    }[name]()
    return (made.args if hasattr(made, "args") else made)[0]


@pytest.mark.parametrize(
    "name",
    ["FreeU", *(pytest.param(name, marks=SLOW) for name in ("HyperTile", "ToMe", "NAG", "RescaleCFG", "Downscale"))],
)
def test_stock_model_patches(bench, without, name):
    ran, _ = bench.checked(model=stock(name, bench.model), size=(16, 16))
    assert not torch.equal(ran.latent, without[0].latent)


def test_perturbed_attention_guidance(bench):
    """Its extra pass is given the optimised rows and the shifted latent, and no step is optimised twice."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    ran, _ = bench.checked(model=PerturbedAttentionGuidance.execute(bench.model, 3.0).args[0])
    assert [[slot for slot, _ in call.chunks] for call in ran.own] == [[1, 0], [0]] * 2
    for call, perturbed in zip(ran.own[::2], ran.own[1::2], strict=True):
        assert torch.equal(call.of(0), perturbed.of(0))
        assert torch.equal(call.x[1:], perturbed.x)


def test_perturbed_attention_guidance_of_the_second_of_two_prompts(demo):
    """There its conditioning has another place among those of the call than in the main pass."""
    from comfy_extras.nodes_custom_sampler import DualCFGGuider
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    merged = demo.merge(PerturbedAttentionGuidance.execute(demo.model, 3.0).args[0])
    model, _ = demo.optimize(merged.model)
    conditionings = demo.encode("a park"), merged.conditioning, demo.negative
    ran = demo.guided(DualCFGGuider.execute(model, *conditionings, 4.0, 2.0, "regular").args[0])
    for call, perturbed in zip(ran.own[::2], ran.own[1::2], strict=True):
        assert torch.equal(call.of(1), perturbed.of(0))
        assert torch.equal(call.x[:1], perturbed.x)


@pytest.mark.slow
def test_self_attention_guidance(bench):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    bench.checked(model=SelfAttentionGuidance.execute(bench.model, 0.5, 2.0).args[0], size=(16, 16))


@pytest.mark.slow
def test_another_pack_replaces_cross_attention(bench, without):
    """As IPAdapter packs do: gradients go through what it adds."""
    from comfy.ldm.modules.attention import optimized_attention

    def adapter(q, k, v, extra):
        own = torch.linspace(-1, 1, k.shape[-1]).expand(len(k), 4, -1)
        return optimized_attention(q, k, v, extra["n_heads"]) + 0.5 * optimized_attention(q, own, own, extra["n_heads"])

    model = bench.model.clone()
    for layer in bench.part("attention.engine.layers").layers_of(bench.model):
        model.set_model_attn2_replace(adapter, layer.block, layer.number, layer.index)
    assert differ(bench.checked(model=model)[1], without[1])


def test_another_pack_appends_tokens(bench, without):
    """An attn2_patch that makes the context longer."""

    def longer(n, context, value, extra):
        more = context[:, :1].flip(-1)
        return n, torch.cat([context, more], 1), torch.cat([value, more], 1)

    model = bench.model.clone()
    model.set_model_attn2_patch(longer)
    assert differ(bench.checked(model=model)[1], without[1])


@pytest.mark.slow
def test_attention_override_of_another_pack_sees_every_pass(bench, without):
    seen = []

    def override(function, *args, **kwargs):
        seen.append(kwargs["transformer_options"].get("semantic_binding_gradient", False))
        return function(*args, **kwargs)

    model = bench.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    bench.checked(model=model)
    assert {True, False} == set(seen)


@pytest.mark.slow
def test_function_around_the_model_of_another_pack(bench, without):
    def wrapper(apply, args):
        return apply(args["input"], args["timestep"], **args["c"])

    model = bench.model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    ran, entries = bench.checked(model=model)
    assert torch.equal(ran.latent, without[0].latent)
    assert entries == without[1]


@pytest.mark.parametrize("name", ["focus", *(pytest.param(name, marks=SLOW) for name in ("temperature", "weights"))])
def test_other_techniques(bench, without, name):
    """Entropy is that of the attention as the techniques change it; tokens alone are predicted without them."""
    _, entries = bench.checked(model=bench.modulated(**{name: ALL[name]}))
    for loss, different in (("binding", False), ("entropy", True)):
        found, plain = ([each for each in of if each.loss == loss] for of in (entries, without[1]))
        assert differ(found, plain) == different


def test_short_memory_takes_one_row_at_a_time(demo, part, monkeypatch):
    """With the other techniques, which have patches and masks of their own for each latent."""
    model = demo.modulated(**ALL)
    together, entries = demo.checked(model=model, batch=2)
    monkeypatch.setattr(part("attention.engine.gradient").ModelCall, "rows_at_once", 1)
    ran, found = demo.checked(model=model, batch=2)
    assert {len(call.x) for call in ran.passes} == {1}
    assert close(ran.latent, together.latent)
    assert close(values(found), values(entries))


def test_order_of_the_nodes_does_not_matter(bench):
    merged = bench.merge()

    def with_nodes(order):
        model = bench.model
        for name in order:
            if name == "merge":
                model = bench.merge(model).model
            elif name == "optimize":
                model, losses = bench.optimize(model)
            elif name == "recorder":
                model, maps = record(bench.part, model, bench.bound, keep=1)
            else:
                model = bench.modulated(model, **{name: ALL[name]})
        ran = bench.run(model, merged.conditioning, steps=3)
        return ran.latent, ran.entries(losses), maps.find({"samples": ran.latent}).grids[0].maps

    names = ["merge", "optimize", *ALL, "recorder"]
    (latent, entries, maps), other = (with_nodes(order) for order in (names, names[::-1]))
    assert torch.equal(latent, other[0])
    assert entries == other[1]
    assert torch.equal(maps, other[2])


@pytest.mark.slow
def test_recorder_changes_nothing_and_sees_the_sampler_alone(bench):
    """Its maps are of the optimised rows in the sampler's own calls, one for each step."""
    merged = bench.merge()
    optimized, losses = bench.optimize(merged.model)
    recording, maps = record(bench.part, optimized, bench.bound, keep=1)
    ran = bench.run(recording, merged.conditioning, steps=3)
    assert torch.equal(ran.latent, bench.run(optimized, merged.conditioning, steps=3).latent)
    grids = maps.find({"samples": ran.latent}).grids
    assert all(grid.maps.shape[0] == 3 for grid in grids)
    with bench.watcher().watching() as reference:
        bench.run(recording, merged.conditioning, steps=3)
    own = [call for call in reference.calls if torch.equal(call.context[0], bench.negative[0][0][0])]
    assert len(own) == 3
    for step, call in enumerate(own):
        size = tuple(grids[0].maps.shape[-2:])
        expected = reference.maps(call.context[1:], GROUPS, size, 1, [call])
        assert (grids[0].maps[step, :, :2] - expected).abs().max() < 1e-4 * expected.max()


@pytest.mark.slow
def test_weights_are_on_the_same_rows(bench):
    """Stage weights and masks act on an entity's group, the emptied rows included: a run with all of it is what it is
    without optimisation where the step sizes are 0."""
    merged = bench.merge()
    model = bench.modulated(merged.model, **ALL)
    still, losses = bench.optimize(model, token_step_size=0.0, row_step_size=0.0, latent_step_size=0.0)
    ran = bench.run(still, merged.conditioning, steps=3)
    assert shapes(ran.entries(losses)) == expected_shapes(PLAN, 3)
    assert torch.equal(ran.latent, bench.run(model, merged.conditioning, steps=3).latent)


def test_two_techniques_that_change_the_rows(bench):
    """A substitution that begins later starts its rows anew, and leaves the optimised composites."""
    merged = bench.merge(from_step=2)
    model, _ = bench.optimize(merged.model, mode="published code")
    ran = bench.run(model, merged.conditioning, steps=4)
    early, late = ran.own[1].of(0), ran.own[2].of(0)
    assert (early[:, 8:] - merged.conditioning[0][0][:, 8:]).abs().max() > 0, "the published code moves all rows"
    assert torch.equal(late[:, 8:], bench.ends)
    assert torch.equal(late[:, :8], early[:, :8])
    assert (late - merged.conditioning[0][0])[:, COMPOSITES].abs().max() > 0
