"""Prompts as people write them, by kind: who has what, and what is not there; answers as in ``answers``."""

from __future__ import annotations

import pytest

from answers import faults

SECOND_SUB_OBJECT = {
    "a fox with green eyes and a bushy tail": "fox: green eyes, bushy tail",
    "an old sailor with a white beard and a blue cap": "sailor: old, white beard, blue cap",
    "a ballerina wearing a pink tutu and white slippers beside a grand piano": (
        "ballerina: pink tutu, white slippers | piano"
    ),
    "a teapot with roses and a kitten": "teapot: roses | kitten",
    "a warrior with a bronze helmet, a round shield and a red cape": ("warrior: bronze helmet, round shield, red cape"),
    "a parrot with yellow wings and a red beak on a wooden perch": "parrot: yellow wings, red beak | perch: wooden",
    "a cottage with a thatched roof and a green door": "cottage: thatched roof, green door",
    "a woman with silver bracelets, a purple shawl and a grey wolf": (
        "woman: silver bracelets, purple shawl | wolf: grey"
    ),
    "a shopkeeper with a striped apron and a wooden chair": "shopkeeper: striped apron | chair: wooden",
    "a dinosaur with orange spikes and tiny arms chasing a jeep": "dinosaur: orange spikes, tiny arms | jeep",
    "an owl with amber eyes and grey feathers": "owl: amber eyes, grey feathers",
    "a violinist with a velvet jacket and a silver brooch": "violinist: velvet jacket, silver brooch",
    "a goat with curved horns and a white beard next to a red barn": "goat: curved horns, white beard | barn: red",
    "a truck with chrome bumpers and black tires": "truck: chrome bumpers, black tires",
    "a woman with a green handbag and a poodle": "woman: green handbag | poodle",
    "a queen with a ruby crown, a fur coat and long black gloves": "queen: ruby crown, fur coat, long black gloves",
    "a vase with tulips and a parrot": "vase: tulips | parrot",
    "a butterfly with blue wings and orange spots": "butterfly: blue wings, orange spots",
    "a woman with red lipstick and blue eyeshadow, golden earrings": (
        "woman: red lipstick, blue eyeshadow, golden earrings"
    ),
    "a boat with white sails and a brown hull": "boat: white sails, brown hull",
    "a boy with freckles and a sports car": "boy: freckles | car",
    "a salad with tomatoes and cucumbers on a white plate": "salad: tomatoes, cucumbers | plate: white",
    "a panther with golden eyes and sharp claws": "panther: golden eyes, sharp claws",
    "a dancer with a feather headdress and bare feet": "dancer: feather headdress, bare feet",
    "a guard with an iron spear and a leather belt": "guard: iron spear, leather belt",
    "a piano with ivory keys and a violinist": "piano: ivory keys | violinist",
    "a robot with glowing blue eyes and rusty arms": "robot: glowing blue eyes, rusty arms",
    "a bicycle with a wicker basket and a brown saddle": "bicycle: wicker basket, brown saddle",
    "a child with a yellow umbrella and red rain boots": "child: yellow umbrella, red rain boots",
    "a cake with pink icing and blue sprinkles": "cake: pink icing, blue sprinkles",
    "an elf with silver hair and a stag": "elf: silver hair | stag",
    "a woman with red lipstick and a fur hat, golden earrings, sitting in a green armchair": (
        "woman: red lipstick, fur hat, golden earrings | armchair: green"
    ),
    "a deer with large antlers and a white tail in a snowy forest": (
        "deer: large antlers, white tail | (forest: snowy)"
    ),
    "a vase with daisies and a teapot": "vase: daisies | teapot",
    "a clown with a red nose, a yellow wig and huge shoes": "clown: red nose, yellow wig, huge shoes",
    "a hunter with a rifle and a hound": "hunter: rifle | hound",
    "a barista with a beard and tattoos next to an espresso machine": "barista: beard, tattoos | machine: espresso",
    "a crab with blue claws and a spotted shell": "crab: blue claws, spotted shell",
    "a man with a moustache and a parrot on his shoulder": "man: moustache | parrot | (shoulder)",
    "a lady with a lace parasol and a white horse": "lady: lace parasol | horse: white",
}

LONG_PHRASES = {
    "a samurai in gleaming red armour facing a pale ghost": "samurai: gleaming red armour | ghost: pale",
    "a tall bearded lumberjack in a plaid shirt, carrying a heavy axe": (
        "lumberjack: tall bearded, plaid shirt, heavy axe"
    ),
    "a bride in a white gown dancing with a groom in a black tuxedo": "bride: white gown | groom: black tuxedo",
    "a young witch with curly green hair and pale skin, wearing a pointed hat, riding a broom": (
        "witch: young, curly green hair, pale skin, pointed hat | (broom)"
    ),
    "an old fisherman in a yellow raincoat holding a silver fish": "fisherman: old, yellow raincoat, silver fish",
    "a little girl in a pink coat, holding a red balloon, next to a snowman": (
        "girl: little, pink coat, red balloon | snowman"
    ),
    "a sorcerer pointing a glowing wand at a stone golem": "sorcerer: glowing wand | golem: stone",
    "a woman on a blue bicycle carrying a wicker basket": "woman: wicker basket | bicycle: blue",
    "a cowboy in dusty brown boots riding a black horse": "cowboy: dusty brown boots | horse: black",
    "two children in yellow raincoats and a dog in a red sweater": "children: yellow raincoats | dog: red sweater",
    "a tired nurse in light blue scrubs carrying a metal tray": "nurse: tired, light blue scrubs, metal tray",
    "an elegant lady in a long emerald dress, holding a white fan, beside a marble fountain": (
        "lady: elegant, long emerald dress, white fan | fountain: marble"
    ),
    "a soldier in heavy grey armour and a red plume riding a brown camel": (
        "soldier: heavy grey armour, red plume | camel: brown"
    ),
    "a monkey in a striped shirt playing a blue drum": "monkey: striped shirt | drum: blue",
    "a man with short brown hair and green eyes wearing a leather jacket leaning on a motorcycle": (
        "man: short brown hair, green eyes, leather jacket | motorcycle"
    ),
    "an archer, clad in green leather, holding a long wooden bow": "archer: long wooden bow | (leather: green)",
    "a waiter in a white shirt carrying a silver tray past a woman in a red coat": (
        "waiter: white shirt, silver tray | woman: red coat"
    ),
    "a teenage girl in torn blue jeans riding a yellow skateboard": (
        "girl: teenage, torn blue jeans | skateboard: yellow"
    ),
    "a demon breathing green smoke at a priest in a white robe": "demon: green smoke | priest: white robe",
    "a grey donkey carrying two red baskets": "donkey: grey, two red baskets",
    "a very old monk in a faded orange robe, carrying a wooden bowl": (
        "monk: very old, faded orange robe, wooden bowl"
    ),
    "a jockey in green silk riding a chestnut horse": "jockey: green silk | horse: chestnut",
    "a boxer with a broken nose and red gloves standing in a ring": "boxer: broken nose, red gloves | (ring)",
    "a ghost in a torn white sheet holding a rusty lantern": "ghost: rusty lantern | (sheet: torn white)",
    "a bearded viking, wearing a horned helmet, wielding a huge axe": "viking: bearded, horned helmet, huge axe",
    "a pilot in a brown leather jacket walking toward a silver plane": "pilot: brown leather jacket | plane: silver",
    "a young prince in a long velvet cape, standing beside a golden throne": (
        "prince: young, long velvet cape | throne: golden"
    ),
    "a firefighter in a yellow helmet carrying a grey kitten": "firefighter: yellow helmet | kitten: grey",
    "a surfer with long wet hair holding a pink surfboard": "surfer: long wet hair, pink surfboard",
    "a mime in white gloves and black suspenders pulling a rope": "mime: white gloves, black suspenders | (rope)",
    "a woman in traditional red clothing holding a paper lantern and a fan": (
        "woman: traditional red clothing, paper lantern, fan"
    ),
    "a gnome with a pointed red hat riding a giant snail": "gnome: pointed red hat | snail: giant",
    "a wizard in a dark blue cloak waving a crystal wand": "wizard: dark blue cloak, crystal wand",
}

ABSENT = {
    "an empty beach with no people and a red umbrella": "(beach) | umbrella: red",
    "a tree without leaves beside a green bench": "tree | bench: green",
    "not a black cat but a white dog": "dog: white",
    "a man with no hair in a blue suit": "man: blue suit",
    "a street without cars, a yellow tram": "(street) | tram: yellow",
    "a house with no windows and a red door": "house: red door",
    "a bird without feathers or wings on a branch": "bird | branch",
    "a wooden table, no chairs, a glass vase": "table: wooden | vase: glass",
    "a garden without flowers": "(garden)",
    "a snowman without a nose wearing a blue scarf": "snowman: blue scarf",
    "a green car, not a truck": "car: green",
    "a room with no furniture and a red carpet": "(room) | carpet: red",
    "there are no dogs, only a white cat": "cat: white",
    "a cup without a handle next to a yellow spoon": "cup | spoon: yellow",
    "a dog that is not brown but black": "dog: black",
    "a cake with no candles, a silver fork": "cake | fork: silver",
    "neither a cat nor a dog, a grey parrot": "parrot: grey",
    "a bald man without glasses and a woman with red glasses": "man: bald | woman: red glasses",
    "a teddy bear without eyes on a blue pillow": "teddy bear | pillow: blue",
    "an empty street, no cars, no people, a red mailbox": "(street) | mailbox: red",
    "a plate without food next to a silver knife": "plate | knife: silver",
    "a woman, not wearing a hat, in a green dress": "woman: green dress",
    "a ship with no sails": "ship",
    "no people, a red bridge over a river": "bridge: red | river",
    "a forest without animals, a blue tent": "(forest) | tent: blue",
    "a lamp without a shade beside a brown armchair": "lamp | armchair: brown",
    "not a blue chair but a yellow sofa": "sofa: yellow",
    "a pirate without an eyepatch, with a wooden leg": "pirate: wooden leg",
    "there is no moon, a white owl on a fence": "owl: white | fence",
}

WHOSE = {
    "a woman whose hair is green": "woman: green hair",
    "a dragon whose wings are golden next to a castle": "dragon: golden wings | castle",
    "the boy's yellow kite and the girl's purple scarf": "boy: yellow kite | girl: purple scarf",
    "my uncle's rusty green tractor": "tractor: rusty green | (uncle)",
    "our teacher's tiny white dog on a red sofa": "dog: tiny white | sofa: red | (teacher)",
    "the pirate's golden earring and the parrot's blue feathers": "pirate: golden earring | parrot: blue feathers",
    "a knight whose shield is silver and whose cape is red": "knight: silver shield, red cape",
    "a giant whose beard is white": "giant: white beard",
    "a horse whose mane is silver beside a wooden cart": "horse: silver mane | cart: wooden",
    "the queen's emerald ring and the king's purple cloak": "queen: emerald ring | king: purple cloak",
    "my grandmother's red armchair": "armchair: red | (grandmother)",
    "your friend's new black motorcycle next to my blue van": "motorcycle: new black | van: blue | (friend)",
    "the cat's green eyes and the dog's brown ears": "cat: green eyes | dog: brown ears",
    "her brother's yellow boat": "boat: yellow | (brother)",
    "a woman whose dress is yellow and whose shoes are blue": "woman: yellow dress, blue shoes",
    "a snowman whose nose is a carrot next to a red sled": "snowman: nose, carrot | sled: red",
    "the witch's black hat and the wizard's silver beard": "witch: black hat | wizard: silver beard",
    "our dentist's yellow bicycle": "bicycle: yellow",
    "a bird whose feathers are turquoise": "bird: turquoise feathers",
    "a man whose shirt is purple": "man: purple shirt",
    "the dancer's silver shoes and the singer's blue gown": "dancer: silver shoes | singer: blue gown",
    "my brother's green guitar on a leather sofa": "guitar: green | sofa: leather",
    "a queen whose crown is made of ice": "queen: crown, ice",
    "the dog's pink tongue": "dog: pink tongue",
}

PRONOUNS = {
    "a king and a queen, he has a golden crown and she has a silver necklace": (
        "king: golden crown | queen: silver necklace"
    ),
    "a boy and a girl, both wearing blue caps": "boy: blue caps | girl: blue caps",
    "two cats, one grey and one orange": "cats: grey, orange",
    "a robot and an alien, each holding a red flag": "robot: red flag | alien: red flag",
    "a woman with a dog, she is wearing a green coat": "woman: green coat | dog",
    "a lion in a cage, its mane is golden": "lion: golden mane | cage",
    "two knights, one with a red shield and the other with a blue shield": "knights: red shield, blue shield",
    "a grandfather and his grandson, the old man wears a brown hat": "grandfather | grandson | man: old, brown hat",
    "a prince and a princess, she wears a pink gown and he wears a blue cape": (
        "princess: pink gown | prince: blue cape"
    ),
    "a farmer and his wife, he is holding a rake and she is holding a basket": "farmer: rake | wife: basket",
    "a bear and a fox, each wearing a green hat": "bear: green hat | fox: green hat",
    "three balloons, one red, one blue and one yellow": "balloons: red, blue, yellow",
    "two women, one in a white dress and the other in a black dress": "women: white dress, black dress",
    "a tiger and its cub, they are orange": "tiger: orange | cub: orange",
    "a man with a cat, he wears a straw hat": "man: straw hat | cat",
    "two robots, both with red eyes": "robots: red eyes",
    "a girl hugs a panda, it is wearing a yellow bow": "girl | panda: yellow bow",
    "a horse, its tail is black": "horse: black tail",
    "a man and a woman, they wear black suits": "man: black suits | woman: black suits",
    "a nun and a priest, she is holding a candle": "nun: candle | priest",
    "two birds, one red and one blue, on a branch": "birds: red, blue | branch",
    "an old woman sits on a bench, her coat is purple": "woman: old, purple coat | bench",
    "two dogs, one with a blue collar and one with a red collar": "dogs: blue collar, red collar",
    "a couple, both holding umbrellas": "couple: umbrellas",
    "a waiter and a waitress, he holds a tray and she holds a bottle": "waiter: tray | waitress: bottle",
    "a mother and her daughter, both in red coats": "mother: red coats | daughter: red coats",
    "two horses, one brown and the other white": "horses: brown, white",
    "three cats, each wearing a tiny crown": "cats: tiny crown",
    "a boy with a kite, he has curly hair": "boy: kite, curly hair",
    "a dog and a cat, the dog is wearing a hat and it is red": "dog: hat, red | cat",
    "a knight and a squire, one holding a sword and one holding a shield": "knight: sword | squire: shield",
}

KINDS = {
    "second sub-object": SECOND_SUB_OBJECT,
    "long phrases": LONG_PHRASES,
    "absent": ABSENT,
    "whose": WHOSE,
    "pronouns": PRONOUNS,
}


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [pytest.param(*row, id=f"{kind}: {row[0]}") for kind, rows in KINDS.items() for row in rows.items()],
)
def test_prompt(find, prompt, answer):
    entities, _ = find(prompt)
    assert faults(entities, answer) == []
