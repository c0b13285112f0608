"""A model with a bound prompt, the nodes of attention modulation on it, and runs held against the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from attention_reference import bind, encode, sample
from modulation_reference import CLOSED, Focus, Found, ModulationReference, Prompt, Temperature, Weights

PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"
GROUPS, WORDS, END = [[2, 3], [6, 7]], [1, 4, 5], range(8, 77)
ALL = {"temperature": Temperature(0.6, 0.0, 0.6), "focus": Focus(), "weights": Weights()}

LAYERS = {
    (1, 2, 4, 8): "all",
    (1,): "latent",
    (2,): "latent/2",
    (4,): "latent/4",
    (8,): "latent/8",
    (2, 4): "latent/2 and latent/4",
}


class Nodes:
    """``Nodes(part)``: the nodes as functions that return the changed MODEL."""

    def __init__(self, part: Callable):
        self.focusing = part("nodes.modulation.object_focus").SBObjectFocusedAttention
        self.heating = part("nodes.modulation.temperature").SBSelfAttentionTemperature
        self.masks = part("nodes.segmentation.masks")
        self.weighing = part("nodes.modulation.stage_weights").SBStageWeights

    def temperature(self, model, settings: Temperature):
        side = "positive and negative" if settings.negative else "positive only"
        layers = LAYERS[tuple(settings.factors)]
        return self.heating.execute(model, settings.tau, settings.start, settings.end, layers, side).args[0]

    def focus(self, model, binding, settings: Focus):
        mode = {"mode": "hard"} if settings.penalty == CLOSED else {"mode": "soft", "penalty": settings.penalty}
        return self.focusing.execute(
            model,
            binding if settings.masks is None else self.masked(binding, settings.masks),
            "same layer" if settings.same_layer else "previous step",
            settings.min_share,
            "sees no entity" if settings.close_background else "sees everything",
            "closed" if settings.close_end else "open",
            settings.start,
            settings.end,
            "mean" if settings.mean else "sum",
            mode,
        ).args[0]

    def weights(self, model, binding, settings: Weights):
        shape = {"shape": "linear"}
        shape["global_start"], shape["global_end"] = settings.words
        shape["entity_start"], shape["entity_end"] = settings.entities
        end = "as the other words" if settings.end_as_words else "weight 1"
        return self.weighing.execute(model, binding, end, shape).args[0]

    def masked(self, binding, masks: torch.Tensor):
        """The binding with masks ``(latents, entities, H, W)``."""
        for number in range(masks.shape[1]):
            binding = self.masks.SBAssignMask.execute(binding, masks[:, number], str(number + 1)).args[0]
        return binding

    def all(self, model, binding, temperature=None, focus=None, weights=None):
        """Those of which there are settings."""
        if temperature is not None:
            model = self.temperature(model, temperature)
        if focus is not None:
            model = self.focus(model, binding, focus)
        if weights is not None:
            model = self.weights(model, binding, weights)
        return model


class Workbench:
    """A loaded model, "a red cat and a blue dog" bound for it (``bound``), and a negative prompt."""

    def __init__(self, comfy: SimpleNamespace, part: Callable, loaded: SimpleNamespace):
        self.comfy, self.part, self.nodes = comfy, part, Nodes(part)
        self.model, self.clip = loaded.model, loaded.clip
        self.bound = self.bind(PROMPT, ENTITIES)
        self.positive, self.negative = self.bound.conditioning, self.encode("bad")

    @classmethod
    def on_demo_model(cls, comfy: SimpleNamespace, part: Callable) -> Workbench:
        """With "a red circle and a blue square", whose tokens are at the same places."""
        with torch.inference_mode():
            model, clip, _ = part("nodes.demo").SBLoadDemoModel.execute().args
        demo = cls(comfy, part, SimpleNamespace(model=model, clip=clip))
        demo.bound = demo.bind("a red circle and a blue square", "circle: red | square: blue")
        demo.positive, demo.negative = demo.bound.conditioning, demo.encode("")
        return demo

    def bind(self, prompt: str, entities: str) -> SimpleNamespace:
        return bind(self.part, self.clip, prompt, entities)

    def encode(self, prompt: str) -> list:
        return encode(self.clip, prompt)

    def prompt(self, focus: Focus | None = None, weights: Weights | None = None, bound=None) -> Prompt:
        """The bound prompt, or another whose tokens are at the same places."""
        return Prompt((bound or self.bound).embedding, GROUPS, WORDS, END, focus, weights)

    def two_chunks(self, focus: Focus | None = None, weights: Weights | None = None) -> tuple[SimpleNamespace, Prompt]:
        """A bound prompt whose second entity is in a second chunk."""
        bound = self.bind("a red cat " + "in a park " * 30 + "and a blue dog", ENTITIES)
        words, end = [1, *range(4, 76), *range(78, 98)], [76, *range(100, 154)]
        return bound, Prompt(bound.embedding, [[2, 3], [98, 99]], words, end, focus, weights)

    def lora_weights(self, *projections: str) -> dict[str, torch.Tensor]:
        """A small random LoRA on the projections named (".attn2.to_q")."""
        weights, generator = {}, torch.Generator().manual_seed(5)
        for name, weight in self.model.model.diffusion_model.state_dict().items():
            name = f"diffusion_model.{name.removesuffix('.weight')}"
            if weight.ndim == 2 and name.endswith(projections):
                weights[f"{name}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.05
                weights[f"{name}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator)
        return weights

    def with_lora(self, *projections: str):
        """The MODEL with ``lora_weights``."""
        from comfy.sd import load_lora_for_models

        return load_lora_for_models(self.model, None, self.lora_weights(*projections), 1.0, 0.0)[0]

    def controlnet(self, folder: Path, layout: str, size: tuple[int, int] = (128, 128)) -> tuple:
        """A random ControlNet on a random picture of ``size``: itself, and how it is applied to a positive and a
        negative conditioning."""
        from comfy.controlnet import load_controlnet

        from tiny_controlnet import write_controlnet

        write_controlnet(folder / "control.safetensors", layout)
        with torch.inference_mode():
            control = load_controlnet(str(folder / "control.safetensors"))
        hint = torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(2))
        node = self.comfy.nodes.ControlNetApplyAdvanced()
        return control, lambda *conds: node.apply_controlnet(*conds, control, hint, 1.0, 0.0, 1.0)

    def modulated(self, model=None, bound=None, **settings):
        """A MODEL with the nodes of which there are settings."""
        return self.nodes.all(model or self.model, (bound or self.bound).binding, **settings)

    def latent(self, model=None, positive=None, negative=None, **run) -> torch.Tensor:
        return sample(self.comfy, model or self.model, positive or self.positive, negative or self.negative, **run)[
            "samples"
        ]

    def watcher(self) -> ModulationReference:
        return ModulationReference(self.model)

    def watched(self, model=None, positive=None, negative=None, **run) -> ModulationReference:
        """Everything that happened in one run, and its ``latent``."""
        with self.watcher().watching() as reference:
            reference.latent = self.latent(model, positive, negative, **run)
        return reference

    def checked(
        self, *, model=None, settings=ALL, positive=None, negative=None, check=None, **run
    ) -> tuple[Found, ModulationReference]:
        """All three techniques in one run, which is what the reference says, with patches of more than one entity."""
        reference = self.watched(self.modulated(model, **settings), positive, negative, **run)
        prompt = self.prompt(settings.get("focus"), settings.get("weights"))
        options = {"batch": run.get("batch", 1), **(check or {})}
        found = reference.check([prompt], settings.get("temperature"), **options)
        assert found.changed
        if "focus" in settings:
            assert {0, 1} <= {int(n) for patches in found.patches for n in patches.entity.unique()}
        return found, reference

    def checked_with_perturbed_attention(self) -> Found:
        """As ``checked``, next to PAG, whose extra pass is to be modulated as well."""
        from comfy_extras.nodes_pag import PerturbedAttentionGuidance

        model = PerturbedAttentionGuidance.execute(self.model, 3.0).args[0]
        reference = self.watched(self.modulated(model, **ALL))
        assert [len(call.context) for call in reference.calls] == [2, 1, 2, 1]
        perturbed = {id(call) for call in reference.calls[1::2]}

        def theirs(call, layer):
            return id(call) in perturbed and layer.endswith("attn1") and layer.startswith("middle_block")

        prompt = self.prompt(ALL["focus"], ALL["weights"])
        return reference.check([prompt], ALL["temperature"], first=reference.calls[::2], skip=theirs)

    def apart(self, monkeypatch) -> None:
        """Have ComfyUI compute every conditioning in a call of its own, as when memory is short."""
        monkeypatch.setattr(self.model.model, "memory_required", lambda shape, **_: 1e30 if shape[0] > 1 else 1)
