"""Boxes to entities: as core's nodes give them, as text, and from splitting the picture."""

import pytest
import torch

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
INPUTS = {"layout": "", "split": "side by side", "width": 80, "height": 40, "skip_background": True}


@pytest.fixture
def boxes(part):
    return part("segmentation.boxes")


@pytest.fixture
def bind(part):
    """``bind("cat", "guide dog", ("dog", 2))``: a binding of entities with these nouns and counts."""
    parsing = part("parsing.binding")

    def make(*nouns):
        pairs = [(noun, 1) if isinstance(noun, str) else noun for noun in nouns]
        entities = [parsing.Entity(noun, parsing.Phrase(noun, ()), count=count) for noun, count in pairs]
        return parsing.Binding("key", "prompt", "prompt", parsing.with_unique_names(entities), (), "manual")

    return make


@pytest.fixture
def assigned(boxes):
    """The boxes of each entity in one picture of boxes that are given as (box, label[, score])."""

    def assign(binding, *found):
        frame = [boxes.Labelled(*each) for each in found]
        (result,), ignored = boxes.of_entities([frame], binding, binding.entities, 1)
        return result, ignored

    return assign


@pytest.fixture
def make(run_graph, comfy, monkeypatch):
    """Runs Masks from Boxes in a graph, with the inputs that differ from INPUTS."""

    from given import giving_node

    def run(binding, bboxes=None, **inputs):
        graph = {"masks": {"class_type": "SBMasksFromBoxes", "inputs": {**INPUTS, **inputs}}}
        for name, value in (("binding", binding), ("bboxes", bboxes)):
            if value is not None:
                monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, f"Give {name}", giving_node(value))
                graph[name] = {"class_type": f"Give {name}", "inputs": {}}
                graph["masks"]["inputs"][name] = [name, 0]
        run_graph.forget()
        return run_graph(graph, **{name: ["masks", place] for place, name in enumerate(("binding", "masks", "bboxes"))})

    return run


@pytest.fixture(autouse=True)
def node(part, comfy, monkeypatch):
    node = part("nodes.segmentation.masks_from_boxes").SBMasksFromBoxes
    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "SBMasksFromBoxes", node)
    return node


def pixels(x, y, width, height, **more):
    return {"x": x, "y": y, "width": width, "height": height, **more}


@pytest.mark.parametrize(
    "nest", [lambda box: box, lambda box: [box], lambda box: [[box]]], ids=["dict", "list", "frames"]
)
def test_the_three_shapes_of_a_box(boxes, nest):
    (frame,) = boxes.frames_of(nest(pixels(10, 5, 20, 10, label="cat", score=0.5)), (40, 80))
    assert frame == [boxes.Labelled((0.125, 0.125, 0.375, 0.375), "cat", 0.5)]


def test_each_picture_has_its_own_boxes(boxes):
    frames = boxes.frames_of([[pixels(0, 0, 40, 40)], [], [pixels(40, 0, 40, 40), pixels(0, 0, 40, 40)]], (40, 80))
    assert [[each.box for each in frame] for frame in frames] == [[LEFT], [], [RIGHT, LEFT]]
    assert boxes.frames_of([], (40, 80)) == [[]]
    assert boxes.frames_of([[]], (40, 80)) == [[]]


def test_the_description_of_a_box_is_its_label(boxes):
    metadata = {"type": "obj", "text": "", "desc": " cat ", "palette": []}
    ((found,),) = boxes.frames_of([[pixels(0, 0, 40, 40, metadata=metadata)]], (40, 80))
    assert found == boxes.Labelled(LEFT, "cat")


def test_elements_have_edges_in_thousandths_and_a_description(boxes):
    elements = [{"type": "obj", "bbox": [0, 500, 1000, 1000], "desc": " dog "}, {"bbox": [0, 0, 1000, 500]}]
    assert boxes.frames_of(elements, (40, 80)) == [[boxes.Labelled(RIGHT, "dog"), boxes.Labelled(LEFT)]]


def test_what_juts_out_is_cut_off(boxes):
    ((found,),) = boxes.frames_of(pixels(-8, -4, 48, 400), (40, 80))
    assert found.box == LEFT


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "got nothing"),
        ("cat", "got a str"),
        ([[pixels(0, 0, 4, 4)], pixels(0, 0, 4, 4)], "Box 1 of picture 1 is no dict .* but a list"),
        ({"x": 1, "y": 2}, "needs numbers for x, y, width and height"),
        (pixels(0, None, 4, 4), "needs numbers"),
        ([pixels(0, 0, 4, 4), pixels(90, 0, 8, 8)], r"Box 2 of picture 1 \(x 90, .* picture of 80 x 40 pixels"),
        (pixels(4, 4, 0, 8), "has no part of the picture"),
        (pixels(float("nan"), 4, 4, 8), "has no part of the picture"),
        ({"bbox": [0, 0, 1000], "desc": "cat"}, "Box 1 of picture 1 needs top, left, bottom and right"),
        ({"bbox": None}, "needs top, left, bottom and right"),
        ({"bbox": [0, 1000, 1000, 1000]}, "has no part of the picture"),
    ],
)
def test_what_is_no_box_is_told(boxes, value, told):
    with pytest.raises(ValueError, match=told):
        boxes.frames_of(value, (40, 80))


def test_boxes_without_labels_go_by_order(assigned, bind):
    binding = bind("cat", "dog", "sofa")
    assert assigned(binding, (RIGHT,), (LEFT,)) == ({"cat": [RIGHT], "dog": [LEFT]}, ())
    with pytest.raises(ValueError, match="4 boxes without labels .* 1 = cat, 2 = dog, 3 = sofa"):
        assigned(binding, *[(LEFT,)] * 4)


@pytest.mark.parametrize(
    ("label", "name"),
    [("Cat", "cat"), ("2", "guide dog"), ("GUIDE DOG", "guide dog"), ("dog", "guide dog"), ("bus", "buses")],
)
def test_labels_are_names_numbers_nouns_or_the_last_word(assigned, bind, label, name):
    assert assigned(bind("cat", "guide dog", "buses"), (LEFT, label)) == ({name: [LEFT]}, ())


def test_a_whole_noun_comes_before_a_last_word(assigned, bind):
    assert assigned(bind("teddy bear", "bear"), (LEFT, "bear"), (RIGHT, "teddy bear")) == (
        {"bear": [LEFT], "teddy bear": [RIGHT]},
        (),
    )


def test_numbers_are_those_of_the_binding(boxes, bind):
    binding = bind("sky", "cat", "dog")
    found = [[boxes.Labelled(LEFT, "3")]]
    assert boxes.of_entities(found, binding, binding.entities[1:], 1).frames == [{"dog": [LEFT]}]


def test_an_entity_may_have_several_boxes(assigned, bind):
    assert assigned(bind("cat", "dog"), (LEFT, "dog"), (RIGHT, "dog"))[0] == {"dog": [LEFT, RIGHT]}


def test_other_labels_are_left_out_and_told(assigned, bind):
    found = assigned(bind("cat"), (LEFT, "person"), (RIGHT, "cat"), (LEFT, ""))
    assert found == ({"cat": [RIGHT]}, ("person", "no label"))
    with pytest.raises(ValueError, match="labels are: person, car. The entities are: 1 = cat"):
        assigned(bind("cat"), (LEFT, "person"), (RIGHT, "car"))


def test_boxes_of_a_shared_noun_are_dealt_from_left_to_right(assigned, bind):
    third = (0.2, 0.0, 0.3, 1.0)
    found, ignored = assigned(bind("dog", "dog"), (RIGHT, "dog", 0.9), (LEFT, "dog", 0.8), (third, "dog", 0.3))
    assert (found, ignored) == ({"dog": [LEFT], "dog 2": [RIGHT]}, ())
    assert assigned(bind("dog", "dog"), (RIGHT, "dog", 0.9))[0] == {"dog": [RIGHT]}


def test_a_shared_noun_counts_as_a_name_where_others_are_named(assigned, bind):
    found, _ = assigned(bind("dog", "dog"), (RIGHT, "dog"), (LEFT, "dog 2"))
    assert found == {"dog": [RIGHT], "dog 2": [LEFT]}


def test_counted_entities_get_as_many_as_they_are_of(assigned, bind):
    parts = [(place / 4, 0.0, place / 4 + 0.2, 1.0) for place in range(4)]
    found, _ = assigned(bind(("dog", 2), "dog"), *[(box, "dog") for box in parts[:3]])
    assert found == {"dog": parts[:2], "dog 2": parts[2:3]}


def test_one_list_is_for_every_picture(boxes, bind):
    binding = bind("cat")
    one = [[boxes.Labelled(LEFT)]]
    assert boxes.of_entities(one, binding, binding.entities, 3).frames == [{"cat": [LEFT]}] * 3
    with pytest.raises(ValueError, match="boxes for 2 pictures, but 3 pictures"):
        boxes.of_entities(one * 2, binding, binding.entities, 3)


def test_rectangles_cover_parts_of_cells(boxes, part):
    found = [(0.1, 0.2, 0.55, 0.9), (0.5, 0.0, 0.7, 0.25)]
    fine = torch.zeros(400, 600)
    for left, top, right, bottom in found:
        fine[round(top * 400) : round(bottom * 400), round(left * 600) : round(right * 600)] = 1
    covered = boxes.rectangles(found, (4, 6))
    expected = torch.nn.functional.avg_pool2d(fine[None], 100)[0]
    assert (covered - expected)[:, :3].abs().max() < 1e-6
    assert torch.equal(
        boxes.rectangles(found[:1], (4, 6)), part("attention.engine.regions").region(None, found[0], (4, 6))[0]
    )
    assert not boxes.rectangles([], (4, 6)).any()


def test_boxes_written_for_core_are_read_again(boxes):
    frame = [boxes.Labelled(LEFT, "cat", 0.5), boxes.Labelled((0.25, 0.5, 0.5, 0.75), "dog")]
    assert boxes.frames_of(boxes.to_core([frame, []], (40, 80)), (40, 80)) == [frame, []]


@pytest.mark.parametrize(
    "text", ["cat: 0 0 .5 1\ndog: 0.5 0 1 1", "\n 1: 0, 0, 0.5, 1,\n\n2 :0.5,0,1,1", "CAT:0 0 0.5 1.\nDog: 0.5 0 1 1"]
)
def test_layout_text_is_read(part, bind, text):
    assert part("segmentation.layout_text").read_layout(text, bind("cat", "dog")) == {"cat": [LEFT], "dog": [RIGHT]}


def test_layout_lines_are_read_again(part, bind):
    layout = part("segmentation.layout_text")
    found = {"cat": [(0.125, 0.00001, 0.3333, 1.0), LEFT]}
    lines = layout.write_layout(found)
    assert lines == ["cat: 0.125 0 0.3333 1", "cat: 0 0 0.5 1"]
    assert layout.write_layout(layout.read_layout("\n".join(lines), bind("cat"))) == lines


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cat 0 0 1 1", "no colon"),
        ("cow: 0 0 1 1", 'no entity "cow". Its entities are: 1 = cat'),
        ("cat: 0 0 1", "four numbers"),
        ("cat: 0 0 1 one", "four numbers"),
        ("cat: -0.1 0 1 1", "four numbers from 0 to 1"),
        ("cat: 0 0 100 100", "none is larger than 1"),
        ("cat: 0.5 0 0.5 1", "left is smaller than right"),
        ("cat: 0 0.7 1 0.2", "top smaller than bottom"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(part, bind, line, told):
    with pytest.raises(ValueError, match=f'Line 3 of the layout, "{line}": .*{told}'):
        part("segmentation.layout_text").read_layout(f"cat: 0 0 1 1\n\n  {line}", bind("cat"))


def test_without_anything_the_picture_is_split(make, bind):
    run = make(bind("cat", "dog", "snow"))
    cat, dog, snow = run.values["binding"].entities
    assert (cat.box, dog.box, snow.box) == (LEFT, RIGHT, None)
    assert run.values["masks"].shape == (2, 40, 80)
    assert run.values["masks"][0, :, :40].min() == 1
    assert run.values["masks"].sum(0).eq(1).all()
    assert run.outputs["masks"]["text"] == ["cat: 0 0 0.5 1\ndog: 0.5 0 1 1\nsnow: no box, so it has no region"]
    run = make(bind("cat", "dog", "snow"), split="one above the other", skip_background=False)
    assert [entity.box for entity in run.values["binding"].entities] == [
        (0.0, place / 3, 1.0, (place + 1) / 3) for place in range(3)
    ]


def test_boxes_come_before_text(make, bind):
    binding = bind("cat", "dog", "sofa").with_entity("sofa", box=(0.0, 0.0, 0.1, 0.1))
    run = make(binding, [pixels(0, 0, 40, 40)], layout="cat: 0 0 0.1 0.1\ndog: 0.5 0 1 1")
    assert [entity.box for entity in run.values["binding"].entities] == [LEFT, RIGHT, (0.0, 0.0, 0.1, 0.1)]
    assert run.outputs["masks"]["text"][0].endswith("\nsofa: no box, keeps the region it had")


def test_backgrounds_are_passed_over_unless_they_are_named(make, bind):
    binding = bind("sky", "cat")
    run = make(binding, [pixels(0, 0, 40, 40)])
    assert [entity.box for entity in run.values["binding"].entities] == [None, LEFT]
    run = make(binding, [pixels(0, 0, 40, 40, label="sky")])
    assert [entity.box for entity in run.values["binding"].entities] == [LEFT, None]
    run = make(bind("sky"), layout="sky: 0 0 0.5 1")
    assert run.values["binding"].entities[0].box == LEFT
    run = make(binding, [pixels(0, 0, 40, 40)], skip_background=False)
    assert [entity.box for entity in run.values["binding"].entities] == [LEFT, None]


def test_several_boxes_or_pictures_become_masks(make, bind, boxes):
    before = bind("cat", "dog").with_entity("cat", box=LEFT)
    frames = [[pixels(0, 0, 20, 20, label="cat"), pixels(8, 8, 40, 20, label="cat")], [pixels(3, 3, 5, 5, label="dog")]]
    run = make(before, frames)
    cat, dog = run.values["binding"].entities
    expected = torch.zeros(2, 40, 80)
    expected[0, :20, :20] = 1
    expected[0, 8:28, 8:48] = 1
    assert torch.allclose(cat.mask, expected, atol=1e-5)
    assert dog.box is None and not dog.mask[0].any() and dog.mask[1].sum().item() == pytest.approx(25, abs=1e-3)
    assert torch.equal(run.values["masks"], torch.stack([cat.mask[0], dog.mask[0], cat.mask[1], dog.mask[1]]))
    assert "picture 2, dog: " in run.outputs["masks"]["text"][0]
    assert before.entities[0].mask is None


def test_one_box_replaces_a_mask(make, bind):
    run = make(bind("cat").with_entity("cat", mask=torch.ones(1, 4, 4)), layout="cat: 0 0 0.5 1")
    (cat,) = run.values["binding"].entities
    assert (cat.mask, cat.box) == (None, LEFT)


def test_labels_that_are_left_out_are_shown(make, bind):
    run = make(bind("cat"), [[pixels(0, 0, 40, 40, label="cat"), pixels(0, 0, 4, 4, label="person")]])
    assert run.outputs["masks"]["text"] == ["cat: 0 0 0.5 1\nLeft out, as they are no entity's: boxes labelled person"]


def test_nothing_but_empty_boxes_is_an_error(make, bind, run_graph):
    with pytest.raises(run_graph.Failed, match="No entity has a box"):
        make(bind("cat"), [[]])


@pytest.mark.parametrize(("output", "names"), [(1, ("", "")), (1, ("dog", "cat")), (2, ("dog", "cat"))])
def test_boxes_are_taken_from_create_bounding_boxes_and_shown_by_draw_bboxes(
    run_graph, comfy, monkeypatch, bind, output, names
):
    """Its boxes have lost their names and count in order; its elements have them."""
    from given import giving_node

    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "GiveBinding", giving_node(bind("cat", "dog")))
    drawn = [
        {**box, "metadata": {"desc": name}}
        for box, name in zip((pixels(0, 0, 20, 64), pixels(40, 0, 40, 64)), names, strict=True)
    ]
    canvas = {"width": 80, "height": 64, "editor_state": {"__value__": drawn}}
    masks = {**INPUTS, "height": 64, "binding": ["binding", 0], "bboxes": ["draw", output]}
    graph = {
        "binding": {"class_type": "GiveBinding", "inputs": {}},
        "draw": {"class_type": "CreateBoundingBoxes", "inputs": canvas},
        "masks": {"class_type": "SBMasksFromBoxes", "inputs": masks},
        "show": {"class_type": "DrawBBoxes", "inputs": {"bboxes": ["masks", 2]}},
    }
    run = run_graph(graph, binding=["masks", 0], shown=["show", 0])
    expected = [(0.0, 0.0, 0.25, 1.0), RIGHT]
    found = [entity.box for entity in run.values["binding"].entities]
    assert found == (expected if output == 1 else expected[::-1])
    assert run.values["shown"].shape == (1, 64, 80, 3)
    assert run.values["shown"].amax() > 0
