"""Measures of recorded attention, against values worked out by hand, and the score that is made of them."""

import math

import pytest
import torch

from recordings import recording

CIRCLE, SQUARE = [0.4, 0.16, 0.24, 0.0], [0.0, 0.1, 0.05, 0.25]
"""As distributions 0.5, 0.2, 0.3, 0 and 0, 0.25, 0.125, 0.625: the second patch is the circle's by probability, and
the square's by share."""
RED, BLUE = [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.2, 0.6]


@pytest.fixture(scope="module")
def scores(part):
    return part("evaluation.attention_scores")


@pytest.fixture(scope="module")
def maps(part):
    return part("attention.maps.recording")


@pytest.fixture(scope="module")
def of(part):
    """``of(CIRCLE, SQUARE, attributes=[RED])``: attention of one step and picture, of maps of one line; the attributes
    belong to the entities in turn."""

    def made(*entities, attributes=()):
        names = ("circle", "square", "star")[: len(entities)]
        own = tuple(f"{name}: attribute" for name, _ in zip(names, attributes, strict=False))
        lines = [torch.tensor(lines).reshape(1, 1, len(lines), 1, -1) for lines in (entities, attributes or entities)]
        owners = tuple(range(len(attributes)))
        return part("evaluation.attended").Attended(names, own, owners, (), *lines)

    return made


@pytest.fixture(scope="module")
def bind(part):
    """``bind("cat", "dog")``: a binding of such entities, of the prompt of made up recordings."""
    binding = part("parsing.binding")

    def made(*names):
        phrases = (binding.Phrase(name, (binding.Span(0, 1),)) for name in names)
        entities = tuple(binding.Entity(phrase.text, phrase) for phrase in phrases)
        return binding.Binding("key", "a (red:1.2) cat", "a red cat", entities, (), "manual")

    return made


def near(values, *expected):
    assert values.shape == (1, 1, len(expected))
    assert values.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entities apart", [1 - 0.2 - 0.125]),
        ("own region", [0.5 + 0.3, 0.25 + 0.625]),
        ("conquered region", [1.0, 0.625]),
        ("strength", [0.8 / 0.6, 0.4 / 0.6]),
        ("attribute on noun", [0.5 + 0.2, 0.125 + 0.625]),
        ("attribute off others", [1 - 0.25, 1 - 0.25]),
        ("attribute margin", [0.7 - 0.25, 0.75 - 0.25]),
        ("attribute in region", [0.5, 0.75]),
    ],
)
def test_measures_by_hand(scores, of, name, expected):
    near(scores.MEASURES[name].values(of(CIRCLE, SQUARE, attributes=[RED, BLUE])), *expected)


def test_divergence_and_concentration_by_hand(scores, of):
    even, uneven = [0.3, 0.3], [0.1, 0.3]
    there = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    back = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    near(scores.entities_diverge(of(even, uneven)), (there + back) / 2)
    near(scores.concentration(of(even, uneven, [0.0, 0.7])), 0.0, 1 - 0.562335 / math.log(2), 1.0)


def test_divergence_margin_by_hand(scores, of):
    def apart(one, other):
        one, other = ([value / sum(each) for value in each] for each in (one, other))
        both = zip(one, other, strict=True)
        return sum((p - q) * math.log(p / q) for p, q in both) / 2

    circle, square, red, blue = [0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]
    expected = apart(red, square) - apart(red, circle), apart(blue, circle) - apart(blue, square)
    near(scores.attribute_divergence_margin(of(circle, square, attributes=[red, blue])), *expected)


def test_peak_is_that_of_attend_and_excite(part, scores):
    values = torch.zeros(1, 1, 1, 3, 3)
    values[..., 1, 1] = 0.9
    made = part("evaluation.attended").Attended(("circle",), (), (), (), values, values[:, :, :0])
    near(scores.peak(made), 0.9 / (1 + 2 / math.e) ** 2)


def test_three_entities_have_three_pairs_in_the_order_of_their_names(scores, of):
    three = of([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], attributes=[[0.0, 1.0, 0.0]])
    near(scores.entities_apart(three), 0.0, 1.0, 1.0)
    names = scores.MEASURES["entities apart"].parts(three)
    assert names == ("circle and square", "circle and star", "square and star")
    near(scores.attribute_margin(three), -1.0)
    assert scores.MEASURES["attribute margin"].parts(three) == ("circle: attribute",)
    values = scores.entities_apart(three)
    assert scores.over_parts(values, scores.WEAKEST).item() == 0
    assert scores.over_parts(values, scores.MEAN).item() == pytest.approx(2 / 3)


def test_every_measure_is_higher_where_binding_is_better(scores, of):
    """Apart, each attribute on its noun, against things that share their places and attributes on the wrong one."""
    good = of([0.8, 0.1, 0.1], [0.1, 0.1, 0.8], attributes=[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    bad = of([0.4, 0.3, 0.3], [0.15, 0.15, 0.2], attributes=[[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    for name, measure in scores.MEASURES.items():
        one, other = (scores.over_parts(measure.values(each), scores.WEAKEST) for each in (good, bad))
        assert one.item() > other.item(), name


def test_maps_of_a_recording(part, maps, bind):
    """Backgrounds are left out, a coarse grid counts by its layers, and attributes know whose they are."""
    fine, coarse = torch.rand(2, 3, 4, 4, 4), torch.full((2, 3, 4, 2, 2), 0.5)
    grids = (maps.Grid(0, ("a",), fine), maps.Grid(1, ("b", "c", "d"), coarse))
    labels = {"labels": ("cat", "sky", "dog", "dog: blue"), "entities": ("cat", "sky", "dog", "dog")}
    made = recording(maps, [fine], grids=grids, **labels)
    found = part("evaluation.attended").attended(made, bind("cat", "sky", "dog"))
    assert (found.entities, found.attributes, found.owners) == (("cat", "dog"), ("dog: blue",), (1,))
    assert found.skipped == ("sky",)
    assert torch.allclose(found.entity_maps, fine[:, :, [0, 2]] / 4 + 0.375)
    assert torch.allclose(found.attribute_maps, fine[:, :, [3]] / 4 + 0.375)


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["cat"], {}, r"two entities or more, and the BINDING has 1 \(cat\)"),
        (["cat", "sky"], {}, r"has 1 \(cat\). Abstract nouns and backgrounds do not count: sky"),
        ([], {}, r"has 0 \(none\)"),
        (["cat", "horse"], {}, "no maps of the entities horse, but of: cat, dog, bird"),
        (["cat", "dog"], {"prompt": "a cat"}, 'of the prompt "a cat".*the same BINDING'),
    ],
)
def test_recordings_that_cannot_be_scored(part, maps, bind, names, changes, message):
    with pytest.raises(ValueError, match=message):
        part("evaluation.prediction").predictions(recording(maps, **changes), bind(*names))
