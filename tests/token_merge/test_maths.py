"""Composite tokens and end-token substitution, against examples computed by hand and slow versions of themselves."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from attention_reference import bind

KINDS = {"S": "start", "t": "text", "E": "end", "p": "padding"}


@pytest.fixture(scope="module")
def maths(part):
    """Modules of the pack's attention, by name."""
    return lambda name: part(f"attention.{name}")


@pytest.fixture(scope="module")
def by_hand(maths, part):
    """``by_hand(noun, rest, ...)``: composites of one encoder with two columns, from the rows of each."""
    module, entity = maths("token_merge.composite"), part("parsing.binding").Entity("thing", None)

    def composites(*groups):
        return [module.Composite(entity, (module.Part(slice(0, 2), tuple(n), tuple(r)),)) for n, r in groups]

    return composites


@pytest.fixture
def sdxl(tiny, tmp_path):
    """The tiny SDXL, for which the embedding "shift" has three vectors in l and one in g."""
    loaded = tiny("sdxl", own=True)
    save_file({"clip_l": torch.randn(3, 32), "clip_g": torch.randn(1, 64)}, tmp_path / "shift.safetensors")
    for side in (loaded.clip.tokenizer.clip_l, loaded.clip.tokenizer.clip_g):
        side.embedding_directory = str(tmp_path)
    return loaded


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_merge(bound, noun_weight, rest_weight, widths):
    """The merged conditioning, row by row and encoder by encoder, from the characters of the words."""
    binding, rows = bound.binding, bound.embedding.double()
    result, start = rows.clone(), 0
    for tokens, width in zip(binding.encoders, widths, strict=True):
        columns, emptied, sums = slice(start, start + width), set(), {}
        start += width

        def of(phrases, tokens=tokens):
            characters = {at for phrase in phrases for span in phrase.spans for at in range(*span)}
            rows_of_encoder = enumerate(tokens.rows[: binding.length])
            return [number for number, row in rows_of_encoder if row.span and characters & set(range(*row.span))]

        for entity in binding.entities:
            noun, group = of([entity.noun]), of(entity.phrases)
            if group != noun:
                total = torch.zeros(len(rows), width, dtype=torch.float64)
                for number in group:
                    total += (noun_weight if number in noun else rest_weight) * rows[:, number, columns]
                sums[noun[0]] = total
                emptied |= set(group)
        for number in emptied:
            result[:, number, columns] = 0
        for number, total in sums.items():
            result[:, number, columns] = total
    return result


def test_composites_of_a_few_rows(maths, by_hand):
    rows = torch.tensor([[[9, 9], [0.2, 0.1], [1, 2], [3, -1], [0.5, 0.5], [7, 7]]])
    merged = maths("token_merge.composite").merged
    found = merged(rows, by_hand(([2], [3])), 1.1, 1.2)[0]
    assert found[2].tolist() == pytest.approx((4.7, 1.0)) and found[3].tolist() == [0, 0]
    assert torch.equal(found[[0, 1, 4, 5]], rows[0, [0, 1, 4, 5]])
    found = merged(rows, by_hand(([2, 3], [4])), 1.1, 1.2)[0]
    assert found[2].tolist() == pytest.approx((5.0, 1.7)) and found[3:5].tolist() == [[0, 0]] * 2
    assert torch.equal(found[[0, 1, 5]], rows[0, [0, 1, 5]])
    found = merged(rows, by_hand(([3], [2])), 1.0, 1.0)[0]
    assert found[3].tolist() == pytest.approx((4, 1)) and found[2].tolist() == [0, 0]


def test_composites_of_shared_rows(maths, by_hand):
    """Row 1 belongs to both entities, and the noun of the second, row 4, to the first: each gets what was found."""
    rows = torch.randn(2, 6, 2, generator=generator())
    found = maths("token_merge.composite").merged(rows, by_hand(([2], [1, 4]), ([4, 5], [1])), 1.1, 1.2)
    torch.testing.assert_close(found[:, 2], 1.1 * rows[:, 2] + 1.2 * (rows[:, 1] + rows[:, 4]))
    torch.testing.assert_close(found[:, 4], 1.1 * (rows[:, 4] + rows[:, 5]) + 1.2 * rows[:, 1])
    assert not found[:, [1, 5]].any()
    assert torch.equal(found[:, [0, 3]], rows[:, [0, 3]])


PROMPTS = {
    "two colours": ("a red cat and a blue dog", "cat: red | dog: blue"),
    "worn things": ("a cat wearing sunglasses and a dog wearing hat", "cat: wearing sunglasses | dog: wearing hat"),
    "one left alone": ("a red cat beside a dog", "cat: red | dog"),
    "the same noun": ("a red cat and a blue cat", "cat: red | cat 2: blue"),
    "shared attribute": ("red cat and dog, striped", "cat: red, striped | dog: red"),
    "nouns of several pieces": (
        "a multi-colored rhododendronshrub and a blue supercalifragilistic",
        "rhododendronshrub: multi-colored | supercalifragilistic: blue",
    ),
    "weights": ("a (red:1.4) cat and a ((blue dog))", "cat: red | dog: blue"),
    "three, two chunks": (
        "a red cat " + "in a park " * 24 + "and a blue dog near a tall green tree",
        "cat: red | dog: blue | tree: tall, green",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_composites_of_bound_prompts(maths, part, tiny, layout, name):
    module = maths("token_merge.composite")
    bound = bind(part, tiny(layout).clip, *PROMPTS[name])
    widths = [32] if layout == "sd1" else [32, 64]
    composites = module.composites_of(bound.binding, sum(widths))
    assert [each.entity.name for each in composites] == [e.name for e in bound.binding.entities if e.phrases[1:]]
    before = bound.embedding.clone()
    found = module.merged(bound.embedding, composites, 1.1, 1.2)
    torch.testing.assert_close(found.double(), slow_merge(bound, 1.1, 1.2, widths), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found, before)
    assert torch.equal(bound.embedding, before), "the conditioning is shared with other nodes"


@pytest.mark.parametrize(
    ("prompt", "entities"),
    [
        ("embedding:shift a red cat and a blue dog", "cat: red | dog: blue"),
        ("a red embedding:shift cat and a blue dog", "cat: red, embedding:shift | dog: blue"),
    ],
    ids=["before", "within"],
)
def test_composites_where_the_encoders_have_other_rows(maths, part, sdxl, prompt, entities):
    """Each part of the columns is merged at its own place; a composite then stands in two rows of the sequence."""
    module = maths("token_merge.composite")
    bound = bind(part, sdxl.clip, prompt, entities)
    first, second = module.composites_of(bound.binding, 96)
    for composite in (first, second):
        of_l, of_g = composite.parts
        assert (of_l.columns, of_g.columns) == (slice(0, 32), slice(32, 96))
        assert of_l.noun[0] - of_g.noun[0] == 2
        assert composite.positions == (of_g.noun[0], of_l.noun[0])
    found = module.merged(bound.embedding, (first, second), 1.1, 1.2)
    torch.testing.assert_close(found.double(), slow_merge(bound, 1.1, 1.2, [32, 64]), rtol=1e-5, atol=1e-5)


def test_taking_composites_and_putting_them_back(maths, part, sdxl):
    module = maths("token_merge.composite")
    words = "embedding:shift a red rhododendronshrub and a blue dog", "rhododendronshrub: red | dog: blue"
    bound = bind(part, sdxl.clip, *words)
    composites = module.composites_of(bound.binding, 96)
    assert len(composites[0].parts[0].noun) > 1
    rows = torch.randn(3, 77, 96, generator=generator())
    index = module.index_of(composites, 96)
    found = module.taken(rows, index)
    assert found.shape == (3, 2, 96)
    for number, composite in enumerate(composites):
        for part_ in composite.parts:
            assert torch.equal(found[:, number, part_.columns], rows[:, part_.noun[0], part_.columns])
    assert torch.equal(module.put(rows, index, found), rows)
    other = torch.randn(3, 2, 96, generator=generator(1))
    changed = module.put(rows, index, other)
    assert torch.equal(module.taken(changed, index), other)
    assert int((changed != rows).sum()) == 3 * 2 * 96, "nothing else"
    assert torch.equal(module.put(changed, index, found), rows)


def test_conditioning_of_another_width_is_refused(maths, part, sdxl):
    bound = bind(part, sdxl.clip, *PROMPTS["two colours"])
    with pytest.raises(ValueError, match=r"has 64 columns, but .* are l \(32\) and g \(64\)"):
        maths("token_merge.composite").composites_of(bound.binding, 64)
    unknown = [replace(tokens, width=None) for tokens in bound.binding.encoders]
    with pytest.raises(ValueError, match=r"l \(None\)"):
        maths("token_merge.composite").columns_of(replace(bound.binding, encoders=tuple(unknown)), 96)


def test_entity_whose_noun_was_cut_off_is_refused(maths, part, tiny):
    """SDXL's two encoders can need different numbers of chunks, and ComfyUI keeps the shorter one's rows."""
    bound = bind(part, tiny("sdxl").clip, *PROMPTS["three, two chunks"])
    of_l, of_g = bound.binding.encoders
    shorter = replace(bound.binding, encoders=(of_l, replace(of_g, rows=of_g.rows[:77])))
    with pytest.raises(ValueError, match="no tokens in the conditioning for dog"):
        maths("token_merge.composite").composites_of(shorter, 96)


def encoder(part, *chunks):
    """Tokens of an encoder from "SttEpp", a letter for the kind of each row."""
    module = part("parsing.binding")
    return module.EncoderTokens("l", tuple(module.Row(KINDS[letter]) for letter in "".join(chunks)))


@pytest.mark.parametrize(
    ("prompt", "simplified", "expected"),
    [
        (["SttttE"], ["SttEpp"], {5: 5}),
        (["SttEpp"], ["StEppp"], {3: 3, 4: 4, 5: 5}),
        (["StEppp"], ["StttEp"], {2: 4, 3: 4, 4: 4, 5: 5}),
        (["SttttE", "SttEpp"], ["SttttE", "StttEp"], {5: 5, 9: 10, 10: 10, 11: 11}),
        (["SttttE", "StEppp"], ["SttEpp"], {5: 5, 8: 3, 9: 3, 10: 4, 11: 5}),
        (["SttttE", "SttttE", "StEppp"], ["SttttE", "SttEpp"], {5: 5, 11: 11, 14: 9, 15: 9, 16: 10, 17: 11}),
        (["StEppp"], ["SttttE", "StEppp"], {2: 5, 3: 5, 4: 5, 5: 5}),
    ],
    ids=["shorter", "as in the published code", "longer", "two chunks", "fewer chunks", "third chunk", "more chunks"],
)
def test_sources_of_end_rows(maths, part, prompt, simplified, expected):
    prompt, simplified = encoder(part, *prompt), encoder(part, *simplified)
    assert maths("token_merge.end_tokens").sources(prompt, simplified, prompt.length, simplified.length) == expected


def test_sources_where_the_other_encoder_needs_fewer_chunks(maths, part):
    """Rows that ComfyUI has cut off are neither replaced nor taken from."""
    prompt, simplified = encoder(part, "SttttE", "SttEpp"), encoder(part, "SttttE", "StEppp")
    sources = maths("token_merge.end_tokens").sources
    assert sources(prompt, simplified, 6, 12) == {5: 5}
    assert sources(prompt, simplified, 12, 6) == {5: 5, 9: 5, 10: 5, 11: 5}


def test_substitution_is_the_published_codes_for_one_chunk(maths, part, tiny):
    """There: all rows behind the prompt's nine words are those of the simplified prompt at the same place."""
    module, clip = maths("token_merge.end_tokens"), tiny("sd1").clip
    bound = bind(part, clip, *PROMPTS["worn things"])
    short = bind(part, clip, "a cat and a dog", "cat | dog")
    ends = module.end_rows(bound.binding.encoders, short.binding.encoders, [slice(0, 32)], short.embedding, 77)
    batch = torch.randn(2, 77, 32, generator=generator())
    before = batch.clone()
    found = module.substituted(batch, ends)
    expected = torch.cat([batch[:, :10], short.embedding[:, 10:].expand(2, -1, -1)], 1)
    assert torch.equal(found, expected)
    assert torch.equal(batch, before)


def test_substitution_where_the_encoders_have_other_rows(maths, part, sdxl):
    """The end tokens of l stand two rows behind those of g, in the prompt and at other places in the simplified one."""
    module = maths("token_merge.end_tokens")
    bound = bind(part, sdxl.clip, "embedding:shift a red cat and a blue dog", "cat: red | dog: blue")
    short = bind(part, sdxl.clip, "a very long prompt about embedding:shift and a cat", "cat")
    columns = maths("token_merge.composite").columns_of(bound.binding, 96)
    ends = module.end_rows(bound.binding.encoders, short.binding.encoders, columns, short.embedding, 77)
    rows = torch.randn(1, 77, 96, generator=generator())
    found, expected = module.substituted(rows, ends), rows.clone()
    for part_, first, end in ((slice(0, 32), 11, 12), (slice(32, 96), 9, 10)):
        for row in range(first, 77):
            expected[0, row, part_] = short.embedding[0, max(row, end), part_]
    assert torch.equal(found, expected)
