"""Sums of phrases: how they are read, and what is said of those that cannot be."""

import re

import pytest


@pytest.fixture(scope="module")
def expression(part):
    return part("parsing.expression")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("dog", [(1, "dog")]),
        ("  a dog  with a hat ", [(1, "a dog  with a hat")]),
        ("dog + hat", [(1, "dog"), (1, "hat")]),
        ("dog + hat - hat", [(1, "dog"), (1, "hat"), (-1, "hat")]),
        ("king - man + woman", [(1, "king"), (-1, "man"), (1, "woman")]),
        ("dog + 0.8 * hat", [(1, "dog"), (0.8, "hat")]),
        ("2*dog - .5 *hat", [(2, "dog"), (-0.5, "hat")]),
        ("-1.5 * dog", [(-1.5, "dog")]),
        ("dog - -2 * hat", [(1, "dog"), (2, "hat")]),
        ("dog + 0 * hat", [(1, "dog"), (0, "hat")]),
        ("1e-1 * dog", [(0.1, "dog")]),
        ("dog\n+ hat\n- cap", [(1, "dog"), (1, "hat"), (-1, "cap")]),
        ("a t-shirt + close-up - sci-fi robot", [(1, "a t-shirt"), (1, "close-up"), (-1, "sci-fi robot")]),
        ("(red:1.3) dog + ((big)) hat", [(1, "(red:1.3) dog"), (1, "((big)) hat")]),
        (r"smile \:\) - frown \:\(", [(1, r"smile \:\)"), (-1, r"frown \:\(")]),
        ("embedding:my-dog + 2 dogs + 4k", [(1, "embedding:my-dog"), (1, "2 dogs"), (1, "4k")]),
        ("dog \u2212 hat \u2013 cap", [(1, "dog"), (-1, "hat"), (-1, "cap")]),
        ("dog, sitting + a hat, red", [(1, "dog, sitting"), (1, "a hat, red")]),
    ],
)
def test_terms(expression, text, terms):
    assert expression.parse(text) == tuple(terms)


@pytest.mark.parametrize(
    ("text", "named", "why"),
    [
        ("+ hat", "+ hat", 'no phrase before "+"'),
        ("dog -", "dog -", 'no phrase behind "-"'),
        ("-", "-", 'no phrase before "-"'),
        ("dog + - hat", "dog +", 'no phrase behind "+"'),
        ("dog+hat", "dog+hat", "a space on both sides"),
        ("cat + dog -hat", "dog -hat", "a space on both sides"),
        ("cat - dog- hat", "dog- hat", "a space on both sides"),
        ("-dog", "-dog", "a space on both sides"),
        ("dog + (hat - cap)", "(hat", "parentheses open and close within one phrase"),
        ("dog + hat)", "hat)", "parentheses open and close within one phrase"),
        ("cat + dog * hat", "dog * hat", 'before "*" stands one number'),
        ("dog * 0.8", "dog * 0.8", 'before "*" stands one number'),
        ("2 * 3 * hat", "2 * 3 * hat", 'before "*" stands one number'),
        ("dog + 0,8 * hat", "0,8 * hat", 'before "*" stands one number'),
        ("inf * hat", "inf * hat", 'before "*" stands one number'),
        ("* hat", "* hat", 'before "*" stands one number'),
        ("dog + 0.8 *", "0.8 *", 'no phrase behind "*"'),
        ("dog + 0.8 hat", "0.8 hat", 'if 0.8 is a weight, write "0.8 * ..."'),
        ("dog + 2", "2", 'if 2 is a weight, write "2 * ..."'),
    ],
)
def test_what_is_not_understood_is_named(expression, text, named, why):
    with pytest.raises(ValueError, match=re.escape(f'In the expression, "{named}" is not understood: ')) as caught:
        expression.parse(text)
    assert why in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_expression_is_refused(expression, text):
    with pytest.raises(ValueError, match='is empty. Write a sum of phrases, for example "a dog [+] a hat'):
        expression.parse(text)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("dog  +\that", "dog + hat"),
        ("-2*dog  -  0.50 * hat", "- 2 * dog - 0.5 * hat"),
        ("1 * dog \u2212 hat", "dog - hat"),
    ],
)
def test_written(expression, text, again):
    assert expression.written(expression.parse(text)) == again
