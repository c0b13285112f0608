"""Pictures judged: questions asked, answers put together, told in words and to programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from . import t2i_compbench
from .aggregate import aggregate
from .questions import PROMPT, Question

PROBABILITY, COSINE = "probability", "cosine"
"""What a judge's numbers are: how likely yes is, or the cosine of picture and caption."""

CLIPSCORE = "CLIPScore (raw cosine)"
SCALE = 2.5
"""What the cosine is multiplied by in CLIPScore as published."""


class Judge(Protocol):
    """A model that is asked about pictures ``(H, W, 3)`` in 0..1; one number for each question."""

    name: str
    measures: str

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]: ...


@dataclass(frozen=True)
class Answer:
    """``probability`` of yes, whether it is wanted or not."""

    question: Question
    probability: float

    @property
    def value(self) -> float:
        """How right the picture is in this."""
        return self.probability if self.question.wanted else 1.0 - self.probability


@dataclass(frozen=True)
class JudgedImage:
    score: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Judgement:
    """Pictures of one prompt, judged. ``measures`` is as of the judge."""

    judge: str
    aggregate: str
    measures: str
    images: tuple[JudgedImage, ...]

    @property
    def score(self) -> float:
        return sum(image.score for image in self.images) / len(self.images)

    @property
    def best(self) -> int:
        """The index of the picture with the highest score, the first of several."""
        return max(range(len(self.images)), key=lambda index: self.images[index].score)


def judge_pictures(
    judge: Judge,
    pictures: torch.Tensor,
    prompt: str,
    questions: Sequence[Question],
    how: str,
    before: Callable[[int], None] = lambda _: None,
) -> Judgement:
    """Pictures ``(B, H, W, 3)`` in 0..1 of a prompt.

    A judge that compares captions is given the prompt as the first, and its cosine is the score: cosines are no
    probabilities, and are not put together.

    Args:
        how: one of AGGREGATES, or ``t2i_compbench.NAME``.
        before: called before each picture, with its index.
    """
    if judge.measures == COSINE:
        how, questions = CLIPSCORE, (Question(prompt, "", PROMPT, True, prompt), *questions)
    images = []
    for index, picture in enumerate(pictures):
        before(index)
        numbers = judge.answer(picture, questions)
        answers = tuple(Answer(*pair) for pair in zip(questions, numbers, strict=True))
        images.append(JudgedImage(_score(answers, how), answers))
    return Judgement(judge.name, how, judge.measures, tuple(images))


def _score(answers: Sequence[Answer], how: str) -> float:
    if how == CLIPSCORE:
        return answers[0].probability
    if how == t2i_compbench.NAME:
        return t2i_compbench.score([answer.probability for answer in answers])
    return aggregate([answer.value for answer in answers], how)


def clip_score(cosine: float) -> float:
    """CLIPScore as Hessel et al. publish it."""
    return SCALE * max(cosine, 0.0)


def lines_of(image: JudgedImage) -> list[str]:
    """One line for each question: the probability of yes, and the question."""
    return [
        f"{answer.probability:.3f}  {'' if answer.question.wanted else 'not '}"
        f"{f'{answer.question.entity}: ' if answer.question.entity else ''}{answer.question.text}"
        for answer in image.answers
    ]


def title_of(judgement: Judgement, index: int) -> str:
    """ "image 2: 0.812"; for cosines with CLIPScore as published."""
    score = judgement.images[index].score
    scaled = f" (CLIPScore as published: {clip_score(score):.3f})" if judgement.measures == COSINE else ""
    return f"image {index + 1}: {score:.3f}{scaled}"


def report(judgement: Judgement, notes: Sequence[str] = ()) -> str:
    """All pictures in words."""
    lines = []
    for index, image in enumerate(judgement.images):
        lines += [title_of(judgement, index), *(f"  {line}" for line in lines_of(image))]
    lines.append(
        f"score {judgement.score:.3f}, {judgement.aggregate} by {judgement.judge}, mean of {len(judgement.images)}; "
        f"best: image {judgement.best + 1}"
    )
    lines.append(
        "The numbers are cosines of picture and caption."
        if judgement.measures == COSINE
        else "The numbers are how likely the answer yes is; after not, no is right."
    )
    return "\n".join((*lines, *(f"Note: {note}" for note in notes)))


def as_record(judgement: Judgement) -> dict:
    """The same for programs: plain values that JSON can hold."""
    images = [
        {
            "score": image.score,
            "questions": [
                {
                    "text": answer.question.text,
                    "entity": answer.question.entity,
                    "kind": answer.question.kind,
                    "wanted": answer.question.wanted,
                    "probability": answer.probability,
                }
                for answer in image.answers
            ],
        }
        for image in judgement.images
    ]
    return {"judge": judgement.judge, "aggregate": judgement.aggregate, "images": images, "best": judgement.best}
