"""Load SAM and Segment Entities in whole graphs: MobileSAM's real weights on rendered shapes, with exact masks."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch
from PIL import Image

from scenes import core_box, iou, mobile_sam, pictured

SETTINGS = {
    **{"points": "", "masks_from": "best of three", "skip_background": True},
    **{"not_found": "empty mask", "overlaps": "smaller in front"},
}
MASKS = ["segment", 1]
THREE, TWO = 57, 90
"""Seeds of a scene of three shapes and of one of the two others, of which one has corners that point inwards."""


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(**settings):
    """Load SAM and Segment Entities on what the test gives: a picture, a binding, and boxes if there are any."""
    boxes = {"bboxes": ["boxes", 0]} if settings.pop("boxes", False) else {}
    given = {"image": ["picture", 0], "binding": ["binding", 0], "segmenter": ["sam", 0], **boxes}
    made = {
        "sam": node("SBLoadSAM", checkpoint="mobile_sam.pt"),
        "picture": node("GivePicture"),
        "binding": node("GiveBinding"),
        "segment": node("SBSegmentEntities", **{**SETTINGS, **given, **settings}),
    }
    return {**made, "boxes": node("GiveBoxes")} if boxes else made


@pytest.fixture
def sams(comfy):
    """ComfyUI's models/sams with MobileSAM in it."""
    folder = comfy.base / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "mobile_sam.pt").exists():
        (folder / "mobile_sam.pt").symlink_to(mobile_sam())
    return folder


@pytest.fixture
def bind(part):
    """``bind("a red cat", "a dog")``: a binding of entities whose nouns are the last words."""
    binding = part("parsing.binding")

    def make(*names: str):
        phrases = [binding.Phrase(name, (binding.Span(0, 1),)) for name in names]
        entities = tuple(binding.Entity(name, phrase) for name, phrase in zip(names, phrases, strict=True))
        return binding.Binding("key", "", " and ".join(names), entities, (), "test")

    return make


@pytest.fixture
def give(comfy, run_graph, monkeypatch, sams):
    """``give(picture=..., binding=..., boxes=...)``: what the graph's nodes of those names give."""

    from given import giving_node

    def put(**values):
        run_graph.forget()
        for name, value in values.items():
            monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, f"Give{name.title()}", giving_node(value))

    return put


def as_text(centres: dict[str, tuple[float, float]]) -> str:
    return "\n".join(f"{name}: {x:.4f} {y:.4f}" for name, (x, y) in centres.items())


def segmented(run_graph, give, bind, scenes, by: str, **settings) -> list[float]:
    """IoU with the exact mask of each shape of each scene, found by its box or by a point on it, all in one batch."""
    names = sorted({name for scene in scenes for name in scene.masks})
    give(picture=torch.stack([scene.image for scene in scenes]), binding=bind(*names))
    if by == "boxes":
        give(
            boxes=[
                [core_box(box, len(scene.image), label=name) for name, box in scene.boxes.items()] for scene in scenes
            ]
        )
    else:
        settings["points"] = as_text(scenes[0].centres)
    run = run_graph(graph(boxes=by == "boxes", **settings), masks=MASKS, binding=["segment", 0])
    masks = run.values["masks"].unflatten(0, (len(scenes), len(names)))
    found = []
    for picture, scene in enumerate(scenes):
        for place, name in enumerate(names):
            mask = run.values["binding"].entity(name).mask[picture]
            assert torch.equal(mask, masks[picture, place])
            if name in scene.masks:
                found.append(iou(mask, scene.masks[name]))
            else:
                assert not mask.any()
    return found


def test_boxes_on_two_pictures(run_graph, give, bind, part):
    scenes = [pictured(part, seed) for seed in (THREE, TWO)]
    found = segmented(run_graph, give, bind, scenes, "boxes")
    assert len(found) == 5 and min(found) >= 0.9


def test_points(run_graph, give, bind, part):
    found = segmented(run_graph, give, bind, [pictured(part, THREE)], "points")
    assert len(found) == 3 and min(found) >= 0.9


@pytest.mark.slow
def test_boxes_and_points_on_many_scenes(run_graph, give, bind, part):
    scenes = [pictured(part, seed) for seed in range(100, 110)]
    boxes = segmented(run_graph, give, bind, scenes, "boxes")
    points = [value for scene in scenes for value in segmented(run_graph, give, bind, [scene], "points")]
    assert len(boxes) == len(points) == 26
    assert min(boxes) >= 0.9
    assert min(points) >= 0.9


def test_regions_several_boxes_and_points_that_are_not_on_it(run_graph, give, bind, part):
    """Without boxes and points the binding's masks say where things are; an entity may be two things."""
    scene = pictured(part, THREE)
    star, triangle, heart = (scene.masks[name] for name in ("star", "triangle", "heart"))
    rough = torch.nn.functional.max_pool2d(triangle[None], 9, 1, 4)
    binding = bind("shapes", "triangle", "ghost", "sky").with_entity("triangle", mask=rough)
    boxes = [core_box(scene.boxes[name], len(scene.image), label="shapes") for name in ("star", "heart")]
    give(picture=scene.image[None], binding=binding, boxes=boxes)
    x, y = scene.centres["triangle"]
    run = run_graph(graph(boxes=True, points=f"shapes: not {x} {y}"), masks=MASKS)
    shapes, found, ghost = run.values["masks"]
    assert iou(shapes, torch.maximum(star, heart)) >= 0.9
    assert iou(found, triangle) >= 0.9
    assert not ghost.any()
    lines = run.outputs["segment"]["text"][0].splitlines()
    assert lines[2] == "ghost: not found, its mask is empty"
    assert lines[3:] == ["sky: skipped, it is a background or abstract", "Nothing says where these are: ghost"]
    with pytest.raises(run_graph.Failed, match="Not found in the picture: ghost"):
        run_graph(graph(boxes=True, not_found="stop"), masks=MASKS)


def test_backgrounds_that_are_pointed_at_are_not_skipped(run_graph, give, bind, part):
    scene = pictured(part, THREE)
    give(picture=scene.image[None], binding=bind("sky"))
    run = run_graph(graph(points="sky: 0.01 0.01"), masks=MASKS)
    assert run.values["masks"].mean() > 0.3


def test_what_shares_pixels_and_which_mask(run_graph, give, bind, part):
    scene = pictured(part, THREE)
    give(picture=scene.image[None], binding=bind("star", "other"))
    x, y = scene.centres["star"]
    points = f"star: {x} {y}\nother: {x} {y}"
    kept = run_graph(graph(points=points, overlaps="keep"), masks=MASKS).values["masks"]
    assert torch.equal(kept[0], kept[1])
    shared = run_graph(graph(points=points), masks=MASKS).values["masks"]
    assert torch.equal(shared[0], kept[0]) and not shared[1].any()
    largest = run_graph(graph(points=points, masks_from="largest of three"), masks=MASKS).values["masks"]
    assert largest[0].sum() > 1.5 * kept[0].sum(), "a point alone leaves open what the whole is"


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ("cat 0.1 0.2", 'Line 1 of points, "cat 0.1 0.2": there is no colon'),
        ("cat: 0.1 0.2\n\ndog: 0.5 0.5", 'Line 3 .*has no entity "dog".*1 = cat'),
        ("cat: 0.1 0.2,", 'Line 1 .*"" is no point'),
        ("cat: 0.1 0.2 0.3", "two fractions, of the width and of the height"),
        ("cat: no 0.1 0.2", '"no 0.1 0.2" is no point'),
        ("cat: 120 80", "120 80 is not in the picture. Points are fractions"),
        ("cat: nan 0.5", "is not in the picture"),
        ("cat: not 0.1 0.2", "points of cat only say where it is not"),
        ("", "Nothing says where the entities are .cat.. Connect bboxes"),
    ],
)
def test_points_that_cannot_be_used(run_graph, give, bind, points, told):
    give(picture=torch.zeros(1, 64, 64, 3), binding=bind("cat"))
    with pytest.raises(run_graph.Failed, match=told) as caught:
        run_graph(graph(points=points), masks=MASKS)
    assert caught.value.exception_type == "ValueError"


def test_boxes_and_regions_that_cannot_be_used(run_graph, give, bind):
    picture = torch.zeros(2, 64, 64, 3)
    give(picture=picture, binding=bind("cat"), boxes=[core_box((0, 0, 1, 1), 64, label="dog")])
    with pytest.raises(run_graph.Failed, match="No box is labelled as an entity. The labels are: dog"):
        run_graph(graph(boxes=True), masks=MASKS)
    give(picture=picture, binding=bind("cat").with_entity("cat", mask=torch.ones(3, 8, 8)))
    with pytest.raises(run_graph.Failed, match="cat has masks for 3 pictures, and there are 2"):
        run_graph(graph(), masks=MASKS)


def test_checkpoints_that_cannot_be_loaded(run_graph, give, bind, sams):
    give(picture=torch.zeros(1, 64, 64, 3), binding=bind("cat"))
    made = graph(points="cat: 0.5 0.5")
    with pytest.raises(run_graph.Rejected, match='no Segment Anything checkpoint "none.pth" in .*sams. Put one there'):
        run_graph({**made, "sam": node("SBLoadSAM", checkpoint="none.pth")}, masks=MASKS)
    with pytest.raises(run_graph.Failed, match="There is no Segment Anything checkpoint in .*sams. Put one there"):
        run_graph({**made, "sam": node("SBLoadSAM")}, masks=MASKS)
    torch.save({"model.diffusion_model.x": torch.zeros(1)}, sams / "mobile_sam_really.pt")
    with pytest.raises(run_graph.Failed, match="no checkpoint of Segment Anything that can be used here"):
        run_graph({**made, "sam": node("SBLoadSAM", checkpoint="mobile_sam_really.pt")}, masks=MASKS)


def test_over_http(server, part, tmp_path):
    """Files put into the server's folders, core's nodes around ours, and the masks as pictures."""
    folder = server.base / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(mobile_sam(), folder / "mobile_sam.pt")
    assert "mobile_sam.pt" in json.dumps(server.object_info("SBLoadSAM"))

    scene = pictured(part, TWO)
    size = len(scene.image)
    file = io.BytesIO()
    Image.fromarray((scene.image * 255).round().byte().numpy()).save(file, "PNG")
    x, y = scene.centres["circle"]
    box = core_box(scene.boxes["cross"], size)
    made = {
        "picture": node("LoadImage", image=server.upload_image("shapes.png", file.getvalue())),
        "model": node("SBLoadDemoModel"),
        "binding": node("SBBindPrompt", clip=["model", 1], text="a cross and a circle", entities="cross | circle"),
        "boxes": node("CreateBoundingBoxes", width=size, height=size, editor_state={"__value__": [box]}),
        "sam": node("SBLoadSAM", checkpoint="mobile_sam.pt"),
        "segment": node(
            "SBSegmentEntities",
            segmenter=["sam", 0],
            image=["picture", 0],
            binding=["binding", 1],
            bboxes=["boxes", 1],
            **{**SETTINGS, "points": f"circle: {x} {y}"},
        ),
        "shown": node("MaskPreview", mask=["segment", 1]),
    }
    run = server.run(made)
    assert run.outputs["sam"]["text"] == ["mobile_sam.pt: MobileSAM, 39 MB"]
    assert [line.split(":")[0] for line in run.outputs["segment"]["text"][0].splitlines()] == ["cross", "circle"]
    for image, name in zip(run.outputs["shown"]["images"], ("cross", "circle"), strict=True):
        found = Image.open(io.BytesIO(server.view(image))).convert("L")
        assert iou(torch.tensor(list(found.getdata())).view(size, size) / 255, scene.masks[name]) >= 0.9
