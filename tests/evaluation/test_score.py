"""Scenes of known content, rendered, with every verdict produced by construction."""

import numpy as np
import pytest

RED_CIRCLE, BLUE_SQUARE = ("circle", "red", None), ("square", "blue", None)
PAIR = (RED_CIRCLE, BLUE_SQUARE)
THINGS = {"single": 1, "two": 2, "three": 3, "four": 4}
PLACES = ((32.0, 40.0), (92.0, 44.0), (60.0, 98.0))


@pytest.fixture
def give(comfy, monkeypatch):
    """``give(TestImage=images)``: a graph of nodes of these types, each with the value as its output."""
    from given import giving_node

    def _give(**values):
        for name, value in values.items():
            monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, name, giving_node(value))
        return {name: {"class_type": name, "inputs": {}} for name in values}

    return _give


@pytest.fixture(scope="module")
def world(part):
    return part("world.scenes")


@pytest.fixture(scope="module")
def score(part):
    return part("evaluation.score")


@pytest.fixture(scope="module")
def wanted_module(part):
    return part("evaluation.wanted")


@pytest.fixture(scope="module")
def draw(world):
    """``draw((shape, colour, mark), ...)``: a rendered scene (128, 128, 3)."""

    def _draw(*things):
        placed = (world.Thing(*thing, x, y, 19.0) for thing, (x, y) in zip(things, PLACES, strict=False))
        return world.render(world.Scene(tuple(placed), (0.7, 0.7, 0.7)))

    return _draw


@pytest.fixture(scope="module")
def judged(part, score, draw, wanted_module):
    """``judged(wanted, things)``: the score of a rendered scene for wanted (shape, colour, mark)."""
    detect = part("evaluation.detect").detect

    def _judged(wanted, things):
        wanted = [wanted_module.Wanted(shape, shape, colour, mark) for shape, colour, mark in wanted]
        return score.judge(wanted, detect(draw(*things)))

    return _judged


@pytest.fixture(scope="module")
def bind(part):
    """``bind(("circle", ["red"], ["with a dot"], 1), ...)``: a binding of such entities."""
    binding = part("parsing.binding")

    def phrase(text):
        return binding.Phrase(text, (binding.Span(0, len(text)),))

    def entity(name, attributes, worn, count):
        sub_objects = tuple(binding.SubObject(phrase(text), phrase(text.split()[-1])) for text in worn)
        return binding.Entity(name, phrase(name), tuple(map(phrase, attributes)), sub_objects, count)

    def _bind(*entities):
        made = tuple(entity(*description) for description in entities)
        return binding.Binding("key", "prompt", "prompt", made, (), "manual")

    return _bind


@pytest.mark.parametrize(
    ("verdict", "things", "outcomes"),
    [
        ("ok", [RED_CIRCLE, BLUE_SQUARE], ["ok", "ok"]),
        ("ok", [BLUE_SQUARE, RED_CIRCLE], ["ok", "ok"]),
        ("swap", [("circle", "blue", None), ("square", "red", None)], ["swap", "swap"]),
        ("leak", [RED_CIRCLE, ("square", "red", None)], ["ok", "leak"]),
        ("leak", [("circle", "blue", None), BLUE_SQUARE], ["leak", "ok"]),
        ("leak", [("circle", "blue", None), ("square", "green", None)], ["leak", "wrong colour"]),
        ("wrong colour", [RED_CIRCLE, ("square", "green", None)], ["ok", "wrong colour"]),
        ("duplicate", [RED_CIRCLE, ("circle", "blue", None)], ["ok", "missing"]),
        ("duplicate", [RED_CIRCLE, RED_CIRCLE, ("star", "blue", None)], ["ok", "missing"]),
        ("extra", [RED_CIRCLE, BLUE_SQUARE, ("star", "yellow", None)], ["ok", "ok"]),
        ("extra", [RED_CIRCLE, BLUE_SQUARE, RED_CIRCLE], ["ok", "ok"]),
        ("missing", [RED_CIRCLE], ["ok", "missing"]),
        ("missing", [], ["missing", "missing"]),
        ("missing", [RED_CIRCLE, ("star", "blue", None)], ["ok", "missing"]),
    ],
)
def test_pair(judged, verdict, things, outcomes):
    found = judged(PAIR, things)
    assert found.verdict == verdict
    assert [outcome.verdict for outcome in found.outcomes] == outcomes
    assert found.share_right == outcomes.count("ok") / 2


@pytest.mark.parametrize(
    ("verdict", "things", "outcomes"),
    [
        ("ok", [("circle", "red", "dot"), BLUE_SQUARE], ["ok", "ok"]),
        ("wrong mark", [RED_CIRCLE, BLUE_SQUARE], ["wrong mark", "ok"]),
        ("wrong mark", [("circle", "red", "bar"), BLUE_SQUARE], ["wrong mark", "ok"]),
        ("leak", [("circle", "red", "dot"), ("square", "blue", "dot")], ["ok", "leak"]),
        ("leak", [RED_CIRCLE, ("square", "blue", "dot")], ["wrong mark", "leak"]),
        ("swap", [("circle", "blue", "dot"), ("square", "red", None)], ["swap", "swap"]),
    ],
)
def test_marks(judged, verdict, things, outcomes):
    found = judged((("circle", "red", "dot"), BLUE_SQUARE), things)
    assert found.verdict == verdict
    assert [outcome.verdict for outcome in found.outcomes] == outcomes


def test_both_marks_exchanged(judged):
    wanted = (("circle", "red", "dot"), ("square", "blue", "bar"))
    assert judged(wanted, [("circle", "red", "bar"), ("square", "blue", "dot")]).verdict == "swap"


def test_thing_of_two_colours_is_unclear(part, world, draw, score, wanted_module):
    image = draw(RED_CIRCLE, BLUE_SQUARE)
    square = image[22:66, 70:114]
    blue = np.abs(square - world.palette_rgb("blue")).sum(-1) < 0.1
    blue[:, :22] = False
    square[blue] = world.palette_rgb("red")
    wanted = [wanted_module.Wanted(shape, shape, colour) for shape, colour, _ in PAIR]
    found = score.judge(wanted, part("evaluation.detect").detect(image))
    assert found.verdict == "unclear"
    assert [outcome.verdict for outcome in found.outcomes] == ["ok", "unclear"]


def test_shapeless_thing_is_malformed(part, draw, world, score, wanted_module):
    image = draw(RED_CIRCLE)
    image[80:120, 20:26] = image[114:120, 20:100] = image[80:86, 60:66] = world.palette_rgb("blue")
    image[86:120, 60:66] = world.palette_rgb("blue")
    wanted = [wanted_module.Wanted(shape, shape, colour) for shape, colour, _ in PAIR]
    assert score.judge(wanted, part("evaluation.detect").detect(image)).verdict == "malformed"


def test_same_shape_twice_is_told_apart_by_colour(judged):
    wanted = (("circle", "red", None), ("circle", "blue", None))
    assert judged(wanted, [("circle", "blue", None), ("circle", "red", None)]).verdict == "ok"
    assert judged(wanted, [("circle", "blue", None), ("circle", "blue", None)]).verdict == "leak"


def test_colour_not_asked_for_may_be_any(judged):
    wanted = (("circle", None, None), BLUE_SQUARE)
    assert judged(wanted, [("circle", "purple", None), BLUE_SQUARE]).verdict == "ok"
    assert judged(wanted, [("circle", "blue", "bar"), BLUE_SQUARE]).verdict == "ok"


def test_three_colours_moved_round_are_a_swap(judged):
    wanted = (RED_CIRCLE, BLUE_SQUARE, ("star", "yellow", None))
    things = [("circle", "blue", None), ("square", "yellow", None), ("star", "red", None)]
    found = judged(wanted, things)
    assert found.verdict == "swap"
    assert found.share_right == 0.0
    assert (found.presence, found.binding, found.leakage) == (1.0, 0.0, 1.0)


def test_rates_of_one_image(judged):
    found = judged(PAIR, [RED_CIRCLE])
    assert (found.presence, found.binding, found.leakage) == (0.5, 1.0, 0.0)
    nothing = judged(PAIR, [])
    assert nothing.presence == 0.0
    assert np.isnan(nothing.binding)
    assert np.isnan(nothing.leakage)


def test_words_of_entities(wanted_module, bind):
    binding = bind(
        ("circle", ["red"], ["with a white dot"], 1),
        ("crosses", ["that are blue"], [], 2),
        ("square", ["big", "green"], [], 1),
        ("dog", ["red"], [], 1),
        ("heart", ["white"], [], 1),
        ("star", [], ["with a red dot"], 1),
        ("triangle", ["red", "blue"], [], 1),
    )
    wanted = {thing.name: thing for thing in wanted_module.wanted_by(binding)}
    assert wanted["circle"] == wanted_module.Wanted("circle", "circle", "red", "dot")
    assert wanted["crosses (1)"] == wanted_module.Wanted("crosses (1)", "cross", "blue")
    assert wanted["crosses (2)"].shape == "cross"
    unknown = {name: thing.unknown for name, thing in wanted.items() if thing.unknown}
    assert unknown == {
        "square": ("big",),
        "dog": ("dog",),
        "heart": ("white",),
        "star": ("red",),
        "triangle": ("blue",),
    }


def test_entities_of_other_words_are_not_judged(part, wanted_module, score, bind, draw):
    wanted = wanted_module.wanted_by(bind(("circle", ["red"], [], 1), ("dog", ["black"], [], 1)))
    found = score.judge(wanted, part("evaluation.detect").detect(draw(RED_CIRCLE, BLUE_SQUARE)))
    assert [outcome.verdict for outcome in found.outcomes] == ["ok", "not judged"]
    assert found.verdict == "ok"
    assert found.share_right == 1.0


def test_nothing_to_judge_is_an_error(wanted_module, bind):
    with pytest.raises(ValueError, match=r"Its entities: dog\. Known are the demo model.s shapes \(circle"):
        wanted_module.wanted_by(bind(("dog", ["black"], [], 1)))
    with pytest.raises(ValueError, match="Its entities: none"):
        wanted_module.wanted_by(bind())


def test_summary_and_paired_difference(judged, score):
    right, wrong = judged(PAIR, PAIR), judged(PAIR, [RED_CIRCLE, ("square", "red", None)])
    summary = score.summarise([right, right, wrong, right])
    assert (summary.n, summary.rate) == (4, 0.75)
    assert summary.standard_error == pytest.approx(np.std([1, 1, 0, 1], ddof=1) / 2)
    assert summary.verdicts == {"ok": 0.75, "leak": 0.25}
    assert summary.share_right == pytest.approx(0.875)
    assert summary.leakage == pytest.approx(0.125)
    difference, error = score.paired_difference([right, right, wrong], [wrong, right, wrong])
    assert difference == pytest.approx(1 / 3)
    assert error == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no image"):
        score.summarise([])


def test_random_scenes_are_right_and_exchanged_colours_are_swaps(part, world, score, wanted_module):
    from dataclasses import replace

    detect = part("evaluation.detect").detect
    rng = np.random.default_rng(5)
    verdicts = {"as asked": [], "exchanged": []}
    while len(verdicts["as asked"]) < 100:
        scene = world.sample_scene(rng)
        if len(scene.things) != 2 or scene.things[0].colour == scene.things[1].colour:
            continue
        wanted = [wanted_module.Wanted(thing.shape, thing.shape, thing.colour, thing.mark) for thing in scene.things]
        first, second = scene.things
        exchanged = (replace(first, colour=second.colour), replace(second, colour=first.colour))
        for name, things in (("as asked", scene.things), ("exchanged", exchanged)):
            image = world.render(replace(scene, things=things))
            verdicts[name].append(score.judge(wanted, detect(image)).verdict)
    assert verdicts["as asked"].count("ok") >= 99
    assert verdicts["exchanged"].count("swap") >= 99


def score_graph(images, binding, give):
    inputs = {"image": ["TestImage", 0], "binding": ["TestBinding", 0]}
    return give(TestImage=images, TestBinding=binding) | {"score": {"class_type": "SBScoreBinding", "inputs": inputs}}


def test_node_judges_a_batch(run_graph, give, bind, draw):
    import torch

    images = [draw(RED_CIRCLE, BLUE_SQUARE), draw(RED_CIRCLE, ("square", "red", None)), draw(RED_CIRCLE)]
    binding = bind(("circle", ["red"], [], 1), ("square", ["blue"], [], 1))
    graph = score_graph(torch.from_numpy(np.stack(images)), binding, give)
    run = run_graph(graph, score=["score", 0], report=["score", 1], overlay=["score", 2])
    assert run.values["score"] == pytest.approx(2 / 3)
    assert run.values["report"].splitlines() == [
        "image 1: ok",
        "  red circle: ok",
        "  blue square: ok",
        "image 2: leak",
        "  red circle: ok",
        "  blue square: leak (found red square)",
        "image 3: missing",
        "  red circle: ok",
        "  blue square: missing",
        "33% of 3 images wholly right, 67% of the entities right",
    ]
    shown = run.outputs["score"]
    assert shown["text"] == [run.values["report"]]
    assert len(shown["images"]) == 3
    (record,) = shown["semantic_binding_score"]
    assert [image["verdict"] for image in record["images"]] == ["ok", "leak", "missing"]
    assert record["images"][1]["entities"][1] == {
        "name": "square",
        "wanted": "blue square",
        "verdict": "leak",
        "found": "red square",
    }
    assert record["share_of_images_right"] == pytest.approx(1 / 3)


def test_overlay_outlines_in_the_verdicts_colours(part, run_graph, give, bind, draw):
    import torch

    overlay = part("evaluation.overlay")
    things = (RED_CIRCLE, ("square", "red", None), ("star", "yellow", None))
    image = torch.from_numpy(draw(*things)[None])
    binding = bind(("circle", ["red"], [], 1), ("square", ["blue"], [], 1))
    drawn = run_graph(score_graph(image, binding, give), overlay=["score", 2]).values["overlay"]
    assert drawn.shape[0] == 1
    assert drawn.shape[1] > drawn.shape[2] == 512
    for colour, (x, y) in zip((overlay.RIGHT, overlay.WRONG, overlay.LEFT_OVER), PLACES, strict=True):
        around = drawn[0, int(y - 30) * 4 : int(y + 30) * 4, int(x - 30) * 4 : int(x + 30) * 4]
        near = (around - torch.tensor(colour) / 255).abs().sum(-1) < 0.02
        assert near.sum() > 400


def test_large_pictures_are_not_enlarged(run_graph, give, bind, world):
    import torch

    scene = world.Scene((world.Thing("heart", "orange", None, 300.0, 250.0, 110.0),), (0.6, 0.6, 0.6))
    image = torch.from_numpy(world.render(scene, 600)[None, :, :520])
    graph = score_graph(image, bind(("heart", ["orange"], [], 1)), give)
    values = run_graph(graph, score=["score", 0], overlay=["score", 2]).values
    assert values["score"] == 1.0
    assert values["overlay"].shape[2] == 520


def test_node_says_what_it_cannot_judge(run_graph, give, bind, draw):
    import torch

    image = torch.from_numpy(draw(RED_CIRCLE)[None])
    with pytest.raises(run_graph.Failed, match="Nothing in this prompt can be judged"):
        run_graph(score_graph(image, bind(("dog", ["black"], [], 1)), give))
    run_graph.forget()
    run = run_graph(score_graph(image, bind(("circle", ["red"], [], 1), ("dog", [], [], 1)), give), report=["score", 1])
    assert "dog: not judged (not of the shapes world: dog)" in run.values["report"]


def test_prompt_sets_are_what_they_say(part):
    prompts, favourite = part("evaluation.prompts"), part("world.names").FAVOURITE_COLOUR
    for name, of_set in prompts.PROMPT_SETS.items():
        assert len({prompt.text for prompt in of_set}) == len(of_set)
        for prompt in of_set:
            mine = [favourite[thing.shape] for thing in prompt.wanted]
            asked = [thing.colour for thing in prompt.wanted]
            expected = {
                "single_fav": mine == asked,
                "single_counter": mine != asked,
                "two_fav": mine == asked,
                "two_counter": not set(mine) & set(asked),
                "two_half": mine != asked and (mine[0] == asked[-1]) != (mine[-1] == asked[0]),
                "two_swap": mine == asked[::-1],
            }
            assert expected.get(name, True), (name, prompt.text)
            assert len(prompt.wanted) == THINGS[name.partition("_")[0]]
            assert len({thing.shape for thing in prompt.wanted}) == len(set(asked)) == len(prompt.wanted)
            marks = {thing.mark for thing in prompt.wanted}
            given = {"two_marked": ("dot", "bar"), "single_marked": (prompt.wanted[0].mark,)}
            given["two_first_marked"] = (*given["single_marked"], None)
            assert marks == set(given.get(name, (None,))) and prompt.wanted[0].mark in (marks - {None} or {None})
            assert len([word for word in prompt.text.replace(",", "").split() if word in ("dot", "bar")]) == (
                len(marks - {None})
            )
    assert prompts.draw_prompts("two_swap", 70)[:30] == prompts.draw_prompts("two_swap", 30)
    with pytest.raises(ValueError, match="There are: single_fav"):
        prompts.draw_prompts("five", 1)
