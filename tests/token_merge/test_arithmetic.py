"""Token Arithmetic as a node: what it makes of a conditioning, alone and with the pack's other nodes."""

import pytest
import torch
from safetensors.torch import save_file

from injecting import SubjectBench
from merge import MERGE, MergeBench, rows_of
from modulation_graphs import CLIP
from summing import ARITHMETIC, SumBench, summed_graph

PARK = "in a park " * 30
LAYOUTS = ["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"]


@pytest.fixture(scope="module", params=LAYOUTS)
def bench(request, comfy, part, tiny):
    return SumBench(comfy, part, tiny(request.param))


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return SumBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def sdxl(comfy, part, tiny):
    return SumBench(comfy, part, tiny("sdxl"))


def test_the_entitys_rows(bench):
    """Of "a red cat and a blue dog": the sum stands at "cat", "red" is emptied."""
    alone = {phrase: rows_of(bench.encode(phrase)) for phrase in ("a green bird", "hat", "a red cat")}
    found = bench.sum("a green bird + 0.5 * hat", "cat").rows
    torch.testing.assert_close(found[:, 3], alone["a green bird"][:, 3] + 0.5 * alone["hat"][:, 1])
    assert not found[:, 2].any()
    unchanged = [0, 1, 4, 5, 6, 7]
    assert torch.equal(found[:, unchanged], bench.bound.embedding[:, unchanged])
    ends = bench.bound.embedding[:, 8:] + alone["a green bird"][:, 8:] + 0.5 * alone["hat"][:, 8:]
    torch.testing.assert_close(found[:, 8:], ends - alone["a red cat"][:, 8:])


def test_kept_end_tokens(bench):
    before, after = bench.positive[0], bench.sum("a green bird", kept=True).conditioning[0]
    assert torch.equal(after[0][:, 8:], before[0][:, 8:])
    assert torch.equal(after[1]["pooled_output"], before[1]["pooled_output"])


def test_the_entitys_own_phrase_changes_its_own_rows_alone(bench):
    """The end tokens move by nothing then."""
    own = bench.sum("a red cat")
    torch.testing.assert_close(own.rows[:, 8:], bench.bound.embedding[:, 8:])
    torch.testing.assert_close(own.rows[:, 3], bench.bound.embedding[:, 3])
    assert own.told == "cat: a red cat\nEnd tokens: + (a red cat) - (a red cat)"


def test_added_and_taken_off_again(bench):
    again, plain = bench.sum("a red cat + hat - hat"), bench.sum("a red cat")
    torch.testing.assert_close(again.rows, plain.rows, rtol=1e-4, atol=1e-4)


def test_pooled_text(sdxl):
    pooled = {phrase: sdxl.encode(phrase)[0][1]["pooled_output"] for phrase in ("hat", "a blue dog")}
    before = sdxl.positive[0][1]["pooled_output"]
    found = sdxl.sum("2 * hat", "dog").conditioning[0][1]["pooled_output"]
    torch.testing.assert_close(found, before + 2 * pooled["hat"] - pooled["a blue dog"])


def test_an_entity_in_a_second_chunk(sdxl):
    """The end of the first chunk, and with it the pooled text, know nothing of it."""
    bound = sdxl.bind(f"a red cat {PARK}and a blue dog", "cat: red | dog: blue")
    ((rows, options),) = sdxl.sum("hat", "dog", bound).conditioning
    changed = (rows != bound.embedding).any(2)[0].nonzero().flatten().tolist()
    assert changed == [98, 99, *range(100, 154)]
    assert torch.equal(options["pooled_output"], bound.conditioning[0][1]["pooled_output"])


def test_an_embedding_with_other_rows_in_each_encoder(comfy, part, tiny, tmp_path):
    """In the prompt, where it moves the entity, and in a phrase, whose last row is its last vector."""
    loaded = tiny("sdxl", own=True)
    save_file({"clip_l": torch.ones(3, 32), "clip_g": torch.ones(2, 64)}, tmp_path / "style.safetensors")
    for encoder in ("clip_l", "clip_g"):
        getattr(loaded.clip.tokenizer, encoder).embedding_directory = str(tmp_path)
    bench = SumBench(comfy, part, loaded)
    bound = bench.bind("a embedding:style, red cat and a blue dog", "cat: red | dog: blue")
    found, alone = bench.sum("hat embedding:style", "cat", bound).rows, rows_of(bench.encode("hat embedding:style"))
    assert torch.equal(found[:, 7, :32], alone[:, 4, :32]) and torch.equal(found[:, 6, 32:], alone[:, 3, 32:])
    assert not found[:, 6, :32].any() and not found[:, 5, 32:].any()
    assert torch.equal(found[:, 7, 32:], bound.embedding[:, 7, 32:])
    save_file({"clip_l": torch.ones(1, 32)}, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match='"embedding:half" has no token for text encoder g'):
        bench.sum("hat + embedding:half", "cat", bound)


def test_weights_in_phrases_and_names_in_parentheses(sd1):
    found = sd1.sum("(hat:1.5)", "cat").rows
    torch.testing.assert_close(found[:, 3], rows_of(sd1.encode("(hat:1.5)"))[:, 1])
    bound = sd1.bind(r"a cat \(red\) and a dog", "cat: (red) | dog")
    torch.testing.assert_close(
        sd1.sum(r"a \(red\) cat", "cat", bound).rows[:, 10:], bound.embedding[:, 10:], rtol=1e-4, atol=1e-4
    )


def test_own_parts_of_a_conditioning(comfy, sd1):
    """One for each half of the run, and another prompt beside them."""
    set_range, other = comfy.nodes.ConditioningSetTimestepRange().set_range, sd1.encode("a park")
    halves = set_range(sd1.positive, 0.0, 0.5)[0] + set_range(sd1.positive, 0.5, 1.0)[0]
    found = sd1.sum("hat", conditioning=halves + other).conditioning
    expected = sd1.sum("hat").rows
    assert [torch.equal(rows, expected) for rows, _ in found] == [True, True, False]
    assert [options.get("start_percent") for _, options in found] == [0.0, 0.5, None]
    assert found[2] is other[0]


def test_a_prompt_joined_behind_stays(comfy, sd1):
    (joined,) = comfy.nodes.ConditioningConcat().concat(sd1.positive, sd1.encode("a park"))
    found = sd1.sum("hat", conditioning=joined).rows
    assert torch.equal(found[:, :77], sd1.sum("hat").rows)
    assert torch.equal(found[:, 77:], rows_of(sd1.encode("a park")))


def test_the_model_gets_it(bench):
    summed = bench.sum("hat")
    ran = bench.run(bench.model, summed.conditioning)
    assert all(torch.equal(call.of(0), summed.rows) for call in ran.own)
    assert (ran.latent - bench.run().latent).abs().max() > 1e-3


def test_two_entities_one_after_the_other(sd1):
    """Each moves the end tokens by its own."""
    first = sd1.sum("hat", "cat")
    both = sd1.sum("a green bird", "dog", conditioning=first.conditioning)
    other = sd1.sum("hat", "cat", conditioning=sd1.sum("a green bird", "dog").conditioning)
    torch.testing.assert_close(both.rows, other.rows)
    moved = sd1.sum("a green bird", "dog").rows - sd1.bound.embedding
    torch.testing.assert_close(both.rows - first.rows, moved)


def test_behind_token_merge(sd1):
    """The other entity's composite stays."""
    merged = sd1.merge(kept=True)
    found = sd1.sum("hat", "cat", conditioning=merged.conditioning)
    before, plain = rows_of(merged.conditioning), sd1.sum("hat", "cat").rows
    assert torch.equal(found.rows[:, [2, 3]], plain[:, [2, 3]])
    assert torch.equal(found.rows[:, 4:8], before[:, 4:8]) and not found.rows[:, 6].any()
    ran = sd1.run(merged.model, found.conditioning)
    assert all(torch.equal(call.of(0), found.rows) for call in ran.own)


def test_end_tokens_substituted_by_token_merge(sd1):
    merged = sd1.merge()
    with pytest.raises(ValueError, match='replaces the end tokens.*Set end_tokens to "kept", here or there'):
        sd1.sum("hat", conditioning=merged.conditioning)
    found = sd1.sum("hat", conditioning=merged.conditioning, kept=True)
    for call in sd1.run(merged.model, found.conditioning).own:
        assert torch.equal(call.of(0)[:, :8], found.rows[:, :8])
        assert torch.equal(call.of(0)[:, 8:], sd1.ends)


def test_token_merge_behind_it_is_refused(sd1):
    with pytest.raises(ValueError, match="Token Arithmetic has replaced dog .*Put Token Arithmetic behind"):
        sd1.merge(conditioning=sd1.sum("hat", "dog").conditioning)


def test_optimisation_of_a_replaced_entity(sd1):
    """The semantic binding loss would undo it; the entropy loss takes it as it is."""
    merged = sd1.merge(kept=True)
    found = sd1.sum("hat", "cat", conditioning=merged.conditioning)
    with pytest.raises(ValueError, match="would undo what Token Arithmetic has done to cat.*token_steps to 0"):
        sd1.run(sd1.optimize(merged.model)[0], found.conditioning)
    model, losses = sd1.optimize(merged.model, token_steps=0)
    entries = sd1.run(model, found.conditioning).entries(losses)
    assert {each.loss for each in entries} == {"entropy"}


def test_optimisation_of_the_other_entities(sd1):
    bound = sd1.bind("a red cat and a dog", "cat: red | dog")
    merged = sd1.merge(bound=bound, kept=True)
    found = sd1.sum("hat", "dog", bound, conditioning=merged.conditioning)
    model, losses = sd1.optimize(merged.model, bound)
    assert sd1.run(model, found.conditioning).entries(losses)


def test_structured_conditioning_is_refused(sd1, part):
    node = part("nodes.structured").SBStructuredConditioning
    with torch.inference_mode():
        model = node.execute(sd1.model, sd1.clip, sd1.bound.binding, 0.0, 1.0).args[0]
    with pytest.raises(ValueError, match="Structured Conditioning would undo what Token Arithmetic has done to cat"):
        sd1.run(model, sd1.sum("hat", "cat").conditioning)


def test_a_subject_is_fused_with_the_sum(comfy, part, tiny, sd1):
    """At the first piece of the noun, where a word alone would have it at the last."""
    bench = SubjectBench(comfy, part, tiny("sd1"))
    bound = bench.bind("a shapeshifter and a dog", "shapeshifter | dog")
    first, *others = bound.binding.positions([bound.binding.entities[0].noun])
    assert others
    summed = sd1.sum("a hat", "1", bound)
    injected = bench.inject(None, summed.conditioning, bench.subject(bound.binding, "1", bench.picture(1)))
    rows = bench.run(injected.model, injected.conditioning).own[-1].of(0)
    torch.testing.assert_close(rows, bench.fused(summed.rows, {first: 1}), rtol=1e-4, atol=1e-4)


def test_refusals(sd1, tiny):
    other = sd1.bind("a green bird", "bird: green").conditioning
    for given, message in (
        ({"expression": "hat + 2,5 * cap"}, 'In the expression, "2,5 [*] cap" is not understood'),
        ({"entity": "bird"}, 'no entity "bird". Its entities are: 1 = cat, 2 = dog'),
        ({"expression": "hat + ()"}, r'The phrase "\(\)" cannot be encoded. The prompt is empty'),
        ({"expression": "hat - " + "in a park " * 30}, "is too long: a phrase may have 75 tokens"),
        ({"conditioning": other}, 'not belong to the BINDING of "a red cat and a blue dog"'),
        ({"conditioning": [[sd1.bound.embedding[:, :40], sd1.positive[0][1]]]}, "only 40 rows"),
        ({"conditioning": sd1.sum("hat").conditioning}, "replaced cat in this conditioning already.*in one expression"),
        ({"clip": tiny("sdxl").clip}, "encoders l, this CLIP has l, g. Connect the CLIP"),
    ):
        with pytest.raises(ValueError, match=message):
            sd1.sum(**{"expression": "hat", **given})


def test_text_encoder_of_another_width_is_refused(comfy, part, sd1):
    demo = MergeBench.on_demo_model(comfy, part)
    with pytest.raises(ValueError, match="makes rows of 128 columns, the conditioning has 32. Connect the CLIP"):
        sd1.sum("hat", clip=demo.clip)


def test_in_a_graph(run_graph):
    latents = [
        run_graph(summed_graph(positive, **inputs), latent=["sampler", 0]).values["latent"]["samples"]
        for positive, inputs in (
            (["bind", 0], {}),
            (["Arithmetic", 0], {}),
            (["Arithmetic", 0], {"end_tokens": "kept"}),
            (["Arithmetic", 0], {"expression": "a blue square"}),
        )
    ]
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(latents, latents[1:], strict=False))


def test_what_is_shown_in_a_graph(run_graph):
    told = run_graph(summed_graph()).outputs["Arithmetic"]["text"]
    assert told == [
        "circle: a red circle + a circle with a dot - a circle\n"
        "End tokens: + (a red circle + a circle with a dot - a circle) - (a red circle)"
    ]


def test_a_chain_in_a_graph(run_graph):
    """Merged, then one entity replaced, then the other."""
    made = summed_graph(conditioning=["merge", 1], end_tokens="kept")
    made["merge"] = {"class_type": "SBTokenMerge", "inputs": {**MERGE, "model": ["model", 0], "binding": ["bind", 1]}}
    made["second"] = {
        "class_type": "SBTokenArithmetic",
        "inputs": {**ARITHMETIC, "conditioning": ["Arithmetic", 0], "entity": "2", "end_tokens": "kept"},
    }
    made["sampler"]["inputs"] |= {"model": ["merge", 0], "positive": ["second", 0]}
    assert run_graph(made, latent=["sampler", 0]).values["latent"]["samples"].isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [({"expression": "dog+hat"}, '"dog[+]hat" is not understood'), ({"expression": ""}, "The expression is empty")],
)
def test_errors_name_the_node(run_graph, inputs, message):
    with pytest.raises(run_graph.Failed, match=message) as caught:
        run_graph(summed_graph(**inputs))
    assert caught.value.node_id == "Arithmetic"


def test_a_checkpoint_without_text_encoder_is_refused(run_graph, comfy):
    from given import giving_node

    comfy.nodes.NODE_CLASS_MAPPINGS["TestGive"] = giving_node(None)
    made = summed_graph(clip=["none", 0])
    made["none"] = {"class_type": "TestGive", "inputs": {}}
    assert made["bind"]["inputs"]["clip"] == CLIP
    with pytest.raises(run_graph.Failed, match="There is no CLIP"):
        run_graph(made)
