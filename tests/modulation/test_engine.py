"""Attention modulation in a run: what changes nothing, what is recorded, what is left behind, what is refused."""

import itertools
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attention_reference import record
from modulate import ALL, GROUPS, Workbench
from modulation_reference import CLOSED, Focus, Temperature, Weights

SMALL = {"size": (8, 8)}


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return Workbench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def plain(sd1):
    """The latents of a run without the pack's nodes."""
    return sd1.latent(**SMALL)


def without_entities(bound, keep=0):
    binding = replace(bound.binding, entities=bound.binding.entities[:keep])
    return SimpleNamespace(**{**vars(bound), "binding": binding})


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": Temperature(1.0, 0.0, 1.0)},
        {"focus": Focus(0.0, 1.0, penalty=0.0)},
        {"weights": Weights((1.0, 1.0), (1.0, 1.0))},
    ],
    ids=["temperature 1", "penalty 0", "weights 1"],
)
def test_settings_that_ask_for_nothing_give_the_same_bits(sd1, plain, settings):
    assert torch.equal(sd1.latent(sd1.modulated(**settings), **SMALL), plain)


@pytest.mark.parametrize("keep", [0, 1], ids=["no entity", "one entity"])
def test_fewer_than_two_entities_have_nothing_to_keep_apart(sd1, plain, keep):
    model = sd1.modulated(bound=without_entities(sd1.bound, keep), focus=Focus(0.0, 1.0))
    assert torch.equal(sd1.latent(model, **SMALL), plain)


def test_each_of_the_techniques_changes_the_image(sd1, plain):
    latents = [plain] + [sd1.latent(sd1.modulated(**{name: settings}), **SMALL) for name, settings in ALL.items()]
    for one, other in itertools.combinations(latents, 2):
        assert (one - other).abs().max() > 1e-3


def test_order_of_the_nodes_does_not_matter(sd1, part, plain):
    def with_nodes(order):
        model, maps = sd1.model, None
        for name in order:
            if name == "recorder":
                model, maps = record(part, model, sd1.bound)
            else:
                model = sd1.modulated(model, **{name: ALL[name]})
        latent = sd1.latent(model, **SMALL)
        return latent, maps.find({"samples": latent}).grids[0].maps

    names = [*ALL, "recorder"]
    first, *rest = (with_nodes(order) for order in (names, names[::-1], names[1:] + names[:1], names[2:] + names[:2]))
    assert not torch.equal(first[0], plain)
    for latent, maps in rest:
        assert torch.equal(latent, first[0])
        assert torch.equal(maps, first[1])


@pytest.mark.parametrize("batch", [1, 2])
def test_recorder_sees_the_changed_attention(sd1, part, batch):
    model, maps = record(part, sd1.modulated(**ALL), sd1.bound, keep=1, resolution="latent", point=(0.4, 0.7))
    reference = sd1.watched(model, batch=batch)
    recording = maps.find({"samples": reference.latent})
    prompt = sd1.prompt(ALL["focus"], ALL["weights"])
    for step, call in enumerate(reference.calls):
        expected = reference.modulated_maps(prompt, call, (16, 16), batch)
        undisturbed = reference.maps(sd1.bound.embedding, GROUPS, (16, 16), batch, [call])
        found = recording.grids[0].maps[step].double()
        assert (found[:, :2] - expected).abs().max() < 1e-4 * expected.max()
        assert (expected - undisturbed).abs().max() > 0.1 * expected.max()
        tau = ALL["temperature"].tau
        point = reference.self_map(sd1.bound.embedding, (16, 16), row=11, column=6, calls=[call], tau=tau)
        assert (found[:, 2] - point).abs().max() < 1e-4 * point.max()


def test_patches_of_other_entities_get_nothing(sd1, part):
    """What a closed token gets of a patch's attention is nothing at all, so that no patch has both entities' tokens."""
    model, maps = record(part, sd1.modulated(focus=Focus(0.0, 1.0, same_layer=True)), sd1.bound, keep=1)
    latent = sd1.latent(model, **SMALL)
    layers = maps.find({"samples": latent}).grids[-1]
    assert layers.layers == ("middle 0.0",)
    cat, dog = layers.maps[0, 0]
    assert ((cat == 0) ^ (dog == 0)).all()


def test_runs_and_models_of_one_graph_leave_nothing_behind(sd1, plain):
    options = sd1.model.model_options["transformer_options"]
    before = dict(options)
    one = sd1.modulated(**ALL)
    other = sd1.modulated(focus=Focus(0.0, 1.0, same_layer=True))
    first, second = sd1.latent(one, **SMALL), sd1.latent(other, **SMALL)
    assert not torch.equal(first, second)
    assert torch.equal(sd1.latent(one, **SMALL), first)
    sd1.latent(one, size=(6, 10), batch=2)
    assert torch.equal(sd1.latent(one, **SMALL), first)
    assert torch.equal(sd1.latent(**SMALL), plain)
    assert options == before


@pytest.mark.parametrize("kind", ["error", "interrupt"])
@pytest.mark.parametrize("place", ["modulation.object_focus.entity_of_patches", "modulation.stage_weights.log_weights"])
def test_error_in_our_own_code_leaves_nothing(sd1, part, plain, monkeypatch, kind, place):
    from comfy.model_management import InterruptProcessingException

    expected = ZeroDivisionError if kind == "error" else InterruptProcessingException
    module, _, name = place.rpartition(".")
    model = sd1.modulated(**ALL)
    good = sd1.latent(model, **SMALL)
    original, calls = getattr(part(f"attention.{module}"), name), []

    def failing(*args):
        calls.append(args)
        if len(calls) == 2:
            raise expected
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(part(f"attention.{module}"), name, failing)
        with pytest.raises(expected):
            sd1.latent(model, **SMALL)
    assert torch.equal(sd1.latent(**SMALL), plain)
    assert torch.equal(sd1.latent(model, **SMALL), good)


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"focus": Focus()}, "Object-Focused Attention"), ({"weights": Weights()}, "Stage Weights")],
    ids=["focus", "weights"],
)
def test_conditioning_of_another_binding_is_refused_before_sampling(sd1, settings, name):
    other = sd1.bind("a red cat and a blue dog", "cat: red | dog: blue")
    reference = sd1.watcher()
    with (
        reference.watching(),
        pytest.raises(ValueError, match=f'{name} has nothing to act on.*"a red cat and a blue dog"'),
    ):
        sd1.latent(sd1.modulated(bound=other, **settings), **SMALL)
    assert reference.calls == []


def test_temperature_needs_no_binding(sd1, plain):
    unbound = sd1.encode("a red cat and a blue dog")
    model = sd1.modulated(temperature=Temperature(0.5, 0.0, 1.0))
    latent = sd1.latent(model, positive=unbound, **SMALL)
    assert torch.equal(sd1.latent(positive=unbound, **SMALL), plain)
    assert not torch.equal(latent, plain)


def test_two_nodes_of_a_kind_add_up(sd1):
    """Temperatures multiply, penalties and the logarithms of weights add."""
    one = {"focus": Focus(penalty=1.0), "weights": Weights((2.0, 1.0))}
    other = {"focus": Focus(penalty=0.5), "weights": Weights((0.25, 3.0), (1.0, 1.0))}
    model = sd1.modulated(temperature=Temperature(0.5, 0.0, 1.0), **one)
    model = sd1.modulated(model, temperature=Temperature(0.8, 0.0, 1.0), **other)
    prompt = sd1.prompt(Focus(penalty=1.5), Weights((0.5, 3.0)))
    sd1.watched(model).check([prompt], Temperature(0.4, 0.0, 1.0))


def test_entity_without_tokens(sd1, part):
    span, phrase = part("parsing.binding").Span(900, 905), part("parsing.binding").Phrase
    bound = SimpleNamespace(binding=sd1.bound.binding.with_entity("dog", noun=phrase("dog", (span,)), attributes=()))
    with pytest.raises(ValueError, match="no tokens in the conditioning, and so no attention, for: dog"):
        sd1.modulated(bound=bound, focus=Focus())


@pytest.mark.parametrize("order", [["weights"], ["weights", "focus"], ["focus", "weights"]])
def test_weights_without_the_mask_are_warned_of(sd1, order, caplog):
    model = sd1.model
    for name in order:
        model = sd1.modulated(model, **{name: ALL[name]})
    with caplog.at_level(logging.WARNING):
        sd1.latent(model, **SMALL)
    warnings = [text for text in caplog.messages if "without Object-Focused Attention" in text]
    assert len(warnings) == (1 if "focus" not in order else 0)


def test_mask_of_another_binding_does_not_count_for_the_weights(comfy, sd1, caplog):
    other = sd1.bind("a green bird and a big cat", "bird: green | cat: big")
    model = sd1.modulated(sd1.modulated(focus=Focus()), other, weights=Weights())
    with caplog.at_level(logging.WARNING):
        sd1.latent(model, positive=sd1.positive + other.conditioning, **SMALL)
    assert any("without Object-Focused Attention" in text for text in caplog.messages)


def test_mask_that_does_nothing_does_not_count_for_the_weights(sd1, caplog):
    with caplog.at_level(logging.WARNING):
        sd1.latent(sd1.modulated(focus=Focus(penalty=0.0), weights=Weights()), **SMALL)
    assert any("without Object-Focused Attention" in text for text in caplog.messages)


@pytest.mark.parametrize("settings", [{"focus": Focus()}, {"weights": Weights()}], ids=["focus", "weights"])
def test_conditioning_that_has_lost_rows_is_refused(sd1, settings):
    cut = [[sd1.positive[0][0][:, :40], sd1.positive[0][1]]]
    with pytest.raises(ValueError, match="has only 40 rows; its prompt has 77"):
        sd1.latent(sd1.modulated(**settings), positive=cut, **SMALL)


def test_plan_has_the_weights_of_each_step(sd1, part):
    plans = []
    shape, settings = (
        part("attention.modulation.stage_weights").Shape,
        part("attention.modulation.stage_weights").WeightSettings,
    )
    weights = settings(sd1.bound.binding, shape("linear", 1.2, 0.8), shape("step", 0.5, 2.0), False, plans.append)
    sd1.latent(part("attention.engine.sampling").with_technique(sd1.model, weights), steps=5, **SMALL)
    (plan,) = plans
    assert plan.words == pytest.approx((1.2, 1.1, 1.0, 0.9, 0.8))
    assert plan.entities == (0.5, 0.5, 2.0, 2.0, 2.0)
    assert plan.focused is False


def test_only_coarse_layers_are_looked_at(sd1, part, monkeypatch):
    """At 32 x 32 those of 16 x 16, once in each step: probabilities of the finest grid are never there."""
    calls, sizes = part("attention.engine.calls"), []
    original = calls.mean_probabilities

    def spy(q, *rest):
        sizes.append(q.shape[1])
        return original(q, *rest)

    monkeypatch.setattr(calls, "mean_probabilities", spy)
    sd1.latent(sd1.modulated(focus=Focus(0.5, 0.75), weights=Weights()), size=(32, 32), steps=4)
    assert sizes == [16 * 16] * 5 * 2, "five layers, in the step before the first and in the only one"


def test_masks_need_no_look_at_the_attention(sd1, part, monkeypatch):
    monkeypatch.setattr(part("attention.engine.calls"), "mean_probabilities", None)
    masks = torch.zeros(1, 2, 8, 8)
    masks[:, 0, :4], masks[:, 1, 4:] = 1, 1
    sd1.latent(sd1.modulated(focus=Focus(0.0, 1.0, masks=masks), weights=Weights()), **SMALL)


def test_masks_of_another_number_than_the_batch(sd1):
    masks = torch.ones(3, 2, 8, 8)
    model = sd1.modulated(focus=Focus(masks=masks))
    with pytest.raises(ValueError, match="cat has 3 masks and there are 2 latents in the batch.*one mask for all"):
        sd1.latent(model, batch=2, **SMALL)


def test_merged_patches_in_attention_to_the_prompt_are_refused(sd1):
    """A node that changes the number of patches in cross-attention: which is whose cannot be known."""

    def doubled(n, context, value, extra):
        return n.repeat_interleave(2, 1), context, value

    model = sd1.model.clone()
    model.set_model_attn2_patch(doubled)
    model.set_model_attn2_output_patch(lambda n, extra: n[:, ::2])
    sd1.latent(model, **SMALL)
    with pytest.raises(ValueError, match="tiled or merged the patches of layer .* in its attention to the prompt"):
        sd1.latent(sd1.modulated(model, focus=Focus()), **SMALL)


def test_closed_is_the_references(part):
    assert part("attention.modulation.object_focus").CLOSED == CLOSED
