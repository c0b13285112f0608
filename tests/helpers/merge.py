"""A bound prompt merged and its composite tokens optimised by the nodes, and what the UNet is given in a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

from modulate import GROUPS, Workbench
from modulation_graphs import BOUND, CLIP, graph

SIMPLIFIED = "a cat and a dog"
COMPOSITES = [group[-1] for group in GROUPS]
GRADIENT = "semantic_binding_gradient"
PLAN = {
    **{"token_steps": 2, "token_iterations": 2, "token_step_size": 10.0},
    **{"entropy_steps": 2, "entropy_iterations": 2, "row_step_size": 1.0, "latent_step_size": 1.0},
    "thresholds": "0",
}
"""Thresholds of 0 are never reached: every iteration is made."""
MERGE = {
    **{"conditioning": BOUND, "clip": CLIP, "noun_weight": 1.1, "attribute_weight": 1.2, "pooled": "of the prompt"},
    **{"end_tokens": "substituted", "end_tokens.simplified_prompt": "", "end_tokens.from_step": 0},
}
OPTIMIZE = {
    **{"clip": CLIP, "mode": "paper", "pose_loss": False, "settings": "custom"},
    **{f"settings.{name}": value for name, value in PLAN.items()},
}


def merged_graph(merge: dict | None = None, optimize: dict | None = None) -> dict:
    """The demo model with Semantic Token Merge, and Token Optimization if there are inputs for it. Inputs given
    change those above."""
    nodes = {"TokenMerge": {**MERGE, **(merge or {})}}
    if optimize is not None:
        nodes["TokenOptimization"] = {**OPTIMIZE, **optimize}
    return graph(conditioning=["TokenMerge", 1], **nodes)


def fused(
    rows: torch.Tensor, parts: list[tuple[slice, list[int], list[int]]], noun: float = 1.1, rest: float = 1.2
) -> torch.Tensor:
    """The conditioning ``(1, T, D)`` merged one number after the other: for each part its columns, the noun's rows, and
    the rows of what belongs to it."""
    result = rows.clone()
    for columns, nouns, others in parts:
        for column in range(rows.shape[-1])[columns]:
            for row in (*nouns, *others):
                result[0, row, column] = 0
            total = sum(noun * float(rows[0, row, column]) for row in nouns)
            total += sum(rest * float(rows[0, row, column]) for row in others)
            result[0, nouns[0], column] = total
    return result


class UNetCall(SimpleNamespace):
    """One call of the UNet: its ``step``; ``ours`` if it is a pass of an optimisation; its input ``x`` and ``y``,
    whether there is a ``control``; and ``chunks``, the rows of each conditioning with the slot (0 positive) it is
    in."""

    def of(self, slot: int) -> torch.Tensor:
        """The rows ``(B, T, D)`` of the only conditioning in a slot."""
        (rows,) = (rows for found, rows in self.chunks if found == slot)
        return rows


@contextmanager
def unet_calls(model) -> Iterator[list[UNetCall]]:
    """Every call of the model's UNet, in order."""
    calls: list[UNetCall] = []

    def keep(module, args, kwargs):
        options = kwargs["transformer_options"]
        sigma, schedule = float(options["sigmas"].max()), options["sample_sigmas"].tolist()
        step = max(i for i in range(len(schedule) - 1) if i == 0 or sigma <= schedule[i] * (1 + 1e-4))
        slots = options["cond_or_uncond"]
        context = kwargs["context"].detach().float().clone()
        parts = [context] if options.get(GRADIENT) else context.chunk(len(slots))
        calls.append(
            UNetCall(
                step=step,
                ours=options.get(GRADIENT, False),
                x=args[0].detach().clone(),
                y=kwargs.get("y"),
                control=kwargs.get("control") is not None,
                chunks=list(zip(slots, parts, strict=True)),
            )
        )

    handle = model.model.diffusion_model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@dataclass
class Ran:
    """A run: the LATENT it returned, and all calls of the UNet."""

    latent: torch.Tensor
    calls: list[UNetCall] = field(repr=False)

    @property
    def own(self) -> list[UNetCall]:
        """The sampler's calls."""
        return [call for call in self.calls if not call.ours]

    @property
    def passes(self) -> list[UNetCall]:
        """Those of an optimisation."""
        return [call for call in self.calls if call.ours]

    def entries(self, losses) -> list:
        """The losses of this run."""
        return list(losses.find({"samples": self.latent}).entries)


class MergeBench(Workbench):
    """A Workbench with the nodes of token merge. ``simplified`` is its prompt without attributes."""

    simplified = SIMPLIFIED

    @classmethod
    def on_demo_model(cls, comfy, part: Callable) -> MergeBench:
        demo = super().on_demo_model(comfy, part)
        demo.simplified = "a circle and a square"
        return demo

    @property
    def columns(self) -> list[slice]:
        """The columns of each text encoder."""
        widths = [tokens.width for tokens in self.bound.binding.encoders]
        ends = list(itertools.accumulate(widths))
        return [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]

    def merge(
        self, model=None, bound=None, *, conditioning=None, simplified=None, from_step=0, kept=False, **inputs
    ) -> SimpleNamespace:
        """The node's ``model``, ``conditioning`` and the text it shows (``told``)."""
        bound = bound or self.bound
        ends = {"end_tokens": "kept"}
        if not kept:
            simplified = self.simplified if simplified is None else simplified
            ends = {"end_tokens": "substituted", "simplified_prompt": simplified, "from_step": from_step}
        inputs = {"noun_weight": 1.1, "attribute_weight": 1.2, "pooled": "of the prompt", "end_tokens": ends, **inputs}
        with torch.inference_mode():
            found = self.part("nodes.token_merge.merging").SBTokenMerge.execute(
                model or self.model, conditioning or bound.conditioning, self.clip, bound.binding, **inputs
            )
        model, conditioning = found.args
        return SimpleNamespace(model=model, conditioning=conditioning, told=found.ui["text"][0])

    def optimize(self, model=None, bound=None, *, mode="paper", pose=False, settings="custom", **plan) -> tuple:
        """The node's MODEL and TOKEN_LOSSES; ``plan`` changes PLAN."""
        chosen = {"settings": settings, **({**PLAN, **plan} if settings == "custom" else {})}
        with torch.inference_mode():
            return (
                self.part("nodes.token_merge.optimization")
                .SBTokenOptimization.execute(
                    model or self.model, self.clip, (bound or self.bound).binding, mode, pose, chosen
                )
                .args
            )

    def run(
        self, model=None, positive=None, negative=None, *, size=(8, 8), batch=1, mask=None, images=None, **run
    ) -> Ran:
        """Core's KSampler. ``images`` are the places in a larger batch that the latents have, for their noise."""
        latent = {"samples": run.pop("latent", torch.zeros(batch, 4, *size))}
        if mask is not None:
            latent["noise_mask"] = mask
        if images is not None:
            latent["batch_index"] = images
        run = {"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", **run}
        model, conds = model or self.model, (positive or self.positive, negative or self.negative)
        with torch.inference_mode(), unet_calls(model) as calls:
            (out,) = self.comfy.nodes.common_ksampler(model, positive=conds[0], negative=conds[1], latent=latent, **run)
        return Ran(out["samples"], calls)

    def guided(self, guider, steps: int = 2) -> Ran:
        """SamplerCustomAdvanced with this guider."""
        from comfy.samplers import calculate_sigmas, sampler_object
        from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

        sigmas = calculate_sigmas(self.model.get_model_object("model_sampling"), "normal", steps)
        noise, sampler, latent = Noise_RandomNoise(1), sampler_object("euler"), {"samples": torch.zeros(1, 4, 8, 8)}
        with torch.inference_mode(), unet_calls(self.model) as calls:
            out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]
        return Ran(out["samples"], calls)

    def checked(
        self,
        *,
        model=None,
        around: Callable = lambda conditioning: conditioning,
        mode="paper",
        plan=None,
        ran_steps=None,
        **run,
    ) -> tuple[Ran, list]:
        """A run with merge, substitution and optimisation, and its losses.

        Asserts what holds in every run: the latent is finite and another than without the pack's nodes; there are as
        many losses as iterations; negative prompts are given to the UNet as they were encoded, and of the positive one
        exactly the rows of composites, emptied rows and end tokens are changed.

        Args:
            around: what a graph does to a conditioning before the sampler.
            plan: changes PLAN.
            ran_steps: steps that the sampler makes, if they are not the schedule's.
        """
        plan = {**PLAN, **(plan or {})}
        merged = self.merge(model)
        optimized, losses = self.optimize(merged.model, mode=mode, **plan)
        ran = self.run(optimized, around(merged.conditioning), **run)
        entries = ran.entries(losses)
        assert ran.latent.isfinite().all()
        plain = self.run(model, around(self.positive), **run)
        assert (ran.latent - plain.latent).abs().max() > 1e-3 * plain.latent.abs().max()
        assert shapes(entries) == expected_shapes(plan, ran_steps or run.get("steps", 2), len(ran.latent))
        self.check_rows(ran, merged.conditioning[0][0], run.get("negative"), mode, plan)
        return ran, entries

    def check_rows(self, ran: Ran, merged: torch.Tensor, negative=None, mode="paper", plan=PLAN) -> None:
        """The rows that the sampler's calls were given, as ``checked`` says."""
        original = self.bound.embedding
        negative = (negative or self.negative)[0][0]
        optimized = max(plan["token_steps"], plan["entropy_steps"])
        last = None
        for call in ran.own:
            for slot, rows in call.chunks:
                if torch.equal(rows, repeated(negative, rows)):
                    continue
                assert slot == 0
                assert torch.equal(rows, repeated(rows[:, : original.shape[1]], rows))
                rows = rows[:, : original.shape[1]]
                assert (rows[:, COMPOSITES] - merged[:, COMPOSITES]).abs().amax((1, 2)).min() > 0
                if mode == "paper":
                    assert torch.equal(rows[:, 8:], self.ends.expand(len(rows), -1, -1))
                    others = [row for row in range(8) if row not in COMPOSITES]
                    assert torch.equal(rows[:, others], merged[:, others].expand(len(rows), -1, -1))
                if last is not None and call.step >= optimized:
                    assert torch.equal(rows, last)
                last = rows

    @property
    def ends(self) -> torch.Tensor:
        """The rows behind the simplified prompt, from the place on where the prompt's own end token is."""
        return self.encode(self.simplified)[0][0][:, 8:]


def rows_of(conditioning: list) -> torch.Tensor:
    """The rows of a conditioning of one part."""
    ((rows, _),) = conditioning
    return rows


def repeated(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return rows.repeat(len(like) // len(rows), like.shape[1] // rows.shape[1], 1)


def shapes(entries: list) -> list[tuple]:
    """Which losses there are: name, step, iteration, and the numbers of latents and of entities."""
    return [(each.loss, each.step, each.iteration, len(each.values), len(each.values[0])) for each in entries]


def expected_shapes(plan: dict, steps: int, latents: int = 1, entities: int = 2) -> list[tuple]:
    """Those of a run that begins with its first step and is never stopped by a threshold."""
    found = []
    for step, (loss, kind) in itertools.product(range(steps), (("binding", "token"), ("entropy", "entropy"))):
        count = plan[f"{kind}_iterations"] if step < plan[f"{kind}_steps"] else 0
        found += [(loss, step, iteration, latents, entities) for iteration in range(count)]
    return found


def values(entries: list) -> torch.Tensor:
    """``(entries, latents, entities)``"""
    return torch.tensor([each.values for each in entries])


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are the same but for the order of sums."""
    return bool((one - other).abs().max() < 1e-4 * other.abs().max())
