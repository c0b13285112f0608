"""SAM 2 (Ravi et al. 2024, arXiv 2408.00714) for pictures, by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .prompts import Prompt
from .sam_files import SAM2
from .sam_packages import explained
from .sam_prompts import Embedded, prompt_tensors
from .sam_weights import check_names


class Sam2(torch.nn.Module):
    """SAM 2 (Ravi et al. 2024, arXiv 2408.00714) for pictures, by transformers' model and processor."""

    memory = 2 << 30

    def __init__(self, model: torch.nn.Module, processor: Any):
        super().__init__()
        self.model = model
        self.processor = processor

    def embed(self, image: torch.Tensor) -> Embedded:
        """As ``SegmentAnything.embed``; the picture is stretched to a square."""
        given = self.processor(
            images=image.movedim(-1, 0), do_rescale=False, input_data_format="channels_first", return_tensors="pt"
        )
        features = self.model.get_image_embeddings(given["pixel_values"].to(image.device))
        return Embedded(features, tuple(image.shape[:2]), (self.processor.target_size,) * 2)

    def decode(self, embedded: Embedded, prompt: Prompt, three: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``SegmentAnything.decode``."""
        boxes, points, labels = prompt_tensors(prompt, embedded.inner, embedded.features[-1].device)
        found = self.model(
            image_embeddings=list(embedded.features),
            input_boxes=None if boxes is None else boxes[None],
            input_points=None if points is None else points[None],
            input_labels=None if points is None else labels[None],
            multimask_output=three,
        )
        logits = self.processor.post_process_masks(found.pred_masks, [embedded.size], binarize=False)[0]
        return logits[0], found.iou_scores[0, 0]


def load_sam2(folder: Path) -> Sam2:
    with explained("transformers"):
        from transformers import Sam2Model, Sam2Processor
    try:
        processor = Sam2Processor.from_pretrained(folder, local_files_only=True)
        model, told = Sam2Model.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except OSError as error:
        raise ValueError(f"{folder} is not a whole SAM 2: {error}") from error
    resized = {name for name, *_ in told["mismatched_keys"]}
    check_names(
        set(told["missing_keys"]) - resized,
        set(told["unexpected_keys"]),
        resized,
        f"The tensors of {folder} do not fit its {SAM2} config",
    )
    return Sam2(model.eval().requires_grad_(False), processor)
