"""Methods of guidance in made-up runs."""

from guiding import widgets

WEIGHTS = 0.331911, 0.122103, 0.044919
"""Of Attend-and-Excite's filter: the middle, a side, a corner."""


def run_of(part, layers, size=(64, 64), steps=50, batch=1):
    return part("attention.engine.run").Run(layers, tuple(range(steps, -1, -1)), batch, *size, 8)


def layers_of(part, tiny, layout):
    return part("attention.engine.layers").layers_of(tiny(layout).model)


def made(part, loss, **changes):
    """A method as the node makes it."""
    return part("nodes.guidance.guidance").method_of(**widgets(loss, **changes))
