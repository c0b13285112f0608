"""Prompts as people write them, by kind: lists of tags, other programs' syntax, other languages, and what taggers get
wrong. The answers are written as in ``answers``."""

from __future__ import annotations

import pytest

from answers import faults

TAGGER_SLIPS = {
    "a rusty tractor stands beside a wooden barn": "tractor: rusty | barn: wooden",
    "a tall woman talks to a small robot": "woman: tall | robot: small",
    "a fluffy orange cat wearing a green bell sleeps on a grey sofa": "cat: fluffy orange, green bell | sofa: grey",
    "a green parrot sits on a copper pipe": "parrot: green | pipe: copper",
    "a silver spoon rests in a blue bowl": "spoon: silver | bowl: blue",
    "a striped kitten plays with a ball of red yarn": "kitten: striped | (ball: red yarn) | (yarn: red)",
    "a plastic crate floats near a wooden dock": "crate: plastic | dock: wooden",
    "a brown bear walks past a white fence": "bear: brown | fence: white",
    "an orange fox hides behind a mossy log": "fox: orange | log: mossy",
    "three red boats drift across a calm lake": "boats: red | (lake: calm)",
    "a wooden ladder leans against a brick wall": "ladder: wooden | (wall: brick)",
    "a young girl dances near a white piano": "girl: young | piano: white",
    "a pink flamingo stands in a blue pond": "flamingo: pink | (pond: blue)",
    "a fluffy white puppy wearing a red bandana naps on a couch": "puppy: fluffy white, red bandana | couch",
    "a yellow taxi waits outside a grey hotel": "taxi: yellow | hotel: grey",
    "a black spider crawls up a purple curtain": "spider: black | curtain: purple",
    "two brown horses graze beside a red tractor": "horses: brown | tractor: red",
    "a metal robot paints a blue fence": "robot: metal | fence: blue",
    "an orange balloon drifts over a green hill": "balloon: orange | (hill: green)",
    "a violet candle burns next to a copper kettle": "candle: violet | kettle: copper",
    "a purple lizard rests on a grey stone": "lizard: purple | stone: grey",
    "a short boy kicks a blue ball": "boy: short | ball: blue",
    "a white rabbit jumps over a wooden fence": "rabbit: white | fence: wooden",
    "a golden eagle circles above a stone tower": "eagle: golden | tower: stone",
    "a silver train passes a green station": "train: silver | station: green",
    "a fluffy lamb sleeps beside a tin bucket": "lamb: fluffy | bucket: tin",
    "a cream poodle wearing a violet ribbon": "poodle: cream, violet ribbon",
    "a green frog leaps over a red mushroom": "frog: green | mushroom: red",
    "a tall giraffe bends toward a small bush": "giraffe: tall | bush: small",
    "a marble column stands beside a bronze statue": "column: marble | statue: bronze",
    "a fuzzy peach lies next to a silver fork": "peach: fuzzy | fork: silver",
    "a grey wolf howls beneath a white moon": "wolf: grey | moon: white",
    "a yellow canary sings in a golden cage": "canary: yellow | cage: golden",
    "an orange kitten chases a purple mouse": "kitten: orange | mouse: purple",
}

TAG_LISTS = {
    "1girl, solo, twintails, green eyes, black skirt, white shirt, smile": (
        "1girl: green eyes, black skirt, white shirt | (twintails) | (smile)"
    ),
    "best quality, absurdres, 1boy, short hair, red eyes, armor, holding spear": (
        "1boy: short hair, red eyes, armor, spear"
    ),
    "score_9, score_8_up, 1girl, purple hair, school uniform, sitting, looking at viewer": (
        "1girl: purple hair, school uniform"
    ),
    "2girls, blonde hair, sailor collar, outdoors, cherry blossoms": (
        "2girls: blonde hair, sailor collar | (blossoms) | (cherry)"
    ),
    "masterpiece, highres, solo, an elf, pointed ears, silver armor, holding bow": (
        "elf: pointed ears, silver armor, bow"
    ),
    "1girl, long_hair, blue_dress, straw_hat, flower field, smiling": (
        "1girl: long hair, blue dress, straw hat | (field)"
    ),
    "a vampire, pale skin, black cape, red eyes, standing in a graveyard": (
        "vampire: pale skin, black cape, red eyes | (graveyard)"
    ),
    "1girl, red hair, ponytail, blue kimono, holding umbrella, rain, from side": (
        "1girl: red hair, ponytail, blue kimono, umbrella | (rain)"
    ),
    "1boy, solo, black hair, glasses, white shirt, necktie, upper body": (
        "1boy: black hair, glasses, white shirt, necktie"
    ),
    "masterpiece, best quality, 1girl, cat ears, maid dress, sitting, wooden chair": (
        "1girl: cat ears, maid dress | chair: wooden"
    ),
    "1girl, hatsune miku, aqua hair, twintails, detached sleeves, microphone": (
        "1girl: aqua hair, twintails, detached sleeves, microphone | (miku) | (hatsune miku)"
    ),
    "2boys, brown hair, school uniform, classroom": "2boys: brown hair, school uniform | (classroom)",
    "an old wizard, long beard, blue robe, wooden staff, 8k, highly detailed": (
        "wizard: old, long beard, blue robe, wooden staff"
    ),
    "1girl, brown_eyes, green_sweater, white_background, simple_background": "1girl: brown eyes, green sweater",
    "solo, 1girl, bangs, red eyes, black gloves, weapon, looking at viewer, night": (
        "1girl: bangs, red eyes, black gloves, weapon"
    ),
    "1girl, pink hair, hair ribbon, yellow eyes, white gloves, holding staff, magical girl": (
        "1girl: pink hair, hair ribbon, yellow eyes, white gloves, staff | (girl)"
    ),
    "score_9, score_8_up, score_7_up, 1boy, muscular, brown skin, tribal tattoo, spear": (
        "1boy: brown skin, tribal tattoo, spear"
    ),
    "best quality, 1girl, solo, standing, grey jacket, plaid skirt, red scarf, snow, from behind": (
        "1girl: grey jacket, plaid skirt, red scarf | (snow)"
    ),
    "2girls, maid, cat tail, apron": "2girls: cat tail, apron | (maid)",
    "a paladin, golden armor, blue cape, holding a warhammer, castle background": (
        "paladin: golden armor, blue cape, warhammer | (castle)"
    ),
    "1girl, solo, silver hair, side ponytail, purple eyes, frilled dress, holding book, library": (
        "1girl: silver hair, side ponytail, purple eyes, frilled dress, book | (library)"
    ),
    "1boy, male focus, spiky hair, scar, red jacket, katana": "1boy: spiky hair, scar, red jacket, katana",
    "masterpiece, best quality, ultra-detailed, 1girl, witch hat, black robe, broom": (
        "1girl: witch hat, black robe, broom"
    ),
    "a goblin, green skin, big ears, leather vest, holding a dagger, cave": (
        "goblin: green skin, big ears, leather vest, dagger | (cave)"
    ),
    "1girl, animal ears, fox tail, red hakama, shrine, cherry blossoms, petals": (
        "1girl: animal ears, fox tail, red hakama | (shrine) | (blossoms) | (cherry blossoms) | (petals)"
    ),
}

OTHER_SYNTAX = {
    "a white horse BREAK a brown barn": "horse: white | barn: brown",
    "a green apple AND a yellow banana": "apple: green | banana: yellow",
    "<lora:detail_tweaker:0.6> a pink flamingo, <lora:film_grain:1>": "flamingo: pink",
    "a [wooden:metal:0.4] chair and a blue lamp": "chair: wooden metal | lamp: blue",
    "a red ball:1.2 on a green carpet": "ball: red | carpet: green",
    "a square (blue) next to a triangle (yellow)": "square: blue | triangle: yellow",
    "[a black cat|a white rabbit] on a sofa": "cat: black | rabbit: white | sofa",
    "a purple teapot, <lyco:shiny:1.0>, [[silver spoon]]": "teapot: purple | spoon: silver",
    "a black dog on a red rug BREAK a white cat on a blue chair": "dog: black | rug: red | cat: white | chair: blue",
    "a pink rose AND a yellow tulip:1.3": "rose: pink | tulip: yellow",
    "a portrait of a woman in a green dress <lora:style_v2:0.7>": "woman: green dress",
    "a [cat:dog:0.5] on a red mat": "cat | dog | mat: red",
    "a [red|green] apple in a bowl": "apple: red green | bowl",
    "a heart (purple) and a star (orange)": "heart: purple | star: orange",
    "a (tall:1.2) tower (white) beside a lake": "tower: tall white | (lake)",
    "a wooden box:0.8, a [silver coin]": "box: wooden | coin: silver",
    "a yellow duck, [blurry:0.3], <hypernet:sharp:0.5>": "duck: yellow",
    "masterpiece BREAK a brown owl BREAK a white moon": "owl: brown | moon: white",
    "(a red car:1.3) AND (a blue bike:0.8)": "car: red | bike: blue",
    "{a red hat|a blue hat} on a table": "hat: red | hat: blue | table",
    "<lora:x:1> 1girl, green hair, [frown], red cape": "1girl: green hair, red cape | (frown)",
    "a cube (green), a sphere (pink)": "cube: green | sphere: pink",
    "a [big:small:0.5] house": "house: big small",
    "a red ball:1.2 and a blue cube:0.9": "ball: red | cube: blue",
    "a circle (red) above a star (green)": "circle: red | star: green",
    "[a red vase:a blue bowl:0.3] on a shelf": "vase: red | bowl: blue | shelf",
    "a ((fluffy)) [white] cat BREAK a brown dog, <lora:pets:0.5>": "cat: fluffy white | dog: brown",
    "a green bottle AND a yellow cup AND a red plate": "bottle: green | cup: yellow | plate: red",
}

NOT_ENGLISH = dict.fromkeys(
    [
        "一只戴着红帽子的黑猫",
        "un chat noir avec un chapeau rouge sur une table en bois",
        "ein schwarzer Hund mit einem roten Halsband neben einer weißen Katze",
        "рыжая лиса в зелёном лесу",
        "una mujer con un vestido azul y un sombrero blanco",
        "une voiture rouge",
        "赤い帽子をかぶった女の子",
        "Ein altes Haus am See, blaue Fenster",
        "小さな青い家と大きな木",
        "eine rote Katze",
        "deux chiens blancs devant une maison rouge",
        "un perro negro con un collar rojo",
        "un gatto bianco su una sedia rossa",
        "Frau mit langen blonden Haaren und grünem Kleid",
        "chat noir, chapeau rouge, table en bois",
        "rotes Auto, blauer Himmel, alte Brücke",
        "빨간 자동차와 파란 트럭",
        "ein Mädchen mit rotem Schirm",
        "la fille avec les cheveux bleus",
        "一个穿蓝色裙子的女孩和一只白猫",
        "schwarze Katze, weißer Hund, grünes Haus",
        "chien noir et chat blanc",
        "il cane nero e il gatto bianco sul divano",
        "蓝色的汽车和红色的卡车",
        "eine Frau in einem roten Kleid",
        "un homme avec une veste noire tenant un parapluie",
        "der blaue Vogel",
        "maison bleue, voiture rouge, ciel gris",
        "grüner Drache, goldene Krone",
    ],
    "",
)

EXCLUDED_THINGS = {
    "an oval picture and a wooden frame": "picture: oval | frame: wooden",
    "a square photograph beside a round mirror": "photograph: square | mirror: round",
    "a red top and a blue skirt": "top: red | skirt: blue",
    "a photo of a green bus": "bus: green",
    "a hexagonal picture above a leather couch": "picture: hexagonal | couch: leather",
    "a beautiful picture of a white swan": "swan: white",
    "a round picture and a brass clock": "picture: round | clock: brass",
    "an oval photo next to a white candle": "photo: oval | candle: white",
    "a triangular image and a blue vase": "image: triangular | vase: blue",
    "a green top and black trousers": "top: green | trousers: black",
    "a photograph of a red lighthouse": "lighthouse: red",
    "a rectangular picture and an oval rug": "picture: rectangular | rug: oval",
    "a wooden top and a plastic yo-yo": "top: wooden | yo-yo: plastic",
    "an image of a blue whale": "whale: blue",
    "a circular picture and a triangular frame": "picture: circular | frame: triangular",
    "a metal top and a wooden yoyo": "top: metal | yoyo: wooden",
    "a square image beside a red lamp": "image: square | lamp: red",
}

SCENES = {
    "a white swan on a dark lake at dawn, soft mist, volumetric light": (
        "swan: white | (lake: dark) | (mist: soft) | (light)"
    ),
    "a glass jar filled with red candies next to a brass bell": "jar: glass | candies: red | bell: brass",
    "portrait of an elderly chef, grey moustache, white hat, studio lighting": (
        "chef: elderly, grey moustache, white hat"
    ),
    "a tiger and a panda drinking green tea at a round table": "tiger | panda | (tea: green) | table: round",
    "a marble statue of an angel holding a bronze trumpet": "(statue: marble) | angel: bronze trumpet",
    "golden retriever puppy in a red bandana sitting on a purple blanket": "puppy: red bandana | blanket: purple",
    "a bus that is painted pink and a taxi that is yellow": "bus: pink | taxi: yellow",
    "a scarecrow with a pumpkin head and a straw hat in a field, crows flying around": (
        "scarecrow: pumpkin head, straw hat | crows"
    ),
    "a castle made of chocolate and a river of milk": "castle: chocolate | river | (milk)",
    "a red fox sleeping under a birch tree, autumn leaves, golden hour": (
        "fox: red | tree | (leaves: autumn) | (tree: birch)"
    ),
    "a futuristic city with flying cars, neon signs, rainy night": "city: futuristic, flying cars | (signs: neon)",
    "a bowl of strawberries and a pitcher of lemonade on a checkered tablecloth": (
        "bowl | pitcher | (strawberries) | (lemonade) | tablecloth: checkered"
    ),
    "a medieval knight fighting a green dragon in front of a burning castle": (
        "knight: medieval | dragon: green | castle: burning"
    ),
    "watercolor painting of a blue bird perched on a blossoming cherry branch": (
        "bird: blue | branch: blossoming cherry | (painting: watercolor)"
    ),
    "a chef holding a copper pan and a wooden spoon": "chef: copper pan, wooden spoon",
    "a yellow submarine under the sea, a purple octopus with long tentacles": (
        "submarine: yellow | octopus: purple, long tentacles"
    ),
    "a cozy living room with a green sofa, a wooden coffee table and a white cat": (
        "sofa: green | (coffee table: wooden) | (table: wooden coffee) | cat: white"
    ),
    "an alien with three eyes and a purple skin standing on a red planet": (
        "alien: three eyes, purple skin | planet: red"
    ),
    "two old men playing chess at a stone table": "men: old | table: stone | (chess)",
    "a lighthouse on a rocky cliff at sunset, purple sky, seagulls": (
        "lighthouse | (cliff: rocky) | (seagulls) | (sky: purple)"
    ),
    "a steaming cup of black coffee on a wooden desk next to an open book": (
        "cup | (coffee: black) | desk: wooden | book"
    ),
    "a red panda eating bamboo under a full moon": "panda: red | (bamboo) | (moon: full)",
    "close-up portrait of a young woman with freckles and braided red hair, blurred background": (
        "woman: young, freckles, braided red hair"
    ),
    "a white cat and a black cat sleeping in a blue basket": "cat: white | cat: black | basket: blue",
    "a samurai standing in the rain by greg rutkowski, trending on artstation": "samurai | (rain)",
    "an orange cat in a pink box next to a small robot with a green antenna": (
        "cat: orange | box: pink | robot: small, green antenna"
    ),
    "three green bottles on a shelf, a candle with a yellow flame": "bottles: green | shelf | candle: yellow flame",
    "an elephant wearing a golden headdress walking through a busy market, dust in the air": (
        "elephant: golden headdress | (market: busy) | (dust)"
    ),
    "a purple dragon guarding a chest full of gold coins": "dragon: purple | chest | coins: gold",
    "a bowl of tomato soup with basil and a slice of bread": "bowl: basil | soup: tomato | (slice) | (bread)",
    "a blue jay perched on a rusty mailbox in front of a white farmhouse": (
        "jay: blue | mailbox: rusty | farmhouse: white"
    ),
    "a cyclist in a neon vest passing a red double-decker bus": "cyclist: neon vest | bus: red double-decker",
    "a little mermaid sitting on a rock, green tail, red hair, seashell necklace": (
        "mermaid: little, green tail, red hair, seashell necklace | rock"
    ),
}

KINDS = {
    "tagger's slips": TAGGER_SLIPS,
    "tag lists": TAG_LISTS,
    "other syntax": OTHER_SYNTAX,
    "not English": NOT_ENGLISH,
    "excluded things": EXCLUDED_THINGS,
    "scenes": SCENES,
}


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [pytest.param(*row, id=f"{kind}: {row[0]}") for kind, rows in KINDS.items() for row in rows.items()],
)
def test_prompt(find, prompt, answer):
    entities, _ = find(prompt)
    assert faults(entities, answer) == []
