"""Finding the entities of the prompt in a picture, by their words."""

import comfy.model_management
import comfy.utils
from comfy_api.latest import io

from ...segmentation import detector_files
from ...segmentation.boxes import masks_of, to_core, with_boxes
from ...segmentation.detection import ALL, BOXES, Search, entities_in
from ...segmentation.entity_masks import check_found, missing, sought
from .mask_inputs import CATEGORY, binding_input, binding_output, not_found_input, skip_background_input


class SBDetectEntities(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models = detector_files.available()
        return io.Schema(
            node_id="SBDetectEntities",
            display_name="Detect Entities",
            category=CATEGORY,
            description=(
                "Finds the entities of the prompt in pictures by their nouns, with Grounding DINO or OWLv2, and gives "
                "them their boxes as regions. Segment Entities makes masks of the boxes."
            ),
            search_aliases=[
                "grounding dino",
                "groundingdino",
                "owlv2",
                "owl-vit",
                "object detection",
                "bounding box",
                "bbox",
                "open vocabulary",
            ],
            inputs=[
                binding_input(),
                io.Image.Input("image", tooltip="The pictures to look in; the entities get boxes in each."),
                io.Combo.Input(
                    "model",
                    options=models,
                    default=models[0],
                    tooltip=(
                        "The detector: a folder in models/grounding-dino with the files of a Grounding DINO, OWL-ViT "
                        "or OWLv2 model as transformers has them, or a repository of the Hugging Face hub that is in "
                        "this computer's cache."
                    ),
                ),
                io.Float.Input(
                    "box_threshold",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How sure the detector has to be of a box. Lower finds more. For OWLv2 try 0.1 to 0.2.",
                ),
                io.Float.Input(
                    "text_threshold",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "How well the noun itself has to fit a box, when other words of the phrase fit it better. Only "
                        "Grounding DINO tells words apart; only with with_attributes does it matter much."
                    ),
                ),
                io.Boolean.Input(
                    "with_attributes",
                    default=False,
                    tooltip=(
                        'Look for "a black cat wearing sunglasses", not only for "cat". Tells entities with the same '
                        "noun apart by the scores of their phrases; without it they get the boxes of their noun from "
                        "left to right, in the order of the prompt. Finds less where the picture lacks an attribute."
                    ),
                ),
                io.Combo.Input(
                    "boxes_per_entity",
                    options=list(BOXES),
                    default=ALL,
                    tooltip=(
                        "all: every box of the noun is the entity's. as many as in the prompt: one, or two for \"two "
                        'dogs", with the highest scores. Entities that share a noun always get as many as in the '
                        "prompt, and never the same ones."
                    ),
                ),
                skip_background_input(),
                not_found_input(),
                io.Boolean.Input(
                    "download",
                    default=False,
                    advanced=True,
                    tooltip=(
                        "Let a repository of the Hugging Face hub be downloaded to the cache if it is not there yet "
                        "(0.6 to 1 GB). Off: nothing goes over the network."
                    ),
                ),
            ],
            outputs=[
                binding_output(),
                io.BoundingBox.Output(
                    display_name="bboxes",
                    tooltip="The boxes in pixels, a list for each picture, with label (the entity's name) and score.",
                ),
                io.String.Output(display_name="report", tooltip="What was found, as the panel shows it."),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, model) -> bool | str:
        try:
            detector_files.folder_of(model)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        binding,
        image,
        model,
        box_threshold,
        text_threshold,
        with_attributes,
        boxes_per_entity,
        skip_background,
        not_found,
        download,
    ) -> io.NodeOutput:
        entities, skipped = sought(binding, skip_background)
        detector = detector_files.load(model, download)
        detector.to_device()
        search = Search(box_threshold, text_threshold, with_attributes, boxes_per_entity)
        progress = comfy.utils.ProgressBar(len(image))
        found = []
        for picture in image:
            comfy.model_management.throw_exception_if_processing_interrupted()
            found.append(entities_in(detector, picture[..., :3], entities, search))
            progress.update(1)
        size = tuple(image.shape[1:3])
        frames = [{name: [box.box for box in boxes] for name, boxes in each.boxes.items()} for each in found]
        check_found(missing(entities, masks_of(frames, entities, size)), not_found)
        bboxes = to_core([[box for boxes in each.boxes.values() for box in boxes] for each in found], size)
        report = "\n".join(_report(found, entities, skipped, detector.lacking))
        return io.NodeOutput(with_boxes(binding, entities, frames, size), bboxes, report, ui={"text": (report,)})


def _report(found, entities, skipped, lacking) -> list[str]:
    """What was found of each entity in each picture, and what was not done."""
    lines = []
    for number, (boxes, left_out) in enumerate(found, 1):
        start = f"picture {number}, " if len(found) > 1 else ""
        for entity in entities:
            scores = ", ".join(f"{box.score:.2f}" for box in boxes.get(entity.name, ()))
            lines.append(
                f"{start}{entity.name}: {f'found, score {scores}' if scores else 'not found, its mask is empty'}"
            )
        lines += [f"{start}{noun}: {count} more found and left out" for noun, count in left_out.items() if count]
    lines += [f"{entity.name}: skipped, it is a background or abstract" for entity in skipped]
    if lacking:
        lines.append(
            f"The detector's files lack {len(lacking)} of its weights, which are random (the first: {lacking[0]})."
        )
    return lines
