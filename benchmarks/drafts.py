"""Masks of entities from a draft of the same noise, for the ways of using the pack that draw twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import host
from host import part, run_node
from workflow import Workflow

MOBILE_SAM = host.ROOT / ".dev" / "models" / "mobile_sam.pt"


def attention_masks(workflow: Workflow, steps: int | None = None) -> tuple[Workflow, Any]:
    """The workflow with masks from the attention of a draft, and the draft's pictures (B, H, W, 3).

    With ``steps`` only so many are drafted, and the workflow goes on with what they gave.
    """
    start = 0.5 if steps is None else 0.0
    recorded = run_node("SBRecordAttention", model=workflow.model, binding=workflow.binding, start=start, affinity=True)
    latents, pictures = workflow.draft(replace(workflow, model=recorded["MODEL"]), steps)
    found = run_node(
        "SBMasksFromAttention",
        maps=recorded["ATTENTION_MAPS"],
        binding=workflow.binding,
        latent={"samples": latents},
    )
    begun = None if steps is None else (latents, steps)
    return replace(workflow, binding=found["SEMANTIC_BINDING"], begun=begun), pictures


def segmented(workflow: Workflow) -> Workflow:
    """The same with masks by MobileSAM, from the boxes around those of the attention."""
    import folder_paths

    folder_paths.add_model_folder_path("sams", str(MOBILE_SAM.parent))
    masked, pictures = attention_masks(workflow)
    segmenter = run_node("SBLoadSAM", checkpoint=MOBILE_SAM.name)["SB_SEGMENTER"]
    found = run_node("SBSegmentEntities", segmenter=segmenter, image=pictures, binding=masked.binding)
    return replace(workflow, binding=found["SEMANTIC_BINDING"])


def detected(workflow: Workflow) -> Workflow:
    """The same with the outlines of the shapes that the judge finds in the draft: what a detector could do at best."""
    import torch

    detect, wanted = part("evaluation.detect").detect, part("evaluation.wanted").wanted_by(workflow.binding)
    _, pictures = workflow.draft(workflow)
    found = [detect(picture) for picture in pictures.numpy()]
    masks = torch.zeros(len(found), len(wanted), *pictures.shape[1:3])
    for picture, things in enumerate(found):
        for place, thing in enumerate(wanted):
            for shape in (each for each in things if each.shape == thing.shape):
                masks[picture, place] += torch.from_numpy(shape.mask)
    with_masks = part("segmentation.entity_masks").with_masks
    return replace(workflow, binding=with_masks(workflow.binding, workflow.binding.entities, masks.clamp(max=1)))
