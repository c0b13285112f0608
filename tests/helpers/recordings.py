"""Recordings of attention that are made up."""

import torch


def recording(maps, values=None, **changes):
    """A recording of one step, latent and label with the given 2 x 2 maps, one for each layer grid."""
    values = [torch.rand(1, 2, 3, 4, 4), torch.rand(1, 2, 3, 2, 2)] if values is None else values
    grids = tuple(maps.Grid(level, (f"layer {level}",), value) for level, value in enumerate(values))
    count = values[0].shape[2]
    fields = {
        "prompt": "a (red:1.2) cat",
        "labels": ("cat", "dog", "bird")[:count],
        "entities": ("cat", "dog", "")[:count],
        "latent_size": tuple(values[0].shape[-2:]),
        "cell": 8,
        "steps": tuple((step,) for step in range(len(values[0]))),
        "sigmas": (3.0, 2.0, 1.0, 0.0),
        "grids": grids,
    }
    return maps.Recording(**{**fields, **changes})
