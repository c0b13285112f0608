"""The page of ``dev.py demo``: what each workflow is, what to look at, its pictures and scores. One file that needs no
other, the pictures being in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1c22; --soft: #667; --line: #d8d8e0; }
@media (prefers-color-scheme: dark) {
  :root { --back: #17171b; --text: #e8e8ee; --soft: #99a; --line: #3a3a44; }
}
body { background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
section { border-top: 1px solid var(--line); margin-top: 2rem; }
p, ul, table { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; }
figure { margin: 0; max-width: 100%; } img { display: block; max-width: 100%; max-height: 15rem; min-width: 10rem; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
"""


@dataclass(frozen=True)
class Picture:
    label: str
    png: bytes


@dataclass(frozen=True)
class Score:
    """What a Score Binding node found: its title, how much is right, and a line for each image."""

    label: str
    right: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A workflow that was run. ``note`` is its Markdown note, in the few forms that notes have here."""

    name: str
    note: str
    pictures: tuple[Picture, ...]
    scores: tuple[Score, ...]
    seconds: float


def page(title: str, about: str, sections: Sequence[Section], others: Sequence[tuple[str, str]]) -> str:
    """The whole page; ``others`` are workflows that were not run, each with the reason or the command."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1><p>{escape(about)}</p>",
            *(_section(each) for each in sections),
            *_others(others),
            "</body></html>",
        ]
    )


def _section(section: Section) -> str:
    pictures = "".join(
        f'<figure><img alt="{escape(each.label)}" src="data:image/png;base64,{base64.b64encode(each.png).decode()}">'
        f"<figcaption>{escape(each.label)}</figcaption></figure>"
        for each in section.pictures
    )
    scores = "".join(
        f"<tr><th>{escape(each.label)}</th><td>{escape(each.right)}<br>"
        f'<span class="soft">{"<br>".join(map(escape, each.images))}</span></td></tr>'
        for each in section.scores
    )
    return (
        f"<section><h2>{escape(section.name)}</h2>{as_html(section.note)}"
        f'<div class="pictures">{pictures}</div>{scores and f"<table>{scores}</table>"}'
        f'<p class="soft">{section.seconds:.1f} s</p></section>'
    )


def _others(others: Sequence[tuple[str, str]]) -> list[str]:
    if not others:
        return []
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(why)}</td></tr>" for name, why in others)
    return [f"<section><h2>Not run</h2><table>{rows}</table></section>"]


def as_html(note: str) -> str:
    """Paragraphs, lists, bold, italics and code of a Markdown note; headings are left out."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", note) if block.strip()]
    made = []
    for block in blocks:
        if block.startswith("#"):
            continue
        if block.startswith("- "):
            items = re.split(r"\n- ", block.removeprefix("- "))
            made.append(f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>")
        else:
            made.append(f"<p>{_inline(block)}</p>")
    return "".join(made)


def _inline(text: str) -> str:
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text, quote=False))
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
