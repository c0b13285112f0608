"""Where a prompt and a seed go in a graph, and what judges add to it."""

from __future__ import annotations

import copy

import pytest

from examples import FILES, api


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


PLAIN = {
    "1": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "2": node("CLIPTextEncode", text="a cat", clip=["1", 1]),
    "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
    "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "5": node("KSampler", seed=7, model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0]),
    "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
    "7": node("SaveImage", images=["6", 0], filename_prefix="x"),
    "8": node("PreviewAny", source=["5", 0]),
}


@pytest.fixture(scope="module")
def graphs(part):
    return part("evaluation.bench.graphs")


@pytest.fixture
def read(graphs):
    """``read(graph, image=..., prompt=..., seed=...)``: the template."""
    return lambda graph, **choices: graphs.read_template("mine", graph, graphs.Choices(**choices))


@pytest.fixture
def plain():
    return copy.deepcopy(PLAIN)


def test_a_plain_graph(read, plain):
    template = read(plain)
    graph = template.filled("a dog", 3)
    assert (graph["2"]["inputs"]["text"], graph["3"]["inputs"]["text"]) == ("a dog", "blurry")
    assert graph["5"]["inputs"]["seed"] == 3
    assert graph["benchmark picture"] == node("PreviewImage", images=["6", 0])
    assert graph["benchmark binding"] == node("SBBindPrompt", clip=["1", 1], text="a dog")
    assert not graph.keys() & {"7", "8"}, "nodes that the picture is not made of are not run"
    assert plain == PLAIN and template.graph["2"]["inputs"]["text"] == "a cat"


def test_the_prompt_is_found_through_what_stands_between(read, plain):
    plain["9"] = node("ConditioningConcat", conditioning_to=["2", 0], conditioning_from=["2", 0])
    plain["10"] = node("ControlNetApplyAdvanced", positive=["9", 0], negative=["3", 0])
    plain["5"]["inputs"] |= {"positive": ["10", 0], "negative": ["10", 1]}
    assert [str(place) for place in read(plain).prompts] == ["2.text"]


def test_bind_conditioning_and_its_encoder_get_the_same_prompt(read):
    graph = api("Bind an existing conditioning")
    with pytest.raises(ValueError, match="the input entities of 5"):
        read(graph)
    graph["5"]["inputs"]["entities"] = ""
    template = read(graph)
    classes = {graph[place.node]["class_type"] for place in template.prompts}
    assert classes == {"SBBindConditioning", "CLIPTextEncode"} and len(template.prompts) == 2
    assert template.filled("x", 0)[template.binding.node]["class_type"] == "SBBindConditioning"


def test_shipped_workflows_are_read(read):
    """All that save one picture and parse their prompt; of the others it has to be said which picture is meant."""
    read_ones, asked = [], []
    for name in FILES:
        try:
            template = read(api(name))
        except ValueError as error:
            assert "--image-node" in str(error) or "the input entities" in str(error), name
            asked.append(name)
        else:
            assert template.binding is not None and template.seeds, name
            read_ones.append(name)
    assert {"Bind a prompt", "Masks from attention", "Two subjects"} <= set(read_ones)
    assert {"Compose noise", "Subject delay"} <= set(asked)


def test_a_draft_gets_the_same_seed(read):
    graph = api("Masks from attention")
    assert len(read(graph).seeds) == 2


def test_recorders_go_whose_maps_are_not_needed(read, plain):
    plain |= {str(place): node("SBRecordAttention", words="cat", model=["1", 0]) for place in (20, 21)}
    plain["21"]["inputs"]["model"] = ["20", 0]
    plain["5"]["inputs"]["model"] = ["21", 0]
    plain["22"] = node("SBPreviewAttention", maps=["21", 1], latent=["5", 0])
    template = read(plain)
    assert template.graph["5"]["inputs"]["model"] == ["1", 0] and not template.graph.keys() & {"20", "21", "22"}
    plain["23"] = node("SBMasksFromAttention", maps=["20", 1])
    plain["5"]["inputs"]["model"] = ["24", 0]
    plain["24"] = node("SBObjectFocusedAttention", model=["21", 0], binding=["23", 0])
    assert read(plain).graph["24"]["inputs"]["model"] == ["20", 0]


def test_of_two_pictures_one_is_chosen(read, plain):
    plain["11"] = node("VAEDecodeTiled", samples=["5", 0], vae=["1", 2])
    plain["12"] = node("PreviewImage", images=["11", 0])
    with pytest.raises(ValueError, match=r"several pictures .*--image-node.* 7 \(SaveImage\), 12 \(PreviewImage\)"):
        read(plain)
    assert read(plain, image="12").picture == ("11", 0)
    with pytest.raises(ValueError, match="13 is not the id of a Save Image"):
        read(plain, image="13")


def test_what_is_ambiguous_is_listed(read, plain):
    both = copy.deepcopy(plain)
    both["9"] = node("CLIPTextEncode", text="a bird", clip=["1", 1])
    both["10"] = node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["9", 0])
    both["5"]["inputs"]["positive"] = ["10", 0]
    with pytest.raises(ValueError, match=r'several CLIP Text Encode .*2.text \("a cat"\).*9.text \("a bird"\)'):
        read(both)
    assert [str(place) for place in read(both, prompt=("9.text",)).prompts] == ["9.text"]
    bound = copy.deepcopy(both)
    for each in ("2", "9"):
        bound[each]["class_type"] = "SBBindPrompt"
    with pytest.raises(ValueError, match=r'several prompts.*2.text \("a cat"\), 9.text \("a bird"\)'):
        read(bound)


def test_what_is_not_there_is_said(read, plain):
    with pytest.raises(ValueError, match=r"no node '99'. It is made of: 1 \(Ch"):
        read(plain, prompt=("99.text",))
    with pytest.raises(ValueError, match="has no such input. It has: text, clip"):
        read(plain, prompt=("2.prompt",))
    wired = copy.deepcopy(plain) | {"9": node("PrimitiveString", value="a cat")}
    wired["2"]["inputs"]["text"] = ["9", 0]
    with pytest.raises(ValueError, match=r"2.text is wired to node 9 .* one of 9.value"):
        read(wired)
    assert read(wired, prompt=("9.value",)).clip == ("1", 1)
    wired["5"]["class_type"] = "Mine"
    with pytest.raises(ValueError, match="--seed-node.*Inputs called seed: 5.seed"):
        read(wired, prompt=("9.value",))
    assert [str(place) for place in read(wired, prompt=("9.value",), seed=("5.seed",)).seeds] == ["5.seed"]
    named = copy.deepcopy(plain)
    named["2"] = node("SBBindPrompt", text="a cat", entities="cat", clip=["1", 1])
    with pytest.raises(ValueError, match="Workflow mine: the input entities of 2"):
        read(named)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ({"nodes": [], "links": []}, "the frontend's format"),
        ([], "no graph"),
        ({"1": {"inputs": {}}}, '"1" is not a node'),
        ({"1": node("SaveImage", images=["2", 0])}, "node 2, which is not there"),
    ],
)
def test_other_files_are_refused(read, graph, said):
    with pytest.raises(ValueError, match=said):
        read(graph)


def test_the_digest_knows_what_changes_pictures(graphs, read, plain):
    def digest(graph):
        return graphs.digest(read(graph).filled("", 0))

    same, other = copy.deepcopy(plain), copy.deepcopy(plain)
    same["5"]["inputs"]["seed"], same["2"]["inputs"]["text"] = 99, "a bird"
    same["7"]["_meta"] = same["6"]["_meta"] = {"title": "mine"}
    other["3"]["inputs"]["text"] = "ugly"
    assert digest(plain) == digest(same) != digest(other)


def test_nodes_of_judges(part, read, plain):
    judges, prompt = part("evaluation.bench.judges"), part("evaluation.bench.prompt").Prompt
    template = read(plain)
    graph = template.filled("a dog", 0)
    shapes = judges.judge_named("shapes").added_to(graph, template, prompt("a dog"))
    assert shapes["benchmark judge"] == node("SBScoreBinding", image=["6", 0], binding=["benchmark binding", 1])
    model = judges.judge_named("some/repository").added_to(graph, template, prompt("a dog"))
    assert model["benchmark judge model"] == node("SBLoadJudge", judge="some/repository", download=False)
    assert model["benchmark judge"]["inputs"]["judge"] == ["benchmark judge model", 0]
    assert model["benchmark judge"]["inputs"]["aggregate"] == "arithmetic mean"
    product = judges.judge_named("x", "product").added_to(graph, template, prompt("a dog"))
    assert product["benchmark judge"]["inputs"]["aggregate"] == "product"
    with pytest.raises(ValueError, match="nothing to aggregate"):
        judges.judge_named("shapes", "product")
    asked = prompt("a photo of a cat, a bus", objects=("cat", "bus"))
    owl = judges.judge_named("detector:google/owlv2-base").added_to(graph, template, asked)
    things = owl["benchmark binding of things"]["inputs"]
    assert things["text"] == "a photo of a cat. a photo of a bus"
    assert things["entities"] == "a photo of a cat | a photo of a bus"
    assert owl["benchmark judge detection"]["inputs"]["box_threshold"] == 0.1
    dino = judges.judge_named("detector:IDEA-Research/grounding-dino-tiny").added_to(graph, template, asked)
    assert dino["benchmark binding of things"]["inputs"]["text"] == "cat. bus"
    nouns = judges.judge_named("detector:mine").added_to(graph, template, prompt("a dog"))
    assert nouns["benchmark judge detection"]["inputs"]["binding"] == ["benchmark binding", 1]
    for wrong in ("detector:", " "):
        with pytest.raises(ValueError, match="name"):
            judges.judge_named(wrong)
