"""Sums of phrases in the place of an entity, against examples computed by hand and a slow version in float64."""

from types import SimpleNamespace

import pytest
import torch

from attention_reference import bind

KINDS = {"S": "start", "t": "text", "e": "embedding", "E": "end", "p": "padding"}
WIDTHS = {"sd1": [32], "sdxl": [32, 64]}


@pytest.fixture(scope="module")
def module(pack):
    import importlib

    return importlib.import_module(f"{pack.__name__}.attention.token_merge.arithmetic")


@pytest.fixture
def tokens(part):
    """``tokens("SttEpp", "SttE")``: an encoder's, a letter for the kind of each row of each chunk."""
    binding = part("parsing.binding")
    return lambda *chunks: binding.EncoderTokens("l", tuple(binding.Row(KINDS[each]) for each in "".join(chunks)))


@pytest.fixture
def place(part):
    """``place(([2, 3], [1]))``: noun and other rows of an entity in encoders of two columns each."""
    composite = part("attention.token_merge.composite")

    def place(*encoders):
        parts = [
            composite.Part(slice(2 * number, 2 * number + 2), tuple(noun), tuple(rest))
            for number, (noun, rest) in enumerate(encoders)
        ]
        return composite.Composite(part("parsing.binding").Entity("thing", None), tuple(parts))

    return place


def numbers(*rows):
    return torch.tensor([rows], dtype=torch.float64)


def test_the_sum_of_last_rows(module, tokens, place):
    """In each encoder the last token's; the end token behind it is none."""
    rows = numbers([9, 9, 9, 9], [1, 2, 5, 6], [3, 4, 7, 8], [9, 9, 9, 9])
    long, short = tokens("SttE"), tokens("StEp")
    phrase = module.Encoded("a dog", (long, short), rows, None)
    other = module.Encoded("hat", (short, tokens("SeeE")), 10 * rows, None)
    total = module.total_row(place(([1], []), ([1], [])), [(1.0, phrase), (-0.5, other)])
    assert total.tolist() == [3 - 0.5 * 10, 4 - 0.5 * 20, 5 - 0.5 * 70, 6 - 0.5 * 80]


def test_the_sum_is_put_at_the_noun(module, place):
    rows = torch.arange(24, dtype=torch.float64).reshape(1, 6, 4).repeat(2, 1, 1)
    total = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    found = module.replaced(rows, place(([2, 3], [1]), ([3], [])), total)
    expected = rows.clone()
    expected[:, 1:4, :2] = torch.tensor([[0.0, 0.0], [-1.0, -2.0], [0.0, 0.0]])
    expected[:, 3, 2:] = torch.tensor([-3.0, -4.0])
    assert torch.equal(found, expected)
    assert rows[0, 2, 0] == 8, "the conditioning is shared with other nodes"


def test_what_is_added_to_end_tokens(module, tokens, place):
    """The prompt has its end at row 3, a phrase at 2, the other's at 4: rows 3 and 4 of the latter are its end's."""
    binding = SimpleNamespace(encoders=(tokens("SttEpp"),), length=6)
    short = module.Encoded("dog", (tokens("StEppp"),), numbers(*([each, -each] for each in range(6))), None)
    long = module.Encoded("a dog", (tokens("StttEp"),), 10 * short.rows, None)
    (change,) = module.end_changes(binding, place(([1], [])), [(2.0, short), (-1.0, long)])
    assert (change.columns, change.rows) == (slice(0, 2), (3, 4, 5))
    assert change.values.tolist() == [[6 - 40, -6 + 40], [8 - 40, -8 + 40], [10 - 50, -10 + 50]]
    rows = torch.ones(2, 6, 2, dtype=torch.float64)
    found = module.added(rows, [change])
    assert torch.equal(found[:, :3], rows[:, :3])
    assert torch.equal(found[:, 3:], 1 + change.values.expand(2, -1, -1))


@pytest.mark.parametrize(("noun", "rows"), [(1, (3,)), (5, (7,)), (9, (10, 11))])
def test_end_tokens_of_the_entitys_own_chunk(module, tokens, place, noun, rows):
    binding = SimpleNamespace(encoders=(tokens("SttE", "SttE", "StEp"),), length=12)
    phrase = module.Encoded("dog", (tokens("StEp"),), numbers(*([each, each] for each in range(4))), None)
    (change,) = module.end_changes(binding, place(([noun], [])), [(1.0, phrase)])
    assert change.rows == rows
    assert change.values[:, 0].tolist() == [row % 4 for row in rows]


def test_what_is_added_to_the_pooled_vector(module, tokens, place):
    """It is the last encoder's, of the first chunk."""
    binding = SimpleNamespace(encoders=(tokens("SttE", "SttE"), tokens("SttE", "SttE")))
    of_one = module.Encoded("dog", (), None, torch.tensor([[1.0, 2.0]]))
    of_other = module.Encoded("hat", (), None, torch.tensor([[10.0, 20.0]]))
    first, second = place(([5], []), ([1], [])), place(([1], []), ([5], []))
    sums = [(2.0, of_one), (-0.5, of_other)]
    assert module.pooled_change(binding, first, sums).tolist() == [[2 - 5, 4 - 10]]
    assert module.pooled_change(binding, second, sums) is None
    assert module.pooled_change(binding, first, [*sums, (1.0, of_one._replace(pooled=None))]) is None


def test_phrases_that_have_no_last_row(module, tokens, place):
    at, rows = place(([1], [])), torch.zeros(1, 8, 2)
    for chunks, message in (
        (["SEpp"], '"hat" has no token for text encoder l'),
        (["SttE", "StEp"], '"hat" is too long: a phrase may have 2 tokens'),
    ):
        with pytest.raises(ValueError, match=message):
            module.total_row(at, [(1.0, module.Encoded("hat", (tokens(*chunks),), rows, None))])


def slow(bound, entity, phrases, own, widths):
    """The conditioning with a sum of phrases, row by row, encoder by encoder, in float64.

    Args:
        phrases: (weight, prompt bound as an entity of its own) for each term; ``own`` is the entity's phrase.
    """
    binding = bound.binding
    result, start = bound.embedding.double().clone(), 0
    for number, width in enumerate(widths):
        columns, rows = slice(start, start + width), binding.encoders[number].rows
        start += width
        nouns = {at for span in entity.noun.spans for at in range(*span)}
        words = {at for phrase in entity.phrases for span in phrase.spans for at in range(*span)}
        mine = [at for at, row in enumerate(rows) if row.span and words & set(range(*row.span))]
        first = next(at for at in mine if nouns & set(range(*rows[at].span)))
        total = torch.zeros(width, dtype=torch.float64)
        for weight, phrase in phrases:
            last = max(at for at, row in enumerate(phrase.binding.encoders[number].rows) if row.kind == "text")
            total += weight * phrase.embedding[0, last, columns].double()
        for at in mine:
            result[:, at, columns] = 0
        result[:, first, columns] = total
        for at, row in enumerate(rows):
            if row.kind in ("end", "padding") and at // 77 == first // 77:
                for weight, phrase in [*phrases, (-1.0, own)]:
                    its = phrase.binding.encoders[number].rows
                    end = next(place for place, each in enumerate(its) if each.kind == "end")
                    result[:, at, columns] += weight * phrase.embedding[0, max(at % 77, end), columns].double()
    return result


PROMPTS = {
    "colour": ("a red cat and a blue dog", "cat: red | dog: blue", "dog"),
    "noun of several pieces": ("a blue supercalifragilistic and a cat", "supercalifragilistic: blue | cat", "1"),
    "sub-object": ("a cat wearing sunglasses and a dog", "cat: wearing sunglasses | dog", "cat"),
    "weights": ("a (red:1.4) cat and a ((blue dog))", "cat: red | dog: blue", "1"),
    "second chunk": (f"a red cat {'in a park ' * 24}and a blue dog", "cat: red | dog: blue", "dog"),
    "first chunk": (f"a red cat {'in a park ' * 24}and a blue dog", "cat: red | dog: blue", "cat"),
}
TERMS = [(1.0, "a green bird"), (0.7, "a (big:1.2) hat"), (-1.3, "multi-colored supercalifragilistic wood")]


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_bound_prompts(module, part, tiny, layout, name):
    prompt, entities, chosen = PROMPTS[name]
    clip, common = tiny(layout).clip, part("nodes.token_merge.common")
    bound = bind(part, clip, prompt, entities)
    entity = bound.binding.entity(chosen)

    def encoded(phrase):
        with torch.inference_mode():
            return module.Encoded(phrase, *common.encoded(clip, bound.binding, phrase))

    place = module.place_of(bound.binding, entity, sum(WIDTHS[layout]))
    phrases = [(weight, encoded(phrase)) for weight, phrase in TERMS]
    changes = module.end_changes(bound.binding, place, [*phrases, (-1.0, encoded(entity.anchor_phrase))])
    found = module.added(module.replaced(bound.embedding, place, module.total_row(place, phrases)), changes)
    *alone, own = [bind(part, clip, phrase, phrase.split()[-1]) for _, phrase in [*TERMS, (-1.0, entity.anchor_phrase)]]
    terms = [(weight, phrase) for (weight, _), phrase in zip(TERMS, alone, strict=True)]
    expected = slow(bound, entity, terms, own, WIDTHS[layout])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_another_entitys_noun_is_not_emptied(module, part, tiny):
    """Words by hand may have a sub-object that is an entity too."""
    bound = bind(part, tiny("sd1").clip, "a red cat with a small dog", "cat: red, with a small dog | dog: small")
    cat, dog = bound.binding.entities
    assert module.place_of(bound.binding, cat, 32).parts[0][1:] == ((3,), (2, 4, 5, 6))
    assert module.place_of(bound.binding, dog, 32).parts[0][1:] == ((7,), (6,))
