"""What the tests of subjects share: the nodes on a bound prompt, and slow versions of the maths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import torch

from guiding import GuidanceBench
from tiny_adapter import Sizes, random_unet, weights_of, write

NOUNS = [3, 7]
"""The rows of the nouns in the prompt of Workbench."""


class SubjectBench(GuidanceBench):
    """A GuidanceBench with a random adapter (``adapter``, in 32 bits ``weights``), and ``subjects``: the binding of its
    prompt with a reference picture for each entity."""

    def __init__(self, comfy: SimpleNamespace, part: Callable, loaded: SimpleNamespace):
        super().__init__(comfy, part, loaded)
        self.sizes = Sizes(width=self.bound.embedding.shape[-1])
        self.weights = weights_of(self.sizes)
        self.file = f"{self.sizes.width} columns.safetensors"
        folder = comfy.base / "models" / "fastcomposer"
        write({**self.weights, **random_unet(self.model)}, folder / self.file, self.sizes.heads)
        self.adapter = self.load()[0]

    @property
    def subjects(self):
        return self.subject(self.subject(self.bound.binding, "1", self.picture(1)), "2", self.picture(2))

    def load(self, model=None) -> tuple:
        """The node's ADAPTER and MODEL."""
        with torch.inference_mode():
            return self.part("nodes.subjects.adapter").SBLoadSubjectAdapter.execute(self.file, model).args

    @staticmethod
    def picture(seed: int, count: int = 1, size: tuple[int, int] = (20, 24)) -> torch.Tensor:
        """Random pictures ``(count, H, W, 3)``."""
        return torch.rand(count, *size, 3, generator=torch.Generator().manual_seed(seed))

    def subject(self, binding, entity: str, image: torch.Tensor, strength: float = 1.0, reference: int = 0, mask=None):
        """The node's BINDING."""
        node = self.part("nodes.subjects.entity_subject").SBEntitySubject
        return node.execute(binding, image, entity, strength, reference, mask).args[0]

    def inject(
        self,
        model=None,
        conditioning=None,
        binding=None,
        *,
        delay: float = 0.5,
        counting: str = "corrected",
        localisation: str = "off",
    ) -> SimpleNamespace:
        """The node's ``model``, ``conditioning`` and the text it shows (``told``)."""
        node = self.part("nodes.subjects.injection").SBSubjectInjection
        inputs = (model or self.model, conditioning or self.positive, binding or self.subjects, self.adapter)
        with torch.inference_mode():
            found = node.execute(*inputs, delay, counting, localisation)
        model, conditioning = found.args
        return SimpleNamespace(model=model, conditioning=conditioning, told=found.ui["text"][0])

    def embedding(self, seed: int) -> torch.Tensor:
        """``(D,)``: that of a random picture."""
        binding = self.subject(self.bound.binding, "1", self.picture(seed))
        return self.adapter.embeddings([binding.entities[0].subject], lambda: None)[0]

    def fused(self, rows: torch.Tensor, places: Mapping[int, int], strength: float = 1.0) -> torch.Tensor:
        """A conditioning ``(B, T, D)`` in which rows are fused with random pictures: row -> seed."""
        result = rows.clone().double()
        for row, seed in places.items():
            found = torch.stack([slow_fusion(self.weights, each, self.embedding(seed)) for each in rows[:, row]])
            result[:, row] += strength * (found - result[:, row])
        return result.float()


def slow_fusion(weights: Mapping[str, torch.Tensor], row: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """``(D,)`` in float64, of a checkpoint's tensors and one row and embedding ``(D,)``."""

    def of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(weights[f"postfuse_module.{name}.{kind}"].double() for kind in ("weight", "bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = of(name)
        variance = ((x - x.mean()) ** 2).mean()
        return (x - x.mean()) / torch.sqrt(variance + 1e-5) * weight + bias

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = of(name)
        return weight @ x + bias

    def perceptron(x: torch.Tensor, name: str) -> torch.Tensor:
        inner = linear(norm(x, f"{name}.layernorm"), f"{name}.fc1")
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        return linear(inner, f"{name}.fc2")

    row, embedding = row.double(), embedding.double()
    found = perceptron(torch.cat([row, embedding]), "mlp1") + row
    return norm(perceptron(found, "mlp2") + found, "layer_norm")


def slow_pixels(image: torch.Tensor, size: int) -> torch.Tensor:
    """A picture ``(H, W, 3)`` as the published code prepares it, in float64 and without rounding to 8 bits: ``(3, size,
    size)``."""
    height, width = image.shape[:2]
    beside, above = max(0, height - width) // 2, max(0, width - height) // 2
    padded = torch.zeros(height + 2 * above, width + 2 * beside, 3, dtype=torch.float64)
    padded[above : above + height, beside : beside + width] = image.double()
    down, across = (triangles(length, size) for length in padded.shape[:2])
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)
    resized = down @ padded.movedim(-1, 0) @ across.T
    return (resized - mean[:, None, None]) / deviation[:, None, None]


def triangles(taken: int, given: int) -> torch.Tensor:
    """``(given, taken)``: the weights of each old pixel in each new one, bilinear with antialiasing."""
    scale = taken / given
    reach = max(scale, 1.0)
    weights = torch.zeros(given, taken, dtype=torch.float64)
    for new in range(given):
        centre = scale * (new + 0.5)
        for old in range(taken):
            weights[new, old] = max(0.0, 1 - abs(old + 0.5 - centre) / reach)
    return weights / weights.sum(1, keepdim=True)
