"""The nodes of attention modulation in whole graphs: what they take, show, and refuse."""

import logging

import pytest
import torch

from modulation_graphs import BINDING, CLIP, FOCUS, LINEAR, PARTS, PROMPT, TEMPERATURE, graph, painted


def technique_of(part, model):
    (technique,) = part("attention.engine.sampling").techniques_on(model)
    return technique


@pytest.fixture
def plain(run_graph):
    return run_graph(graph(), latent=["sampler", 0]).values["latent"]["samples"]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("SelfAttentionTemperature", TEMPERATURE),
        ("ObjectFocusedAttention", FOCUS),
        ("StageWeights", LINEAR),
        ("AttentionModulation", {"preset": "paper", **PARTS}),
    ],
)
def test_each_node_changes_the_picture(run_graph, plain, name, inputs):
    run = run_graph(graph(**{name: inputs}), latent=["sampler", 0])
    assert (run.values["latent"]["samples"] - plain).abs().max() > 1e-3


def test_temperature_takes_its_settings(run_graph, part):
    inputs = {**TEMPERATURE, "layers": "latent/2", "apply_to": "positive only", "end": 0.25}
    run = run_graph(graph(SelfAttentionTemperature=inputs), model=["SelfAttentionTemperature", 0])
    expected = part("attention.modulation.temperature").TemperatureSettings(0.7, "latent/2", 0.0, 0.25, negative=False)
    assert technique_of(part, run.values["model"]) == expected


@pytest.mark.parametrize(
    ("mode", "penalty"), [({"mode": "hard"}, 1e4), ({"mode": "soft", "mode.penalty": 2.5}, 2.5)], ids=["hard", "soft"]
)
def test_focus_takes_its_settings(run_graph, part, mode, penalty):
    inputs = {**FOCUS, **mode, "patches_from": "same layer", "min_share": 0.3, "background": "sees no entity"}
    inputs |= {"end_and_padding": "closed", "start": 0.2, "end": 0.9, "score": "mean"}
    run = run_graph(graph(ObjectFocusedAttention=inputs), model=["ObjectFocusedAttention", 0], binding=BINDING)
    expected = part("attention.modulation.object_focus").FocusSettings(
        run.values["binding"],
        same_layer=True,
        score="mean",
        min_share=0.3,
        close_background=True,
        close_end=True,
        penalty=penalty,
        start=0.2,
        end=0.9,
    )
    assert technique_of(part, run.values["model"]) == expected


def test_focus_shows_who_is_kept_apart(run_graph):
    run = run_graph(graph(ObjectFocusedAttention=FOCUS))
    assert run.outputs["ObjectFocusedAttention"]["text"] == ["circle, square: patches are assigned by attention."]
    one = graph(ObjectFocusedAttention=FOCUS)
    one["bind"]["inputs"]["entities"] = "circle: red"
    shown = run_graph(one).outputs["ObjectFocusedAttention"]["text"]
    assert shown == ["circle: there is nothing to keep apart, so pictures stay as they are."]


def test_mask_is_assigned_and_shown(run_graph, plain):
    made = painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "1")
    run = run_graph(made, binding=["assign 1", 0], before=BINDING, latent=["sampler", 0])
    assert run.outputs["assign 1"]["text"] == ["circle: 64 x 64 mask, covers 50% of the picture"]
    circle, square = run.values["binding"].entities
    assert circle.mask.shape == (1, 64, 64)
    assert circle.mask.mean() == 0.5
    assert square.mask is None
    assert all(entity.mask is None for entity in run.values["before"].entities)
    shown = run.outputs["ObjectFocusedAttention"]["text"]
    assert shown == ["circle: patches are fixed by masks. Anywhere outside of them: square."]
    assert (run.values["latent"]["samples"] - plain).abs().max() > 1e-3


def test_masks_of_two_entities(run_graph, plain):
    made = painted(painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "circle"), 2, 1.0, "Square ")
    run = run_graph(made, latent=["sampler", 0])
    assert run.outputs["ObjectFocusedAttention"]["text"] == ["circle, square: patches are fixed by masks."]
    assert (run.values["latent"]["samples"] - plain).abs().max() > 1e-3


def test_one_mask_and_a_closed_background(run_graph, plain):
    open_ = painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "circle")
    closed = painted(graph(ObjectFocusedAttention={**FOCUS, "background": "sees no entity"}), 1, 1.0, "circle")
    one, other = (run_graph(made, latent=["sampler", 0]).values["latent"]["samples"] for made in (open_, closed))
    assert (one - plain).abs().max() > 1e-3
    assert (one - other).abs().max() > 1e-3


def test_unknown_entity_lists_those_there_are(run_graph):
    with pytest.raises(run_graph.Failed, match='no entity "triangle".*1 = circle, 2 = square'):
        run_graph(painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "triangle"))


def test_empty_mask(run_graph):
    with pytest.raises(run_graph.Failed, match="mask for circle is empty.*in white"):
        run_graph(painted(graph(ObjectFocusedAttention=FOCUS), 1, 0.0, "1"))


def test_masks_of_a_batch(run_graph, comfy):
    """Three masks for one latent: told when the sampler runs; three latents are as they should be."""
    from given import giving_node

    made = painted(painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "1"), 2, 1.0, "2")
    comfy.nodes.NODE_CLASS_MAPPINGS["TestGive"] = giving_node(torch.eye(3)[:, :, None].expand(3, 3, 3))
    made["masks"] = {"class_type": "TestGive", "inputs": {}}
    made["assign 1"]["inputs"]["mask"] = ["masks", 0]
    with pytest.raises(run_graph.Failed, match="circle has 3 masks and there are 1 latents") as caught:
        run_graph(made)
    assert caught.value.node_id == "sampler"
    made["empty"]["inputs"]["batch_size"] = 3
    run_graph.forget()
    run = run_graph(made, latent=["sampler", 0])
    assert run.values["latent"]["samples"].shape[0] == 3
    assert run.outputs["assign 1"]["text"] == ["circle: 3 x 3 mask, covers 33%, 33%, 33% of the picture"]


def test_weights_show_their_curves(run_graph):
    (shown,) = run_graph(graph(StageWeights=LINEAR)).outputs["StageWeights"]["semantic_binding_weights"]
    assert len(shown["words"]) == len(shown["entities"]) == 33
    assert (shown["words"][0], shown["words"][16], shown["words"][-1]) == pytest.approx((1.5, 1.0, 0.5))
    assert (shown["entities"][0], shown["entities"][-1]) == pytest.approx((0.5, 1.5))
    assert shown["focused"] is False


@pytest.mark.parametrize("binding", [BINDING, ["assign 1", 0]], ids=["same", "with a mask"])
def test_weights_say_whether_the_mask_is_there(run_graph, binding):
    """A binding with masks is still the same binding."""
    made = painted(graph(ObjectFocusedAttention=FOCUS, StageWeights=LINEAR), 1, 1.0, "1")
    made["StageWeights"]["inputs"]["binding"] = binding
    (shown,) = run_graph(made).outputs["StageWeights"]["semantic_binding_weights"]
    assert shown["focused"] is True


@pytest.mark.parametrize(
    ("shape", "words", "entities"),
    [
        ({"shape": "cosine"}, [1.5, 0.5 + (2**0.5 + 2) / 4, 1.0, 0.5], [0.5, 1.5 - (2**0.5 + 2) / 4, 1.0, 1.5]),
        ({"shape": "step", "shape.switch_at": 0.5}, [1.5, 1.5, 0.5, 0.5], [0.5, 0.5, 1.5, 1.5]),
    ],
)
def test_shapes(run_graph, shape, words, entities):
    (shown,) = run_graph(graph(StageWeights={**LINEAR, **shape})).outputs["StageWeights"]["semantic_binding_weights"]
    assert [shown["words"][point] for point in (0, 8, 16, 32)] == pytest.approx(words)
    assert [shown["entities"][point] for point in (0, 8, 16, 32)] == pytest.approx(entities)


def test_drawn_curves(run_graph, part):
    """As core's curve widget puts them into a prompt: their middle is weight 1, their top 2."""
    straight = {"points": [[0.0, 1.0], [0.5, 0.0], [1.0, 0.0]], "interpolation": "linear"}
    smooth = {"points": [[0.0, 0.25], [1.0, 0.75]], "interpolation": "monotone_cubic"}
    drawn = {"shape": "drawn", "shape.global_curve": straight, "shape.entity_curve": smooth}
    inputs = {**drawn, "end_and_padding": "as the other words"}
    run = run_graph(graph(StageWeights=inputs), model=["StageWeights", 0])
    (shown,) = run.outputs["StageWeights"]["semantic_binding_weights"]
    assert [shown["words"][point] for point in (0, 8, 16, 32)] == pytest.approx([2.0, 1.0, 0.0, 0.0])
    assert [shown["entities"][point] for point in (0, 16, 32)] == pytest.approx([0.5, 1.0, 1.5])
    settings = technique_of(part, run.values["model"])
    assert settings.end_as_words
    assert settings.words(0.25) == pytest.approx(1.0)


def test_warning_names_the_node(run_graph, caplog):
    with caplog.at_level(logging.WARNING):
        run_graph(graph(StageWeights=LINEAR))
    assert any("Stage Weights (node StageWeights) runs without Object-Focused Attention" in m for m in caplog.messages)


def test_preset_is_the_same_as_its_nodes(run_graph, part):
    """The paper preset in one node and in three: the same latent."""
    preset = part("attention.modulation.presets").PRESETS["paper"]
    words, entities = preset.weights["words"], preset.weights["entities"]
    shape = {"shape.global_start": words.start, "shape.global_end": words.end}
    shape |= {"shape.entity_start": entities.start, "shape.entity_end": entities.end}
    kept = {name: preset.temperature[name] for name in ("temperature", "start", "end", "layers")}
    names = ("min_share", "start", "end")
    single = graph(
        SelfAttentionTemperature={**TEMPERATURE, **kept},
        ObjectFocusedAttention={**FOCUS, **{name: preset.focus[name] for name in names}},
        StageWeights={**LINEAR, **shape},
    )
    combined = graph(AttentionModulation={"preset": "paper", **PARTS})
    one, three = (run_graph(made, latent=["sampler", 0]).values["latent"]["samples"] for made in (combined, single))
    assert torch.equal(one, three)


def test_parts_of_the_preset_can_be_off(run_graph, plain):
    off = {"preset": "demo model", **dict.fromkeys(PARTS, False)}
    run = run_graph(graph(AttentionModulation=off), latent=["sampler", 0], model=["AttentionModulation", 0])
    assert torch.equal(run.values["latent"]["samples"], plain)
    assert run.outputs["AttentionModulation"]["semantic_binding_weights"] == []
    latents = []
    for part in PARTS:
        only = {**off, part: True}
        run = run_graph(graph(AttentionModulation=only), latent=["sampler", 0])
        shown = run.outputs["AttentionModulation"]["semantic_binding_weights"]
        assert len(shown) == (part == "stage_weights")
        latents.append(run.values["latent"]["samples"])
    assert len({latent.numpy().tobytes() for latent in (plain, *latents)}) == 4


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("SelfAttentionTemperature", {**TEMPERATURE, "start": 0.5}, r"start \(0.5\) must be below end \(0.5\)"),
        ("ObjectFocusedAttention", {**FOCUS, "start": 1.0}, r"start \(1\) must be below end \(1\)"),
    ],
)
def test_empty_ranges(run_graph, name, inputs, message):
    with pytest.raises(run_graph.Failed, match=message) as caught:
        run_graph(graph(**{name: inputs}))
    assert caught.value.node_id == name


def test_layers_that_the_model_does_not_have(part, tiny):
    node = part("nodes.modulation.temperature").SBSelfAttentionTemperature
    with pytest.raises(ValueError, match='no attention layers at "latent/8". It has some at: all, latent/2, latent/4'):
        node.execute(tiny("sdxl").model, 0.8, 0.0, 0.2, "latent/8", "positive only")


@pytest.mark.parametrize(
    ("name", "inputs", "wrong"),
    [
        ("SelfAttentionTemperature", {**TEMPERATURE, "temperature": 0.0}, "temperature"),
        ("ObjectFocusedAttention", {**FOCUS, "mode": "soft", "mode.penalty": -1.0}, "penalty"),
        ("StageWeights", {**LINEAR, "shape.global_start": 7.0}, "global_start"),
    ],
)
def test_values_out_of_range_are_rejected(run_graph, name, inputs, wrong):
    with pytest.raises(run_graph.Rejected, match=wrong):
        run_graph(graph(**{name: inputs}))


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("ObjectFocusedAttention", {**FOCUS, "mode": "loud"}, "mode must be one of: hard, soft"),
        ("StageWeights", {**LINEAR, "shape": "round"}, "shape must be one of: linear, cosine, step, drawn"),
    ],
)
def test_unknown_choices_are_listed(run_graph, name, inputs, message):
    with pytest.raises(run_graph.Failed, match=message):
        run_graph(graph(**{name: inputs}))


@pytest.mark.parametrize(
    ("name", "inputs", "title"),
    [
        ("ObjectFocusedAttention", FOCUS, "Object-Focused Attention"),
        ("StageWeights", LINEAR, "Stage Weights"),
        ("AttentionModulation", {"preset": "paper", **PARTS}, "Object-Focused Attention"),
    ],
)
def test_conditioning_that_is_not_the_bindings(run_graph, name, inputs, title):
    made = graph(conditioning=["other", 0], **{name: inputs})
    made["other"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": CLIP, "text": PROMPT}}
    with pytest.raises(run_graph.Failed, match=f"{title} has nothing to act on.*CONDITIONING output") as caught:
        run_graph(made)
    assert caught.value.node_id == "sampler"
