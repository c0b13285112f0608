"""Subject Injection in runs of the real ComfyUI: which rows the UNet is given at which step, and with what else."""

from dataclasses import replace

import pytest
import torch

from attention_reference import in_threads, record
from gradients import slowly
from guiding import GuidanceBench
from injecting import NOUNS, SubjectBench
from merge import COMPOSITES, close, repeated, rows_of
from modulate import ALL

BOTH = {3: 1, 7: 2}
"""Row of the noun -> seed of its picture."""
STEPS = 4


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return SubjectBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def demo(comfy, part):
    return SubjectBench.on_demo_model(comfy, part)


def check(bench, ran, places=BOTH, *, found=None, delay=2, strength=1.0, negative=None):
    """The rows of all the sampler's calls: the text alone before step ``delay``, then fused rows, and nothing else is
    changed; the negative prompt never."""
    found = bench.bound.embedding if found is None else found
    negative = (negative or bench.negative)[0][0]
    fused = bench.fused(found, places, strength)
    assert (fused - found)[:, list(places)].abs().amax(-1).min() > 0.1
    others = [row for row in range(found.shape[1]) if row not in places]
    seen = set()
    for call in ran.own:
        for _, rows in call.chunks:
            if torch.equal(rows, repeated(negative, rows)):
                continue
            seen.add(call.step >= delay)
            if call.step < delay:
                assert torch.equal(rows, repeated(found, rows))
            else:
                assert (rows - repeated(fused, rows)).abs().max() < 1e-4
                own = rows[:, : found.shape[1]]
                assert torch.equal(own[:, others], found[:, others].expand(len(rows), -1, -1))
    assert seen == {False, True} if delay else {True}


@pytest.mark.parametrize("model", ["sd1", "demo"])
def test_a_run(request, model):
    bench = request.getfixturevalue("bench" if model == "sd1" else "demo")
    injected, plain = bench.inject(), bench.run(steps=STEPS)
    (given, options), (rows, marked) = bench.positive[0], injected.conditioning[0]
    assert marked.pop("semantic_binding_subjects") == tuple(each.name for each in bench.bound.binding.entities)
    assert rows is given and marked == options
    ran = bench.run(injected.model, injected.conditioning, steps=STEPS, batch=2)
    check(bench, ran)
    assert ran.latent.isfinite().all()
    alone = bench.run(injected.model, injected.conditioning, steps=STEPS)
    assert (alone.latent - plain.latent).abs().max() > 1e-3 * plain.latent.abs().max()
    assert torch.equal(bench.run(steps=STEPS).latent, plain.latent)


@pytest.mark.parametrize(
    ("delay", "counting", "first"),
    [(0.0, "corrected", 0), (0.0, "published", 1), (0.5, "corrected", 2), (0.5, "published", 3), (0.7, "corrected", 3)],
)
def test_the_step_at_which_subjects_come_in(bench, delay, counting, first):
    injected = bench.inject(delay=delay, counting=counting)
    check(bench, bench.run(injected.model, injected.conditioning, steps=STEPS), delay=first)


@pytest.mark.parametrize("sampler", slowly(["heun", "dpmpp_2m", "dpmpp_sde", "uni_pc"], ["heun"]))
def test_steps_are_found_from_the_noise_level(bench, sampler):
    injected = bench.inject()
    ran = bench.run(injected.model, injected.conditioning, steps=STEPS, sampler_name=sampler, scheduler="karras")
    check(bench, ran)
    assert sampler != "heun" or len(ran.own) > STEPS


def test_strengths(bench):
    binding = bench.subject(bench.bound.binding, "2", bench.picture(2), strength=0.4)
    injected = bench.inject(binding=binding)
    assert injected.told.startswith("dog: 1 picture, strength 0.4, anywhere\nSubjects come in after 50% of the steps")
    check(bench, bench.run(injected.model, injected.conditioning, steps=STEPS), {7: 2}, strength=0.4)
    binding = bench.subject(bench.bound.binding, "2", bench.picture(2), strength=0.0)
    injected = bench.inject(binding=binding)
    ran = bench.run(injected.model, injected.conditioning, steps=STEPS)
    assert torch.equal(ran.latent, bench.run(steps=STEPS).latent)


def test_two_subjects_of_the_same_noun(bench, part):
    """The example of the specification: rows 2 and 5."""
    bound = bench.bind("a man and a man are reading book together", "man | man 2 | book")
    binding = bench.subject(bench.subject(bound.binding, "man 2", bench.picture(2)), "man", bench.picture(1))
    rows = [part("attention.subjects").row_of(binding, entity, ()) for entity in binding.entities[:2]]
    assert rows == [2, 5]
    injected = bench.inject(None, bound.conditioning, binding)
    check(bench, bench.run(injected.model, injected.conditioning, steps=STEPS), {2: 1, 5: 2}, found=bound.embedding)


def test_nouns_of_several_pieces_and_chunks(bench):
    """The last piece counts; the second entity is in the second chunk."""
    bound = bench.bind("a shapeshifter " + "in a park " * 30 + "and a blue dog", "shapeshifter | dog: blue")
    rows = [bound.binding.positions([entity.noun]) for entity in bound.binding.entities]
    assert len(rows[0]) > 1 and rows[1][0] > 77
    binding = bench.subject(bench.subject(bound.binding, "1", bench.picture(1)), "2", bench.picture(2))
    injected = bench.inject(None, bound.conditioning, binding)
    ran = bench.run(injected.model, injected.conditioning, steps=STEPS)
    check(bench, ran, {rows[0][-1]: 1, rows[1][-1]: 2}, found=bound.embedding)


def test_references_are_averaged_or_chosen(bench):
    """In the order of the batch and of the nodes."""
    binding = bench.bound.binding
    both = torch.cat([bench.picture(1), bench.picture(2)])
    binding = bench.subject(bench.subject(binding, "cat", both), "cat", bench.picture(3, size=(7, 30)))
    expected = torch.stack([bench.adapter.embeddings([chosen(bench, seed)], lambda: None)[0] for seed in (1, 2)])
    third = bench.subject(bench.bound.binding, "cat", bench.picture(3, size=(7, 30))).entities[0].subject
    expected = torch.cat([expected, bench.adapter.embeddings([third], lambda: None)])
    for reference, wanted in ((0, expected.mean(0)), (1, expected[0]), (2, expected[1]), (3, expected[2])):
        subject = replace(binding.entities[0].subject, reference=reference)
        assert (bench.adapter.embeddings([subject], lambda: None)[0] - wanted).abs().max() < 1e-5
    told = bench.inject(binding=binding.with_entity("cat", subject=subject)).told
    assert "cat: picture 3 of 3" in told
    with pytest.raises(ValueError, match="cat has 3 reference pictures, so there is no number 4"):
        bench.subject(bench.subject(bench.bound.binding, "cat", both), "cat", bench.picture(3), reference=4)


def chosen(bench, seed):
    return bench.subject(bench.bound.binding, "cat", bench.picture(seed)).entities[0].subject


def test_a_binding_is_not_changed(bench):
    assert all(entity.subject is None for entity in bench.bound.binding.entities)
    assert all(len(entity.subject.pictures) == 1 for entity in bench.subjects.entities)


def test_cfg_1_has_no_negative(bench):
    injected = bench.inject()
    ran = bench.run(injected.model, injected.conditioning, steps=STEPS, cfg=1.0)
    assert {slot for call in ran.own for slot, _ in call.chunks} == {0}
    check(bench, ran)


def test_calls_of_their_own(bench, monkeypatch):
    injected = bench.inject(localisation="masks, else attention")
    run = {"positive": injected.conditioning, "steps": STEPS}
    together = bench.run(injected.model, **run)
    threads = bench.run(in_threads(injected.model), **run)
    bench.apart(monkeypatch)
    apart = bench.run(injected.model, **run)
    for ran in (threads, apart):
        assert [len(call.chunks) for call in ran.own] == [1] * (2 * STEPS)
        check(bench, ran)
        assert close(ran.latent, together.latent)


def test_two_prompts_with_areas(bench, comfy):
    """Each has subjects of its own, one has an area; a third one without a binding is left alone."""
    other = bench.bind("a small fish", "fish: small")
    first = bench.inject()
    binding = bench.subject(other.binding, "fish", bench.picture(5))
    second = bench.inject(first.model, other.conditioning, binding, delay=0.0)
    (area,) = comfy.nodes.ConditioningSetArea().append(second.conditioning, 64, 32, 0, 32, 1.0)
    positive = [*first.conditioning, *area, *bench.encode("a blue dog")]
    ran = bench.run(second.model, positive, steps=STEPS)
    fish = bench.fused(other.embedding, {3: 5})
    whole = bench.fused(bench.bound.embedding, BOTH)
    for step in range(STEPS):
        rows = [rows for call in ran.own if call.step == step for slot, rows in call.chunks if slot == 0]
        text = bench.bound.embedding if step < 2 else whole
        for expected in (fish, text, bench.encode("a blue dog")[0][0]):
            assert [(each - expected).abs().max() < 1e-4 for each in rows].count(True) == 1


def test_merged_tokens(bench):
    """The composite is fused, before and behind in the row of nodes; the ends are those of the simplified prompt."""
    merged = bench.merge()
    one = bench.inject(merged.model, merged.conditioning)
    first = bench.inject()
    other = bench.merge(first.model, conditioning=first.conditioning)
    ends = rows_of(merged.conditioning).clone()
    ends[:, 8:] = bench.ends
    ran = bench.run(one.model, one.conditioning, steps=STEPS)
    assert COMPOSITES == NOUNS
    check(bench, ran, found=ends)
    assert torch.equal(bench.run(other.model, other.conditioning, steps=STEPS).latent, ran.latent)


def test_a_merged_noun_of_several_pieces(bench, part):
    """The composite stands at the first piece; a noun that nothing belongs to is not merged."""
    bound = bench.bind("a red shapeshifter and a shapeshifter", "shapeshifter: red | shapeshifter 2")
    row_of, merged_key = part("attention.subjects").row_of, part("parsing.binding").MERGED_KEY
    nouns = [bound.binding.positions([entity.noun]) for entity in bound.binding.entities]
    assert len(nouns[0]) > 1
    (_, options) = bench.merge(bound=bound).conditioning[0]
    found = [row_of(bound.binding, entity, options[merged_key]) for entity in bound.binding.entities]
    assert found == [nouns[0][0], nouns[1][-1]]


@pytest.mark.parametrize("optimised", slowly([1, 3], [3]))
def test_optimised_tokens(bench, optimised):
    """Tokens are optimised while the text is alone, and fused ones when subjects have come in, in either order."""
    plan = {"token_steps": optimised, "entropy_steps": 0, "token_iterations": 1}

    def first():
        merged = bench.merge()
        injected = bench.inject(merged.model, merged.conditioning)
        return bench.optimize(injected.model, **plan)[0], injected.conditioning

    def last():
        merged = bench.merge()
        injected = bench.inject(bench.optimize(merged.model, **plan)[0], merged.conditioning)
        return injected.model, injected.conditioning

    merged = rows_of(bench.merge().conditioning)
    fused = bench.fused(merged, BOTH)
    runs = [bench.run(*nodes(), steps=STEPS) for nodes in (first, last)]
    assert torch.equal(runs[0].latent, runs[1].latent)
    for call in runs[0].own:
        rows = call.of(0)
        from_merged, from_fused = ((rows - each)[:, COMPOSITES].norm() for each in (merged, fused))
        if call.step < 2:
            assert 0 < from_merged < from_fused
        elif optimised > 2:
            assert 1e-4 < from_fused < from_merged
        else:
            assert from_fused < 1e-4


def test_the_order_of_nodes_does_not_matter(bench):
    def modulated(model):
        return bench.modulated(model, **ALL)

    injected = bench.inject(localisation="masks, else attention")
    one = bench.run(modulated(injected.model), injected.conditioning, steps=STEPS)
    other = bench.inject(modulated(bench.model), localisation="masks, else attention")
    ran = bench.run(other.model, other.conditioning, steps=STEPS)
    check(bench, ran)
    assert close(one.latent, ran.latent)
    alone = bench.run(modulated(bench.model), steps=STEPS)
    assert (ran.latent - alone.latent).abs().max() > 1e-3 * alone.latent.abs().max()


def test_structured_conditioning_and_composed_noise(bench, part):
    """Values are made of the fused rows; of a composition the whole prompt has the subjects, in either order."""
    structured = part("nodes.structured").SBStructuredConditioning
    compose = part("nodes.composed").SBComposeNoise
    with torch.inference_mode():
        first = bench.inject()
        model = structured.execute(first.model, bench.clip, bench.bound.binding, 0.0, 1.0).args[0]
        check(bench, bench.run(model, first.conditioning, steps=STEPS))
        model, conditioning = compose.execute(first.model, bench.clip, bench.bound.binding, "", 1.0, "", 1.0).args
        before = bench.run(model, conditioning, steps=STEPS)
        model, conditioning = compose.execute(bench.model, bench.clip, bench.bound.binding, "", 1.0, "", 1.0).args
        last = bench.inject(model, conditioning)
    ran = bench.run(last.model, last.conditioning, steps=STEPS)
    assert torch.equal(ran.latent, before.latent)
    assert len(last.conditioning) == 3
    fused = bench.fused(bench.bound.embedding, BOTH)
    for step in range(STEPS):
        rows = [rows for call in ran.own if call.step == step for _, rows in call.chunks]
        given = [embedding for embedding, _ in (*conditioning, *bench.negative)]
        expected = [fused if step >= 2 and torch.equal(each, bench.bound.embedding) else each for each in given]
        for each in expected:
            assert any((found - each).abs().max() < 1e-4 for found in rows)


@pytest.mark.parametrize("loss", slowly(["attend and excite", "syngen", "layout"], ["layout"]))
def test_attention_guidance(bench, loss):
    """Its passes see the rows that the step has: fused ones when subjects have come in."""
    changes = {"end": 1.0} | ({"threshold": 0.0, "iterations": 1} if loss == "layout" else {})
    injected = bench.inject(localisation="masks, else attention")
    ran = bench.run(bench.guide(loss, injected.model, **changes), injected.conditioning, steps=STEPS)
    check(bench, ran)
    fused = bench.fused(bench.bound.embedding, BOTH)
    steps = set()
    for call in ran.passes:
        ((_, rows),) = call.chunks
        expected = fused if call.step >= 2 else bench.bound.embedding
        assert (rows - repeated(expected, rows)).abs().max() < 1e-4
        steps.add(call.step)
    assert steps == set(range(STEPS))
    plain = bench.run(injected.model, injected.conditioning, steps=STEPS)
    assert (ran.latent - plain.latent).abs().max() > 1e-4 * plain.latent.abs().max()


def test_two_nodes_for_different_entities(bench):
    cat, dog = (bench.subject(bench.bound.binding, name, bench.picture(n)) for n, name in ((1, "cat"), (2, "dog")))
    first = bench.inject(binding=cat)
    both = bench.inject(first.model, first.conditioning, dog)
    check(bench, bench.run(both.model, both.conditioning, steps=STEPS))
    with pytest.raises(ValueError, match="Another Subject Injection has given cat a subject already"):
        bench.inject(first.model, first.conditioning, cat)
    twice = bench.inject(first.model, bench.positive, cat)
    with pytest.raises(ValueError, match=r"Two Subject Injection nodes on this model have a subject for cat\."):
        bench.run(twice.model, twice.conditioning)


def test_what_cannot_be_done_is_said(bench, comfy, part, tiny):
    inject, subject, bound = bench.inject, bench.subject, bench.bound
    with pytest.raises(ValueError, match="has a subject. Give them reference pictures with Entity Subject"):
        inject(binding=bound.binding)
    with pytest.raises(ValueError, match='no entity "bird". Its entities are: 1 = cat, 2 = dog'):
        subject(bound.binding, "bird", bench.picture(1))
    with pytest.raises(ValueError, match="does not belong to the BINDING"):
        inject(None, bench.encode("a red cat"))
    other = bench.bind("a green bird", "bird: green")
    of_other = subject(other.binding, "bird", bench.picture(2))
    with pytest.raises(ValueError, match="does not belong to the BINDING"):
        inject(None, inject(None, other.conditioning, of_other).conditioning)
    weighted = bench.bind("a red (cat:1.3) and a blue dog", "cat: red | dog: blue")
    with pytest.raises(ValueError, match='"cat" has the weight 1.3 in the prompt'):
        inject(None, weighted.conditioning, subject(weighted.binding, "cat", bench.picture(1)))
    inject(None, weighted.conditioning, subject(weighted.binding, "dog", bench.picture(1)))
    with pytest.raises(ValueError, match="none of these has a mask or a box: cat, dog"):
        inject(localisation="masks")
    sdxl = GuidanceBench(comfy, part, tiny("sdxl"))
    with pytest.raises(
        ValueError, match="for a model with rows of 32 numbers, and the conditioning is that of a model"
    ):
        inject(sdxl.model, sdxl.positive, subject(sdxl.bound.binding, "cat", bench.picture(1)))
    gone = replace(
        bench.subjects, encoders=(replace(bound.binding.encoders[0], rows=bound.binding.encoders[0].rows[:6]),)
    )
    with pytest.raises(ValueError, match="There are no tokens in the conditioning for: dog"):
        inject(binding=gone)
    late = inject(delay=1.0)
    with pytest.raises(ValueError, match="4 of 4 steps have the text alone. Lower delay"):
        bench.run(late.model, late.conditioning, steps=STEPS)
    injected = inject()
    with pytest.raises(ValueError, match="Subject Injection has nothing to act on"):
        bench.run(injected.model, bench.encode("a cat"))


def test_graphs(bench, comfy, part, run_graph, monkeypatch):
    """All three nodes over the executor: the UNet of the adapter is used, and everything is said."""
    from given import giving_node

    for file, name in (
        ("adapter", "SBLoadSubjectAdapter"),
        ("entity_subject", "SBEntitySubject"),
        ("injection", "SBSubjectInjection"),
    ):
        node = getattr(part(f"nodes.subjects.{file}"), name)
        monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, name, node)
    given = {"model": bench.model, "cond": bench.positive, "binding": bench.bound.binding, "image": bench.picture(1)}
    graph = {}
    for name, value in {**given, "negative": bench.negative}.items():
        monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, f"Give{name}", giving_node(value))
        graph[name] = {"class_type": f"Give{name}", "inputs": {}}
    loading = {"checkpoint": bench.file, "model": ["model", 0]}
    subject = {"binding": ["binding", 0], "image": ["image", 0], "entity": "cat", "strength": 1.0, "reference": 0}
    injecting = {"model": ["load", 1], "conditioning": ["cond", 0], "binding": ["subject", 0], "adapter": ["load", 0]}
    links = {
        "model": ["inject", 0],
        "positive": ["inject", 1],
        "negative": ["negative", 0],
        "latent_image": ["empty", 0],
    }
    graph |= {
        "load": {"class_type": "SBLoadSubjectAdapter", "inputs": loading},
        "subject": {"class_type": "SBEntitySubject", "inputs": subject},
        "inject": {
            "class_type": "SBSubjectInjection",
            "inputs": {**injecting, "delay": 0.5, "counting": "corrected", "localisation": "off"},
        },
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                **links,
                **{"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
            },
        },
    }
    run = run_graph(graph, latent=["sampler", 0])
    binding = bench.subject(bench.bound.binding, "cat", bench.picture(1))
    with_unet = bench.load(bench.model)[1]
    injected = bench.inject(with_unet, binding=binding)
    expected = bench.run(injected.model, injected.conditioning)
    assert torch.equal(run.values["latent"]["samples"], expected.latent)
    assert "Its UNet is set on the model" in run.outputs["load"]["text"][0]
    assert run.outputs["subject"]["text"][0] == "cat: 1 picture, strength 1"
    assert run.outputs["inject"]["text"][0].startswith("cat: 1 picture, strength 1, anywhere")


def test_a_marked_conditioning_without_the_model_of_the_injection_is_told(bench):
    marked = bench.inject().conditioning
    watched = record(bench.part, bench.model, bench.bound)[0]
    with pytest.raises(ValueError, match="conditioning with subjects \\(cat, dog\\), but not the model"):
        bench.run(watched, marked)
    bench.run(record(bench.part, bench.inject().model, bench.bound)[0], marked)
