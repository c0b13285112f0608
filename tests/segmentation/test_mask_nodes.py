"""The nodes of entity masks in whole graphs on the demo model."""

import pytest
import torch

from modulation_graphs import BINDING, BOUND, CLIP, ENTITIES, MODEL, PROMPT

SAMPLING = {"seed": 3, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
RECORD = {
    **{"record": "entities", "words": "", "resolution": "auto", "start": 0.5, "end": 1.0, "keep_every": 1},
    **{"aggregation": "mean over steps", "self_attention": False, "point_x": 0.5, "point_y": 0.5, "affinity": True},
}
CUT = {
    **{"method": "highest", "threshold": 0.5, "sharpen": 1, "clean_up": True, "skip_background": True},
    **{"not_found": "empty mask", "overlaps": "smaller in front"},
}
FOCUS = {
    **{"patches_from": "previous step", "min_share": 0.0, "background": "sees no entity", "mode": "hard"},
    **{"end_and_padding": "closed", "start": 0.0, "end": 1.0, "score": "sum"},
}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(steps=8, batch=2, record=(), cut=()):
    """Draft, masks from its attention, and the final picture of the same noise, on the demo model."""
    sampled = {**SAMPLING, "positive": BOUND, "negative": ["negative", 0], "latent_image": ["empty", 0]}
    made = {
        "model": node("SBLoadDemoModel"),
        "bind": node("SBBindPrompt", clip=CLIP, text=PROMPT, entities=ENTITIES),
        "negative": node("CLIPTextEncode", clip=CLIP, text=""),
        "empty": node("EmptyLatentImage", width=128, height=128, batch_size=batch),
        "record": node("SBRecordAttention", model=MODEL, binding=BINDING, **{**RECORD, **dict(record)}),
        "draft": node("KSampler", model=["record", 0], steps=steps, denoise=1.0, **sampled),
        "masks": node(
            "SBMasksFromAttention",
            maps=["record", 1],
            binding=BINDING,
            latent=["draft", 0],
            **{**CUT, **dict(cut)},
        ),
        "focus": node("SBObjectFocusedAttention", model=MODEL, binding=["masks", 0], **FOCUS),
        "final": node("KSampler", model=["focus", 0], steps=steps, denoise=1.0, **sampled),
        "decode": node("VAEDecode", samples=["final", 0], vae=["model", 2]),
        "preview": node("SBPreviewMasks", binding=["masks", 0], images=["decode", 0], opacity=0.5),
    }
    return made


def iou(mask, thing):
    mask, thing = mask > 0.5, torch.from_numpy(thing)
    return float((mask & thing).sum() / (mask | thing).sum())


@pytest.mark.slow
def test_draft_masks_final(run_graph, part):
    made = graph(steps=20, batch=4)
    made["decode draft"] = node("VAEDecode", samples=["draft", 0], vae=["model", 2])
    shown = {"masks": ["masks", 1], "background": ["masks", 2], "binding": ["masks", 0]}
    run = run_graph(made, draft=["decode draft", 0], final=["decode", 0], **shown)
    masks = run.values["masks"].unflatten(0, (4, 2))
    assert torch.equal(run.values["background"], 1 - masks.amax(1))
    assert torch.equal(run.values["binding"].entities[1].mask, masks[:, 1])
    detect = part("evaluation.detect").detect
    covered = []
    for picture, of_picture in zip(run.values["draft"], masks, strict=True):
        things = detect(picture.numpy())
        if len(things) == 2:
            covered += [max(iou(mask, thing.mask) for thing in things) for mask in of_picture]
    assert len(covered) >= 4 and sum(covered) / len(covered) > 0.8
    assert not torch.equal(run.values["draft"], run.values["final"])


def test_panel_and_preview_of_masks_from_attention(run_graph):
    run = run_graph(graph(), preview=["preview", 0])
    lines = run.outputs["masks"]["text"][0].splitlines()
    assert [line.split(":")[0] for line in lines] == ["circle", "square"]
    assert all("of the picture" in line for line in lines)
    assert run.values["preview"].shape[0] == 2
    assert len(run.outputs["preview"]["images"]) == 2


def test_masks_within_one_run(run_graph):
    """Two samplers share the steps of one: the recording is found by the noisy latent between them."""
    made = graph(record={"start": 0.0})
    shared = {**SAMPLING, "positive": BOUND, "negative": ["negative", 0], "steps": 8, "noise_seed": 3}
    del shared["seed"]
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 3, "return_with_leftover_noise": "enable"}
    then = {"add_noise": "disable", "start_at_step": 3, "end_at_step": 8, "return_with_leftover_noise": "disable"}
    made["draft"] = node("KSamplerAdvanced", model=["record", 0], latent_image=["empty", 0], **shared, **first)
    made["final"] = node("KSamplerAdvanced", model=["focus", 0], latent_image=["draft", 0], **shared, **then)
    focused = run_graph(made, latent=["final", 0], masks=["masks", 1])
    assert 0.01 < focused.values["masks"].mean() < 0.6
    made["final"]["inputs"]["model"] = MODEL
    assert not torch.equal(
        run_graph(made, latent=["final", 0]).values["latent"]["samples"], focused.values["latent"]["samples"]
    )


@pytest.mark.parametrize(
    ("record", "cut", "message"),
    [
        ({"affinity": False}, {}, "no affinity to sharpen.*sharpen to 0"),
        ({"record": "words", "words": "red"}, {}, "no map of: circle, square. Its maps are: red"),
        ({}, {"threshold": 1.0, "not_found": "stop"}, "Not found in the picture: circle.*square"),
    ],
)
def test_masks_that_cannot_be_made(run_graph, record, cut, message):
    with pytest.raises(run_graph.Failed, match=message) as caught:
        run_graph(graph(steps=2, record=record, cut=cut))
    assert caught.value.node_type == "SBMasksFromAttention"


def test_entities_that_are_nowhere_have_empty_masks_and_a_note(run_graph):
    run = run_graph(graph(steps=2, cut={"threshold": 1.0}), binding=["masks", 0])
    assert "circle: not found, its mask is empty" in run.outputs["masks"]["text"][0]
    assert not run.values["binding"].entities[0].mask.any()


def assigned(run_graph, **nodes):
    made = {key: value for key, value in graph().items() if key in ("model", "bind")}
    for name, size in (("small", 32), ("large", 64)):
        made[name] = node("SolidMask", value=1.0, width=size, height=size)
    made |= nodes
    return run_graph(made, binding=[list(nodes)[-1], 0])


def test_assigned_masks_have_one_size_and_say_so(run_graph):
    run = assigned(
        run_graph,
        one=node("SBAssignMask", binding=BINDING, mask=["large", 0], entity="circle"),
        two=node("SBAssignMask", binding=["one", 0], mask=["small", 0], entity="2", overlap="new in front"),
    )
    circle, square = run.values["binding"].entities
    assert circle.mask.shape == square.mask.shape == (1, 64, 64)
    assert square.mask.min() > 0.99 and not circle.mask.any()
    assert run.outputs["two"]["text"] == [
        "square: 64 x 64 mask, covers 100% of the picture (resized from 32 x 32 to the size of the other masks)"
    ]


def test_a_batch_of_masks_is_assigned_in_the_order_that_is_named(run_graph):
    made = {
        "black": node("SolidMask", value=0.0, width=32, height=32),
        "first": node("MaskToImage", mask=["small", 0]),
        "second": node("MaskToImage", mask=["black", 0]),
        "pictures": node("ImageBatch", image1=["first", 0], image2=["second", 0]),
        "both": node("ImageToMask", image=["pictures", 0], channel="red"),
        "assign": node("SBAssignMasks", binding=BINDING, masks=["both", 0], entities="square, 1", overlaps="keep"),
    }
    run = assigned(run_graph, **made)
    circle, square = run.values["binding"].entities
    assert square.mask.min() == 1 and not circle.mask.any()
    assert run.outputs["assign"]["text"][0].splitlines() == [
        "2 masks of 32 x 32",
        "square: covers 100.0% of the picture",
        "circle: not found, its mask is empty",
    ]
    made["assign"]["inputs"]["entities"] = "horse"
    with pytest.raises(run_graph.Failed, match='no entity "horse". Its entities are: 1 = circle, 2 = square'):
        assigned(run_graph, **made)


def test_preview_of_boxes_without_a_picture(run_graph):
    made = {key: value for key, value in graph().items() if key in ("model", "bind")}
    made["preview"] = node("SBPreviewMasks", binding=BINDING, opacity=0.5)
    with pytest.raises(run_graph.Failed, match="No entity of the binding has a mask or a box"):
        run_graph(made)
