"""The benchmark of scores from attention: which steps, layers and pictures its candidates are of, and a real run."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from clone import BENCHMARKS


@pytest.fixture
def candidates(benchmark):
    return benchmark("attention_candidates")


@pytest.fixture
def host(benchmark):
    return benchmark("host")


@pytest.fixture
def group(benchmark, host):
    """Eight pictures of a prompt of two entities, recorded in six steps on two grids."""
    maps, binding = host.part("attention.maps.recording"), host.part("parsing.binding")
    generator = torch.Generator().manual_seed(0)
    grids = tuple(
        maps.Grid(level, ("a", "b"), torch.rand(6, 8, 3, 4 >> level, 4 >> level, generator=generator))
        for level in (0, 1, 2)
    )
    nouns = maps.Recording(
        prompt="a cat and a red dog",
        labels=("cat", "dog", "dog: red"),
        entities=("cat", "dog", "dog"),
        latent_size=(4, 4),
        cell=8,
        steps=tuple((step,) for step in range(6)),
        sigmas=(6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0),
        grids=grids,
    )
    both = replace(
        nouns,
        labels=("cat", "dog"),
        entities=("cat", "dog"),
        grids=tuple(replace(grid, maps=grid.maps[:, :, :2] ** 2) for grid in grids),
    )
    entities = tuple(binding.Entity(name, binding.Phrase(name, (binding.Span(0, 1),))) for name in ("cat", "dog"))
    bound = binding.Binding("key", nouns.prompt, nouns.prompt, entities, (), "manual")
    verdicts = ("ok", "ok", "extra", "swap", "leak", "missing", "missing", "duplicate")
    presence, right = (1.0,) * 5 + (0.5, 0.0, 0.5), (1.0,) * 3 + (0.0, 0.5, 1.0, float("nan"), 0.0)
    recordings = {"nouns": nouns, "all words": both}
    return benchmark("attention_pictures").Group("two_fav", 0, bound, verdicts, presence, right, recordings)


def test_candidates_are_of_their_steps_words_and_layers(candidates, host, group):
    found = dict(candidates.candidates_of(group))
    measures = host.part("evaluation.attention_scores").MEASURES
    of_attributes = sum(measure.of == "attributes" for measure in measures.values())
    assert len(found) == 2 * 4 * 7 * (2 * len(measures) - of_attributes)
    attended, apart = host.part("evaluation.attended").attended, measures["entities apart"].values

    def expected(words, level, maps_of):
        recording = group.recordings[words]
        grid = recording.grids[level]
        return apart(attended(replace(recording, grids=(replace(grid, maps=maps_of(grid.maps)),)), group.binding))

    for window, steps in {"first third": slice(0, 2), "last third": slice(4, 6), "all steps": slice(0, 6)}.items():
        for level, resolution in enumerate(("latent", "latent/2")):
            for words in ("nouns", "all words"):
                name = ("entities apart", "weakest", words, resolution, window)
                by_step = expected(words, level, lambda maps: maps)[steps, :, 0]
                of_mean = expected(words, level, lambda maps, steps=steps: maps[steps].mean(0, keepdim=True))[0, :, 0]
                assert found[(*name, candidates.MEAN_SCORE)] == pytest.approx(by_step.mean(0).numpy())
                assert found[(*name, candidates.MEAN_MAP)] == pytest.approx(of_mean.numpy())
    weakest = expected("nouns", 0, lambda maps: maps)[..., 0].amin(0)
    assert found["entities apart", "mean", "nouns", "latent", "all steps", candidates.WEAKEST_STEP] == pytest.approx(
        weakest.numpy()
    )


def test_what_is_to_be_predicted(candidates, group):
    other = replace(group, prompt_set="two_swap", number=1)
    pictures = candidates.pictures_of([group, other])
    assert pictures.prompts.tolist() == [0] * 8 + [1] * 8
    assert pictures.choosing.tolist() == [True] * 8 + [False] * 8
    right, there, bound = (pictures.reached[target][:8].tolist() for target in candidates.TARGETS)
    assert right == [1, 1, 0, 0, 0, 0, 0, 0]
    assert there == [1, 1, 1, 1, 1, 0, 0, 0]
    assert bound[:5] == [1, 1, 1, 0, 0] and np.isnan(bound[5:]).all()
    scores = np.concatenate([np.arange(8.0, 0.0, -1.0), np.arange(0.0, 8.0)])
    assert candidates.areas(scores, pictures, pictures.choosing)[candidates.RIGHT]["area"][0] == 1
    assert candidates.areas(scores, pictures)[candidates.BOUND]["n"] == 10
    assert candidates.areas(scores, pictures)[candidates.RIGHT]["within"][0] == 0.5
    shares = candidates.best_shares(scores, pictures, pictures.choosing)
    assert [share for share, _ in shares.values()] == pytest.approx([0.25, 13 / 28, 1 - 15 / 70, 1])


@pytest.mark.slow
def test_the_program_for_real(tmp_path):
    """Pictures are made once; every candidate is in the table for programs."""
    command = [sys.executable, BENCHMARKS / "attention_scores.py", "--sets", "two_counter", "--prompts", "2"]
    options = ["--workers", "1", "--kept", tmp_path, "--tables", tmp_path / "scores"]
    subprocess.run([*command, *options], check=True)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    assert len(kept) == 2
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert len(rows) == 1064 and {row["wholly right: n"] for row in rows} == {16}
    subprocess.run([*command, *options], check=True)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
