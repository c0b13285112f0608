"""Pictures with captions and masks of the captions' nouns, read from a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..parsing.manual import occurrences
from .masks import UNREADABLE, opened, opened_mask

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MASK = ".png"
METADATA = "metadata.jsonl"
PUBLISHED_MASKS = "seg/"
MANY = 40


@dataclass(frozen=True)
class Item:
    """A picture, its caption, and the nouns that have or lack a mask: words of the caption, "dog 2" for the second dog
    where it has no such words."""

    picture: Path
    caption: str
    masks: tuple[tuple[str, Path | None], ...]


class Found(NamedTuple):
    """What can be trained with, and a line for each thing that cannot: what it is and why."""

    items: tuple[Item, ...]
    broken: tuple[str, ...]


@dataclass(frozen=True)
class TrainingData:
    """Items as they travel on a wire. ``digest`` tells their contents; ``size`` is the side of the square that the
    pictures are cropped to, in pixels."""

    folder: Path
    items: tuple[Item, ...]
    broken: tuple[str, ...]
    size: int
    digest: str


class _Entry(NamedTuple):
    """What a folder says there is: the masks' nouns as they are written there. The caption may be anything."""

    picture: Path
    caption: Any
    masks: list[tuple[str, Path | None]]


def read_folder(folder: Path, step: Callable[[], None] = lambda: None) -> Found:
    """The items of a folder; ``step`` is called before each of them.

    Either pictures with ``<name>.txt`` beside them, and masks in ``<name>/<noun>.png`` (an underscore stands for any
    one character); or those of a ``metadata.jsonl`` as TokenCompose published it, with a line for each picture:
    ``{"file_name": ..., "text": ..., "attn_list": [[noun, mask or null], ...]}``.

    Raises:
        ValueError: there is no item that can be trained with.
    """
    broken: list[str] = []
    metadata = next((path for path in (folder / METADATA, folder / "train" / METADATA) if path.is_file()), None)
    entries = _of_metadata(metadata, broken) if metadata else _of_files(folder, broken)
    items = []
    for entry in entries:
        step()
        item = _item(entry, folder, broken)
        if item is not None:
            items.append(item)
    if not items:
        told = "\n".join(_shortened(broken)) or f"no pictures ({', '.join(PICTURES)}) and no {METADATA}"
        raise ValueError(
            f"There is nothing to train with in {folder}. Put pictures there, with a caption beside each (cat.png, "
            f"cat.txt) and masks of its nouns in a folder of its name (cat/sofa{MASK}). Found: {told}"
        )
    return Found(tuple(items), tuple(broken))


def _of_files(folder: Path, broken: list[str]) -> Iterator[_Entry]:
    files = sorted(folder.iterdir())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    names = {path.stem for path in pictures}
    for path in files:
        if path.is_dir() and path.name not in names and any(path.glob(f"*{MASK}")):
            broken.append(f"{path.name}/: there is no picture of that name, so its masks are nobody's")
    for picture in pictures:
        text, masks = picture.with_suffix(".txt"), folder / picture.stem
        try:
            caption = text.read_text("utf-8-sig").strip()
        except FileNotFoundError:
            broken.append(f"{picture.name}: left out, there is no {text.name} with its caption")
            continue
        except (OSError, UnicodeDecodeError) as error:
            broken.append(f"{picture.name}: left out, {text.name} cannot be read: {error}")
            continue
        found = sorted(masks.iterdir()) if masks.is_dir() else []
        broken += [f"{masks.name}/{path.name}: masks are {MASK} files" for path in found if path.suffix.lower() != MASK]
        yield _Entry(picture, caption, [(path.stem, path) for path in found if path.suffix.lower() == MASK])


def _of_metadata(metadata: Path, broken: list[str]) -> Iterator[_Entry]:
    with metadata.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                told = json.loads(line)
                picture, caption = metadata.parent / told["file_name"], told["text"]
                masks = [(str(noun), _published(metadata, mask)) for noun, mask in told.get("attn_list") or []]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                form = '{"file_name": ..., "text": ..., "attn_list": [[noun, mask or null], ...]}'
                broken.append(f"{metadata.name}, line {number}: left out, it does not read {form}: {error!r}")
                continue
            yield _Entry(picture, caption, masks)


def _published(metadata: Path, mask: str | None) -> Path | None:
    """Where a mask of a metadata file is: "seg/..." in its folder, or where TokenCompose's download puts it, in the
    folder coco_gsam_seg beside that of the pictures."""
    if mask is None:
        return None
    own = metadata.parent / mask
    if own.exists() or not mask.startswith(PUBLISHED_MASKS):
        return own
    return metadata.parent.parent.parent / "coco_gsam_seg" / mask.removeprefix(PUBLISHED_MASKS)


def _item(entry: _Entry, folder: Path, broken: list[str]) -> Item | None:
    name = _name(entry.picture, folder)
    if not isinstance(entry.caption, str) or not entry.caption.strip():
        broken.append(f"{name}: left out, its caption is empty")
        return None
    try:
        shape = opened(entry.picture).size
    except UNREADABLE as error:
        broken.append(f"{name}: left out, it cannot be read: {_why(error)}")
        return None
    masks: dict[str, Path | None] = {}
    for written, path in entry.masks:
        noun = noun_in(written, entry.caption)
        if noun is None and path is None:
            continue
        if noun is None:
            broken.append(f'{name}: its caption has no "{written}", whose mask is left out. It reads: {entry.caption}')
            continue
        wrong = _wrong_with(path, shape) if path else None
        if wrong:
            broken.append(f"{_name(path, folder)}: the mask is left out, {wrong}")
        masks[noun] = None if wrong else path
    return Item(entry.picture, entry.caption.strip(), tuple(masks.items()))


def noun_in(written: str, caption: str) -> str | None:
    """A noun as a caption has it; in the name of a file an underscore stands for any one character."""
    if not written.strip():
        return None
    if occurrences(written, caption):
        return written
    words, number = re.fullmatch(r"(.+?)(\s\d+)?", written, re.DOTALL).groups("")
    like = re.search(re.escape(words).replace("_", "."), caption, re.IGNORECASE)
    return like[0] + number if like and occurrences(like[0] + number, caption) else None


def _wrong_with(mask: Path, shape: tuple[int, int]) -> str | None:
    try:
        found = opened_mask(mask)
    except UNREADABLE as error:
        return f"it cannot be read: {_why(error)}"
    (width, height), (across, down) = shape, found.size
    if abs(across * height - down * width) > max(width, height, across, down):
        return f"it is {across} x {down}, of another shape than the picture's {width} x {height}"
    return None if found.getbbox() else "it is all black"


def _why(error: Exception) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def digest_of(items: tuple[Item, ...]) -> str:
    """Tells the contents of items, wherever they are."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.caption, [(noun, bool(path)) for noun, path in item.masks])).encode())
        for path in (item.picture, *filter(None, (path for _, path in item.masks))):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def report(data: TrainingData) -> str:
    """How much there is, for which nouns there are masks, and what is broken."""
    nouns, masked = Counter(), Counter()
    for item in data.items:
        for noun, path in item.masks:
            word = " ".join(noun.lower().split())
            nouns[word] += 1
            masked[word] += path is not None
    without = sum(not any(path for _, path in item.masks) for item in data.items)
    lines = [f"{len(data.items)} pictures from {data.folder.name}, cropped to {data.size} x {data.size}"]
    lines.append(f"{sum(masked.values())} masks for {sum(nouns.values())} nouns")
    if without:
        lines.append(f"{without} pictures have no mask: they train by the noise loss alone")
    counts = [f"{noun}: {masked[noun]} of {count}" for noun, count in nouns.most_common()]
    lines.append(", ".join(_shortened(counts)))
    if data.broken:
        lines += [f"{len(data.broken)} broken:", *_shortened(data.broken)]
    return "\n".join(filter(None, lines))


def _shortened(lines) -> list[str]:
    return list(lines[:MANY]) + ([f"and {len(lines) - MANY} more"] if len(lines) > MANY else [])
