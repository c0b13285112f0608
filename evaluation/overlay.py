"""A score drawn on its image, and told in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .detect import Detected
from .score import NOT_JUDGED, ImageScore, summarise
from .wanted import Wanted

RIGHT, WRONG, LEFT_OVER, TEXT, PANEL = (0, 150, 70), (215, 30, 60), (90, 90, 90), (255, 255, 255), (30, 30, 34)
NOT_ASKED_FOR = "not asked for"
MIN_SIDE = 512
FONT_SHARE = 30
"""The text is a thirtieth of the picture's shorter side high."""


def _phrase(colour: str | None, shape: str | None, mark: str | None) -> str:
    return " ".join(word for word in (colour, shape, f"with {mark}" if mark else None) if word)


def describe_wanted(wanted: Wanted) -> str:
    """ "red circle with dot"; the entity's name where the shape is none of the world's."""
    return _phrase(wanted.colour, wanted.shape or wanted.name, wanted.mark)


def describe_found(thing: Detected) -> str:
    """ "blue square"; "mixed" and "unclear shape" where no colour and no shape fits."""
    return _phrase(thing.colour or "mixed", thing.shape or "unclear shape", thing.mark)


def outcome_lines(score: ImageScore, found: Sequence[Detected]) -> list[str]:
    """One line for each wanted thing: what became of it."""
    lines = []
    for outcome in score.outcomes:
        line = f"{describe_wanted(outcome.wanted)}: {outcome.verdict}"
        if outcome.verdict == NOT_JUDGED:
            line += f" (not of the shapes world: {', '.join(outcome.wanted.unknown)})"
        elif outcome.found is not None and outcome.verdict != "ok":
            line += f" (found {describe_found(found[outcome.found])})"
        lines.append(line)
    return lines


def report(scores: Sequence[ImageScore], found: Sequence[Sequence[Detected]]) -> str:
    """All images in words, with the rates at the end."""
    lines = []
    for number, (score, things) in enumerate(zip(scores, found, strict=True), 1):
        lines.append(f"image {number}: {score.verdict}")
        lines += [f"  {line}" for line in outcome_lines(score, things)]
        lines += [f"  {NOT_ASKED_FOR}: {describe_found(things[index])}" for index in score.surplus]
    summary = summarise(scores)
    lines.append(
        f"{summary.rate:.0%} of {summary.n} images wholly right, {summary.share_right:.0%} of the entities right"
    )
    return "\n".join(lines)


def as_record(scores: Sequence[ImageScore], found: Sequence[Sequence[Detected]]) -> dict:
    """The same for programs: plain values that JSON can hold."""
    images = [
        {
            "verdict": score.verdict,
            "entities": [
                {
                    "name": outcome.wanted.name,
                    "wanted": describe_wanted(outcome.wanted),
                    "verdict": outcome.verdict,
                    "found": None if outcome.found is None else describe_found(things[outcome.found]),
                }
                for outcome in score.outcomes
            ],
            "not_asked_for": [describe_found(things[index]) for index in score.surplus],
        }
        for score, things in zip(scores, found, strict=True)
    ]
    summary = summarise(scores)
    return {"images": images, "share_of_images_right": summary.rate, "share_of_entities_right": summary.share_right}


def _outline(mask: np.ndarray, scale: int, width: int) -> np.ndarray:
    """Rim of a mask (H, W), enlarged by `scale`, as a mask (scale * H, scale * W)."""
    large = ndimage.zoom(mask.astype(np.float32), scale, order=1, grid_mode=True, mode="nearest") > 0.5
    return ndimage.binary_dilation(large, iterations=width) & ~large


def _label(draw: ImageDraw.ImageDraw, text: str, colour, box: tuple[float, ...], size: tuple[int, int], font) -> None:
    """Text on a plate above a box, or below where there is no room, wholly inside the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = font.size // 4
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max((box[0] + box[2] - width) / 2, 0), max(size[0] - width, 0))
    y = box[1] - height - pad if box[1] >= height + pad else min(box[3] + pad, size[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, fill=TEXT, font=font)


def enlarge(image: np.ndarray) -> tuple[int, Image.Image]:
    """An image (H, W, 3) of 0..1 enlarged by a whole factor to at least 512 pixels, and the factor."""
    height, width = image.shape[:2]
    scale = max(-(-MIN_SIDE // min(height, width)), 1)
    pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return scale, Image.fromarray(pixels).resize((width * scale, height * scale), Image.Resampling.BICUBIC)


def font_for(picture: Image.Image) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=min(picture.size) // FONT_SHARE)


def with_lines(picture: Image.Image, lines: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """A picture with lines of text in their colours on a panel below, (H', W', 3) float32 of 0..1."""
    font, (width, height) = font_for(picture), picture.size
    line_height = font.size * 3 // 2
    panel = Image.new("RGB", (width, height + line_height * len(lines) + font.size), PANEL)
    panel.paste(picture)
    draw = ImageDraw.Draw(panel)
    for row, (line, colour) in enumerate(lines):
        draw.text((font.size, height + font.size // 2 + row * line_height), line, fill=colour, font=font)
    return np.asarray(panel, np.float32) / 255.0


def draw_score(image: np.ndarray, score: ImageScore, found: Sequence[Detected]) -> np.ndarray:
    """The image (H, W, 3) of 0..1, enlarged by a whole factor to at least 512 pixels, with outlines and labels.

    Green is right, red is wrong, grey was not asked for or not judged; a panel below tells the verdicts. Returns
    (H', W', 3) float32 of 0..1, of a size that depends only on the image's and on the number of wanted things, so that
    the pictures of a batch stack.
    """
    scale, enlarged = enlarge(image)
    size = enlarged.size
    picture = np.asarray(enlarged).copy()
    font = font_for(enlarged)
    taken = {outcome.found: outcome for outcome in score.outcomes if outcome.found is not None}
    colours = [
        LEFT_OVER if index not in taken else RIGHT if taken[index].verdict == "ok" else WRONG
        for index in range(len(found))
    ]
    for thing, colour in zip(found, colours, strict=True):
        picture[_outline(thing.mask, scale, max(scale, 2))] = colour
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for index, (thing, colour) in enumerate(zip(found, colours, strict=True)):
        verdict = taken[index].verdict if index in taken else NOT_ASKED_FOR
        box = tuple(side * scale for side in thing.box)
        _label(draw, f"{describe_found(thing)}: {verdict}", colour, box, size, font)
    return with_lines(canvas, [(line, TEXT) for line in (score.verdict, *outcome_lines(score, found))])
