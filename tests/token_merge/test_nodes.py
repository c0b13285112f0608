"""Semantic Token Merge and Token Optimization as nodes: what they return and show."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from merge import COMPOSITES, PLAN, MergeBench, expected_shapes, fused, rows_of, shapes

LAYOUTS = ["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"]
PARK = "in a park " * 30
CASES = {
    "two entities": ("a red cat and a blue dog", "cat: red | dog: blue", [([3], [2]), ([7], [6])]),
    "weights": ("a (red:1.3) cat and a ((blue)) (dog:0.8)", "cat: red | dog: blue", [([3], [2]), ([7], [6])]),
    "the same noun": ("a red dog and a blue dog", "dog: red | dog: blue", [([3], [2]), ([7], [6])]),
    "sub-objects": (
        "a cat wearing sunglasses and a dog with a hat",
        "cat: wearing sunglasses | dog: with a hat",
        [([2], [3, 4]), ([7], [8, 9, 10])],
    ),
    "nothing of its own": ("a red cat and a dog", "cat: red | dog", [([3], [2])]),
    "several pieces": ("a multi-colored quokka", "quokka: multi-colored", [([5, 6, 7], [2, 3, 4])]),
    "five entities": (
        "a red cat, a blue dog, a green bird, a big box and a wet mouse",
        "cat: red | dog: blue | bird: green | box: big | mouse: wet",
        [([3], [2]), ([7], [6]), ([11], [10]), ([15], [14]), ([19], [18])],
    ),
    "two chunks": (f"a red cat {PARK}and a blue dog", "cat: red | dog: blue", [([3], [2]), ([99], [98])]),
    "across chunks": (f"{'in a park ' * 24}so so red cat", "cat: red", [([78], [75])]),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def bench(request, comfy, part, tiny):
    return MergeBench(comfy, part, tiny(request.param))


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return MergeBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def sdxl(comfy, part, tiny):
    return MergeBench(comfy, part, tiny("sdxl"))


@pytest.mark.parametrize("name", CASES)
def test_composite_tokens(bench, name):
    """The same rows in every encoder's columns, which have the same tokens here."""
    prompt, entities, groups = CASES[name]
    bound = bench.bind(prompt, entities)
    found = rows_of(bench.merge(bound=bound).conditioning)
    parts = [(columns, *group) for group in groups for columns in bench.columns]
    torch.testing.assert_close(found, fused(bound.embedding, parts))
    assert not torch.equal(found, bound.embedding)


@pytest.mark.parametrize(("noun", "rest"), [(1.0, 1.0), (0.5, 2.0)], ids=["plain sum", "others"])
def test_weights_of_the_node(bench, noun, rest):
    found = rows_of(bench.merge(noun_weight=noun, attribute_weight=rest).conditioning)
    parts = [(columns, *group) for group in CASES["two entities"][2] for columns in bench.columns]
    torch.testing.assert_close(found, fused(bench.bound.embedding, parts, noun, rest))
    if noun == rest == 1:
        torch.testing.assert_close(found[:, 3], bench.bound.embedding[:, 2:4].sum(1))


@pytest.fixture(scope="module")
def shifted(comfy, part, tiny, tmp_path_factory):
    """SDXL with an embedding of three vectors for one encoder and two for the other: the words behind it stand one row
    further on in l than in g."""
    loaded = tiny("sdxl", own=True)
    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"clip_l": torch.ones(3, 32), "clip_g": torch.ones(2, 64)}, folder / "style.safetensors")
    for encoder in ("clip_l", "clip_g"):
        getattr(loaded.clip.tokenizer, encoder).embedding_directory = str(folder)
    bench = MergeBench(comfy, part, loaded)
    bench.bound = bench.bind("a embedding:style, red cat and a blue dog", "cat: red | dog: blue")
    bench.places = {range(0, 32): ([7, 6], [11, 10], 12), range(32, 96): ([6, 5], [10, 9], 11)}
    return bench


def test_encoders_with_rows_of_their_own(shifted):
    parts = [
        (slice(columns.start, columns.stop), [noun], [word])
        for columns, groups in shifted.places.items()
        for noun, word in groups[:2]
    ]
    torch.testing.assert_close(rows_of(shifted.merge().conditioning), fused(shifted.bound.embedding, parts))


def test_encoders_with_rows_of_their_own_are_optimised(shifted):
    """A composite is where each encoder has it, and so are the end tokens."""
    merged = shifted.merge()
    before = rows_of(merged.conditioning)
    model, losses = shifted.optimize(merged.model)
    ran = shifted.run(model, merged.conditioning)
    assert shapes(ran.entries(losses)) == expected_shapes(PLAN, 2)
    simplified = rows_of(shifted.encode(shifted.simplified))
    for call in ran.own:
        rows = call.of(0)
        for columns, (cat, dog, end) in shifted.places.items():
            composites = [cat[0], dog[0]]
            others = [row for row in range(end) if row not in composites]
            assert (rows - before)[:, composites][..., columns].abs().amax((0, 2)).min() > 0
            assert torch.equal(rows[:, others][..., columns], before[:, others][..., columns])
            assert torch.equal(rows[:, end:, columns], simplified[:, end:, columns])


def test_pooled_text(sdxl):
    (_, before), (_, simplified) = sdxl.positive[0], sdxl.encode("a cat and a dog")[0]
    for pooled, expected in (("of the prompt", before), ("of the simplified prompt", simplified)):
        for kept in (False, True):
            ((_, options),) = sdxl.merge(
                pooled=pooled, kept=kept, **({} if kept else {"simplified": "a cat and a dog"})
            ).conditioning
            assert torch.equal(options["pooled_output"], expected["pooled_output"])
    assert not torch.equal(before["pooled_output"], simplified["pooled_output"])


def test_all_parts_of_a_conditioning_are_merged(comfy, sd1):
    """Here one for each half of the run."""
    set_range = comfy.nodes.ConditioningSetTimestepRange().set_range
    halves = set_range(sd1.positive, 0.0, 0.5)[0] + set_range(sd1.positive, 0.5, 1.0)[0]
    merged = sd1.merge(conditioning=halves).conditioning
    expected = rows_of(sd1.merge().conditioning)
    assert [torch.equal(rows, expected) for rows, _ in merged] == [True, True]
    assert [options["start_percent"] for _, options in merged] == [0.0, 0.5]


def test_what_the_merge_node_shows(sd1):
    assert (
        sd1.merge(simplified="").told == 'cat: cat + red\ndog: dog + blue\nEnd tokens are those of: "a cat and a dog"'
    )
    assert sd1.merge(from_step=3, simplified="a zoo").told.endswith('End tokens from step 3 on are those of: "a zoo"')
    bound = sd1.bind(*CASES["nothing of its own"][:2])
    told = sd1.merge(bound=bound).told.splitlines()
    assert told[:2] == ["cat: cat + red", "Left alone, as nothing belongs to them: dog."]


def test_what_the_optimization_node_shows(sd1):
    bound = sd1.bind(*CASES["sub-objects"][:2])
    node = sd1.part("nodes.token_merge.optimization").SBTokenOptimization
    with torch.inference_mode():
        found = node.execute(sd1.model, sd1.clip, bound.binding, "paper", False, {"settings": "attribute binding"})
    assert found.ui["text"][0] == 'cat: "a cat wearing sunglasses"\ndog: "a dog with a hat"'


@pytest.mark.parametrize("entities", ["cat | dog", ""], ids=["no attributes", "no entities"])
def test_without_attributes_no_bit_changes(bench, entities):
    bound = bench.bind("a cat and a dog", "cat | dog")
    if not entities:
        bound = SimpleNamespace(**{**vars(bound), "binding": replace(bound.binding, entities=())})
    merged = bench.merge(bound=bound)
    assert merged.told == "No entity has attributes or sub-objects, so nothing is merged and pictures stay as they are."
    assert torch.equal(rows_of(merged.conditioning), bound.embedding)
    model, losses = bench.optimize(merged.model, bound)
    ran = bench.run(model, merged.conditioning)
    assert ran.passes == []
    assert torch.equal(ran.latent, bench.run(bench.model, bound.conditioning).latent)
    assert ran.entries(losses) == []


def test_optimisation_of_no_step_changes_no_bit(sd1):
    merged = sd1.merge()
    model, losses = sd1.optimize(merged.model, token_steps=0, entropy_steps=0)
    ran = sd1.run(model, merged.conditioning)
    assert ran.passes == ran.entries(losses) == []
    assert torch.equal(ran.latent, sd1.run(merged.model, merged.conditioning).latent)


def test_optimization_without_merge(sd1):
    """Of the published ablation: the noun's row alone is moved."""
    model, losses = sd1.optimize()
    ran = sd1.run(model)
    assert shapes(ran.entries(losses)) == expected_shapes(PLAN, 2)
    for call in ran.own:
        changed = (call.of(0) - sd1.bound.embedding).abs().amax((0, 2)) > 0
        assert changed.nonzero().flatten().tolist() == COMPOSITES


def test_pose_loss_of_two_entities(sd1):
    merged = sd1.merge()
    model, losses = sd1.optimize(merged.model, pose=True)
    entries = sd1.run(model, merged.conditioning).entries(losses)
    poses = [each for each in entries if each.loss == "pose"]
    assert shapes(poses) == [("pose", step, iteration, 1, 1) for step in (0, 1) for iteration in (0, 1)]
    others, losses = sd1.optimize(merged.model)
    without = sd1.run(others, merged.conditioning).entries(losses)
    assert [each.values for each in entries if each.loss == "entropy"] != [
        each.values for each in without if each.loss == "entropy"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["attribute binding", "object binding", "demo model"])
def test_settings_that_come_with_the_node(sd1, settings):
    plan = sd1.part("attention.token_merge.presets").PLANS[settings]
    merged = sd1.merge()
    model, losses = sd1.optimize(merged.model, settings=settings)
    entries = sd1.run(model, merged.conditioning, steps=2).entries(losses)
    binding = [each for each in entries if each.loss == "binding"]
    assert len(binding) == min(plan.token_steps, 2) * plan.token_iterations
    assert {each.loss for each in entries} == {"binding", "entropy"}
