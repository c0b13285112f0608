"""Score Attention in whole graphs on the demo model, and by itself where recordings are given."""

import json
import re

import pytest
import torch

from clone import ROOT
from modulation_graphs import BINDING, BOUND, CLIP, ENTITIES, MODEL, PROMPT
from recordings import recording

SAMPLING = {"steps": 6, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
LINKS = {"positive": BOUND, "negative": ["negative", 0]}
RECORD = {
    **{"record": "entities", "words": "", "resolution": "auto", "start": 0.0, "end": 1.0},
    **{"aggregation": "mean over steps", "keep_every": 1, "self_attention": False, "point_x": 0.5, "point_y": 0.5},
}
OUTPUTS = ("score", "report", "json", "best", "image", "latent")
ALL = {name: ["score", place] for place, name in enumerate(OUTPUTS)}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def graph():
    """Three pictures of the demo model and their score."""
    return {
        "model": node("SBLoadDemoModel"),
        "bind": node("SBBindPrompt", clip=CLIP, text=PROMPT, entities=ENTITIES),
        "negative": node("CLIPTextEncode", clip=CLIP, text=""),
        "empty": node("EmptyLatentImage", width=128, height=128, batch_size=3),
        "record": node("SBRecordAttention", model=MODEL, binding=BINDING, **RECORD),
        "sample": node(
            "KSampler", model=["record", 0], latent_image=["empty", 0], seed=1, denoise=1.0, **SAMPLING, **LINKS
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 2]),
        "score": node(
            "SBScoreAttention", maps=["record", 1], binding=BINDING, latent=["sample", 0], images=["decode", 0]
        ),
    }


def test_best_of_a_batch(run_graph, graph):
    done = run_graph(graph, **ALL, pictures=["decode", 0], latents=["sample", 0])
    told, values = json.loads(done.values["json"]), done.values
    found = [each["score"] for each in told["pictures"]]
    assert len(set(found)) == 3
    best = found.index(max(found))
    assert values["best"] == told["best"] == best
    assert values["score"] == pytest.approx(sum(found) / 3)
    assert torch.equal(values["image"], values["pictures"][best : best + 1])
    assert torch.equal(values["latent"]["samples"], values["latents"]["samples"][best : best + 1])
    assert values["latent"]["batch_index"] == [best]
    lines = values["report"].splitlines()
    assert lines[best] == f"picture {best + 1}: {found[best]:.3f}, weakest: {told['pictures'][best]['weakest']}"
    assert lines[3] == f"best: picture {best + 1} (index {best}); mean {values['score']:.3f}"
    assert done.outputs["score"]["text"] == [values["report"]]


def test_the_best_after_a_few_steps_is_drawn_on(run_graph, graph):
    """Two samplers share the steps of one: the latent that is kept becomes the picture it would have become."""
    shared = {**SAMPLING, **LINKS, "noise_seed": 1}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    then = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 6, "return_with_leftover_noise": "disable"}
    del graph["score"]["inputs"]["images"]
    graph["whole"] = graph["sample"]
    graph["sample"] = node("KSamplerAdvanced", model=["record", 0], latent_image=["empty", 0], **shared, **first)
    graph["on"] = node("KSamplerAdvanced", model=MODEL, latent_image=["score", 5], **shared, **then)
    done = run_graph(graph, best=["score", 3], on=["on", 0], whole=["whole", 0]).values
    kept, whole = done["on"]["samples"], done["whole"]["samples"]
    assert kept.shape[0] == 1
    distances = [float((kept[0] - each).abs().max()) for each in whole]
    assert distances[done["best"]] < 1e-3 < min(each for place, each in enumerate(distances) if place != done["best"])


def test_on_a_server(server, graph):
    graph["save"] = node("SaveImage", images=["score", 4], filename_prefix="best")
    done = server.run(graph)
    assert done.outputs["score"]["text"][0].startswith("picture 1: ")
    assert len(done.outputs["save"]["images"]) == 1


def test_wrong_wiring(run_graph, graph):
    def fails(match):
        with pytest.raises(run_graph.Failed, match=match) as caught:
            run_graph(graph)
        assert caught.value.node_type == "SBScoreAttention"

    graph["score"]["inputs"]["latent"] = ["empty", 0]
    fails("not returned by any of the last 1 runs")
    del graph["score"]["inputs"]["latent"]
    fails("latent input is not connected")
    graph["score"]["inputs"]["latent"] = ["sample", 0]
    graph["score"]["inputs"]["images"] = ["one", 0]
    graph["one"] = node("ImageFromBatch", image=["decode", 0], batch_index=0, length=1)
    fails("There are 1 images, but the recording is of 3")
    graph["score"]["inputs"]["images"] = ["decode", 0]
    graph["record"]["inputs"]["record"] = "entities and attributes"
    fails("maps of their own for circle: red, square: blue.*Set record in Record Attention to entities;")
    graph["record"]["inputs"]["record"] = "words"
    graph["record"]["inputs"]["words"] = "circle, square"
    fails("no maps of the entities circle, square, but of: circle, square. Set record in Record Attention to entities,")
    graph["record"]["inputs"]["record"] = "entities"
    graph["bind"]["inputs"]["entities"] = "circle: red"
    fails(r"two entities or more, and the BINDING has 1 \(circle\)")


@pytest.fixture
def given(run_graph, comfy, part, monkeypatch):
    """``given(recording, binding, latent=...)``: a graph of the node on values of the test, and what it wants."""

    from given import giving_node

    def made(maps, binding, **others):
        values = {"maps": maps, "binding": binding, **others}
        for name, value in values.items():
            monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, f"Test{name}", giving_node(value))
        graph = {name: node(f"Test{name}") for name in values}
        return {**graph, "score": node("SBScoreAttention", **{name: [name, 0] for name in values})}

    return made


@pytest.fixture
def loaded(part):
    """A loaded recording of two pictures, in the first of which the dog is nowhere, and its binding."""
    maps, binding = part("attention.maps.recording"), part("parsing.binding")
    values = torch.full((1, 2, 2, 2, 2), 0.1)
    values[0, :, 0, 0], values[0, 1, 1, 1, 1] = 0.4, 0.8
    made = recording(maps, [values])
    entities = tuple(binding.Entity(name, binding.Phrase(name, (binding.Span(0, 1),))) for name in ("cat", "dog"))
    return maps.AttentionMaps(fixed=made), binding.Binding("key", made.prompt, made.prompt, entities, (), "manual")


def test_loaded_maps_need_no_latent(run_graph, given, loaded):
    done = run_graph(given(*loaded), best=["score", 3], json=["score", 2])
    assert done.values["best"] == 1
    assert [each["weakest"] for each in json.loads(done.values["json"])["pictures"]] == ["dog", "cat"]


def test_what_is_not_connected_cannot_be_given(run_graph, given, loaded, part):
    """What waits for it is not executed, and ComfyUI shows why; the rest is."""
    graph = given(*loaded)
    graph["save"] = node("SaveLatent", samples=["score", 5], filename_prefix="none")
    done = run_graph(graph, best=["score", 3])
    assert done.values == {"best": 1} and list(done.outputs) == ["score"]
    given_out = part("nodes.evaluation.attention_score").SBScoreAttention.execute(*loaded).args
    assert [each.message.split(": ")[1] for each in given_out[4:]] == [
        "connect its images input.",
        "connect its latent input.",
    ]


def test_latents_that_are_not_of_loaded_maps(run_graph, given, loaded):
    with pytest.raises(run_graph.Failed, match="There are 3 latents, but the recording is of 2"):
        run_graph(given(*loaded, latent={"samples": torch.zeros(3, 4, 4, 4)}))


def test_the_score_is_the_best_that_was_measured_and_the_help_page_says_how_good(part):
    """Of all measures on the maps that Record Attention gives by default; chosen on half of the prompts."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "attention-scores.json").read_text())["rows"]
    kept = ("latent", "all steps", "score of the mean map")
    plain = [row for row in rows if (row["resolution"], row["window"], row["taken"]) == kept]
    best = max(plain, key=lambda row: row["within_prompts_on_the_half_for_choosing"])
    prediction = part("evaluation.prediction")
    shipped = (prediction.MEASURE, prediction.REDUCTION, "all words")
    assert (best["measure"], best["reduction"], best["words"]) == shipped and best["wholly right: n"] >= 1000
    page = (ROOT / "web" / "docs" / "SBScoreAttention.md").read_text()
    told = [tuple(map(float, each)) for each in re.findall(r"(\.\d{3}) ± (\.\d{3})", page)]
    for target in ("wholly right", "nothing left out", "bound rightly, of those with nothing left out"):
        for of in ("area", "within"):
            measured = best[f"{target}: {of}"], best[f"{target}: {of}_error"]
            assert any(each == pytest.approx(measured, abs=6e-4) for each in told), (target, of)


def test_a_broken_picture_is_not_the_best(part, loaded):
    maps, binding = loaded
    made = maps.find(None)
    made.grids[0].maps[0, 1] = float("nan")
    prediction = part("evaluation.prediction")
    found = prediction.predictions(made, binding)
    assert found[1].score != found[1].score
    assert prediction.best_of(found) == 0
