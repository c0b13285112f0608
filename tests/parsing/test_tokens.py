"""Every row of every encoder is mapped to its characters: the rows, decoded, read as the words they are said to be."""

from __future__ import annotations

import random

import pytest
import torch
from safetensors.torch import save_file

WIDTHS = {"l": 768, "g": 1280, "h": 1024}
WORDS = [
    *(
        "a",
        "red",
        "cat",
        "(blue:1.3)",
        "((tall))",
        "multi-colored",
        "\\(aside\\)",
        "don't",
        "1234",
        "!",
        "(",
        ")",
        "::",
    ),
    *("embedding:both", "embedding:both,", "embedding:h_only", "embedding:missing,", "embedding:both<x>"),
    *(
        "caf\u00e9",
        "e\u0301toile",
        "\u201ccurly\u201d",
        "dog\u2019s",
        "\u0130zmir",
        "\u03a3\u0391\u03a3",
        "\u212b",
        "\ufb01sh",
    ),
    *("\ud55c\uad6d", "\u1112\u1161", "\U0001f431", "\u200b", "\n", "\t", "<|endoftext|>", "supercalifragilistic" * 3),
]


@pytest.fixture(scope="module")
def tokenizers(comfy, tmp_path_factory):
    from comfy.sd1_clip import SD1Tokenizer
    from comfy.sdxl_clip import SDXLTokenizer
    from comfy.text_encoders.sd2_clip import SD2Tokenizer

    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"clip_l": torch.zeros(3, 768), "clip_g": torch.zeros(2, 1280)}, folder / "both.safetensors")
    save_file({"emb_params": torch.zeros(1, 1024)}, folder / "h_only.safetensors")
    return {
        "sd1": SD1Tokenizer(str(folder)),
        "sd2": SD2Tokenizer(str(folder)),
        "sdxl": SDXLTokenizer(str(folder)),
        "no embeddings folder": SD1Tokenizer(None),
    }


@pytest.fixture(scope="module")
def read(part, tokenizers):
    """``read(layout, prompt)``: the prompt without syntax, the encoders by name, and core's tokens."""
    syntax, tokens = part("parsing.syntax"), part("parsing.tokens")

    def read(layout, prompt):
        tokenizer = tokenizers[layout]
        encoded = tokenizer.tokenize_with_weights(prompt, return_word_ids=True)
        vocabularies = {
            key: tokens.Vocabulary(getattr(tokenizer, f"clip_{key}").inv_vocab, WIDTHS[key]) for key in encoded
        }
        plain = syntax.plain(prompt)
        return plain, {e.encoder: e for e in tokens.align(encoded, vocabularies, plain)}, encoded

    return read


def words_of(encoder, text):
    return [(row.piece, text[slice(*row.span)]) for row in encoder.rows if row.kind == "text"]


def rows_of(encoder, text, word, occurrence=0):
    start = -1
    for _ in range(occurrence + 1):
        start = text.index(word, start + 1)
    return encoder.positions([type(encoder.rows[1].span)(start, start + len(word))])


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_reference_positions(read, layout):
    plain, encoders, _ = read(layout, "a red car and a white sheep")
    for encoder in encoders.values():
        assert [rows_of(encoder, plain.text, word) for word in ("red", "car", "white", "sheep")] == [
            (2,),
            (3,),
            (6,),
            (7,),
        ]
        assert encoder.of_kind("start") == (0,)
        assert encoder.of_kind("end") == (8,)
        assert encoder.of_kind("padding") == tuple(range(9, 77))


def test_words_of_several_pieces(read):
    plain, encoders, _ = read("sd1", "a multi-colored dog's Caf\u00e9")
    pieces, sources = zip(*words_of(encoders["l"], plain.text), strict=True)
    assert pieces == ("a", "multi", "-", "colored", "dog", "'s", "caf\u00e9")
    assert sources == ("a", "multi", "-", "colored", "dog", "'s", "Caf\u00e9")
    assert rows_of(encoders["l"], plain.text, "multi-colored") == (2, 3, 4)


def test_an_emoji_and_curly_quotes_keep_their_characters(read):
    plain, encoders, _ = read("sd1", "a \u201cbig\u201d \U0001f431\u2764\ufe0f cat")
    found = words_of(encoders["l"], plain.text)
    assert {source for _, source in found} >= {"a", "\u201c", "big", "\u201d", "\U0001f431", "cat"}
    assert rows_of(encoders["l"], plain.text, "cat") == (len(found),)


def test_exclamation_mark_of_g_is_no_padding(read):
    """The padding id of CLIP-G is 0, which is also the "!" token."""
    plain, encoders, encoded = read("sdxl", "a cat !$")
    assert [token for token, _, _ in encoded["g"][0][3:7]] == [0, 259, 49407, 0]
    for encoder in encoders.values():
        assert words_of(encoder, plain.text) == [("a", "a"), ("cat", "cat"), ("!", "!"), ("$", "$")]
        assert encoder.of_kind("end") == (5,)
        assert encoder.of_kind("padding") == tuple(range(6, 77))


def test_an_embedding_takes_as_many_rows_as_it_has_vectors(read):
    plain, encoders, _ = read("sdxl", "a (embedding:both:1.2), red cat")
    assert encoders["l"].of_kind("embedding") == (2, 3, 4)
    assert encoders["g"].of_kind("embedding") == (2, 3)
    assert rows_of(encoders["l"], plain.text, "cat") == (7,)
    assert rows_of(encoders["g"], plain.text, "cat") == (6,)
    for encoder in encoders.values():
        assert encoder.positions(plain.embeddings) == encoder.of_kind("embedding")
        assert {encoder.rows[i].weight for i in encoder.of_kind("embedding")} == {1.2}


def test_a_missing_embedding_has_no_rows(read):
    plain, encoders, _ = read("sd1", "a embedding:missing, red cat")
    assert encoders["l"].positions(plain.embeddings) == ()
    assert rows_of(encoders["l"], plain.text, "cat") == (4,)


def test_an_embedding_of_another_model_is_dropped_as_core_drops_it(read):
    """Core leaves out a vector of the wrong width, so later words move up, and pads the end."""
    plain, encoders, encoded = read("sd1", "a embedding:h_only red cat")
    assert encoders["l"].positions(plain.embeddings) == ()
    assert rows_of(encoders["l"], plain.text, "cat") == (3,)
    assert encoders["l"].length == len(encoded["l"][0])


def test_two_chunks_have_their_own_start_and_end(read):
    plain, encoders, _ = read("sdxl", "cat " * 80 + "dog")
    for encoder in encoders.values():
        assert encoder.chunks == 2
        assert encoder.length == 154
        assert encoder.of_kind("start") == (0, 77)
        assert rows_of(encoder, plain.text, "dog") == (77 + 6,)


def test_a_short_word_moves_to_the_next_chunk_and_a_long_one_is_split(read):
    """Core keeps weighted pieces of fewer than eight tokens together."""
    filler = "cat " * 72
    plain, encoders, _ = read("sd1", filler + "(red green blue white:1.2)")
    assert rows_of(encoders["l"], plain.text, "red") == (78,)
    plain, encoders, _ = read("sd1", filler + "(red green blue white pink black gray tan:1.2)")
    assert rows_of(encoders["l"], plain.text, "red") == (73,)
    assert rows_of(encoders["l"], plain.text, "white") == (78,)


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl", "no embeddings folder"])
def test_random_prompts_decode_to_their_words(read, part, layout):
    forms = part("parsing.tokens").written_forms
    chance = random.Random(layout)
    for _ in range(120):
        joint = chance.choice([" ", " ", ""])
        prompt = "cat " + joint.join(chance.choices(WORDS, k=chance.choice([1, 3, 8, 20, 70])))
        plain, encoders, encoded = read(layout, prompt)
        for key, encoder in encoders.items():
            assert encoder.length == sum(map(len, encoded[key]))
            last = 0
            for row in encoder.rows:
                if row.kind == "text":
                    whole = forms(plain.text[slice(*row.span)])[0].decode()
                    assert row.piece.replace("\ufffd", "") in whole, prompt
                elif row.kind == "embedding":
                    assert row.span in plain.embeddings, prompt
                if row.span:
                    assert row.span.start >= last, prompt
                    last = row.span.start


def test_every_character_that_is_tokenized_has_a_row(read):
    plain, encoders, _ = read("sdxl", "Two (tall:1.2) men, e\u0301toile \U0001f431 & co.!")
    for encoder in encoders.values():
        covered = {i for row in encoder.rows if row.span for i in range(*row.span)}
        assert covered == {i for i, char in enumerate(plain.text) if not char.isspace()}


def test_tokens_of_another_text_are_refused(part, tokenizers):
    syntax, tokens = part("parsing.syntax"), part("parsing.tokens")
    encoded = tokenizers["sd1"].tokenize_with_weights("a red cat", return_word_ids=True)
    vocabularies = {"l": tokens.Vocabulary(tokenizers["sd1"].clip_l.inv_vocab)}
    with pytest.raises(ValueError, match='do not spell the prompt: they stop matching at "dog"'):
        tokens.align(encoded, vocabularies, syntax.plain("a red dog"))


@pytest.mark.parametrize("keys", [["t5xxl", "l"], ["l", "g", "t5xxl"], ["qwen25_7b"], []])
def test_other_text_encoders_are_refused_by_name(part, keys):
    with pytest.raises(ValueError, match=f"has the text encoders: {', '.join(keys) or 'none'}.*SD1.x.*SDXL"):
        part("parsing.tokens").supported(keys)
