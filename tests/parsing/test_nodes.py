"""Bind Prompt and Bind Conditioning on small models of each layout."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from clone import ROOT

LAYOUTS = ["sd1", "sd2", "sdxl"]
PROMPT = "a (red:1.3) car and a white sheep"


@pytest.fixture
def bind(part):
    return lambda *args, **options: part("nodes.parsing.prompt").SBBindPrompt.execute(*args, **options).result


@pytest.fixture
def bind_conditioning(part):
    return lambda *args, **options: part("nodes.parsing.prompt").SBBindConditioning.execute(*args, **options).result


@pytest.mark.parametrize("layout", LAYOUTS)
def test_conditioning_is_that_of_clip_text_encode_with_the_bindings_key(layout, tiny, comfy, bind, part):
    clip = tiny(layout).clip
    conditioning, binding, _ = bind(clip, PROMPT)
    (expected,) = comfy.nodes.CLIPTextEncode().encode(clip, PROMPT)
    key = part("parsing.binding").CONDITIONING_KEY
    assert len(conditioning) == len(expected) == 1
    assert torch.equal(conditioning[0][0], expected[0][0])
    assert torch.equal(conditioning[0][1]["pooled_output"], expected[0][1]["pooled_output"])
    assert conditioning[0][1][key] == binding.key
    assert set(conditioning[0][1]) == set(expected[0][1]) | {key}
    assert binding.length == expected[0][0].shape[1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("prompt", "groups"),
    [(PROMPT, [(2, 3), (6, 7)]), ("a cat and a dog", [(2,), (5,)]), ("the dog is red", [(2, 4)])],
)
def test_groups_are_the_rows_of_the_words(layout, prompt, groups, tiny, bind):
    _, binding, _ = bind(tiny(layout).clip, prompt)
    assert [binding.group(entity) for entity in binding.entities] == groups


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_a_phrase_change_when_its_words_do(layout, tiny, bind):
    """The mapping seen through the text encoder: causal, so rows before the changed word stay as they are."""
    clip = tiny(layout).clip
    conditioning, binding, _ = bind(
        clip, "a red car and a multi-colored sheep, " + "very " * 80 + "good " + "a white owl"
    )
    changed, _, _ = bind(clip, "a red car and a multi-colored sheep, " + "very " * 80 + "good " + "a black owl")
    white = binding.positions(binding.entity("owl").attributes)
    differs = (conditioning[0][0] != changed[0][0]).any(-1)[0].nonzero().flatten()
    assert binding.length == 154
    assert white[0] == differs[0] > 77


def test_every_execution_has_its_own_key(tiny, bind):
    clip = tiny("sd1").clip
    assert bind(clip, PROMPT)[1].key != bind(clip, PROMPT)[1].key


def test_manual_entities_win_and_load_no_parser(tiny, bind, part, monkeypatch):
    monkeypatch.setattr(part("parsing.models"), "load", None)
    _, binding, _ = bind(tiny("sdxl").clip, PROMPT, entities="sheep: red")
    assert [binding.group(entity) for entity in binding.entities] == [(2, 7)]
    assert binding.parser == "entities given by hand"


def test_json_and_text_tell_what_was_understood(tiny, part):
    output = part("nodes.parsing.prompt").SBBindPrompt.execute(tiny("sdxl").clip, "two (red:1.3) cars on a street")
    _, binding, text = output.result
    described = json.loads(text)
    (car,) = described["entities"]
    assert (car["name"], car["count"], car["noun"]["text"], car["anchor_phrase"]) == ("cars", 2, "cars", "2 red cars")
    assert car["attributes"][0]["rows"] == {"l": [2], "g": [2]}
    assert car["attributes"][0]["spans"] == [[4, 7]]
    assert (car["noun"]["said"], car["attributes"][0]["said"], car["doubt"]) == ("cars", "red", "")
    assert [word["said"] for word in described["words"]] == ["two", "red", "cars", "on", "a", "street"]
    assert described["encoders"]["l"]["tokens"][1] == {"kind": "text", "piece": "red", "span": [4, 7], "weight": 1.3}
    assert described["encoders"]["g"]["end"] == [7]
    assert described["key"] == binding.key
    assert output.ui["semantic_binding"] == (text,)
    assert output.ui["semantic_binding_entities"] == ("",)
    (shown,) = output.ui["text"]
    for part_of_it in (
        "1. cars \u00b7 2 of them \u00b7 red",
        "CLIP-L: 2 red, 3 cars",
        "CLIP-G: 6 tokens, end token at 7 of 77 rows.",
        "Read by: spaCy en_core_web",
        "Note: left out, as nouns on the list of excluded ones: street.",
        'Note: weight 1.3: "red".',
    ):
        assert part_of_it in shown


def test_no_nouns_give_an_empty_binding_and_a_note(tiny, bind):
    conditioning, binding, text = bind(tiny("sd1").clip, "running quickly")
    assert binding.entities == ()
    assert any("no noun" in note and "cat: black" in note for note in binding.notes)
    assert json.loads(text)["entities"] == []
    assert conditioning[0][0].shape[1] == 77


@pytest.mark.parametrize("prompt", ["", " \n", "()"])
def test_an_empty_prompt_is_an_error(prompt, tiny, bind):
    with pytest.raises(ValueError, match="The prompt is empty"):
        bind(tiny("sd1").clip, prompt)


def test_no_clip_is_an_error(bind):
    with pytest.raises(ValueError, match="There is no CLIP"):
        bind(None, PROMPT)


def test_a_clip_with_t5_is_refused_by_name(comfy, bind):
    from comfy.sd import CLIP
    from comfy.text_encoders.sd3_clip import SD3Tokenizer

    clip = CLIP(no_init=True)
    clip.tokenizer, clip.tokenizer_options = SD3Tokenizer(), {}
    with pytest.raises(ValueError, match="text encoders: g, l, t5xxl.*SD1.x"):
        bind(clip, PROMPT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_conditioning_made_elsewhere_is_bound(layout, tiny, comfy, bind_conditioning, part):
    clip = tiny(layout).clip
    (made,) = comfy.nodes.CLIPTextEncode().encode(clip, PROMPT)
    bound, binding, _ = bind_conditioning([*made, *made], clip, PROMPT)
    key = part("parsing.binding").CONDITIONING_KEY
    assert [options[key] for _, options in bound] == [binding.key] * 2
    assert all(rows is made[0][0] for rows, _ in bound)
    assert key not in made[0][1]


def test_a_conditioning_of_another_length_is_refused(tiny, comfy, bind_conditioning):
    clip = tiny("sd1").clip
    (made,) = comfy.nodes.CLIPTextEncode().encode(clip, "very " * 80 + PROMPT)
    with pytest.raises(ValueError, match="has 154 token rows, but this text gives 77 .*not among them"):
        bind_conditioning(made, clip, PROMPT)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [True, False], ids=["conditioning_to", "conditioning_from"])
def test_a_concatenated_conditioning_is_bound(layout, first, tiny, comfy, bind, bind_conditioning):
    """Where the text stands in it, the words are found; the other prompt's are none of them."""
    clip = tiny(layout).clip
    own, other = (comfy.nodes.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, "an oil painting"))
    (joined,) = comfy.nodes.ConditioningConcat().concat(*((own, other) if first else (other, own)))
    bound, binding, _ = bind_conditioning(joined, clip, PROMPT)
    _, alone, _ = bind(clip, PROMPT)
    before = 0 if first else 77
    assert [binding.group(entity) for entity in binding.entities] == [
        tuple(before + row for row in alone.group(entity)) for entity in alone.entities
    ]
    assert binding.length == before + 77 and bound[0][0] is joined[0][0]
    for tokens in binding.encoders:
        assert [row for row in tokens.of_kind("text") if row < before] == []
        assert tokens.chunks == (1 if first else 2)


def test_the_nodes_run_in_a_graph(tiny, run_graph):
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": tiny("sd1").name}},
        "2": {"class_type": "SBBindPrompt", "inputs": {"clip": ["1", 1], "text": PROMPT}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": PROMPT}},
        "4": {
            "class_type": "SBBindConditioning",
            "inputs": {"conditioning": ["3", 0], "clip": ["1", 1], "text": PROMPT},
        },
    }
    first = run_graph(graph, binding=["2", 1], other=["4", 1]).values
    assert [entity.name for entity in first["binding"].entities] == ["car", "sheep"]
    assert first["other"].encoders == first["binding"].encoders
    again = run_graph(graph, binding=["2", 1], conditioning=["2", 0]).values
    assert again["binding"] is first["binding"]
    assert again["conditioning"][0][1]["semantic_binding"] == first["binding"].key


def test_an_embedding_that_is_not_there_is_noted(tiny, run_graph):
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": tiny("sdxl").name}},
        "2": {"class_type": "SBBindPrompt", "inputs": {"clip": ["1", 1], "text": "a red car, embedding:none, a tree"}},
    }
    binding = run_graph(graph, binding=["2", 1]).values["binding"]
    assert binding.positions(binding.entity("tree").phrases) == (7,)
    assert '"embedding:none" was not found, or not made for this model, and has no tokens in CLIP-L and CLIP-G.' in (
        binding.notes
    )


def test_the_parsing_layer_stands_alone():
    """No torch, no ComfyUI and, until a model is asked for, no spaCy."""
    program = (
        "import sys, parsing.bind, parsing.report; "
        "loaded = {'torch', 'comfy', 'spacy', 'transformers'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_benchmark_counts_right_wrong_and_raised(tmp_path):
    path = ROOT / "benchmarks" / "parser.py"
    spec = importlib.util.spec_from_file_location("semantic_binding_parser_benchmark", path)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red car and a white sheep\na very red car\na left side and a red car\nan embedding: \n")
    done = subprocess.run([sys.executable, spec.origin, str(prompts)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "4 lines, 1 raised" in done.stdout
    assert "simple lines right: 1 of 2 = 50.0 %" in done.stdout
    assert "a left side and a red car  ->  car: red" in done.stdout
