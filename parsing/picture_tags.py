"""Items of a list of tags that speak of the picture and not of a thing in it: "masterpiece", "score_9", "solo",
"looking at viewer". Tags of image boards (Danbooru) and what model makers ask for."""

from __future__ import annotations

import re

from .word_classes import parts_of_speech

QUALITY = """
    (?:(?:best|high|highest|good|great|normal|worst|low|amazing|ultra|top|very)[ ]+)*quality | masterpiece | absurdres |
    incredibly[ ]absurdres | highres | lowres | hi-?res | score_\\w+ | source_\\w+ | rating[_:]?[ ]?\\w+ | newest |
    (?:very[ ])?aesthetic | (?:ultra|super|extremely|highly|insanely|intricate(?:ly)?)?[ -]*detail(?:s|ed)? |
    (?:photo|hyper|ultra)[ -]?real(?:ism|istic) | realistic | award[ -]winning(?:[ ]\\w+)? | trending[ ]on[ ]\\w+ |
    (?:4|8|16)k(?:[ ](?:uhd|hdr|wallpaper|resolution))? | uhd | hdr | raw[ ]photo | sharp[ ]focus | vivid[ ]colou?rs |
    professional | official[ ]art | concept[ ]art | digital[ ](?:art|painting|illustration) | artstation |
    unreal[ ]engine(?:[ ]\\d)? | octane[ ]render | cinematic(?:[ ]\\w+)? | dynamic[ ](?:pose|angle|lighting) |
    anime(?:[ ](?:style|screencap))? | illustration | comic | sketch | monochrome | greyscale | safe | sensitive |
    nsfw | \\d+[ ]?mm(?:[ ]lens|[ ]photo(?:graphy)?)? | f/?\\d[\\d.]* | iso[ ]?\\d+ | film[ ]grain | golden[ ]hour |
    fantasy | horror | ethereal | god[ ]rays | lens[ ]flare | motion[ ]blur | matte[ ]painting |
    (?:volumetric|natural|rim|ambient)[ ]light |
    (?:pixar|disney|ghibli|manga|cartoon|comic|photographic|painterly)[ ]style
"""
VIEW = """
    solo(?:[ ]focus)? | looking[ ]at[ ](?:the[ ])?(?:viewer|camera|another) | looking[ ](?:back|away|up|down) |
    looking[ ]to[ ]the[ ]side |
    (?:full|upper|lower)[ ]body | cowboy[ ]shot | (?:wide|medium|long|close)[ -]shot | close-?up | portrait | profile |
    from[ ](?:above|below|behind|side) | facing[ ]viewer | dutch[ ]angle | depth[ ]of[ ]field | bokeh | pov |
    (?:simple|white|black|grey|gray|blurry|plain|gradient|transparent|dark|detailed|abstract)[ ]background |
    (?:in|out)doors | multiple[ ](?:girls|boys) | no[ ]humans | smil(?:e|ing) | blush(?:ing)? | grin | frown |
    (?:open|closed)[ ]mouth | standing | sitting | lying | kneeling | walking | running | day | night | sunset
"""
SUBJECT = r"(?<!\w)\d\+?(?:girl|boy|woman|man|men|women|other|person|people)s?(?!\w)"
"""A count and who there is: "1girl", "2boys"."""
SUBJECT_WORD = re.compile(SUBJECT)

QUALITY_TAG = re.compile(rf"\s*(?:{QUALITY})\s*", re.VERBOSE | re.IGNORECASE)
VIEW_TAG = re.compile(rf"\s*(?:{VIEW})\s*", re.VERBOSE | re.IGNORECASE)
ARTIST = re.compile(r"\b(?:in the style of|(?:art |painted |drawn )?by) ((?:[\w.'-]+ ?){1,4}?)(?=\s*(?:[,;|]|\.?\s*$))")
ITEM = re.compile(r"(?:[^,;.\n|]|(?<=\d)\.(?=\d))+")
LEAST_ITEMS = 3
"""Fewer are no list of tags, and only what is said of quality is one."""


def masked(text: str) -> tuple[str, list[str]]:
    """The text with such items blanked out and the underscores of tags as spaces, of the same length, and the items
    and artists found."""
    items, found = list(ITEM.finditer(text)), []
    for item in items:
        words = item[0] if re.match(r"\s*(?:score|source|rating)_", item[0]) else item[0].replace("_", " ")
        of_view = VIEW_TAG.fullmatch(words) and (len(items) >= LEAST_ITEMS or "_" in item[0])
        if of_view or (QUALITY_TAG.fullmatch(words) and (len(items) > 1 or "_" in item[0])):
            found.append(words.strip())
            words = " " * len(words)
        text = text[: item.start()] + words + text[item.end() :]
    for artist in ARTIST.finditer(text):
        if all(name[:1].isupper() or not parts_of_speech(name.lower()) for name in artist[1].split()):
            found.append(artist[0])
            text = text[: artist.start()] + " " * len(artist[0]) + text[artist.end() :]
    return text, found
