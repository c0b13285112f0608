"""Token optimisation of ToMe against the published procedure, step by step in plain torch (tests/helpers).

    .dev/venv/bin/python benchmarks/speed.py --tome [--model sd15 | demo | tiny] [--repeats 5] [--minutes 15]

Both run on the same weights in the same process, in turns, with the iterations of the published code for attributes.
What is timed is the first step of a run, update by update.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import host
import numpy as np
import torch
from report import quartiles, table
from subject import Subject
from workflow import Workflow
from workflows import custom

LEAST = 2.0
"""How many times faster than the plain procedure a step is to be."""
AGREEMENT, DEMO_STEP_SIZE = 1e-3, 300.0
PLAIN, PRECISE = "plain", "plain, float64"


class Step(NamedTuple):
    """Seconds of one step, each by the clock and of processor time over all threads ``(..., 2)``.

    The updates by the semantic binding loss, of all entities, the first with what the anchor phrases take; those by the
    entropy loss; and the sampler's own prediction.
    """

    binding: np.ndarray
    entropy: np.ndarray
    prediction: np.ndarray

    @property
    def optimisation(self) -> np.ndarray:
        return self.binding.sum(0) + self.entropy.sum(0)


def clocks() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


class _Stopped(Exception):
    """The first step is done."""


def plan_of(steps: int):
    """The published settings for attributes in all of these steps; no threshold ends the iterations early."""
    published = host.part("attention.token_merge.presets").ATTRIBUTE_BINDING
    return replace(published, token_steps=steps, entropy_steps=steps, thresholds=(0.0,))


class Ours:
    """The nodes, as the sampler runs them."""

    def __init__(self, subject: Subject, plan):
        self.subject, self.plan = subject, plan
        merged = subject.plain.through("SBTokenMerge")
        optimised = merged.through("SBTokenOptimization", settings=custom(plan), mode="published code")
        engine = host.part("attention.engine.sampling")
        technique = replace(engine.techniques_on(optimised.model)[-1], report=self._mark)
        self.workflow = replace(merged, model=engine.with_technique(merged.model, technique))
        self.marks: list[tuple[str, tuple[float, float]]] = []

    def _mark(self, text: str) -> None:
        self.marks.append(("entropy" if "entropy" in text else "binding", clocks()))

    def step(self) -> Step:
        """The first of two steps; the last that is optimised would leave out the guidance of the anchors."""

        def stop(*_) -> None:
            self.marks.append(("prediction", clocks()))
            raise _Stopped

        self.marks = [("start", clocks())]
        try:
            self.subject.sample(self.workflow, steps=2, callback=stop)
        except _Stopped:
            pass
        seconds = np.diff([at for _, at in self.marks], axis=0)
        labels = np.array([label for label, _ in self.marks[1:]])
        return Step(*(seconds[labels == label] for label in ("binding", "entropy")), seconds[-1])

    def latent(self, steps: int) -> torch.Tensor:
        """(1, C, H, W) as the sampler has it, after a whole run."""
        found = self.subject.sample(self.workflow, steps)
        return self.workflow.model.model.process_latent_in(found)


def timed(tome: ModuleType) -> type:
    """The plain procedure with a look at the clock at the start of each pass through the network."""

    class Timed(tome.PlainToMe):
        def network(self, *arguments):
            self.starts.append(clocks())
            return super().network(*arguments)

        def optimised(self, *arguments):
            found, (target, *updates, null) = self._passes(super().optimised, arguments)
            updates[0] += target + null
            self.of_groups.append(updates)
            return found

        def refined(self, *arguments):
            found, self.entropy = self._passes(super().refined, arguments)
            return found

        def _passes(self, method: Callable, arguments: tuple) -> tuple[Any, np.ndarray]:
            """What a method returns, and the seconds (passes, 2) from each pass to the next."""
            self.starts = []
            found = method(*arguments)
            return found, np.diff([*self.starts, clocks()], axis=0)

    return Timed


class Plain:
    """The published procedure on the same subject, by default in the precision of the model."""

    def __init__(self, subject: Subject, plan, dtype: torch.dtype | None = None):
        tome = host.helper("tome_reference")
        workflow: Workflow = subject.plain
        model, clip, binding = workflow.model, workflow.clip, workflow.binding
        composite, refinement = (host.part(f"attention.token_merge.{name}") for name in ("composite", "refinement"))
        height, width = subject.noise.shape[-2:]
        layers = refinement.entropy_layers(host.part("attention.engine.layers").layers_of(model), height, width)
        settings = tome.Settings(
            **{name: value for name, value in asdict(plan).items() if name != "latent_step_size"},
            input_step_size=plan.latent_step_size,
            layers=tuple((layer.number, layer.index) for layer in layers),
        )
        self.procedure = timed(tome)(model, settings, dtype or model.model.get_dtype(), model.load_device)
        composites = composite.composites_of(binding, workflow.positive[0][0].shape[-1])
        simplified = host.part("parsing.simplified").simplified_prompt(binding)
        size = (8 * height, 8 * width)
        self.texts = {
            "prompt": tome.encode(model, clip, binding.text, size),
            "negative": tome.encode(model, clip, "", size),
            "groups": [
                tome.Group(tuple(part.noun for part in each.parts), tuple(part.rest for part in each.parts))
                for each in composites
            ],
            "anchors": [tome.encode(model, clip, each.entity.anchor_phrase, size) for each in composites],
            "simplified": tome.encode(model, clip, simplified, size),
        }
        self.subject = subject

    def _run(self, sigmas: torch.Tensor):
        sampling = self.procedure.sampling
        noise = self.subject.noise
        x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
        self.procedure.starts, self.procedure.of_groups = [], []
        return self.procedure.run(x, sigmas, **self.texts)

    def step(self) -> Step:
        start = clocks()
        self._run(self.subject.sigmas(2)[:2])
        step = Step(np.sum(self.procedure.of_groups, axis=0), self.procedure.entropy, np.subtract(clocks(), start))
        return step._replace(prediction=step.prediction - step.optimisation)

    def latent(self, steps: int) -> torch.Tensor:
        """(1, C, H, W) as the sampler has it, after a whole run."""
        return self._run(self.subject.sigmas(steps)).latent


def disagreement(steps: int = 3) -> float:
    """The largest difference of the two procedures' latents on the demo model, in standard deviations of the latent.

    Tokens move in steps that suit this model: by the published ones differences of rounding grow a thousandfold.
    """
    subject, plan = Subject("demo"), replace(plan_of(steps), token_step_size=DEMO_STEP_SIZE)
    ours, plain = Ours(subject, plan).latent(steps), Plain(subject, plan).latent(steps)
    return float((ours - plain).abs().max() / plain.std())


@dataclass(frozen=True)
class Part:
    """Some of what a step does: seconds ``(n, 2)`` of units that are compared one by one."""

    name: str
    seconds: Callable[[Step], np.ndarray]
    judged: bool = False


PARTS = (
    Part("an update by the semantic binding loss", lambda step: step.binding[1:]),
    Part("an update by the entropy loss", lambda step: step.entropy),
    Part("a step's semantic binding loss, with its anchors", lambda step: step.binding.sum(0, keepdims=True), True),
    Part("a step's entropy loss", lambda step: step.entropy.sum(0, keepdims=True), True),
    Part("a step's optimisation, both losses", lambda step: step.optimisation[None], True),
    Part("a whole step, with the sampler's own prediction", lambda step: (step.optimisation + step.prediction)[None]),
)


def measure(subject: Subject, repeats: int, minutes: float, precise: bool) -> dict[str, list[Step]]:
    """As many steps of each procedure, in turns.

    Raises:
        RuntimeError: a procedure stopped before its last iteration.
    """
    end = time.monotonic() + 60.0 * minutes
    plan = plan_of(2)
    made = {"ours": Ours(subject, plan).step, PLAIN: Plain(subject, plan).step}
    if precise:
        made[PRECISE] = Plain(subject, plan, torch.float64).step
    measured: dict[str, list[Step]] = {name: [] for name in made}
    order = np.random.default_rng(0)
    try:
        for repeat in range(1, repeats + 1):
            start = time.monotonic()
            steps = {}
            for name in order.permutation(list(made)):
                steps[name] = made[name]()
                counts = len(steps[name].binding), len(steps[name].entropy)
                if counts != (plan.token_iterations, plan.entropy_iterations):
                    raise RuntimeError(f"{name} made {counts} iterations: its losses are no numbers any more.")
                seconds = float(steps[name].optimisation[0])
                print(f"repeat {repeat} of {repeats}, {name}: {seconds:.1f} s of optimisation in a step", flush=True)
            for name, step in steps.items():
                measured[name].append(step)
            if time.monotonic() + (time.monotonic() - start) > end:
                break
    except KeyboardInterrupt:
        print("interrupted")
    return measured


def compare(measured: dict[str, list[Step]]) -> list[dict]:
    """A record for each part and plain procedure: seconds of both, and how many times faster ours is."""

    def seconds(name: str, part: Part) -> np.ndarray:
        return np.concatenate([part.seconds(step) for step in measured[name]])

    records = []
    for part in PARTS:
        ours = seconds("ours", part)
        for name in [name for name in measured if name != "ours"]:
            plain = seconds(name, part)
            wall, processor = (plain / ours).T
            records.append(
                {
                    "part": part.name,
                    "compared_with": name,
                    "n": len(ours),
                    "seconds": quartiles(ours[:, 0]),
                    "plain_seconds": quartiles(plain[:, 0]),
                    "times_faster": quartiles(wall),
                    "processor_times_faster": quartiles(processor),
                    "at_least": LEAST if part.judged else None,
                }
            )
    return records


COLUMNS = (
    "part",
    "compared with",
    "n",
    "seconds",
    "plain seconds",
    "times faster",
    "quartiles",
    "by processor time",
    "quartiles",
    "at least",
)


def markdown(records: list[dict], head: list[str]) -> str:
    rows = []
    for record in records:
        low, ratio, high = record["times_faster"]
        processor_low, processor, processor_high = record["processor_times_faster"]
        rows.append(
            [
                record["part"],
                record["compared_with"],
                str(record["n"]),
                f"{record['seconds'][1]:.2f}",
                f"{record['plain_seconds'][1]:.2f}",
                f"{ratio:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{processor:.2f}",
                f"{processor_low:.2f} to {processor_high:.2f}",
                "" if record["at_least"] is None else f"{record['at_least']:g}",
            ]
        )
    return "\n".join(["# Time of token optimisation", "", *head, "", *table(COLUMNS, rows)]) + "\n"


def report(subject: Subject, repeats: int, minutes: float, precise: bool) -> tuple[list[dict], str]:
    """The records, and what they are. ``precise``: with the plain procedure in float64 too, as the tests have it.

    Raises:
        RuntimeError: the two procedures do not do the same.
    """
    difference = disagreement()
    if difference > AGREEMENT:
        raise RuntimeError(f"The procedures disagree by {difference:.2g} standard deviations of the latent.")
    measured = measure(subject, repeats, minutes, precise)
    if not measured["ours"]:
        raise SystemExit("No repeat was finished.")
    plan = plan_of(1)
    about = (
        f"A step with {plan.token_iterations} updates of two composite tokens by the semantic binding loss, and "
        f"{plan.entropy_iterations} by the entropy loss, in the mode published code; and the same by the published "
        "procedure in plain torch, on the same weights, in turns in one process. Times faster: its seconds divided by "
        "ours, median and quartiles over n; by the clock, and by processor time over all threads, which other programs "
        "disturb less. The plain procedure takes one entity after the other, computes attention as an explicit "
        "softmax, and goes backward once for the latent and once for the rows, as the published code does; in the "
        "precision of the model, or in float64 as in the tests. On the demo model the "
        f"latents of both agree within {difference:.1g} standard deviations of the latent after a run."
    )
    return compare(measured), about
