"""What there is in the world, in words, and its size in pixels."""

IMAGE_SIZE = 128
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
MARKS = ("dot", "bar")
FAVOURITE_COLOUR = dict(zip(SHAPES, COLOURS, strict=True))
FAVOURITE_PROBABILITY = 0.8
FAVOURITE_MARK = {shape: MARKS[place % 2] for place, shape in enumerate(SHAPES)}
