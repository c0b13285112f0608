"""Nouns that name no thing an image shows at one place. They become no entities; what they have becomes entities
instead."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_EXCLUDED = """\
top, bottom, side, left, right, front, middle, corner, distance, background, foreground, photo, photograph, \
photography, picture, image, view, shot, closeup, close-up, scene, style, art, artwork, masterpiece, lighting, \
sunlight, quality, resolution, detail, focus, depth, color, colour, shape, texture, design, size, hd, 4k, 8k, uhd, \
hdr, bokeh, atmosphere, mood, feeling, noise, dream, scent, language, skill, one, night, day, morning, evening, \
time, moment, way, song, cycle, mystery, range, cry, speech, tone, thing, activity, air, beauty, idea, condition, \
weather, nature, world, variety, lot
of: back, center, centre, edge, end, part, painting, drawing, illustration, render, portrait, wallpaper, light, \
pair, couple, group, bunch, set, piece, number, row, kind, type, sort, dozen
background: sky, sea, ocean, water, wave, shore, mountain, hillside, field, meadow, grass, snow, street, airport, \
environment, space, surface, area, place, interior, exterior, kitchen, bathroom, restroom, room, salon, wall, \
floor, ground, party, meal, shadow, advertisement"""
"""Includes the stop list of CoMat (arXiv 2404.03653), which leaves out what a detector cannot point at."""


@dataclass(frozen=True)
class Excluded:
    """Words in lower case: left out ``always``, before "of" ("a pair of shoes"), or as ``background``.

    A background is left out after a preposition ("on a street") and where nothing is said of it; named side by side
    with other things and with an attribute of its own ("a blue dove and a white sky") it is an entity like them.
    """

    always: frozenset[str]
    before_of: frozenset[str]
    background: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Excluded:
        """Reads words separated by commas or semicolons; a line starting "of:" or "background:" has that meaning."""
        found: dict[str, set[str]] = {"": set(), "of": set(), "background": set()}
        for line in text.lower().splitlines():
            label, colon, rest = line.partition(":")
            known = colon and label.strip() in found
            words = (rest if known else line).replace(";", ",").split(",")
            found[label.strip() if known else ""] |= {word.strip() for word in words} - {""}
        return cls(*map(frozenset, found.values()))


_DEFAULT = Excluded.parse(DEFAULT_EXCLUDED)


def has_no_place(noun: str) -> bool:
    """Whether a noun is by default abstract or a background, which no detector can point at, whatever is said of it."""
    word = noun.split()[-1].lower() if noun.split() else ""
    singular = f"{word.removesuffix('ies')}y" if word.endswith("ies") else word.removesuffix("s")
    return not {word, singular}.isdisjoint(_DEFAULT.always | _DEFAULT.background)
