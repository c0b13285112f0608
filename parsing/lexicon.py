"""Closed word classes of English that the entity rules need. General knowledge of the language, not of any set of
prompts."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> frozenset[str]:
    return frozenset(" ".join(phrase.split()) for phrase in text.split(","))


COLORS = _words("""
    red orange yellow green blue purple violet pink brown black white gray grey beige tan cyan magenta turquoise
    teal navy maroon crimson scarlet indigo lavender lilac ivory cream khaki olive golden silvery bronze copper
    gold silver amber emerald ruby sapphire burgundy mauve azure aqua coral peach mustard charcoal fuchsia
    vermilion ochre sepia auburn blond blonde mint slate cobalt jade
""")

SHADES = _words("light dark bright pale deep soft dull pastel neon vivid hot baby sky royal navy lime olive forest")

QUANTITIES = _words("""
    many several few some other another same different various much more most whole entire such own only first
    second third next last
""")
"""Adjectives that tell how many or which, not what something looks like."""

HUES = _words("shade shades color colors colour colours tone tones hue hues")

MATERIALS = _words("""
    rubber plastic fabric leather glass metal metallic wood wooden woolen wool cotton silk satin velvet denim
    linen lace fur suede nylon polyester felt canvas burlap paper cardboard stone marble granite concrete brick
    clay ceramic porcelain terracotta sand steel iron brass bronze copper gold silver aluminum aluminium tin
    chrome platinum titanium diamond pearl ruby emerald sapphire jade crystal quartz amber ivory bone bamboo
    wicker rattan straw cork oak pine mahogany acrylic vinyl wax foam fluff fleece tweed corduroy
""")

SHAPES = _words("""
    round square rectangular oval circular triangular oblong teardrop diamond pentagonal hexagonal octagonal
    conical cubic pyramidal spherical cylindrical elliptical crescent heart star cube sphere cone cylinder pyramid
    rectangle triangle circle hexagon pentagon octagon spiral zigzag dome arch flat curved
""")

PATTERNS = _words("""
    striped polka dot dotted checkered plaid tartan paisley camouflage camo floral mosaic tie-dye pinstripe print
""")

COMPOUNDS = _phrases("""
    teddy bear, polar bear, grizzly bear, guinea pig, sea lion, sea horse, killer whale, hot dog, ice cream, ice
    cube, french fries, cotton candy, birthday cake, cup cake, gummy bear, fire hydrant, fire truck, fire engine,
    fire extinguisher, traffic light, traffic cone, street light, street lamp, stop sign, parking meter, light
    bulb, baseball bat, baseball glove, baseball cap, tennis racket, tennis ball, soccer ball, golf ball, golf
    club, bowling ball, disco ball, surf board, hockey stick, wine glass, wine bottle, water bottle, coffee cup,
    coffee mug, tea pot, tea cup, frying pan, cutting board, dining table, coffee table, night stand, book shelf,
    rocking chair, arm chair, office chair, cell phone, mobile phone, remote control, washing machine, hair dryer,
    hair drier, alarm clock, tooth brush, potted plant, palm tree, pine tree, christmas tree, apple tree, cherry
    tree, pine cone, hot air balloon, space ship, space suit, space shuttle, sail boat, fishing boat, police car,
    police officer, school bus, pickup truck, race car, sports car, steam train, spinning wheel, ferris wheel,
    merry-go-round, cowboy hat, cowboy boots, top hat, bow tie, t shirt, high heels, hiking boots, swimming pool,
    picture frame, jewelry box, treasure chest, playing cards, chess board, chess piece, piggy bank, door knob,
    door bell, wind mill, light house, tree house, dog house, bird house, snow man, snow globe, gingerbread man,
    jack-o-lantern, musical instrument, grand piano, electric guitar, trash can, garbage can, watering can, tin can,
    soda can, beer can, spray can, tank top, crop top, tube top, spinning top
""")
"""Nouns of several words: the words before the last are no attributes."""

DESCRIBING = COLORS | MATERIALS | SHAPES | PATTERNS
"""Words that describe the noun they stand before even where a tagger calls them nouns: "rubber ball", "teardrop
earring"."""

POSTURES = _words("sit lie lay stand rest hang walk run lean float fly sleep")
"""Verbs of place that taggers take for nouns after several subjects."""

PRONOUNS = _words("""
    i me my mine myself you your yours he him his himself she her hers herself it its itself we us our ours they
    them their theirs themselves who whom whose which what that this these those there something someone
    everything everyone anything nothing none one ones each other both all some any another many few several
""")

PAST_TENSE_THINGS = _words("rose saw dove")
"""Past tenses of verbs that are spelled as things: taken for verbs in "a yellow rose and ..."."""

NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "dozen": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
}  # fmt: skip

WEARING = _words("wearing wears wear wore sporting sports donning dons")

OWNING = _words("having has have had bearing bears")

PARTICIPLES = {
    **dict.fromkeys(("wears", "wear", "wore", "sports", "dons"), "wearing"),
    **dict.fromkeys(("has", "have", "had", "bears"), "with"),
    **dict.fromkeys(("holds", "hold", "held"), "holding"),
    **dict.fromkeys(("carries", "carry", "carried"), "carrying"),
    **dict.fromkeys(("clutches", "clutch", "clutched"), "clutching"),
    **dict.fromkeys(("grips", "grip", "gripped"), "gripping"),
    **dict.fromkeys(("grasps", "grasp", "grasped"), "grasping"),
    **dict.fromkeys(("wields", "wield", "wielded"), "wielding"),
    **dict.fromkeys(("brandishes", "brandish", "brandished"), "brandishing"),
    **dict.fromkeys(("hauls", "haul", "hauled"), "hauling"),
    **dict.fromkeys(("lugs", "lug", "lugged"), "lugging"),
    **dict.fromkeys(("balances", "balance", "balanced"), "balancing"),
    **dict.fromkeys(("clasps", "clasp", "clasped"), "clasping"),
    **dict.fromkeys(("cradles", "cradle", "cradled"), "cradling"),
    **dict.fromkeys(("throws", "throw", "threw"), "throwing"),
    **dict.fromkeys(("hurls", "hurl", "hurled"), "hurling"),
    **dict.fromkeys(("points", "point", "pointed"), "pointing"),
    **dict.fromkeys(("raises", "raise", "raised"), "raising"),
    **dict.fromkeys(("lifts", "lift", "lifted"), "lifting"),
    **dict.fromkeys(("swings", "swing", "swung"), "swinging"),
    **dict.fromkeys(("waves", "wave", "waved"), "waving"),
    **dict.fromkeys(("aims", "aim", "aimed"), "aiming"),
    **dict.fromkeys(("breathes", "breathe", "breathed"), "breathing"),
    **dict.fromkeys(("spits", "spit", "spat"), "spitting"),
    **dict.fromkeys(("smokes", "smoke", "smoked"), "smoking"),
}
"""For finite verbs among the above, what stands in a phrase: "a dog has a collar" -> "a dog with a collar"."""

HOLDING = (frozenset(PARTICIPLES) | frozenset(PARTICIPLES.values())) - WEARING - OWNING - {"with"}
"""Holding, and what else is done with a thing that is in the hands, or comes out of the mouth."""

HAVING = WEARING | HOLDING | OWNING | {"with", "in"}
"""What may join a noun to something it wears, holds or has."""

MADE = _words("made built carved woven knitted cut")

COVERED = _words("""
    covered coated painted dyed drenched soaked wrapped draped dipped dusted colored coloured sprinkled topped adorned
    decorated encrusted overgrown trimmed studded embroidered stuffed laden loaded armed equipped fitted lined
""")
"""What is done with something that is then on a thing: "covered in snow", "decorated with lights"."""

PREPOSITIONS = _words("""
    in on at by of to from with without into onto upon over under above below beneath behind beside besides between
    among near inside outside across around along through against toward towards past down up off about beyond next
    atop amid underneath alongside
""")

ABSENCE = _words("without no minus lacking missing sans")
"""Before a thing that is not there."""

KIN = _words("dad daddy mom mum mommy mummy grandma grandpa granny")
"""Spoken of as names, without an article."""

FEMALE = _words("she her hers herself")
MALE = _words("he him his himself")
PLURAL = _words("they them their both each all")
PARTITIVE = _words("one other another first second third")
"""Pronouns that stand for entities named before; partitives stand for some of those of a plural."""

CLOTHES = _words("""
    hat cap helmet beanie hood crown scarf tie bowtie necklace collar coat jacket hoodie sweater jumper cardigan
    vest shirt t-shirt tshirt blouse top tunic dress gown robe kimono toga skirt kilt pants trousers jeans shorts
    leggings suit tuxedo uniform costume armor armour cloak cape apron swimsuit bikini pajamas pyjamas glove gloves
    mitten mittens sock socks stocking stockings tights shoe shoes boot boots sneakers sandals heels slippers
    glasses sunglasses spectacles goggles mask veil bandana headband ribbon bow earring earrings ring bracelet watch
    belt backpack outfit clothes clothing sari poncho raincoat overalls eyepatch thighhighs kneehighs pantyhose
    legwear hairband headpiece choker serafuku bodysuit zettai-ryouiki headphones tutu sash halo onesie romper obi
    hakama yukata haori cheongsam qipao hood leotard jumpsuit waistcoat turtleneck blazer parka beret turban tiara
    bonnet kerchief monocle lederhosen dirndl tee tailcoat bolero pinafore corduroys flip-flops
""")

LIVING = _words("""
    man men woman women person people boy boys girl girls child children kid kids baby babies lady gentleman guy
    friend friends mother father son daughter brother sister couple family king queen prince princess knight soldier
    doctor nurse chef farmer pirate astronaut wizard witch elf fairy angel robot monster dragon unicorn animal
    animals pet dog dogs puppy puppies cat cats kitten kittens horse horses pony cow cows bull calf sheep lamb goat
    pig pigs piglet rabbit rabbits bunny hare mouse mice rat hamster squirrel fox foxes wolf wolves bear bears panda
    lion lions tiger tigers leopard cheetah elephant elephants giraffe zebra monkey monkeys gorilla ape deer moose
    camel kangaroo koala raccoon hedgehog otter beaver seal whale dolphin shark fish bird birds duck duckling goose
    swan chicken hen rooster turkey owl eagle hawk crow raven parrot penguin penguins pigeon sparrow peacock
    flamingo turtle tortoise frog toad snake lizard crocodile alligator dinosaur bee butterfly spider ant snail
    octopus crab ghost vampire zombie demon devil alien mermaid samurai ninja viking spirit skeleton scarecrow
    snowman golem goblin joey cub foal fawn ram ewe stag doe mare jay crane mole mule boar badger orc troll ogre
    giant cyborg android superhero sorcerer sorceress
""")

BODY = _words("""
    twintails ponytails bangs ahoge sidelocks braids hair eye eyes ear ears skin fang fangs scar scars freckles dimples
    dreadlocks cornrows tattoo tattoos piercing piercings makeup
""")

MARKS = _words("spot spots stripe stripes dot dots patch patches marking markings stain stains")

GROUNDS = _words("garden yard backyard playground courtyard orchard")
"""Places that WordNet counts among groups or things."""

PARTS = _words("""
    petal leaf trunk stem branch root bark blade rim tip edge bumper screen tower pattern icing frosting crust
""")
"""Parts of things that WordNet does not call parts."""

CAUGHT = _words("fish salmon trout tuna carp eel lobster crab shrimp prawn squid snail")
"""Animals that belong to whoever holds them."""

ARTICLES = _words("a an")

POSSESSIVES = _words("his her its their my your our")

DETERMINERS = ARTICLES | POSSESSIVES | _words("the this that these those") | frozenset(NUMBERS)

ONE = ("one", "ones")

SENTENCE_ENDS = (".", "!", "?", ";")

PLACES = _words("on in at over around round under across behind")

CONJUNCTIONS = _words("and or but")

FUNCTION_WORDS = (
    PREPOSITIONS
    | DETERMINERS
    | PRONOUNS
    | CONJUNCTIONS
    | _words("is are was were be been being has have had as than very not there where while when for")
)

LINKS = (
    HAVING
    | MADE
    | (DETERMINERS - frozenset(NUMBERS))
    | _words("""
    that which who is are was were be been being has have had 's ' become becomes became look looks looked looking
    seem seems seemed appear appears appeared stay stays stayed remain remains remained turn turns turned both all
    painted colored coloured dyed dressed clad covered of very
""")
)
"""What may stand between a noun and something said of it later: "that is", "looks", "painted", "with a"."""

VOWELS_UNSAID = ("uni", "use", "usu", "euro", "one", "once", "ufo", "ukulele")
VOWELS_SAID = ("hour", "honest", "honor", "honour", "heir")
"""Beginnings of words that take "a" though spelled with a vowel, and "an" though spelled with a consonant."""
