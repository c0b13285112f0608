"""Recordings of real runs, compared with all that was computed in them."""

from attention_reference import Reference, bind, encode, record, sample

PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"
TOLERANCE = 1e-4


def stock_nodes():
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_hypertile import HyperTile
    from comfy_extras.nodes_nag import NAGuidance
    from comfy_extras.nodes_tomesd import TomePatchModel

    return {
        "HyperTile": lambda model: HyperTile.execute(model, 32, 2, 0, False),
        "ToMe": lambda model: TomePatchModel.execute(model, 0.5),
        "FreeU": lambda model: FreeU_V2.execute(model, 1.1, 1.2, 0.9, 0.2),
        "NAG": lambda model: NAGuidance.execute(model, 3.0, 0.5, 2.0),
    }


def prepared(tiny, part, layout):
    loaded = tiny(layout)
    loaded.bound = bind(part, loaded.clip, PROMPT, ENTITIES)
    loaded.negative = encode(loaded.clip, "bad")
    return loaded


def check(recording, reference, bound, batch=1, calls=None):
    """Every grid of a recording of mean maps equals the reference, and the reference is no flat map."""
    for grid in recording.grids:
        size = tuple(grid.maps.shape[-2:])
        expected = reference.maps(bound.embedding, bound.groups, size, batch, calls)
        assert grid.maps.shape == (1, *expected.shape)
        assert (grid.maps[0].double() - expected).abs().max() < TOLERANCE * expected.max()
        assert expected.std((-2, -1)).min() > 10 * TOLERANCE * expected.max()


def recorded(comfy, part, loaded, model=None, positive=None, negative=None, settings=None, **run):
    """Recording and reference of one run."""
    recording_model, maps = record(part, model or loaded.model, loaded.bound, **(settings or {}))
    with Reference(loaded.model).watching() as reference:
        latent = sample(
            comfy, recording_model, positive or loaded.bound.conditioning, negative or loaded.negative, **run
        )
    return maps.find(latent), reference
