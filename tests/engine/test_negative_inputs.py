"""What stands in a negative input is never the bound conditioning, whatever of it was copied there."""

import pytest
import torch

from attention_reference import record, sample
from gradients import slowly
from guiding import LOSSES
from modulate import ALL
from techniques import TECHNIQUES, TechniquesBench

ONE_LOSS = [name for name in TECHNIQUES if name not in LOSSES[1:]]
"""Guidance by one of its losses: what it acts on is the same for all."""
COPIES = ["zeroed", "same", "average", "masked", "area", "hooked", "combined"]


class Bench(TechniquesBench):
    """With what graphs make of a conditioning for a negative input."""

    def copied(self, kind: str, conditioning: list) -> list:
        """What a graph makes of a conditioning."""
        nodes, other = self.comfy.nodes, self.encode("bad")
        (zeroed,) = nodes.ConditioningZeroOut().zero_out(conditioning)
        if kind == "average":
            return nodes.ConditioningAverage().addWeighted(zeroed, other, 0.5)[0]
        if kind == "masked":
            return nodes.ConditioningSetMask().append(conditioning, torch.ones(1, 64, 64), "default", 0.7)[0]
        if kind == "area":
            return nodes.ConditioningSetArea().append(zeroed, 32, 64, 0, 0, 1.0)[0]
        if kind == "hooked":
            return self.hooked(zeroed)
        return {"zeroed": zeroed, "same": conditioning, "combined": zeroed + other}[kind]

    def hooked(self, conditioning: list) -> list:
        import comfy.hooks

        group = comfy.hooks.create_hook_lora(self.lora_weights(".attn2.to_v"), 1.0, 0.0)
        return comfy.hooks.set_hooks_for_conditioning(conditioning, hooks=group)


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return Bench(comfy, part, tiny("sd1"))


def without_keys(conditioning: list) -> list:
    return [
        [rows, {name: value for name, value in options.items() if not name.startswith("semantic_binding")}]
        for rows, options in conditioning
    ]


@pytest.mark.parametrize("technique", ONE_LOSS)
@pytest.mark.parametrize("kind", slowly(["zeroed", "same"], ["zeroed"]))
def test_a_copy_in_the_negative_input(bench, technique, kind):
    model, positive = bench.with_technique(technique)
    negative = bench.copied(kind, positive)
    with_key = bench.run(model, positive, negative).latent
    assert torch.equal(with_key, bench.run(model, positive, without_keys(negative)).latent)
    if technique not in ("nothing", "recorder"):
        plain = bench.run(bench.model, bench.positive, without_keys(negative)).latent
        assert not torch.equal(with_key, plain), "the technique has acted"


@pytest.mark.slow
@pytest.mark.parametrize("technique", ["modulation", "merge"])
@pytest.mark.parametrize("kind", [kind for kind in COPIES if kind not in ("zeroed", "same")])
def test_other_copies_in_the_negative_input(bench, technique, kind):
    """What a copy is known by is the same for all techniques."""
    test_a_copy_in_the_negative_input(bench, technique, kind)


@pytest.mark.parametrize("technique", slowly(ONE_LOSS, ["modulation", "merge"]))
@pytest.mark.parametrize("kind", slowly(["zeroed", "same"], ["same"]))
@pytest.mark.parametrize("guider", ["perpendicular", "dual"])
def test_copies_in_guiders_of_several_inputs(bench, technique, kind, guider):
    """A zeroed copy also where a guider draws what it is given: cond2 of DualCFGGuider."""
    from comfy_extras.nodes_custom_sampler import DualCFGGuider
    from comfy_extras.nodes_perpneg import PerpNegGuider

    model, positive = bench.with_technique(technique)
    zeroed, copied = bench.copied("zeroed", positive), bench.copied(kind, positive)

    def ran(change):
        if guider == "perpendicular":
            made = PerpNegGuider.execute(model, positive, change(copied), change(zeroed), 4.0, 0.5)
        else:
            made = DualCFGGuider.execute(model, positive, change(zeroed), change(copied), 4.0, 2.0, "regular")
        return bench.guided(made.args[0]).latent

    assert torch.equal(ran(lambda conditioning: conditioning), ran(without_keys))


@pytest.mark.parametrize("kind", COPIES)
def test_maps_are_those_of_the_positive_prompt(bench, kind):
    model, maps = record(bench.part, bench.model, bench.bound)
    negative = bench.copied(kind, bench.positive)
    found = [
        maps.find(sample(bench.comfy, model, bench.positive, each, size=(8, 8))).grids
        for each in (negative, without_keys(negative))
    ]
    for with_key, without in zip(*found, strict=True):
        assert torch.equal(with_key.maps, without.maps)


def test_a_zeroed_copy_beside_the_prompt(bench):
    """Combined with the prompt, as graphs do for ranges of timesteps: no technique counts it."""
    (zeroed,) = bench.comfy.nodes.ConditioningZeroOut().zero_out(bench.positive)
    model = bench.modulated(**ALL)
    latents = [bench.run(model, bench.positive + each).latent for each in (zeroed, without_keys(zeroed))]
    assert torch.equal(*latents)


def test_a_prompt_bound_for_the_negative_input_is_refused(bench):
    model = bench.modulated(focus=ALL["focus"])
    with pytest.raises(ValueError, match="as a negative prompt it does not count"):
        bench.run(model, bench.negative, bench.positive)
