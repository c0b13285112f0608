"""Entities written by hand: found in the prompt word for word."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def read(part):
    manual = part("parsing.manual")

    def read(description, text):
        found = []
        for entity in manual.read_entities(description, text):
            for phrase in (*entity.phrases, *(sub.noun for sub in entity.sub_objects)):
                (span,) = phrase.spans
                assert text[slice(*span)] == phrase.text
            belongs = [(phrase.text, phrase.spans[0].start) for phrase in entity.phrases[1:]]
            found.append((entity.name, entity.noun.spans[0].start, belongs))
        return found

    return read


def test_attributes_and_sub_objects(read, part):
    text = "a black cat wearing sunglasses and a white dog"
    description = "cat: black, wearing sunglasses | dog: white"
    assert read(description, text) == [
        ("cat", 8, [("black", 2), ("wearing sunglasses", 12)]),
        ("dog", 43, [("white", 37)]),
    ]
    cat, _ = part("parsing.manual").read_entities(description, text)
    assert [phrase.text for phrase in cat.attributes] == ["black"]
    assert [sub.noun.text for sub in cat.sub_objects] == ["sunglasses"]


def test_a_noun_written_again_is_its_next_occurrence(read):
    text = "a dog, a red dog and a blue dog"
    assert read("dog | dog: red | dog: blue", text) == [
        ("dog", 2, []),
        ("dog 2", 13, [("red", 9)]),
        ("dog 3", 28, [("blue", 23)]),
    ]


def test_a_number_chooses_the_occurrence(read):
    text = "a red dog and a red dog"
    assert read("dog 2: red 2", text) == [("dog", 20, [("red", 16)])]
    assert read("dog 2: red\ndog 1: red", text) == [("dog", 20, [("red", 16)]), ("dog 2", 6, [("red", 2)])]


def test_an_attribute_is_the_nearest_that_is_free(read):
    text = "red car, red house, red tree"
    assert [belongs for _, _, belongs in read("house: red | car: red | tree: red", text)] == [
        [("red", 9)],
        [("red", 0)],
        [("red", 20)],
    ]


def test_words_in_the_prompt_may_be_apart_and_in_capitals(read):
    assert read("teddy bear: Multi-Colored", "A multi-colored  Teddy\n bear") == [
        ("teddy\n bear", 17, [("multi-colored", 2)])
    ]


def test_only_whole_words_count(read):
    assert read("cat", "a catalogue of a cat") == [("cat", 17, [])]


def test_words_that_are_not_there_are_listed_with_their_nearest(read):
    with pytest.raises(ValueError) as error:
        read("cta: blak | dog | dog", "a black cat and a dog")
    message = str(error.value)
    assert '"cta" (nearest: cat)' in message
    assert '"blak" (nearest: black)' in message
    assert '"dog" once more (the prompt has it 1x)' in message
    assert "a black cat and a dog" in message


def test_an_entry_without_a_noun_is_an_error(read):
    with pytest.raises(ValueError, match='": red" in "entities" has no noun'):
        read("cat | : red", "a red cat")
