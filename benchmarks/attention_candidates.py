"""Ways to predict from recorded attention whether a picture is right, and how often each is right itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import host
import numpy as np
import roc
from attention_pictures import ALL_WORDS, GROUP, NOUNS, Group

RESOLUTIONS = {"latent": {0}, "latent/2": {1}, "latent/4": {2}, "all": {0, 1, 2}}
WINDOWS = {"first third": (0, 1 / 3), "last third": (2 / 3, 1), "all steps": (0, 1)}
MEAN_MAP, MEAN_SCORE, WEAKEST_STEP = "score of the mean map", "mean of the steps' scores", "weakest step"
RIGHT, ALL_THERE, BOUND = "wholly right", "nothing left out", "bound rightly, of those with nothing left out"
TARGETS = (RIGHT, ALL_THERE, BOUND)
FEATURES = 3
"""Of the small combination."""


class Candidate(NamedTuple):
    """A way to score a picture: a measure of the weakest part or the mean of all, on which words and layers, in which
    steps, and what is averaged over these."""

    measure: str
    reduction: str
    words: str = NOUNS
    resolution: str = "latent"
    window: str = "all steps"
    taken: str = MEAN_MAP


class Pictures(NamedTuple):
    """What is known of the pictures: number of the prompt, its set, whether it is of the half by which candidates are
    chosen, and for each target whether it was reached (nan where that is not asked)."""

    prompts: np.ndarray
    sets: np.ndarray
    choosing: np.ndarray
    reached: dict[str, np.ndarray]


def candidates_of(group: Group) -> Iterator[tuple[Candidate, np.ndarray]]:
    """Every candidate with its scores of a group's pictures."""
    measures, attended = host.part("evaluation.attention_scores"), host.part("evaluation.attended").attended
    for words, whole in group.recordings.items():
        windows = {name: _steps_within(whole, *window) for name, window in WINDOWS.items()}
        for resolution, levels in RESOLUTIONS.items():
            recording = replace(whole, grids=tuple(grid for grid in whole.grids if grid.level in levels))
            by_step = attended(recording, group.binding)
            of_means = attended(_averaged(recording, list(windows.values())), group.binding)
            for name, measure in measures.MEASURES.items():
                if measure.of == measures.ATTRIBUTES and words == ALL_WORDS:
                    continue
                values = measure.values(by_step)
                parts = {(window, MEAN_SCORE): values[steps].mean(0) for window, steps in windows.items()}
                parts |= {(w, MEAN_MAP): each for w, each in zip(windows, measure.values(of_means), strict=True)}
                parts["all steps", WEAKEST_STEP] = values.amin(0)
                for (window, taken), each in parts.items():
                    for reduction in (measures.WEAKEST, measures.MEAN):
                        candidate = Candidate(name, reduction, words, resolution, window, taken)
                        yield candidate, measures.over_parts(each, reduction).numpy()


def _steps_within(recording: Any, start: float, end: float) -> list[int]:
    """The places of the recorded steps in a part of the run."""
    run = len(recording.sigmas) - 1
    return [place for place, (step,) in enumerate(recording.steps) if start <= step / run < end]


def _averaged(recording: Any, windows: Sequence[list[int]]) -> Any:
    """The recording with the mean map of each window instead of the steps' maps."""
    import torch

    grids = (
        replace(grid, maps=torch.stack([grid.maps[steps].mean(0) for steps in windows])) for grid in recording.grids
    )
    return replace(recording, grids=tuple(grids))


def pictures_of(groups: Sequence[Group]) -> Pictures:
    presence, bound = (np.array([getattr(each, name) for each in groups]).ravel() for name in ("presence", "bound"))
    return Pictures(
        prompts=np.repeat(np.arange(len(groups)), GROUP),
        sets=np.repeat([group.prompt_set for group in groups], GROUP),
        choosing=np.repeat([group.number % 2 == 0 for group in groups], GROUP),
        reached={
            RIGHT: np.array([verdict == "ok" for group in groups for verdict in group.verdicts], float),
            ALL_THERE: (presence == 1).astype(float),
            BOUND: np.where(presence == 1, bound == 1, np.nan),
        },
    )


def areas(scores: np.ndarray, pictures: Pictures, which: np.ndarray | None = None) -> dict[str, Any]:
    """Areas under the curve for all targets, of all pictures or some, with errors; and within prompts."""
    found = {}
    for target, reached in pictures.reached.items():
        asked = ~np.isnan(reached) if which is None else which & ~np.isnan(reached)
        counted = roc.pairs(
            scores[asked], reached[asked] == 1, np.unique(pictures.prompts[asked], return_inverse=True)[1]
        )
        found[target] = {"n": int(asked.sum()), "area": counted.area(), "within": counted.area_within_prompts()}
    return found


def combinations_of(scores: dict[Candidate, np.ndarray], names: Sequence[Candidate], pictures: Pictures) -> dict:
    """Logistic combinations fitted on the half for choosing: of all the named candidates, and of the few that add most
    when taken one after the other."""
    right, choosing = pictures.reached[RIGHT] == 1, pictures.choosing

    def combined(chosen: Sequence[Candidate]) -> np.ndarray:
        features = np.column_stack([scores[name] for name in chosen])
        return roc.fitted(features[choosing], right[choosing]).scores(features)

    def within(chosen: Sequence[Candidate]) -> float:
        return areas(combined(chosen), pictures, choosing)[RIGHT]["within"][0]

    few: list[Candidate] = []
    for _ in range(FEATURES):
        few.append(max((name for name in names if name not in few), key=lambda name: within([*few, name])))
    return {"all": (list(names), combined(names)), "few": (few, combined(few))}


def best_shares(scores: np.ndarray | None, pictures: Pictures, which: np.ndarray) -> dict[int, tuple[float, float]]:
    """By number of pictures drawn: in how many the one with the highest score is wholly right, with the standard error
    over prompts; without scores, in how many any is."""
    right, mean_and_error = pictures.reached[RIGHT] == 1, host.part("evaluation.score").mean_and_error
    shares = defaultdict(list)
    for prompt in np.unique(pictures.prompts[which]):
        own = which & (pictures.prompts == prompt)
        for count in (1, 2, 4, 8):
            by_score = roc.any_of(right[own], count) if scores is None else roc.best_of(scores[own], right[own], count)
            shares[count].append(by_score)
    return {count: mean_and_error(each) for count, each in shares.items()}
