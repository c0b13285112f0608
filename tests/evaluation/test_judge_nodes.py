"""Judge Binding in a graph: with the demo world's judge on rendered scenes, and with small random models."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

RED_CIRCLE, BLUE_SQUARE, RED_SQUARE = ("circle", "red", "dot"), ("square", "blue", None), ("square", "red", None)
PROMPT = "a red circle with a dot and a blue square"


@pytest.fixture(scope="module")
def scenes(part):
    """Right; the square in the circle's colour; no square."""
    world = part("world.scenes")

    def draw(*things):
        placed = (world.Thing(*thing, x, 60.0, 22.0) for thing, x in zip(things, (34.0, 92.0), strict=False))
        return world.render(world.Scene(tuple(placed), (0.7, 0.7, 0.7)))

    pictures = [draw(RED_CIRCLE, BLUE_SQUARE), draw(RED_CIRCLE, RED_SQUARE), draw(RED_CIRCLE)]
    return torch.from_numpy(np.stack(pictures))


@pytest.fixture(scope="module")
def bound(part, tiny):
    read = part("nodes.parsing.prompt").read
    clip = tiny("sd1").clip
    return lambda text: read(clip, text, "", "auto", "")[0]


@pytest.fixture
def judge(run_graph, comfy, part, monkeypatch, judges_folder):
    """Runs Load Judge and Judge Binding in a graph."""
    from given import giving_node

    names = comfy.nodes.NODE_CLASS_MAPPINGS
    for file, node in (("load_judge", "SBLoadJudge"), ("judge", "SBJudgeBinding")):
        monkeypatch.setitem(names, node, getattr(part(f"nodes.evaluation.{file}"), node))

    def run(image, binding, judge="demo world", **inputs):
        graph = {
            "load": {"class_type": "SBLoadJudge", "inputs": {"judge": judge, "download": False}},
            "judge": {
                "class_type": "SBJudgeBinding",
                "inputs": {"judge": ["load", 0], "aggregate": "arithmetic mean", "questions": "", **inputs},
            },
        }
        for name, value in (("binding", binding), ("image", image)):
            monkeypatch.setitem(names, f"Give {name}", giving_node(value))
            graph[name] = {"class_type": f"Give {name}", "inputs": {}}
            graph["judge"]["inputs"][name] = [name, 0]
        outputs = ("score", "report", "json", "overlay", "best", "best_image")
        run_graph.forget()
        return run_graph(graph, **{name: ["judge", place] for place, name in enumerate(outputs)})

    return run


def test_a_batch_is_judged(judge, scenes, bound):
    run = judge(scenes, bound(PROMPT))
    answers = {
        "is there a circle?": (True, [1, 1, 1]),
        "is the circle red?": (True, [1, 1, 1]),
        "does the circle have a dot?": (True, [1, 1, 1]),
        "is the circle blue?": (False, [0, 0, 0]),
        "is there a square?": (True, [1, 1, 0]),
        "is the square blue?": (True, [1, 0, 0]),
        "is the square red?": (False, [0, 1, 0]),
        "does the square have a dot?": (False, [0, 0, 0]),
    }
    (record,) = run.outputs["judge"]["semantic_binding_judgement"]
    for place, image in enumerate(record["images"]):
        told = {each["text"]: (each["wanted"], each["probability"]) for each in image["questions"]}
        assert told == {text: (wanted, given[place]) for text, (wanted, given) in answers.items()}
    assert [image["score"] for image in record["images"]] == pytest.approx([1, 6 / 8, 6 / 8])
    assert run.values["score"] == pytest.approx(20 / 24)
    assert run.values["best"] == record["best"] == 0
    assert torch.equal(run.values["best_image"], scenes[:1])
    assert json.loads(run.values["json"]) == record
    assert (record["judge"], record["aggregate"]) == ("demo world", "arithmetic mean")
    assert run.outputs["judge"]["text"] == [run.values["report"]]
    assert run.values["report"].splitlines()[:5] == [
        "image 1: 1.000",
        "  1.000  circle: is there a circle?",
        "  1.000  circle: is the circle red?",
        "  1.000  circle: does the circle have a dot?",
        "  0.000  not circle: is the circle blue?",
    ]
    assert set(run.outputs["judge"]) == {"text", "semantic_binding_judgement"}


@pytest.mark.parametrize(("aggregate", "expected"), [("product", [1, 0, 0]), ("geometric mean", [1, 0, 0])])
def test_means_that_want_everything_right(judge, scenes, bound, aggregate, expected):
    run = judge(scenes, bound(PROMPT), aggregate=aggregate)
    (record,) = run.outputs["judge"]["semantic_binding_judgement"]
    assert [image["score"] for image in record["images"]] == pytest.approx(expected)


def test_the_best_is_found_wherever_it_is(judge, scenes, bound):
    run = judge(scenes.flip(0), bound(PROMPT))
    assert run.values["best"] == 2
    assert torch.equal(run.values["best_image"], scenes[:1])


def test_questions_can_be_edited(judge, scenes, bound):
    questions = "circle: is there a circle?\nnot square: is there a blue square?"
    (record,) = judge(scenes[:1], bound(PROMPT), questions=questions).outputs["judge"]["semantic_binding_judgement"]
    (image,) = record["images"]
    assert image["score"] == 0.5
    assert [(each["entity"], each["kind"], each["wanted"]) for each in image["questions"]] == [
        ("circle", "existence", True),
        ("square", "leak", False),
    ]


def test_a_prompt_without_entities_can_be_asked_for_by_hand(judge, scenes, bound, run_graph):
    nothing = replace(bound(PROMPT), entities=())
    assert judge(scenes[:1], nothing, questions="is there a heart?").values["score"] == 0.0
    with pytest.raises(run_graph.Failed, match="has no entities that could be asked for"):
        judge(scenes[:1], nothing)


def test_what_the_demo_world_does_not_know_is_told(judge, scenes, bound, run_graph):
    with pytest.raises(run_graph.Failed, match='"demo world" cannot answer "is there a dog.": it does not know: dog'):
        judge(scenes, bound("a red circle and a dog"))


def test_the_table_is_drawn_below(judge, scenes, bound, part):
    table = part("evaluation.judges.table")
    drawn = judge(scenes, bound(PROMPT)).values["overlay"]
    assert drawn.shape[0] == 3 and drawn.shape[2] == 512 and drawn.shape[1] > 512 + 9 * 20
    below = drawn[:, 512:]

    def has(picture, colour):
        return ((picture - torch.tensor(colour) / 255).abs().sum(-1) < 0.02).any().item()

    assert [has(picture, table.RIGHT) for picture in below] == [True, True, True]
    assert [has(picture, table.WRONG) for picture in below] == [False, True, True]


def test_long_questions_are_shortened_in_the_table(part, judge, scenes, bound):
    question = f"is the circle {'red ' * 60}?"
    assert judge(scenes[:1], bound(PROMPT), questions=question).values["overlay"].shape[2] == 512


def test_t2i_compbench_asks_for_noun_chunks(judge, scenes, bound):
    run = judge(scenes, bound(PROMPT), aggregate="T2I-CompBench")
    (record,) = run.outputs["judge"]["semantic_binding_judgement"]
    assert [(each["text"], each["kind"]) for each in record["images"][0]["questions"]] == [
        ("a red circle?", "chunk"),
        ("a dot?", "chunk"),
        ("a blue square?", "chunk"),
    ]


def test_t2i_compbench_is_rounded_and_multiplied(judge, noise, bound, part, load_judge):
    run = judge(noise, bound("a red book and a black cat"), judge="blip", aggregate="T2I-CompBench")
    (record,) = run.outputs["judge"]["semantic_binding_judgement"]
    question = part("evaluation.judges.questions").Question
    asked = [question(text, "", "chunk") for text in ("a red book?", "a black cat?")]
    blip = load_judge("blip")
    for picture, image in zip(noise, record["images"], strict=True):
        first, second = replace(blip, as_published=True).answer(picture, asked)
        assert image["score"] == pytest.approx(round(first, 4) * round(second, 4), abs=1e-9)
        assert [each["probability"] for each in image["questions"]] == pytest.approx([first, second], abs=1e-6)
        assert blip.answer(picture, asked)[0] != pytest.approx(first, abs=1e-6)
    assert "Note" not in run.values["report"]


def test_t2i_compbench_of_another_judge_is_said_to_be(judge, noise, bound):
    run = judge(noise[:1], bound("a red book"), judge="qwen", aggregate="T2I-CompBench")
    assert "Note: T2I-CompBench is measured with BLIP" in run.values["report"]


def test_t2i_compbench_has_its_own_questions(judge, noise, bound, run_graph):
    with pytest.raises(run_graph.Failed, match="T2I-CompBench asks its own questions: leave questions empty"):
        judge(noise, bound("a red book"), judge="blip", aggregate="T2I-CompBench", questions="is it red?")
    with pytest.raises(run_graph.Failed, match="T2I-CompBench asks questions, and clip compares captions only"):
        judge(noise, bound("a red book"), judge="clip", aggregate="T2I-CompBench")


def test_clip_gives_the_prompt_s_cosine(judge, noise, bound, part, load_judge):
    prompt = "a black cat and a dog"
    run = judge(noise, bound(prompt), judge="clip", aggregate="product")
    (record,) = run.outputs["judge"]["semantic_binding_judgement"]
    question = part("evaluation.judges.questions").Question
    cosines = [load_judge("clip").answer(picture, [question("", "", "own", True, prompt)])[0] for picture in noise]
    assert [image["score"] for image in record["images"]] == pytest.approx(cosines, abs=1e-6)
    assert run.values["score"] == pytest.approx(sum(cosines) / 2, abs=1e-6)
    assert record["aggregate"] == "CLIPScore (raw cosine)"
    assert [each["text"] for each in record["images"][0]["questions"]] == [
        prompt,
        "is there a cat?",
        "is the cat black?",
        "is there a dog?",
        "is the dog black?",
    ]
    assert "The numbers are cosines of picture and caption." in run.values["report"]


def test_a_judge_is_loaded_by_comfyui(judge, noise, bound, load_judge):
    import comfy.model_management as management

    judge(noise[:1], bound("a cat"), judge="blip")
    assert any(loaded.model is load_judge("blip").patcher for loaded in management.current_loaded_models)


def test_judging_can_be_interrupted(judge, noise, bound, monkeypatch, part, run_graph):
    import comfy.model_management as management

    shapes = part("evaluation.judges.shapes")
    answers = shapes.ShapesJudge.answer

    def interrupting(self, picture, questions):
        management.interrupt_current_processing()
        return answers(self, picture, questions)

    monkeypatch.setattr(shapes.ShapesJudge, "answer", interrupting)
    with pytest.raises(run_graph.Interrupted):
        judge(noise, bound("a circle"))
