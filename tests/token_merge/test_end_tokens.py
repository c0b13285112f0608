"""End-token substitution: what the model is given, and from which step on."""

import pytest
import torch

from merge import MergeBench, repeated, rows_of

PARK = "in a park " * 30


@pytest.fixture(
    scope="module", params=["sd1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd2", "sdxl"))]
)
def bench(request, comfy, part, tiny):
    return MergeBench(comfy, part, tiny(request.param))


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return MergeBench(comfy, part, tiny("sd1"))


def substituted(bench, prompt_ends, simplified):
    """What is behind the prompt in its conditioning: for each row there the same row of the simplified prompt."""
    rows = rows_of(bench.encode(simplified))
    return {row: rows[:, row % 77] for row in prompt_ends}


@pytest.mark.parametrize("from_step", [0, 1, 2, 9])
def test_end_tokens_from_a_step_on(bench, from_step):
    """In the model's own context, of the positive prompt alone; its composites are there from the first step on."""
    merged = bench.merge(from_step=from_step)
    before = rows_of(merged.conditioning)
    ends = substituted(bench, range(8, 77), "a cat and a dog")
    ran = bench.run(merged.model, merged.conditioning, steps=3)
    assert [call.step for call in ran.own] == [0, 1, 2]
    for call in ran.own:
        assert torch.equal(call.of(1), rows_of(bench.negative))
        assert torch.equal(call.of(0)[:, :8], before[:, :8])
        for row, expected in ends.items():
            assert torch.equal(call.of(0)[:, row], expected if call.step >= from_step else before[:, row])


def test_end_tokens_of_every_chunk(bench):
    """The first chunk is full, and has one end token and no padding."""
    bound = bench.bind(f"a red cat {PARK}and a blue dog", "cat: red | dog: blue")
    merged = bench.merge(bound=bound)
    ends = substituted(bench, [76, *range(100, 154)], "a cat and a dog")
    (call,) = bench.run(merged.model, merged.conditioning, steps=1).own
    rows, before = call.of(0), rows_of(merged.conditioning)
    for row in range(154):
        assert torch.equal(rows[:, row], ends.get(row, before[:, row]))
    assert torch.equal(call.of(1), repeated(rows_of(bench.negative), rows))


def test_end_tokens_where_the_simplified_prompt_still_has_words(sd1):
    """Its own end token takes their place."""
    merged = sd1.merge(simplified="a cat and a dog in a big green park")
    rows = rows_of(sd1.encode("a cat and a dog in a big green park"))
    (call,) = sd1.run(merged.model, merged.conditioning, steps=1).own
    assert torch.equal(call.of(0)[:, 8:12], rows[:, [11] * 4])
    assert torch.equal(call.of(0)[:, 12:], rows[:, 12:])


def test_end_tokens_where_the_simplified_prompt_is_longer(sd1):
    """Only its first chunk counts for a prompt of one."""
    merged = sd1.merge(simplified=f"a cat and a dog {PARK}")
    rows = rows_of(sd1.encode(f"a cat and a dog {PARK}"))
    (call,) = sd1.run(merged.model, merged.conditioning, steps=1).own
    assert torch.equal(call.of(0)[:, 8:], rows[:, [76] * 69])


def test_end_tokens_in_repetitions(sd1):
    """A prompt is repeated to the length of a longer negative prompt, its end tokens included."""
    merged = sd1.merge()
    (call,) = sd1.run(merged.model, merged.conditioning, sd1.encode("bad " * 80), steps=1).own
    rows = call.of(0)
    assert rows.shape[1] == 154
    assert torch.equal(rows[:, 8:77], sd1.ends)
    assert torch.equal(rows[:, :77], rows[:, 77:])


def test_end_tokens_kept(bench):
    """Then the model has nothing to do in a run: the picture is that of the conditioning alone."""
    merged = bench.merge(kept=True)
    ran = bench.run(merged.model, merged.conditioning)
    for call in ran.own:
        assert torch.equal(call.of(0), rows_of(merged.conditioning))
    assert torch.equal(ran.latent, bench.run(bench.model, merged.conditioning).latent)
    assert "End tokens" not in merged.told


def test_prompt_joined_behind_stays(comfy, sd1):
    """Conditioning (Concat) makes the rows of a conditioning more than those of its prompt."""
    (joined,) = comfy.nodes.ConditioningConcat().concat(sd1.positive, sd1.encode("a park"))
    merged = sd1.merge(conditioning=joined)
    model, _ = sd1.optimize(merged.model)
    for call in sd1.run(model, merged.conditioning).own:
        assert torch.equal(call.of(0)[:, 77:], rows_of(sd1.encode("a park")))
        assert torch.equal(call.of(0)[:, 8:77], sd1.ends)
