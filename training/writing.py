"""Pictures with captions and masks into a folder, in the form that `data.py` reads."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..parsing.binding import Binding
from ..parsing.manual import named
from ..segmentation.pictures import regions
from .data import MASK, noun_in

INSIDE = 0.5
NO_FILE_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Characters that some file systems do not have in names."""


class Written(NamedTuple):
    """The names of the pictures, and of how many each noun was masked."""

    names: tuple[str, ...]
    masked: Mapping[str, int]


def masks_of(binding: Binding, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The masks ``(B, H, W)`` of the entities that have a mask or a box, by noun: "dog 2" is the prompt's second.

    Raises:
        ValueError: no entity has any.
    """
    entities, masks = regions(binding, size)
    nouns = [named(entity.noun.spans[0], binding.text) for entity in entities]
    return {noun: masks[:, place] for place, noun in enumerate(nouns)}


def write(folder: Path, pictures: torch.Tensor, captions: Sequence[str], masks: Mapping[str, torch.Tensor]) -> Written:
    """Writes ``00001.png``, ``00001.txt`` and ``00001/<noun>.png`` and so on, after what the folder has; it is made if
    it is not there. What the folder has already, to the last pixel, is not written again; nor is an empty mask. Masks
    are written black and white, as in training whatever is not black counts.

    Args:
        pictures: ``(B, H, W, C)`` in 0..1; channels after the third are left out.
        captions: of each picture, or one for all.
        masks: of each noun ``(B, H, W)`` or ``(1, H, W)``, in 0..1.

    Raises:
        ValueError: another number of captions or masks than of pictures, or a noun that is not in the caption.
    """
    count = len(pictures)
    given = {"captions": len(captions)} | {f"masks of {noun}": len(each) for noun, each in masks.items()}
    for what, number in given.items():
        if number not in (1, count):
            raise ValueError(f"There are {number} {what} and {count} pictures. Give one for all, or one for each.")
    captions = list(captions) * (count if len(captions) == 1 else 1)
    for caption in captions:
        lacking = [noun for noun in masks if noun_in(noun, caption) is None]
        if lacking or not caption.strip():
            raise ValueError(
                f'The caption "{caption}" does not have: {", ".join(lacking) or "any words"}. A mask is that of a noun '
                "of the caption: name it there as in the prompt of the BINDING."
            )
    folder.mkdir(parents=True, exist_ok=True)
    names, masked = [], dict.fromkeys(masks, 0)
    for place, caption in enumerate(captions):
        of_nouns = {}
        for noun, of_pictures in masks.items():
            mask = of_pictures[place if len(of_pictures) > 1 else 0] >= INSIDE
            if mask.any():
                of_nouns[f"{NO_FILE_NAME.sub('_', noun)}{MASK}"] = _png(mask.float())
                masked[noun] += 1
        names.append(_written(folder, caption, _png(pictures[place, ..., :3]), of_nouns))
    return Written(tuple(names), masked)


def _written(folder: Path, caption: str, picture: bytes, masks: Mapping[str, bytes]) -> str:
    """The name under which these files are in the folder, where they may have been."""
    names = sorted(path.stem for path in folder.glob("*.txt") if re.fullmatch("[0-9]+", path.stem))
    for name in names:
        if _holds(folder, name, caption, picture, masks):
            return name
    name = _claimed(folder, caption)
    for file, content in masks.items():
        (folder / name).mkdir(exist_ok=True)
        _new(folder / name / file, content)
    _new(folder / f"{name}.png", picture)
    return name


def _holds(folder: Path, name: str, caption: str, picture: bytes, masks: Mapping[str, bytes]) -> bool:
    """Whether just this is in the folder under a name."""
    path = folder / f"{name}.png"
    if not path.is_file() or path.stat().st_size != len(picture):
        return False
    there = {each.name for each in (folder / name).glob(f"*{MASK}")}
    return (
        there == masks.keys()
        and path.read_bytes() == picture
        and (folder / f"{name}.txt").read_text(encoding="utf-8") == caption
        and all((folder / name / file).read_bytes() == content for file, content in masks.items())
    )


def _claimed(folder: Path, caption: str) -> str:
    """The next number that nothing in the folder has, with the caption written under it."""
    number = 1 + max((int(path.stem) for path in folder.iterdir() if re.fullmatch("[0-9]+", path.stem)), default=0)
    while True:
        try:
            with (folder / f"{number:05}.txt").open("x", encoding="utf-8") as file:
                file.write(caption)
            return f"{number:05}"
        except FileExistsError:
            number += 1


def _png(pixels: torch.Tensor) -> bytes:
    """Pixels ``(H, W)`` or ``(H, W, 3)`` in 0..1 as a picture."""
    content = (pixels.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(content)).save(file, "PNG")
    return file.getvalue()


def _new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
