"""The maps of a step that is over, while the run goes on."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attention_reference import record, sample


@pytest.fixture(scope="module")
def live(part):
    return part("attention.maps.live")


def test_a_step_is_shown_when_the_next_begins_and_at_the_end(part, live):
    """Two layers of 0.2 and 0.4 on one grid and one of 0.9 on a coarser one: their mean is 0.5."""
    box = part("attention.engine.frame").Box
    seen = []
    watching = live.Live(seen.append, steps=7)
    for step, factor in ((0, 1.0), (3, 0.5)):
        for level, size, value in ((1, 4, 0.2), (1, 4, 0.4), (2, 2, 0.9)):
            maps = torch.full((2, 1, size, size), value * factor)
            maps[1] = 7.0
            watching.add(step, level, (size, size), maps, box(0, 0, size, size))
        assert len(seen) == (step > 0)
    watching.end()
    watching.end()
    assert [(done.step, done.steps) for done in seen] == [(0, 7), (3, 7)]
    for done, expected in zip(seen, (0.5, 0.25), strict=True):
        assert torch.allclose(done.maps, torch.full((1, 4, 4), expected)), "of the first picture alone"


def test_showing_takes_no_more_than_its_share_of_the_time(part, live):
    """Steps of 10 seconds, of which each takes one to show: after the first, every 34 seconds at most."""
    box = part("attention.engine.frame").Box(0, 0, 2, 2)
    now, seen = [0.0], []

    def show(done):
        seen.append(done.step)
        now[0] += 1.0

    watching = live.Live(show, steps=20, clock=lambda: now[0])
    for step in range(20):
        watching.add(step, 1, (2, 2), torch.full((1, 1, 2, 2), float(step)), box)
        now[0] += 10.0
    watching.end()
    assert seen == [0, 3, 6, 9, 12, 16, 19]


@pytest.mark.parametrize("keep", [None, 2])
def test_what_is_shown_of_a_run_is_what_is_recorded_of_its_steps(comfy, part, live, sd1, keep, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1.0)
    sampling = part("attention.engine.sampling")
    model, maps = record(part, sd1.model, sd1.bound, resolution="latent", keep=keep)
    [settings] = sampling.techniques_on(model)
    seen = []
    watched = sampling.with_technique(sd1.model, replace(settings, on_step=seen.append))
    latent = sample(comfy, watched, sd1.bound.conditioning, sd1.negative, size=(8, 8), batch=2)
    recording = maps.find(latent)
    assert [done.steps for done in seen] == [len(recording.sigmas) - 1] * len(seen)
    assert [done.step for done in seen] == [step for steps in recording.steps for step in steps]
    found = torch.stack([done.maps for done in seen])
    recorded = recording.grids[0].maps[:, 0]
    assert torch.allclose(found if keep else found.mean(0, keepdim=True), recorded, atol=1e-6)
    plain = sample(comfy, model, sd1.bound.conditioning, sd1.negative, size=(8, 8), batch=2)
    assert torch.equal(plain["samples"], latent["samples"]), "the pictures stay the same"


def test_a_file_of_a_step(part, tmp_path):
    told = part("attention.maps.viewer").write_step(torch.eye(4).expand(3, 4, 4), "ember", tmp_path)
    assert told["size"] == (4, 4)
    assert len(base64.b64decode(told["palette"])) == 256 * 3
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / told["file"]).read_bytes())))
    assert sorted(np.unique(picture[-4:]).tolist())[-1] == 255
