"""Beside nodes that compute a picture in tiles: what changes words alone works, what needs places says so."""

import pytest
import torch

from modulation_reference import Temperature, Weights
from techniques import TechniquesBench

NEED_PLACES = ["recorder", "modulation", "attend and excite", "optimization"]
TILES = ((0, 8), (8, 16))


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return TechniquesBench(comfy, part, tiny("sd1"))


def one_after_another(apply_model, args):
    """A model call for each tile."""
    tiles = [args["input"][..., left:right] for left, right in TILES]
    return torch.cat([apply_model(tile, args["timestep"], **args["c"]) for tile in tiles], -1)


def together(apply_model, args):
    """All tiles in one batch, behind each other, as TiledDiffusion has them."""
    c = {
        name: value.repeat(2, *[1] * (value.ndim - 1)) if torch.is_tensor(value) else value
        for name, value in args["c"].items()
    }
    tiles = torch.cat([args["input"][..., left:right] for left, right in TILES])
    return torch.cat(apply_model(tiles, args["timestep"].repeat(2), **c).chunk(2), -1)


WAYS = {"one after another": one_after_another, "together": together}


def tiled(model, way):
    clone = model.clone()
    clone.set_model_unet_function_wrapper(WAYS[way])
    return clone


def words_alone(bench, name):
    if name == "subjects":
        injected = bench.inject(localisation="off")
        return injected.model, injected.conditioning
    if name == "weights":
        return bench.modulated(weights=Weights((1.0, 1.0), (3.0, 3.0))), bench.positive
    if name == "temperature":
        return bench.modulated(temperature=Temperature(0.5, 0.0, 1.0, negative=False)), bench.positive
    return bench.with_technique(name)


@pytest.mark.parametrize("name", ["temperature", "weights", "merge", "structured", "subjects"])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_changes_words_alone(bench, name, batch):
    """It acts, in the same way whether tiles come in one batch or not."""
    run = {"size": (8, 16), "batch": batch}
    plain = bench.run(tiled(bench.model, "together"), **run).latent
    model, positive = words_alone(bench, name)
    found = [bench.run(tiled(model, way), positive, **run).latent for way in WAYS]
    assert not torch.equal(found[1], plain)
    assert (found[0] - found[1]).abs().max() < 1e-4 * plain.abs().max()


@pytest.mark.parametrize("name", NEED_PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_what_needs_places_says_so(bench, name, way):
    model, positive = bench.with_technique(name)
    with pytest.raises(ValueError, match="has split the latent: 8 x 16 cells.* 8 x 8 found.*has to know where"):
        bench.run(tiled(model, way), positive, size=(8, 16))


def test_tiles_of_a_batch_that_was_split(bench):
    """A node that computes the rows of a batch by themselves."""

    def rows(apply_model, args):
        parts = range(len(args["input"]))
        c = args["c"]
        return torch.cat(
            [
                apply_model(
                    args["input"][row : row + 1],
                    args["timestep"][row : row + 1],
                    **{name: value[row : row + 1] if torch.is_tensor(value) else value for name, value in c.items()},
                )
                for row in parts
            ]
        )

    model = bench.modulated(temperature=Temperature(0.5)).clone()
    model.set_model_unet_function_wrapper(rows)
    with pytest.raises(ValueError, match="has split the batch: 2 latents were expected"):
        bench.run(model)
