"""Semantic Token Merge and Token Optimization in whole graphs, and what they refuse."""

import pytest
import torch

from merge import PLAN, MergeBench, expected_shapes, merged_graph, rows_of, shapes
from modulation_graphs import BOUND, CLIP, graph

MERGED = {"latent": ["sampler", 0], "conditioning": ["TokenMerge", 1]}


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return MergeBench(comfy, part, tiny("sd1"))


@pytest.fixture
def plain(run_graph):
    return run_graph(graph(), latent=["sampler", 0]).values["latent"]["samples"]


@pytest.fixture
def progress(comfy, monkeypatch):
    """The progress texts that nodes send: (node id, text)."""
    from server import PromptServer

    told = []
    monkeypatch.setattr(
        PromptServer.instance, "send_progress_text", lambda text, node, client: told.append((node, text))
    )
    return told


def test_both_nodes_change_the_picture(run_graph, plain):
    merged = run_graph(merged_graph(), **MERGED).values
    optimized = run_graph(merged_graph(optimize={}), losses=["TokenOptimization", 1], **MERGED).values
    latents = [plain, *(values["latent"]["samples"] for values in (merged, optimized))]
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(latents, latents[1:], strict=False))
    entries = optimized["losses"].find(optimized["latent"]).entries
    assert shapes(entries) == expected_shapes(PLAN, 2)


def test_what_is_shown(run_graph):
    outputs = run_graph(merged_graph(optimize={})).outputs
    told = 'circle: circle + red\nsquare: square + blue\nEnd tokens are those of: "a circle and a square"'
    assert outputs["TokenMerge"]["text"] == [told]
    assert outputs["TokenOptimization"]["text"] == ['circle: "a red circle"\nsquare: "a blue square"']


def test_inputs_reach_the_nodes(run_graph, part):
    made = merged_graph(
        {
            **{"noun_weight": 1.0, "attribute_weight": 0.5, "end_tokens.from_step": 1},
            "end_tokens.simplified_prompt": "two shapes",
        },
        {"settings": "object binding", "mode": "published code", "pose_loss": True},
    )
    del made["sampler"], made["save"]
    run = run_graph(made, model=["TokenOptimization", 0], plain=BOUND, conditioning=["TokenMerge", 1])
    (merge, optimize) = part("attention.engine.sampling").techniques_on(run.values["model"])
    assert merge.from_step == 1
    assert optimize.plan == part("attention.token_merge.presets").OBJECT_BINDING
    assert (optimize.published, optimize.pose) == (True, True)
    rows, before = rows_of(run.values["conditioning"]), rows_of(run.values["plain"])
    torch.testing.assert_close(rows[:, 3], before[:, 3] + 0.5 * before[:, 2])
    assert run.outputs["TokenMerge"]["text"][0].endswith('from step 1 on are those of: "two shapes"')


def test_simplified_prompt_that_is_edited_runs_the_node_again(run_graph):
    made = merged_graph(optimize={})
    first = run_graph(made, **MERGED).values["latent"]["samples"]
    again = run_graph(made, **MERGED)
    assert {"bind", "TokenMerge", "TokenOptimization", "sampler"} <= set(again.cached)
    assert torch.equal(again.values["latent"]["samples"], first)
    made["TokenMerge"]["inputs"]["end_tokens.simplified_prompt"] = "a circle and a square"
    same = run_graph(made, **MERGED)
    assert "bind" in same.cached
    assert not {"TokenMerge", "TokenOptimization", "sampler"} & set(same.cached)
    assert torch.equal(same.values["latent"]["samples"], first)
    made["TokenMerge"]["inputs"]["end_tokens.simplified_prompt"] = "a green park"
    edited = run_graph(made, **MERGED)
    assert "TokenMerge" not in edited.cached
    assert (edited.values["latent"]["samples"] - first).abs().max() > 1e-3


def test_kept_end_tokens_need_no_further_input(run_graph):
    made = merged_graph({"end_tokens": "kept"})
    for name in ("end_tokens.simplified_prompt", "end_tokens.from_step"):
        del made["TokenMerge"]["inputs"][name]
    assert run_graph(made).outputs["TokenMerge"]["text"] == ["circle: circle + red\nsquare: square + blue"]


def test_losses_are_told_while_sampling(run_graph, progress):
    run_graph(merged_graph(optimize={}))
    assert {node for node, _ in progress} == {"TokenOptimization"}
    texts = [text for _, text in progress]
    assert len(texts) == len(expected_shapes(PLAN, 2))
    assert texts[0].startswith("step 1 of 2, iteration 1, binding loss: circle ")
    assert texts[-1].startswith("step 2 of 2, iteration 2, entropy loss: circle ")


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(1, id="binding loss", marks=pytest.mark.slow),
        pytest.param(3, id="entropy loss"),
        pytest.param(6, id="second step", marks=pytest.mark.slow),
    ],
)
def test_interrupt_during_the_optimisation(run_graph, comfy, monkeypatch, after):
    """The run ends as interrupted, and the next one of the same model is as if there had been none."""
    from comfy.model_management import interrupt_current_processing
    from server import PromptServer

    good = run_graph(merged_graph(optimize={}), **MERGED).values["latent"]["samples"]
    made = merged_graph(optimize={})
    made["sampler"]["inputs"]["seed"] = 2
    told = []

    def interrupt(*message):
        told.append(message)
        if len(told) == after:
            interrupt_current_processing()

    with monkeypatch.context() as patched:
        patched.setattr(PromptServer.instance, "send_progress_text", interrupt)
        with pytest.raises(run_graph.Interrupted, match="sampler"):
            run_graph(made)
    assert len(told) == after, "not one iteration more"
    made["sampler"]["inputs"]["seed"] = 1
    again = run_graph(made, **MERGED)
    assert {"TokenMerge", "TokenOptimization"} <= set(again.cached)
    assert "sampler" not in again.cached
    assert torch.equal(again.values["latent"]["samples"], good)


def test_another_bindings_conditioning_is_refused(sd1):
    other = sd1.bind("a green bird", "bird: green").conditioning
    for conditioning in (other, sd1.encode("a red cat and a blue dog"), sd1.positive + other):
        with pytest.raises(
            ValueError, match='not belong to the BINDING of "a red cat and a blue dog".*same Bind Prompt'
        ):
            sd1.merge(conditioning=conditioning)


def test_merging_twice_is_refused(run_graph):
    made = merged_graph()
    made["TokenMerge"]["inputs"]["conditioning"] = ["before", 1]
    made["before"] = {**made["TokenMerge"], "inputs": {**made["TokenMerge"]["inputs"], "conditioning": BOUND}}
    with pytest.raises(run_graph.Failed, match="has been merged already. Use one Semantic Token Merge") as caught:
        run_graph(made)
    assert caught.value.node_id == "TokenMerge"


def test_conditioning_that_has_lost_rows_is_refused(sd1):
    cut = [[sd1.bound.embedding[:, :40], sd1.positive[0][1]]]
    with pytest.raises(ValueError, match="only 40 rows; its prompt has 77"):
        sd1.merge(conditioning=cut)


def test_sampling_the_conditioning_from_before_merging_is_refused(run_graph):
    made = merged_graph()
    made["sampler"]["inputs"]["positive"] = BOUND
    with pytest.raises(
        run_graph.Failed, match="merged another conditioning.*Connect its CONDITIONING output"
    ) as caught:
        run_graph(made)
    assert caught.value.node_id == "sampler"


@pytest.mark.parametrize("optimize", [None, {}], ids=["merge", "optimisation"])
def test_sampling_another_prompt_is_refused(run_graph, optimize):
    made = merged_graph(optimize=optimize)
    made["sampler"]["inputs"]["positive"] = ["other", 0]
    made["other"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": CLIP, "text": "a red circle"}}
    with pytest.raises(run_graph.Failed, match='nothing to act on.*"a red circle and a blue square"'):
        run_graph(made)


def test_two_optimisations_of_one_binding_are_refused(run_graph):
    made = merged_graph(optimize={})
    made["second"] = {**made["TokenOptimization"], "inputs": dict(made["TokenOptimization"]["inputs"])}
    made["second"]["inputs"]["model"] = ["TokenOptimization", 0]
    made["sampler"]["inputs"]["model"] = ["second", 0]
    with pytest.raises(run_graph.Failed, match="several Token Optimization nodes for the same BINDING"):
        run_graph(made)


@pytest.mark.parametrize(
    ("prompt", "entities", "found"),
    [
        ("a red cat, a blue dog and a green bird", "cat: red | dog: blue | bird: green", "3: cat, dog, bird"),
        ("a red cat and a dog", "cat: red | dog", "1: cat"),
        ("a cat", "cat", "0: none"),
    ],
)
def test_pose_loss_of_other_than_two_entities_is_refused(sd1, prompt, entities, found):
    with pytest.raises(ValueError, match=f"exactly two.*There are {found}. Switch pose_loss off"):
        sd1.optimize(bound=sd1.bind(prompt, entities), pose=True)


@pytest.mark.parametrize("text", ["26, low, 24", "", "26;25", "26,,25"])
def test_thresholds_that_are_no_numbers_are_refused(sd1, text):
    with pytest.raises(ValueError, match=f'thresholds must be numbers separated by commas.*found "{text}"'):
        sd1.optimize(thresholds=text)


@pytest.mark.parametrize("name", ["TokenMerge", "TokenOptimization"])
def test_a_checkpoint_without_text_encoder_is_refused(run_graph, comfy, name):
    from given import giving_node

    comfy.nodes.NODE_CLASS_MAPPINGS["TestGive"] = giving_node(None)
    made = merged_graph(optimize={})
    made["none"] = {"class_type": "TestGive", "inputs": {}}
    made[name]["inputs"]["clip"] = ["none", 0]
    with pytest.raises(run_graph.Failed, match="There is no CLIP") as caught:
        run_graph(made)
    assert caught.value.node_id == name


@pytest.mark.parametrize(
    ("layout", "other", "message"),
    [("sd1", "sdxl", "encoders l, this CLIP has l, g"), ("sdxl", "sd2", "encoders l, g, this CLIP has h")],
)
def test_text_encoder_of_another_model_is_refused(comfy, part, tiny, layout, other, message):
    bench = MergeBench(comfy, part, tiny(layout))
    bench.clip = tiny(other).clip
    for node in (bench.merge, bench.optimize):
        with pytest.raises(ValueError, match=f"{message}. Connect the CLIP that the prompt was encoded with"):
            node()


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("TokenMerge", {"end_tokens": "gone"}, "end_tokens must be one of: substituted, kept"),
        (
            "TokenOptimization",
            {"settings": "best"},
            "settings must be one of: attribute binding, object binding, demo model, custom",
        ),
    ],
)
def test_unknown_choices_are_listed(run_graph, name, inputs, message):
    made = merged_graph(optimize={})
    made[name]["inputs"].update(inputs)
    with pytest.raises(run_graph.Failed, match=message):
        run_graph(made)


@pytest.mark.parametrize(
    ("name", "inputs", "wrong"),
    [
        ("TokenMerge", {"noun_weight": -1.0}, "noun_weight"),
        ("TokenMerge", {"end_tokens.from_step": -1}, "from_step"),
        ("TokenOptimization", {"settings.token_steps": -1}, "token_steps"),
        ("TokenOptimization", {"mode": "best"}, "mode"),
    ],
)
def test_values_out_of_range_are_rejected(run_graph, name, inputs, wrong):
    made = merged_graph(optimize={})
    made[name]["inputs"].update(inputs)
    with pytest.raises(run_graph.Rejected, match=wrong):
        run_graph(made)


def test_models_that_are_no_unet_are_refused(sd1):
    from comfy.ldm.flux.model import Flux

    flux = Flux(
        **{"in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 16, "context_in_dim": 32},
        **{"hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1},
        **{"axes_dim": [4, 6, 6], "theta": 10000, "qkv_bias": True, "guidance_embed": False, "txt_ids_dims": []},
        operations=torch.nn,
    )
    model = sd1.model.clone()
    model.add_object_patch("diffusion_model", flux)
    for node in (sd1.merge, sd1.optimize):
        with pytest.raises(ValueError, match="network Flux.*not supported.*Stable Diffusion 1 and 2, SDXL"):
            node(model)
