"""MULTIGEN, VISOR, prompt files, judges' records, rows, table and page, against numbers computed by hand."""

from __future__ import annotations

import json
import math
import re

import pytest

CLASSES = ("cat", "dog", "bus", "apple", "tie", "umbrella", "cup")


@pytest.fixture(scope="module")
def bench(part):
    """``bench("table")``: a module of the benchmark."""
    return lambda name: part(f"evaluation.bench.{name}")


def test_multigen_prompts(bench):
    multigen = bench("multigen")
    prompts = multigen.build(CLASSES, 50)
    assert prompts == multigen.build(CLASSES, 50) != multigen.build(CLASSES, 50, seed=1)
    for prompt in prompts:
        assert len(set(prompt.objects)) == 5 and set(prompt.objects) <= set(CLASSES)
    assert multigen.prompt_of(CLASSES[1:6]).text == "a photo of a dog, a bus, a apple, a tie, and a umbrella."
    with pytest.raises(ValueError, match="needs 5 classes or more, and these are 4"):
        multigen.build(["a", "b", "c", "d", "a"], 1)


def test_multigen_scores_by_hand(bench):
    """methods D.9.4: counts 5,3,2,1,0,2,2,4,3,1 of one picture each."""
    scores = bench("multigen").scores
    found = scores({0: [5, 3, 2, 1, 0, 2, 2, 4, 3, 1]})
    assert [share for share, _ in found.values()] == [90, 70, 40, 20, 10]
    assert [spread for _, spread in found.values()] == [0] * 5
    of_two = scores({0: [5, 3], 1: [2, 0]})
    assert of_two[1] == (75, 25) and of_two[3] == (50, 50) and of_two[5] == (25, 25)
    of_three = scores({place: [5] * right + [0] * (100 - right) for place, right in enumerate((90, 91, 92))})
    assert of_three[5] == (pytest.approx(91), pytest.approx(0.816497, abs=1e-6))


def test_visor_prompts(bench):
    visor = bench("visor")
    every = visor.build(CLASSES[:3], 1000)
    assert len({prompt.text for prompt in every}) == 3 * 2 * 4
    assert len(visor.build(CLASSES, 10)) == 10
    prompt = visor.prompt_of("apple", "cat", "above")
    assert (prompt.text, prompt.objects, prompt.relation) == ("an apple above a cat", ("apple", "cat"), "above")
    with pytest.raises(ValueError, match="two classes"):
        visor.build(["cat", "cat"], 1)


def test_visor_scores_by_hand(bench):
    """methods G.7: OA 0.5 and cond 0.6 make uncond 0.3."""
    visor = bench("visor")
    right, wrong, neither = visor.Seen(True, True), visor.Seen(True, False), visor.Seen(False, False)
    scores = visor.scores([[right] * 3 + [neither], [wrong, wrong, neither, neither], [neither, neither]])
    assert (scores.object_accuracy, scores.conditional, scores.unconditional) == (50, 60, 30)
    assert scores.at_least == pytest.approx((100 / 3, 100 / 3, 100 / 3, 0))
    assert math.isnan(visor.scores([[neither]]).conditional)


@pytest.mark.parametrize(
    ("relation", "stands"),
    [("to the left of", True), ("to the right of", False), ("above", False), ("below", True)],
)
def test_relations_of_centres(bench, relation, stands):
    """The first is left of the second and lower; rows of pixels count downwards."""
    visor = bench("visor")
    assert visor.stands(relation, (10, 90), (40, 50)) is stands
    assert not visor.stands(relation, (10, 10), (10, 10))


def test_text_files(bench, tmp_path):
    read = bench("prompt_files").read_prompts
    (tmp_path / "color_val.txt").write_text("\ufeffa red cat\n\n a blue dog \na red cat\n", "utf-8")
    (tmp_path / "mine.txt").write_text("two\ta cat and a dog\na bird\n", "utf-8")
    assert [(each.text, each.category) for each in read(str(tmp_path / "color_val.txt"))] == [
        ("a red cat", "color_val"),
        ("a blue dog", "color_val"),
    ]
    assert [(each.text, each.category) for each in read(str(tmp_path / "mine.txt"))] == [
        ("a cat and a dog", "two"),
        ("a bird", "mine"),
    ]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="no prompts"):
        read(str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match="cannot be read"):
        read(str(tmp_path / "nothing.txt"))


def test_published_records(bench, tmp_path):
    """The keys of MULTIGEN's and VISOR's published files."""
    read = bench("prompt_files").read_prompts
    things = {f"obj_{place}_attributes": [name] for place, name in enumerate(CLASSES[:5], 1)}
    records = [
        {"unique_id": 0, "num_objects": 5, **things, "text": "a photo of five"},
        {"obj_1_attributes": ["hot dog"], "obj_2_attributes": ["bus"], "rel_type": "above", "text": "above"},
        {"obj_1_attributes": ["cat"], "obj_2_attributes": ["bus"], "rel_type": "and", "text": "and"},
        {"obj_1_attributes": ["cat"], "obj_2_attributes": [None], "rel_type": "single", "text": "a cat"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(records))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    prompts = read(str(tmp_path / "list.json"))
    assert [(each.category, each.objects, each.relation) for each in prompts] == [
        ("multigen", CLASSES[:5], ""),
        ("above", ("hot dog", "bus"), "above"),
        ("list", ("cat", "bus"), ""),
        ("list", ("cat",), ""),
    ]
    assert [each.objects for each in read(str(tmp_path / "lines.jsonl"))] == [each.objects for each in prompts]
    (tmp_path / "wrong.json").write_text('[{"prompt": "a"}]')
    with pytest.raises(ValueError, match='record 1 is no object with a "text"'):
        read(str(tmp_path / "wrong.json"))


def test_prompts_made_of_classes(bench, tmp_path):
    read = bench("prompt_files").read_prompts
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    assert len(read(f"multigen:{tmp_path / 'classes.txt'}:7")) == 7
    relations = {each.relation for each in read(f"visor:{tmp_path / 'classes.txt'}")}
    assert relations == {"to the left of", "to the right of", "above", "below"}


def test_records_of_score_binding(bench):
    entities = [
        {"name": "circle", "wanted": "red circle", "verdict": "ok", "found": "red circle"},
        {"name": "square", "wanted": "blue square", "verdict": "leak", "found": "red square"},
        {"name": "cat", "wanted": "cat", "verdict": "not judged", "found": None},
    ]
    images = [
        {"verdict": "leak", "entities": entities, "not_asked_for": []},
        {"verdict": "extra", "entities": entities[:1], "not_asked_for": ["green star"]},
        {"verdict": "ok", "entities": entities[:1], "not_asked_for": []},
        {"verdict": "not judged", "entities": entities[2:], "not_asked_for": []},
    ]
    judged = bench("judges").judge_named("shapes")
    found = judged.read({"benchmark judge": {"semantic_binding_score": [{"images": images}]}}, None)
    assert [each.score for each in found] == [0, 0, 1, None]
    assert [each["probability"] for each in found[0].questions] == [1, 0]
    assert found[1].questions[-1]["text"] == "nothing else" and found[1].questions[-1]["found"] == "green star"
    with pytest.raises(ValueError, match='showed no "semantic_binding_score"'):
        judged.read({}, None)


def test_records_of_judge_binding(bench):
    asked = {"text": "a red circle?", "entity": "circle", "kind": "attribute", "wanted": True, "probability": 0.8}
    images = [{"score": 0.72, "questions": [asked]}, {"score": float("nan"), "questions": []}]
    record = {"judge": "x", "aggregate": "product", "images": images, "best": 0}
    judged = bench("judges").judge_named("x").read({"benchmark judge": {"semantic_binding_judgement": [record]}}, None)
    assert [each.score for each in judged] == [0.72, None] and judged[0].questions == (asked,)


def box(label, x, y, score=0.5):
    return {"x": x, "y": y, "width": 10, "height": 10, "label": label, "score": score}


def test_boxes(bench):
    of_boxes, prompt = bench("judges").of_boxes, bench("prompt").Prompt
    things = {"a photo of a cat": "cat", "a photo of a bus": "bus"}
    left = prompt("a cat to the left of a bus", objects=("cat", "bus"), relation="to the left of")
    boxes = [box("a photo of a cat", 0, 0, 0.9), box("a photo of a cat", 90, 0, 0.2), box("a photo of a bus", 50, 0)]
    judged = of_boxes(boxes, things, left)
    assert judged.score == 1 and [each["kind"] for each in judged.questions] == ["detected object"] * 2 + [
        "detected relation"
    ]
    assert judged.questions[0]["score"] == 0.9
    assert of_boxes(boxes[1:], things, left).score == 0, "a thing is where its best box is"
    alone = of_boxes(boxes[:1], things, left)
    assert alone.score == 0 and [each["probability"] for each in alone.questions] == [1, 0, 0]
    assert of_boxes(boxes[:2], things, prompt("cats")).score == 0.5
    assert of_boxes([], {}, prompt("nothing")).score is None


@pytest.fixture
def row(bench):
    """``row("plain", "a cat", 0, [0.5, None], category="x")``: a row with a picture for each score."""
    rows, judges, prompt = bench("rows"), bench("judges"), bench("prompt")

    def make(workflow, text, seed, scores, questions=(), **more):
        pictures = tuple(
            rows.Picture(f"pictures/{workflow}/{text} {seed} {place}.png", judges.Judged(score, tuple(questions)))
            for place, score in enumerate(scores)
        )
        return rows.Row(workflow, f"digest of {workflow}", prompt.Prompt(text, **more), seed, pictures, "http://a", 1.5)

    return make


def test_rows_survive_their_file(bench, row, tmp_path):
    rows, path = bench("rows"), tmp_path / "rows.jsonl"
    assert rows.read_rows(path) == {}
    made = [
        row("plain", "ein Hündchen", 0, [0.5, None], [{"text": "?", "kind": "object", "probability": 1.0}]),
        row("plain", "a cat above a bus", 1, [1.0], objects=("cat", "bus"), relation="above", category="above"),
    ]
    for each in made:
        rows.append_row(path, each)
    assert list(rows.read_rows(path).values()) == made
    with path.open("a") as file:
        file.write('{"workflow": "pl')
    assert len(rows.read_rows(path)) == 2
    rows.append_row(path, row("bound", "a cat", 0, [1.0]))
    assert len(rows.read_rows(path)) == 3, "what was left of a line does not spoil the next one"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="Line 1 of .* is no row"):
        rows.read_rows(path)


def test_the_table_by_hand(bench, row):
    """plain 1, 0, 0 and bound 1, 1, 1, -; the pairs differ by 0, 1, 1."""
    table = bench("table")
    rows = [
        row("plain", "a", 0, [1.0, 0.0], category="one"),
        row("plain", "b", 0, [0.0], category="two"),
        row("bound", "a", 0, [1.0, 1.0], category="one"),
        row("bound", "b", 0, [1.0], category="two"),
        row("bound", "b", 1, [None], category="two"),
    ]
    found = table.table_of(rows, ["plain", "bound"])
    lines = {(line.workflow, line.category): line for line in found.lines}
    plain, bound = lines["plain", "all"], lines["bound", "all"]
    assert (plain.n, plain.mean, plain.error) == (3, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert math.isnan(plain.difference) and plain.pairs == 0
    assert (bound.n, bound.mean, bound.error, bound.pairs) == (3, 1, 0, 3)
    assert (bound.difference, bound.difference_error) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (lines["bound", "two"].n, lines["bound", "two"].difference) == (1, 1)
    text = table.markdown(found, ["judge: shapes"])
    assert "| bound | 3 | 1.000 ± 0.000 | +0.667 ± 0.333 | 3 |" in text and "## two" in text
    told = json.loads(table.as_json(found, ["judge: shapes"]))
    assert told["rows"][0]["difference"] is None and told["rows"][1]["n"] == 3
    assert "MULTIGEN" not in text and "VISOR" not in text


def test_multigen_and_visor_in_the_table(bench, row):
    table, objects = bench("table"), CLASSES[:5]

    def asked(*probabilities, relation=None):
        kinds = ["detected object"] * len(probabilities) + ["detected relation"] * (relation is not None)
        every = (*probabilities, *(() if relation is None else (relation,)))
        return [{"text": "", "kind": kind, "probability": float(p)} for kind, p in zip(kinds, every, strict=True)]

    five = {"objects": objects, "category": "multigen"}
    above = {"objects": ("cat", "bus"), "relation": "above", "category": "above"}
    rows = [
        row("plain", "five", 0, [0.4], asked(1, 1, 0, 0, 0), **five),
        row("plain", "five", 1, [1.0], asked(1, 1, 1, 1, 1), **five),
        row("plain", "above", 0, [1.0], asked(1, 1, relation=1), **above),
        row("plain", "above", 1, [0.0], asked(1, 1, relation=0), **above),
        row("plain", "above", 2, [0.0], asked(1, 0, relation=0), **above),
    ]
    found = table.table_of(rows, ["plain"])
    assert found.multigen["plain"][2] == (100, 0) and found.multigen["plain"][3] == (50, 50)
    scores = found.visor["plain"]
    assert (scores.object_accuracy, scores.conditional) == (pytest.approx(200 / 3), 50)
    assert scores.at_least == (100, 0, 0)
    text = table.markdown(found, [])
    assert "| plain | 100.00 ± 0.00 | 100.00 ± 0.00 | 50.00 ± 50.00 |" in text
    assert "| plain | 66.67 | 50.00 | 33.33 | 100.00 | 0.00 | 0.00 |" in text


def test_the_page(bench, row):
    """Failures come first, texts are escaped, and nothing is loaded from elsewhere."""
    page, table = bench("page"), bench("table")
    asked = [
        {"text": "<b>circle", "wanted": True, "probability": 0.0, "found": "square & star"},
        {"text": "a blue circle?", "wanted": False, "probability": 0.1},
    ]
    rows = [
        row("plain", "right", 0, [1.0], category="x"),
        row("<bound>", "right", 0, [1.0], category="x"),
        row("plain", '<script>"wrong"', 0, [0.0], asked, category="y"),
        row("<bound>", '<script>"wrong"', 0, [1.0], category="y"),
        row("plain", "unclear", 0, [None], category="x"),
    ]
    names = ["plain", "<bound>"]
    text = page.page("Mine", ["judge: <x>"], table.table_of(rows, names), rows, names)
    prompts = re.findall(r'<th class="asked">(.*?)<small>', text)
    assert prompts == ["&lt;script&gt;&quot;wrong&quot;", "right", "unclear"]
    assert re.findall(r'data-failing="(\w+)" data-differing="(\w+)"', text) == [
        ("yes", "yes"),
        ("no", "no"),
        ("no", "no"),
    ]
    assert "&lt;b&gt;circle (found: square &amp; star)" in text and "<b>circle" not in text
    assert '<li class="right">not: a blue circle? 0.10</li>' in text
    assert "<th>&lt;bound&gt;</th>" in text and "judge: &lt;x&gt;" in text
    assert text.count("<script>") == 1 and "http" not in text and "prefers-color-scheme: dark" in text
    assert 'src="pictures/%3Cbound%3E/right%200%200.png"' in text and "not judged" in text
