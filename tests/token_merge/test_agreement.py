"""Merge, substitution and optimisation in the real ComfyUI, against the plain procedure in float64.

The weights are random, with attention soft enough that rounding does not grow from step to step.
"""

import functools
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from gradients import GradientBench, soft

SIZE = (12, 16)
PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"
PLAN = {
    **{"token_steps": 2, "token_iterations": 3, "token_step_size": 300.0},
    **{"entropy_steps": 3, "entropy_iterations": 2, "row_step_size": 0.005, "latent_step_size": 0.2},
    "thresholds": "0",
}
"""Every iteration is made, and moves a tiny random model by some percent."""
PUBLISHED, PAPER = "published code", "paper"
LAYERS = {"sdxl": ((1, 1), (1, 2), (1, 3)), "sd1": ((9, 0), (10, 0), (11, 0)), "sd2": ((9, 0), (10, 0), (11, 0))}
"""Output blocks and transformer blocks whose maps count."""
CLOSE = 1e-4
"""Relative; rounding makes up some 1e-6."""


@dataclass(frozen=True)
class Case:
    """A run: the inputs of the nodes and of the sampler. ``from_step`` None: end tokens are kept.

    ``groups`` are the rows of noun and attribute of each entity, in each text encoder.
    """

    mode: str = PUBLISHED
    pose: bool = False
    batch: int = 1
    cfg: float = 4.0
    steps: int = 4
    from_step: int | None = 0
    plan: dict = field(default_factory=lambda: PLAN)
    prompt: str = PROMPT
    groups: tuple = (((3, 3), (2, 2)), ((7, 7), (6, 6)))


class Agreement:
    """The same run in the real ComfyUI and by the plain procedure."""

    def __init__(self, comfy, part, tiny, layout):
        import tome_reference

        self.plain, self.layout = tome_reference, layout
        self.bench = GradientBench(comfy, part, soft(comfy, tiny, layout))
        self.runs: dict[str, SimpleNamespace] = {}
        settings = tome_reference.Settings(layers=LAYERS[layout])
        self.procedure = tome_reference.PlainToMe(self.bench.model, settings)

    def by_nodes(self, case: Case) -> SimpleNamespace:
        """A run with its ``entries``, and one without optimisation; the same case is run once."""
        if repr(case) not in self.runs:
            self.runs[repr(case)] = self._run(case)
        return self.runs[repr(case)]

    def _run(self, case: Case) -> SimpleNamespace:
        one, sampler = self.bench, {"batch": case.batch, "cfg": case.cfg, "steps": case.steps, "size": SIZE}
        bound = one.bind(case.prompt, ENTITIES)
        merged = one.merge(bound=bound, from_step=case.from_step or 0, kept=case.from_step is None)
        model, losses = one.optimize(merged.model, bound, mode=case.mode, pose=case.pose, **case.plan)
        ran = one.run(model, merged.conditioning, **sampler)
        unmoved = one.run(merged.model, merged.conditioning, **sampler)
        return SimpleNamespace(latent=ran.latent, calls=ran.own, entries=ran.entries(losses), unmoved=unmoved)

    def by_hand(self, case: Case, x: torch.Tensor, sigmas: torch.Tensor) -> SimpleNamespace:
        """A run of the reference from one noisy latent."""
        plan = dict(case.plan)
        settings = self.plain.Settings(
            cfg=case.cfg,
            substitute_at=case.from_step or 0,
            published=case.mode == PUBLISHED,
            pose=case.pose,
            layers=LAYERS[self.layout],
            thresholds=tuple(map(float, plan.pop("thresholds").split(","))),
            input_step_size=plan.pop("latent_step_size"),
            **plan,
        )
        encoders = slice(0, 2 if self.layout == "sdxl" else 1)
        rows = [[[(row,) for row in each[encoders]] for each in group] for group in case.groups]
        groups = [self.plain.Group(*map(tuple, each)) for each in rows]
        prompts = case.prompt, "bad", "a red cat", "a blue dog", "a cat and a dog"
        size = tuple(8 * side for side in SIZE)
        prompt, negative, *anchors, short = (
            self.plain.encode(self.bench.model, self.bench.clip, each, size) for each in prompts
        )
        self.procedure.settings = settings
        short = None if case.from_step is None else short
        return self.procedure.run(x, sigmas, prompt, negative, groups, anchors, short)

    def checked(self, case: Case) -> SimpleNamespace:
        """The run by the nodes. All of it is as by hand: what the network was given, every loss, the latents."""
        from comfy.samplers import calculate_sigmas

        ran = self.by_nodes(case)
        sampling = self.bench.model.model.model_sampling
        sigmas = calculate_sigmas(sampling, "normal", case.steps)
        noise = torch.randn((case.batch, 4, *SIZE), generator=torch.Generator().manual_seed(1))
        noisy = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), True).double()
        scale = self.bench.model.get_model_object("latent_format").scale_factor
        for number, x in enumerate(noisy.split(1)):
            found = self.by_hand(case, x, sigmas)
            same(ran.latent[number], found.latent[0] / scale)
            for step, (call, expected) in enumerate(zip(ran.calls, found.steps, strict=True)):
                same(call.of(0)[number], expected.context[0])
                same(call.x[self.row_of(call, number)], expected.input[0])
                of_step = [each for each in ran.entries if each.step == step]
                for loss, wanted in self.losses(case, expected).items():
                    values = [each.values[number] for each in of_step if each.loss == loss]
                    assert len(values) == len(wanted)
                    if values:
                        same(torch.tensor(values), wanted)
        assert off(ran.latent, ran.unmoved.latent) > 0.01
        return ran

    @staticmethod
    def row_of(call, number: int) -> int:
        """Of a latent with the positive prompt, in the network's batch."""
        before = [slot for slot, _ in call.chunks].index(0)
        return before * (len(call.x) // len(call.chunks)) + number

    @staticmethod
    def losses(case: Case, expected) -> dict[str, torch.Tensor]:
        """Of a step, by iteration and entity."""
        binding, entropy = (torch.tensor(each, dtype=torch.float64) for each in (expected.binding, expected.entropy))
        pose = torch.tensor(expected.pose if case.pose else [], dtype=torch.float64)
        return {"binding": binding.T if len(binding) else binding, "entropy": entropy, "pose": pose[:, None]}


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far apart, relative to the largest value."""
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert off(found, expected) < CLOSE


@pytest.fixture(scope="module")
def agreement(comfy, part, tiny):
    """``agreement("sdxl")``: an Agreement on that layout."""
    return functools.cache(lambda layout: Agreement(comfy, part, tiny, layout))


@pytest.mark.slow
def test_published_code_on_sdxl(agreement):
    ran = agreement("sdxl").checked(Case())
    assert len(ran.entries) == 2 * 3 + 3 * 2
    original, calls = agreement("sdxl").bench.merged.conditioning[0][0], ran.calls
    assert all(off(call.of(0)[:, row], original[:, row]) > 0.01 for call in calls for row in (3, 7))
    assert off(calls[0].x, ran.unmoved.own[0].x) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "mode"), [("sdxl", PAPER), ("sd1", PAPER), ("sd2", PUBLISHED)])
def test_layouts(agreement, layout, mode):
    agreement(layout).checked(Case(mode))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [PUBLISHED, PAPER])
def test_latents_of_a_batch(agreement, mode):
    """Each has tokens of its own, and is as if it were sampled by itself."""
    rows = agreement("sdxl").checked(Case(mode, batch=2)).calls[-1].of(0)
    assert off(rows[0, [3, 7]], rows[1, [3, 7]]) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "mode"), [("sdxl", PUBLISHED), ("sd1", PAPER)])
def test_pose_loss(agreement, layout, mode):
    one = agreement(layout)
    plan = {**PLAN, "row_step_size": 0.0005}
    ran = one.checked(Case(mode, pose=True, plan=plan))
    assert off(ran.latent, one.by_nodes(Case(mode, plan=plan)).latent) > CLOSE * 10


@pytest.mark.slow
@pytest.mark.parametrize("mode", [PUBLISHED, PAPER])
def test_without_guidance(agreement, mode):
    agreement("sdxl").checked(Case(mode, cfg=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("from_step", [None, 1, 3])
def test_end_tokens(agreement, from_step):
    """Replaced in the middle of optimisation, after it, or not at all."""
    one = agreement("sdxl")
    ran = one.checked(Case(from_step=from_step))
    assert off(ran.latent, one.by_nodes(Case()).latent) > CLOSE * 10


@pytest.mark.slow
@pytest.mark.parametrize("mode", [PUBLISHED, PAPER])
def test_encoders_that_have_other_rows(agreement, tmp_path, mode):
    """An embedding has three rows in CLIP-L and one in CLIP-G, so that the dog in the columns of one stands beside
    the end tokens of the other, which are replaced in the second step."""
    one = agreement("sdxl")
    generator = torch.Generator().manual_seed(3)
    vectors = {"clip_l": torch.randn(3, 32, generator=generator), "clip_g": torch.randn(1, 64, generator=generator)}
    save_file(vectors, tmp_path / "shift.safetensors")
    for encoder in (one.bench.clip.tokenizer.clip_l, one.bench.clip.tokenizer.clip_g):
        encoder.embedding_directory = str(tmp_path)
    groups = ((6, 4), (5, 3)), ((10, 8), (9, 7))
    ran = one.checked(Case(mode, from_step=1, prompt=f"embedding:shift {PROMPT}", groups=groups))
    assert len(ran.entries) == 2 * 3 + 3 * 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", [PUBLISHED, PAPER])
def test_thresholds(agreement, mode):
    """Published code: the first step ends after an iteration. Paper: the better one of the entities is left alone."""
    one = agreement("sdxl")
    without = one.by_nodes(Case(mode))
    smaller_grid = 2 * math.log(1024 / (3 * 4))
    first = next(each.values[0] for each in without.entries if each.loss == "entropy")
    threshold = sum(first) + (0.1 if mode == PUBLISHED else 0) + 2 + 2 * smaller_grid
    ran = one.checked(Case(mode, plan={**PLAN, "thresholds": f"{threshold}, 0"}))
    assert off(ran.latent, without.latent) > CLOSE * 10
    assert (len(ran.entries) < len(without.entries)) == (mode == PUBLISHED)
