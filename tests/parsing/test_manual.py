"""Entities written by hand: found in the prompt word for word."""

from __future__ import annotations

import pytest

from clone import ROOT

PROMPTS = [
    line.split(" => ")[0]
    for line in (ROOT / "tests" / "parsing" / "prompts_as_written.txt").read_text("utf-8").splitlines()
]


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


def test_a_count_follows_the_noun(read, part):
    text = "two dogs, three dogs x2 and a cat"
    entities = part("parsing.manual").read_entities("dogs 1 x2 | dogs x2 | cat x0", text)
    assert [(entity.noun.text, entity.count) for entity in entities] == [("dogs", 2), ("dogs x2", 1), ("cat", 1)]


def test_a_plus_opens_a_sub_object_and_dots_join_what_stands_apart(part):
    text = "a woman with a red hat, her hat is striped, in pale green"
    read = part("parsing.manual").read_entities
    (woman,) = read("woman: + with a red ... striped ... hat 1, in pale green", text)
    (hat,) = woman.sub_objects
    assert [text[slice(*span)] for span in hat.phrase.spans] == ["with a red hat", "striped"]
    assert (hat.phrase.text, hat.noun.text, hat.noun.spans[0].start) == ("with a red hat striped", "hat", 19)
    assert [phrase.text for phrase in woman.attributes] == ["in pale green"], "colours are no things that one has"
    (woman,) = read("woman: + hat 2", text)
    assert [sub.noun.spans[0].start for sub in woman.sub_objects] == [28]


def test_separators_and_parts_of_words_are_found(read):
    text = "a big, red hat at 10:30, long_hair, 50mm lens"
    assert read("hat: big red | hair: long | lens: mm, 10 30", text) == [
        ("hat", 11, [("big, red", 2)]),
        ("hair", 30, [("long", 25)]),
        ("lens", 41, [("mm", 38), ("10:30", 18)]),
    ]


def test_a_number_that_means_something_else_is_marked(part):
    manual, binding = part("parsing.manual"), part("parsing.binding")
    text = "player 1 and player 2"
    first = binding.Span(0, 6)
    assert manual.named(first, text) == "player #1" and manual.occurrences("player #1", text) == [first]
    assert manual.occurrences("player 1", text) == [binding.Span(0, 8)]


def test_no_entities_can_be_written(part):
    manual = part("parsing.manual")
    assert manual.write_entities((), "a cat") == "|" and manual.read_entities("|", "a cat") == ()


def test_what_was_parsed_is_read_back_the_same(part, find):
    manual, syntax = part("parsing.manual"), part("parsing.syntax")

    def told(entities):
        return [(e.name, e.noun, set(e.attributes), set(e.sub_objects), e.count) for e in entities]

    for prompt in PROMPTS:
        found, _ = find(prompt)
        text = syntax.plain(prompt).text
        assert told(manual.read_entities(manual.write_entities(found, text), text)) == told(found), prompt


def test_attributes_of_a_sub_object(part):
    manual, parts = part("parsing.manual"), part("parsing.parts")
    text = "a girl wearing a big, bright red hat that is new"
    (girl,) = manual.read_entities("girl: wearing a big bright red ... new ... hat", text)
    assert [phrase.text for phrase in parts.attributes(girl.sub_objects[0], text)] == ["big", "bright red", "new"]
