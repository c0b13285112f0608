"""The prompt syntax is core's: same segments and weights for any input."""

from __future__ import annotations

import random

import pytest


@pytest.fixture(scope="module")
def syntax(part):
    return part("parsing.syntax")


def core_segments(prompt: str) -> list[tuple[str, float]]:
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    return [(unescape_important(text), weight) for text, weight in token_weights(escape_important(prompt), 1.0)]


def test_segments_equal_cores_for_random_input(syntax):
    chance = random.Random(0)
    for _ in range(4000):
        prompt = "".join(chance.choice("()()\\\\::.019aenif z ") for _ in range(chance.randint(0, 24)))
        segments = syntax.weighted_segments(prompt)
        # repr, as weights may be nan ("(a:nan)")
        assert repr([("".join(c for c, _ in piece), w) for piece, w in segments]) == repr(core_segments(prompt)), prompt
        assert all(prompt[origin] == char for piece, _ in segments for char, origin in piece)


@pytest.mark.parametrize(
    ("prompt", "text", "weights"),
    [
        ("a (red:1.3) cat", "a red cat", {"red": 1.3}),
        ("a ((red)) cat", "a red cat", {"red": 1.1 * 1.1}),
        ("a (big (red:0.5) cat)", "a big red cat", {"big": 1.1, "red": 0.5, "cat": 1.1}),
        (r"a \(red\) cat", "a (red) cat", {"red": 1.0}),
        ("a (red cat", "a (red cat", {"red": 1.0}),
        ("a (red:big) cat", "a red:big cat", {"red": 1.1}),
        ("(red)car", "red car", {"red": 1.1, "car": 1.0}),
    ],
)
def test_text_and_weight_of_each_word(syntax, prompt, text, weights):
    plain = syntax.plain(prompt)
    assert plain.text == text
    for word, weight in weights.items():
        start = text.index(word)
        assert plain.weights[start : start + len(word)] == pytest.approx((weight,) * len(word))
        assert "".join(prompt[i] for i in plain.origins[start : start + len(word)]) == word


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("embedding:style, a cat", ["embedding:style"]),
        ("a cat, (embedding:style:1.2)", ["embedding:style"]),
        ("a cat, embedding:one embedding:two", ["embedding:one", "embedding:two"]),
        ("a cat, notembedding:one", []),
        ("embedding:one<two> cat", ["embedding:one"]),
    ],
)
def test_embeddings_are_found_where_core_looks_for_them(syntax, prompt, named):
    plain = syntax.plain(prompt)
    assert [plain.text[slice(*span)] for span in plain.embeddings] == named


@pytest.mark.parametrize("prompt", ["", "  \n", "()", "(( ))"])
def test_an_empty_prompt_is_an_error_with_an_example(syntax, prompt):
    with pytest.raises(ValueError, match="prompt is empty.*for example"):
        syntax.plain(prompt)


def test_an_embedding_without_a_name_is_an_error(syntax):
    with pytest.raises(ValueError, match="no name after it"):
        syntax.plain("a cat, embedding: ")
