"""Subjects confined to their places: nothing is attended to outside of a region, or of where an entity was found."""

import pytest
import torch

from attention_reference import record
from injecting import SubjectBench

STEPS = 4


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return SubjectBench(comfy, part, tiny("sd1"))


def recorded(bench, part, injected, word, step, size=(16, 16), batch=1):
    """The attention ``(batch, h, w)`` to a word on the coarsest grid but one in a step."""
    model, maps = record(part, injected.model, bench.bound, record="words", words=word, resolution="latent/2", keep=1)
    ran = bench.run(model, injected.conditioning, steps=STEPS, size=size, batch=batch)
    recording = maps.find({"samples": ran.latent})
    return recording.grids[0].maps[step][:, recording.labels.index(word)]


def halves(binding):
    """Boxes: the first entity on the left, the second on the right."""
    binding = binding.with_entity("cat", box=(0.0, 0.0, 0.5, 1.0))
    return binding.with_entity("dog", box=(0.5, 0.0, 1.0, 1.0))


def test_localisation_by_regions(bench, part):
    """Nothing is attended to outside of the region once the subject is there; the loss of the paper falls."""
    loss = part("demo.subject_losses").balanced
    binding = halves(bench.subjects)
    free = bench.inject(binding=binding)
    confined = bench.inject(binding=binding, localisation="masks")
    assert "cat: 1 picture, strength 1, within its box" in confined.told
    for word, inside in (("cat", slice(0, 4)), ("dog", slice(4, 8))):
        before = recorded(bench, part, confined, word, 1)
        assert before.amin() > 0
        found, without = (recorded(bench, part, each, word, 3) for each in (confined, free))
        mask = torch.zeros(8, 8)
        mask[:, inside] = 1
        assert (found * (1 - mask)).count_nonzero() == 0 and (found * mask).sum() > 0
        assert without.amin() > 0
        losses = [loss(each.float().flatten(), mask.flatten()) for each in (found, without)]
        assert losses[0] < losses[1]
    assert (recorded(bench, part, confined, "red", 3) > 0).all()


def test_masks_of_each_latent(bench, part):
    masks = torch.zeros(2, 16, 16)
    masks[0, :8], masks[1, 8:] = 1, 1
    binding = bench.subjects.with_entity("dog", mask=masks)
    injected = bench.inject(binding=binding, localisation="masks")
    assert "cat: 1 picture, strength 1, anywhere\ndog: 1 picture, strength 1, within its mask" in injected.told
    found = recorded(bench, part, injected, "dog", 2, batch=2)
    for latent, empty in ((0, slice(4, 8)), (1, slice(0, 4))):
        assert found[latent, empty].count_nonzero() == 0 and found[latent].sum() > 0
    assert (recorded(bench, part, injected, "cat", 2, batch=2) > 0).all()


def test_localisation_by_attention(bench, part):
    """Each subject has the patches where its entity had the higher attention in the step before."""
    injected = bench.inject(localisation="masks, else attention")
    assert "where its attention is" in injected.told
    cat, dog = (recorded(bench, part, injected, word, 2) for word in ("cat", "dog"))
    assert cat.amin() >= 0 and dog.amin() >= 0
    assert ((cat > 0) ^ (dog > 0)).all()
    assert (cat > 0).any() and (dog > 0).any()


def test_a_region_for_one_and_attention_for_the_other(bench, part):
    binding = bench.subjects.with_entity("cat", box=(0.0, 0.0, 0.5, 1.0))
    injected = bench.inject(binding=binding, localisation="masks, else attention")
    told = injected.told.splitlines()
    assert told[0].endswith("within its box") and told[1].endswith("where its attention is")
    cat, dog = (recorded(bench, part, injected, word, 2)[0] for word in ("cat", "dog"))
    assert cat[:, 4:].count_nonzero() == 0 and (cat[:, :4] > 0).all()
    assert 0 < (dog > 0).sum() < 64 and (dog[:, :4] > 0).any()


def test_an_entity_alone_is_not_confined_by_attention(bench):
    bound = bench.bind("a red cat", "cat: red")
    binding = bench.subject(bound.binding, "cat", bench.picture(1))
    free, confined = (
        bench.inject(None, bound.conditioning, binding, localisation=each) for each in ("off", "masks, else attention")
    )
    assert "anywhere" in confined.told
    runs = [bench.run(each.model, each.conditioning, steps=STEPS).latent for each in (free, confined)]
    assert torch.equal(*runs)
