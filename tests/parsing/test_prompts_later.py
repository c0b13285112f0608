"""More prompts of every kind, written when the rules for the others stood."""

from __future__ import annotations

import pytest

from answers import faults

PROMPTS = {
    "a rooster with a red comb and green tail feathers": "rooster: red comb, green tail feathers",
    "a woman with a golden tiara and a velvet gown next to a peacock": "woman: golden tiara, velvet gown | peacock",
    "a guitar with a red strap and silver strings": "guitar: red strap, silver strings",
    "a burger with lettuce and a milkshake": "burger: lettuce | milkshake",
    "a mermaid with a pearl crown and a purple tail beside a dolphin": "mermaid: pearl crown, purple tail | dolphin",
    "a postman with a blue uniform and a brown satchel": "postman: blue uniform, brown satchel",
    "a unicorn with a rainbow mane and a golden horn": "unicorn: rainbow mane, golden horn",
    "a pot with basil and a black cat": "pot: basil | cat: black",
    "a tall thin man in a long grey overcoat, carrying a brown suitcase": (
        "man: tall thin, long grey overcoat, brown suitcase"
    ),
    "a woman in a bright yellow sari holding a clay pot on her head": "woman: bright yellow sari, clay pot | (head)",
    "an angry chef in a stained white apron holding a meat cleaver": ("chef: angry, stained white apron, meat cleaver"),
    "a squirrel in tiny red overalls riding a skateboard": "squirrel: tiny red overalls | skateboard",
    "a bald monk with a grey beard, in an orange robe, holding prayer beads": (
        "monk: bald, grey beard, orange robe, prayer beads"
    ),
    "a hiker in muddy boots carrying a green backpack through a pine forest": (
        "hiker: muddy boots, green backpack | (forest: pine)"
    ),
    "a small boat sails past a stone lighthouse": "boat: small | lighthouse: stone",
    "a young man reads beside a green lamp": "man: young | lamp: green",
    "a fluffy white kitten holding a pink mouse toy": "kitten: fluffy white, pink mouse toy",
    "a red kite flies above a wooden pier": "kite: red | pier: wooden",
    "a black horse gallops along a sandy beach": "horse: black | (beach: sandy)",
    "a ceramic jug stands on a marble shelf": "jug: ceramic | shelf: marble",
    "a knight without a helmet holding a red banner": "knight: red banner",
    "a kitchen with no windows, a yellow fridge": "(kitchen) | fridge: yellow",
    "not a dog but a brown wolf in a forest": "wolf: brown | (forest)",
    "a room without people, a grand piano, red curtains": "(room) | piano | curtains: red",
    "a cactus without spines in a pink pot": "cactus | pot: pink",
    "a boy whose backpack is orange and whose cap is blue": "boy: orange backpack, blue cap",
    "the clown's green wig and the acrobat's red tights": "clown: green wig | acrobat: red tights",
    "his father's old brown truck": "truck: old brown",
    "a house whose roof is red": "house: red roof",
    "the horse's white mane and the cow's black spots": "horse: white mane | cow: black spots",
    "a man and a woman dancing, he wears a white suit and she wears a red dress": (
        "man: white suit | woman: red dress"
    ),
    "twin sisters, both with blonde braids": "sisters: twin, blonde braids",
    "two parrots, one green and one blue": "parrots: green, blue",
    "a fox and a rabbit, each carrying a lantern": "fox: lantern | rabbit: lantern",
    "an actor and an actress, she holds a golden trophy": "actor | actress: golden trophy",
    "four chairs, two red and two blue": "chairs: red, blue",
    "a princess on a horse, she has a silver tiara": "princess: silver tiara | horse",
    "1girl, solo, short hair, brown hair, red scarf, blue coat, winter, holding cup": (
        "1girl: short hair, brown hair, red scarf, blue coat, cup"
    ),
    "score_9, source_anime, rating_safe, 1boy, dark skin, white hair, gold earrings, black robe": (
        "1boy: dark skin, white hair, gold earrings, black robe"
    ),
    "masterpiece, 1girl, nurse, pink uniform, stethoscope, hospital": (
        "1girl: pink uniform, stethoscope | (hospital) | (nurse)"
    ),
    "3girls, beach, bikini, sunglasses, blue sky": "3girls: bikini, sunglasses | (beach) | (sky: blue)",
    "1girl, 1boy, holding hands, park, best quality": "1girl | 1boy | (hands) | (park)",
    "an orc, green skin, iron armor, huge hammer, full body": "orc: green skin, iron armor, huge hammer",
    "a white cup BREAK a black spoon": "cup: white | spoon: black",
    "(masterpiece:1.2), a blue owl, <lora:owls:0.7>": "owl: blue",
    "a [red:blue:10] dress on a mannequin": "dress: red blue | mannequin",
    "a pyramid (orange) and a cylinder (grey)": "pyramid: orange | cylinder: grey",
    "a pink cloud:1.4, a black umbrella:0.7": "cloud: pink | umbrella: black",
    "一辆红色的自行车": "",
    "eine schwarze Katze mit weißen Pfoten": "",
    "un château bleu avec une porte rouge": "",
    "ein Hund und eine Katze": "",
    "junge Frau, rotes Kleid, blaue Augen": "",
    "a diamond-shaped picture and a silver frame": "picture | frame: silver",
    "a rectangular photograph and a round vase": "photograph: rectangular | vase: round",
    "a yellow top and a denim skirt": "top: yellow | skirt: denim",
    "a wooden rowboat tied to a pier, mountains in the background, misty morning": (
        "rowboat: wooden | pier | (mountains)"
    ),
    "a vintage red telephone on a glass table beside a stack of old books": (
        "telephone: vintage red | table: glass | (stack) | (books: old)"
    ),
    "a polar bear wearing a blue scarf on an ice floe, northern lights": (
        "polar bear: blue scarf | (floe: ice) | (lights: northern)"
    ),
    "an old bookshop with green shutters and a striped awning": "bookshop: old, green shutters, striped awning",
    "a gorilla in a tuxedo playing a white piano": "gorilla: tuxedo | piano: white",
}


@pytest.mark.parametrize(("prompt", "answer"), PROMPTS.items())
def test_prompt(find, prompt, answer):
    entities, _ = find(prompt)
    assert faults(entities, answer) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "hat tail wearing solo man",
        "hat in his dog in",
        "scarf has grey man holding of",
        "eyes has cat red of wearing blue",
    ],
)
def test_words_without_sense_come_to_an_end(find, prompt):
    """Things that seem to own what owns them."""
    find(prompt)


def test_tags_of_the_picture_alone_are_no_entities(find):
    entities, notes = find("masterpiece, best quality, highly detailed")
    assert not entities and notes
