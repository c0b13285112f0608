"""The losses of Token Optimization: found by their latent, as JSON, drawn; and their viewer in whole graphs."""

import copy
import json
import math

import pytest
import torch

from merge import merged_graph

SHOWN = {"plot": ["show", 0], "json": ["show", 1], "binding": ["show", 2], "entropy": ["show", 3]}


@pytest.fixture(scope="module")
def losses(part):
    return part("attention.token_merge.loss_history")


@pytest.fixture(scope="module")
def drawing(part):
    return part("attention.token_merge.loss_plot")


@pytest.fixture
def told(drawing, monkeypatch):
    """The texts that are drawn."""
    texts, write = [], drawing.write

    def spy(draw, place, text, *others):
        texts.append(text)
        write(draw, place, text, *others)

    monkeypatch.setattr(drawing, "write", spy)
    return texts


def history(losses, **series):
    """A run of 20 steps whose losses have the given values ``[step][iteration][latent][entity]``."""
    entries = tuple(
        losses.Entry(loss, step, iteration, tuple(map(tuple, latents)))
        for loss, steps in series.items()
        for step, iterations in enumerate(steps)
        for iteration, latents in enumerate(iterations)
    )
    sigmas = tuple(float(sigma) for sigma in range(20, -1, -1))
    return losses.LossHistory("a (red:1.2) cat and a blue dög", ("cat", "dög"), 20, sigmas, entries)


def lines(losses, *columns, loss="binding"):
    """A history of one latent: the values of both entities in each iteration of the only step."""
    return history(losses, **{loss: [[[values] for values in columns]]})


def drawn(drawing, plotted):
    """Pixels ``(H, W, 3)`` in 0..255."""
    picture = drawing.plot(plotted)
    assert picture.shape[0] == 1
    assert 0 <= picture.min() < picture.max() <= 1
    return (picture[0] * 255).round().int()


def rows_at(drawing, pixels, colour, place, count):
    """The height of what has exactly this colour in the column of an iteration, from the top; None if nothing has."""
    fineness, left = drawing.FINENESS, drawing.LEFT
    column = round((left + (drawing.WIDTH - left - drawing.RIGHT) * (place + 0.5) / count) / fineness)
    below_legend = (drawing.UNIT + 2 * drawing.LINE_HEIGHT) // fineness
    found = (pixels[below_legend:, column] == torch.tensor(colour)).all(-1).nonzero()
    return float(found.float().mean()) if len(found) else None


def test_losses_are_found_by_their_latent(losses):
    handle, latents = losses.TokenLosses(), [torch.randn(2, 4, 8, 8) for _ in range(2)]
    histories = [lines(losses, (1.0, 2.0)), lines(losses, (3.0, 4.0))]
    for latent, made in zip(latents, histories, strict=True):
        handle.add(latent, made)
    assert handle.find({"samples": latents[0]}) is histories[0]
    assert handle.find({"samples": latents[1].half()}) is histories[1]
    assert copy.deepcopy({"losses": handle})["losses"] is handle


def test_losses_are_not_found(losses):
    handle, latent = losses.TokenLosses(), torch.randn(1, 4, 8, 8)
    wiring = "Connect the model output of Token Optimization to a sampler.*not denoised_output"
    with pytest.raises(ValueError, match=f"latent input is not connected.*{wiring}"):
        handle.find(None)
    with pytest.raises(ValueError, match=f"Nothing has been optimised: the optimised model has not.*{wiring}.*losses"):
        handle.find({"samples": latent})
    handle.add(latent, lines(losses, (1.0, 2.0)))
    with pytest.raises(ValueError, match=f"not returned by any of the last 1 runs of the optimised model.*{wiring}"):
        handle.find({"samples": latent + 1})
    handle.add(latent, "the reason")
    with pytest.raises(ValueError, match="^the reason$"):
        handle.find({"samples": latent})


def test_only_the_last_runs_are_kept(part):
    runs = part("attention.engine.results")
    handle = runs.RunResults(runs.Wording("Node", "done", "result"), kept=2)
    latents = [torch.full((1, 4, 2, 2), float(number)) for number in range(3)]
    for number, latent in enumerate(latents):
        handle.add(latent, number)
    assert [handle.find({"samples": latent}) for latent in latents[1:]] == [1, 2]
    with pytest.raises(ValueError, match="last 2 runs of the done model.*Connect the model output of Node"):
        handle.find({"samples": latents[0]})


def test_means(losses):
    made = history(losses, binding=[[[(1, 2), (3, 6)]], [[(0, 1), (0, 1)]]], pose=[[[(5,), (7,)]]])
    assert made.means("binding") == [3, 0.5]
    assert made.means("pose") == [6]
    assert made.means("entropy") == []


def test_json(losses):
    made = history(losses, binding=[[[(1, 2), (3, math.nan)]], [[(0.5, 1), (math.inf, 1)]]], pose=[[[(5,), (7,)]]])
    text = made.to_json()
    assert "dög" in text
    assert json.loads(text, parse_constant=pytest.fail) == {
        "prompt": "a (red:1.2) cat and a blue dög",
        "entities": ["cat", "dög"],
        "steps": 20,
        "sigmas": list(range(20, -1, -1)),
        "losses": [
            {"loss": "binding", "step": 0, "iteration": 0, "values": [[1, 2], [3, None]]},
            {"loss": "binding", "step": 1, "iteration": 0, "values": [[0.5, 1], [None, 1]]},
            {"loss": "pose", "step": 0, "iteration": 0, "values": [[5], [7]]},
        ],
    }


@pytest.mark.parametrize(
    "values",
    [(0.0, 1.0), (11.52, 12.3), (-3.0, 2.0), (7.0,), (0.0,), (1e-7, 3e-7), (2e6, 9e6), (0.02, 0.5), (1e-9, 50.0)],
)
def test_axis(part, values):
    """It holds all values, and a few round numbers that are written as what they are."""
    axis = part("attention.maps.axis").Axis.of([*values, math.nan, math.inf])
    assert axis.logarithmic == (values[0] > 0 and values[-1] > 10 * values[0])
    assert all(0 < axis.place(value) < 1 for value in values)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 9
    assert [value for value, _ in ticks] == sorted({value for value, _ in ticks})
    for value, text in ticks:
        assert 0 <= axis.place(value) <= 1
        assert float(text) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_axis_of_nothing_finite(part):
    axis = part("attention.maps.axis").Axis.of([math.nan, math.inf])
    assert (axis.low, axis.high, axis.logarithmic) == (-1, 1, False)


def test_line_colours_stand_apart(part):
    colours = torch.tensor(part("attention.maps.colours").line_colours(8)).float()
    ground = torch.tensor(part("attention.maps.drawing").BACKGROUND).float()
    distances = torch.cdist(torch.cat([colours, ground[None]]), torch.cat([colours, ground[None]]))
    assert distances[~torch.eye(9, dtype=torch.bool)].min() > 35
    assert torch.cdist(colours, ground[None]).min() > 150


def test_values_stand_at_their_height(part, losses, drawing):
    pixels = drawn(drawing, lines(losses, (1, 6), (2, 6), (4, 5)))
    cat, dog = part("attention.maps.colours").line_colours(2)
    one, two, four = (rows_at(drawing, pixels, cat, place, 3) for place in range(3))
    assert (one - four) / (one - two) == pytest.approx(3, abs=0.1)
    assert one - two > 20
    six, again, five = (rows_at(drawing, pixels, dog, place, 3) for place in range(3))
    assert six == pytest.approx(again, abs=0.6)
    assert five - six == pytest.approx(one - two, abs=1.5)
    assert four - five == pytest.approx(one - two, abs=1.5)


def test_values_over_more_than_a_decade(part, losses, drawing, told):
    pixels = drawn(drawing, lines(losses, (0.1, 1), (1, 1), (10, 1)))
    cat = part("attention.maps.colours").line_colours(2)[0]
    low, middle, high = (rows_at(drawing, pixels, cat, place, 3) for place in (0, 1, 2))
    assert middle is None, "the line that is drawn later covers it"
    dog = rows_at(drawing, pixels, part("attention.maps.colours").line_colours(2)[1], 1, 3)
    assert low - dog == pytest.approx(dog - high, abs=1.5)
    assert any("logarithmic" in text for text in told)
    assert {"0.1", "1", "10"} <= set(told)


def test_a_line_is_the_mean_of_the_latents_in_a_band(part, losses, drawing, told):
    single = drawn(drawing, history(losses, binding=[[[(2.0, 8.0)], [(2.0, 8.0)]]]))
    told.clear()
    spread = [(1.0, 8.0), (3.0, 8.0), (2.0, 8.0)]
    batch = drawn(drawing, history(losses, binding=[[spread, spread]]))
    assert any("mean of 3 latents" in text for text in told)
    colours = part("attention.maps.colours").line_colours(2)
    top, mean = (rows_at(drawing, batch, colour, 0, 2) for colour in reversed(colours))
    unit = (mean - top) / 6
    offset = round((drawing.UNIT + 2 * drawing.LINE_HEIGHT) / drawing.FINENESS)
    column = drawing.WIDTH // 2 // drawing.FINENESS + 1
    ground = torch.tensor(part("attention.maps.drawing").BACKGROUND)
    blend = ground + (torch.tensor(colours[0]) - ground) * drawing.BAND / 255
    for away, expected in ((0.6, blend), (-0.6, blend), (1.5, ground), (-1.5, ground)):
        assert (batch[round(offset + mean + away * unit), column] - expected).abs().max() <= 2, away
    assert ((single - blend.int()).abs().amax(-1) <= 2).sum() == 0


def test_a_loss_that_is_no_number_leaves_a_gap(part, losses, drawing, told):
    pixels = drawn(drawing, lines(losses, (1, 3), (math.nan, 3), (math.inf, 3), (1, 3)))
    cat, dog = part("attention.maps.colours").line_colours(2)
    assert [rows_at(drawing, pixels, cat, place, 4) is None for place in range(4)] == [False, True, True, False]
    assert all(rows_at(drawing, pixels, dog, place, 4) is not None for place in range(4))
    assert any("no finite number" in text for text in told)
    drawing.plot(lines(losses, (math.nan, math.nan)))


def test_steps_are_marked(losses, drawing, told):
    made = history(losses, entropy=[[[(3, 4)], [(3, 4)], [(3, 4)]], [[(3, 4)]]])
    pixels = drawn(drawing, made)
    marks = (pixels == torch.tensor(drawing.GRID)).all(-1).sum(0) > drawing.PLOT_HEIGHT / drawing.FINENESS * 0.8
    left, width = drawing.LEFT, drawing.WIDTH - drawing.LEFT - drawing.RIGHT
    boundary = (left + width * 3 / 4) / drawing.FINENESS
    found = marks.nonzero().flatten().tolist()
    assert found and all(abs(column - boundary) <= 1 for column in found)
    assert {"step 1", "step 2", "steps 1 to 2 of 20"} <= set(told)


def test_many_steps_have_room_for_their_numbers(losses, drawing, told):
    drawing.plot(history(losses, entropy=[[[(3, 4)]]] * 60))
    numbers = [text for text in told if text.startswith("step ")]
    assert numbers[0] == "step 1"
    assert 10 < len(numbers) < 30


def test_one_panel_for_each_loss_there_is(losses, drawing, told):
    values = [[[(3.0, 4.0)], [(2.0, 3.0)]]]
    one = drawing.plot(history(losses, binding=values))
    assert "binding loss" in told and "entropy loss" not in told
    all_three = history(losses, binding=values, entropy=values, pose=[[[(3.0,)], [(2.0,)]]])
    three = drawing.plot(all_three)
    assert [text for text in told if text.endswith("loss")][1:] == ["binding loss", "entropy loss", "pose loss"]
    panel = (drawing.PANEL_HEAD + drawing.PLOT_HEIGHT + drawing.PANEL_FOOT) / drawing.FINENESS
    assert three.shape[1] - one.shape[1] == 2 * panel


def test_legend(part, losses, drawing, told):
    """Names in the colour of their line, on as many lines as they need, none beyond the edge."""
    from dataclasses import replace

    made = lines(losses, (1, 2), (2, 3))
    pixels = drawn(drawing, made)
    assert {"a (red:1.2) cat and a blue dög", "cat", "dög"} <= set(told)
    legend = pixels[: (drawing.UNIT + 2 * drawing.LINE_HEIGHT) // drawing.FINENESS]
    for colour in part("attention.maps.colours").line_colours(2):
        assert (legend == torch.tensor(colour)).all(-1).sum() > 50
    told.clear()
    names = tuple(f"entity {number}" for number in range(30))
    many = replace(made, entities=names, entries=(losses.Entry("binding", 0, 0, (tuple(range(1, 31)),)),))
    assert drawing.plot(many).shape[1] > len(pixels)
    assert [text for text in told if text in names] == list(names)
    places = [place for line in drawing._legend([*names, "very " * 100]) for place in line]
    assert all(left >= 0 and left + width + drawing.UNIT <= drawing.WIDTH for _, left, width in places)


def test_no_losses(part, losses, drawing, told):
    pixels = drawn(drawing, history(losses))
    assert told == ["a (red:1.2) cat and a blue dög", drawing.NO_LOSSES]
    assert "no entity has attributes" in drawing.NO_LOSSES
    assert len(pixels) < 100
    assert (pixels[len(pixels) // 2 :] == torch.tensor(part("attention.maps.drawing").FAINT)).all(-1).any()


@pytest.fixture
def graph():
    graph = merged_graph(optimize={"pose_loss": True})
    graph["show"] = {
        "class_type": "SBPreviewTokenLosses",
        "inputs": {"losses": ["TokenOptimization", 1], "latent": ["sampler", 0]},
    }
    return graph


def drawn_by_core(run_graph, graph, **maps):
    """Which of the outputs core's Plot Loss Graph could draw."""
    for name, output in maps.items():
        inputs = {"loss": ["show", output], "filename_prefix": name}
        graph[name] = {"class_type": "LossGraphNode", "inputs": inputs}
    done = run_graph(graph, **{name: SHOWN[name] for name in ("plot", "json")})
    return done, {name for name in maps if done.outputs.get(name, {}).get("images")}


def test_whole_graph(run_graph, graph):
    """All losses of the run, in every form, also for core's node."""
    graph["empty"]["inputs"]["batch_size"] = 2
    done, by_core = drawn_by_core(run_graph, graph, binding=2, entropy=3)
    assert by_core == {"binding", "entropy"}
    assert len(done.outputs["show"]["images"]) == 1
    assert done.values["plot"].shape[0] == 1
    values = run_graph(graph, **SHOWN).values
    told = json.loads(values["json"])
    assert (told["entities"], told["steps"], len(told["sigmas"])) == (["circle", "square"], 2, 3)
    places = [
        (loss, step, iteration) for loss in ("binding", "entropy", "pose") for step in (0, 1) for iteration in (0, 1)
    ]
    found = {(entry["loss"], entry["step"], entry["iteration"]): entry["values"] for entry in told["losses"]}
    assert sorted(found) == sorted(places)
    assert all(len(values) == 2 for values in found.values())
    assert all(len(latent) == (1 if place[0] == "pose" else 2) for place in places for latent in found[place])
    for loss in ("binding", "entropy"):
        expected = [torch.tensor(found[place]).mean().item() for place in places if place[0] == loss]
        assert values[loss]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_losses_of_the_own_run(run_graph, graph):
    """Two samplers of one optimised model, each with a viewer."""
    graph["sampler 2"] = {"class_type": "KSampler", "inputs": {**graph["sampler"]["inputs"], "seed": 2}}
    graph["show 2"] = {
        "class_type": "SBPreviewTokenLosses",
        "inputs": {**graph["show"]["inputs"], "latent": ["sampler 2", 0]},
    }
    both = run_graph(graph, one=["show", 1], two=["show 2", 1]).values
    assert both["one"] != both["two"]
    run_graph.forget()
    del graph["sampler 2"], graph["show 2"]
    assert run_graph(graph, one=["show", 1]).values["one"] == both["one"]


def test_a_loss_that_was_not_computed_is_not_handed_on(run_graph, graph):
    """Core's node fails on an empty list: it is not executed, and the rest is."""
    graph["TokenOptimization"]["inputs"].update({"settings.entropy_steps": 0, "pose_loss": False})
    done, by_core = drawn_by_core(run_graph, graph, binding=2, entropy=3)
    assert by_core == {"binding"}
    assert {entry["loss"] for entry in json.loads(done.values["json"])["losses"]} == {"binding"}


def test_wrong_wiring(run_graph, graph):
    graph["show"]["inputs"]["latent"] = ["empty", 0]
    with pytest.raises(run_graph.Failed, match="has not been sampled|not returned by any"):
        run_graph(graph, **SHOWN)
