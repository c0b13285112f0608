"""The comparison of trained LoRAs: its measures, its distance, and the scenes that are trained on."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def trained(benchmark):
    return benchmark("trained")


def test_the_distance_is_that_of_normal_distributions(trained):
    rng = np.random.default_rng(0)
    one = rng.normal(size=(20000, 3)) * (1.0, 2.0, 0.5)
    other = rng.normal(size=(20000, 3)) * (3.0, 2.0, 0.5) + (0.0, 1.0, 0.0)
    assert trained.frechet(one, one) == pytest.approx(0.0, abs=1e-6)
    # Of independent columns: squared differences of means and of standard deviations.
    assert trained.frechet(one, other) == pytest.approx(1.0 + 4.0, rel=0.05)


def test_multigen_counts_things_that_are_there(trained, benchmark):
    row = benchmark("binding_table").Row("four", "a", 0, "a prompt", "a", "missing", 0.5, 0.75, 1.0, 0.0)
    found = {title: measure(row) for title, measure in trained.measures("four").items()}
    assert (found["MG2"], found["MG3"], found["MG4"]) == (1.0, 1.0, 0.0)
    assert "MG2" not in trained.measures("three") and "marks right" in trained.measures("two_marked")


def test_differences_are_paired(trained, benchmark):
    row = benchmark("binding_table").Row
    shares = {"plain": [0.0, 0.5, 1.0], "noise": [0.5, 0.5, 1.0], "all": [1.0, 1.0, 1.0]}
    rows = [
        row("three", name, image, "a prompt", "a", "ok", each, each, each, 0.0)
        for name, of_images in shares.items()
        for image, each in enumerate(of_images)
    ]
    told = trained.records_of(rows, ["three"], list(shares), range(3))
    records = {(record["workflow"], record["measure"]): record for record in told}
    of_all = records["all", "present"]
    assert of_all["n"] == 3 and of_all["mean"] == 1.0
    assert of_all["minus plain"] == pytest.approx(0.5) and of_all["minus noise"] == pytest.approx(1 / 3)
    assert of_all["minus plain error"] == pytest.approx(np.std([1.0, 0.5, 0.0], ddof=1) / 3**0.5)


def test_rendered_scenes_are_read_as_training_data(benchmark, part, tmp_path):
    rendered_data = benchmark("rendered_data")
    folder = rendered_data.rendered(tmp_path / "scenes", 3)
    found = part("training.data").read_folder(folder)
    assert found.broken == () and len(found.items) == 3
    for item in found.items:
        assert len(item.masks) >= rendered_data.LEAST_THINGS
        picture = np.asarray(Image.open(item.picture)).astype(float)
        for noun, path in item.masks:
            assert noun in item.caption
            inside = np.asarray(Image.open(path)) > 0
            # A thing is one colour, but for a mark, and the ground around it another.
            assert np.median(abs(picture[inside] - np.median(picture[inside], 0))) < 3
            assert abs(np.median(picture[inside], 0) - np.median(picture[~inside], 0)).max() > 20
    before = sorted(folder.rglob("*"))
    assert rendered_data.rendered(folder, 3) == folder and sorted(folder.rglob("*")) == before
