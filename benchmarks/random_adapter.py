"""Subject adapters with random weights, for text rows of any width. Their image encoder is small: pictures are encoded
before sampling begins."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import host
import torch
from workflow import Workflow


@cache
def random_adapter(width: int) -> Any:
    """A SUBJECT_ADAPTER without a UNet."""
    layout = host.helper("tiny_adapter")
    sizes = layout.Sizes(width=width)
    with tempfile.TemporaryDirectory() as folder:
        path = layout.write(layout.weights_of(sizes), Path(folder) / "random.safetensors", sizes.heads)
        return host.part("subjects.adapter").build(host.part("subjects.checkpoint").read(path), path.name)


def injected(workflow: Workflow, localisation: str) -> Workflow:
    """A subject for every entity, from the first step on."""
    for entity in workflow.binding.entities:
        picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        workflow = workflow.through("SBEntitySubject", entity=entity.name, image=picture)
    adapter = random_adapter(workflow.positive[0][0].shape[-1])
    return workflow.through("SBSubjectInjection", adapter=adapter, delay=0.0, localisation=localisation)
