"""What a model call needs when gradients are taken through it, compared with ComfyUI's estimate for sampling.

    .dev/venv/bin/python benchmarks/gradient_memory.py [--model sd15 | sdxl] [--cells 64]

MEMORY_OF_A_CELL in attention/engine/gradient.py is the largest of these, rounded up. Activations grow with the area of
the latent, so that latents of 32 x 32 give the same multiples as larger ones.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace

import host
from subject import Subject, peak_memory


class _Measured(Exception):
    """The run has served its purpose."""


def passes(call) -> dict[str, Callable[[], object]]:
    """Passes through the network of a one-row `ModelCall`, by what they are for."""
    import torch

    refinement = host.part("attention.token_merge.refinement")
    layers = host.part("attention.engine.layers").layers_of(call.executor.class_obj.current_patcher)
    chosen = refinement.entropy_layers(layers, *call.x.shape[-2:])
    groups = torch.eye(call.context.shape[1], device=call.x.device)

    def forward() -> None:
        with torch.no_grad():
            call.denoised()

    def through(context: torch.Tensor) -> None:
        leaf = context.clone().requires_grad_()
        torch.autograd.grad(call.with_(context=leaf).denoised().sum(), leaf)

    def maps() -> None:
        context, x = call.context.clone().requires_grad_(), call.x.clone().requires_grad_()
        seen = call.with_(context=context, x=x).attention(chosen, groups)
        torch.autograd.grad(torch.stack([each.probabilities for each in seen]).square().sum(), (context, x))

    return {
        "forward pass alone": forward,
        "semantic binding loss, context of one row": lambda: through(call.context[:, 1:2]),
        "the same with a whole context": lambda: through(call.context),
        "entropy loss": maps,
    }


def measure(subject: Subject) -> dict[str, float]:
    """MiB at the peak of each pass."""
    found = {}

    class Probe(host.part("attention.engine.run").Participant):
        def guides(self, key, step):
            return True

        def guide(self, call, chunk, rows):
            found.update({name: peak_memory(work) for name, work in passes(call).items()})
            raise _Measured

    class Technique:
        differentiates = True

        def check(self, layers):
            pass

        def begin(self, run):
            return Probe()

    model = host.part("attention.engine.sampling").with_technique(subject.plain.model, Technique())
    try:
        subject.sample(replace(subject.plain, model=model), steps=2)
    except _Measured:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("sd15", "sdxl"), default="sd15")
    parser.add_argument("--cells", type=int, default=64, help="of a side of the latent")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 where other programs use the machine")
    arguments = parser.parse_args()
    host.start_comfyui("--cpu")
    import torch

    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        subject = Subject(arguments.model, cells=arguments.cells)
        found = measure(subject)
    model = subject.plain.model.model
    # ComfyUI's formula where attention is fused; elsewhere, as on the CPU, it takes 7.5 times as much of bfloat16.
    estimate = arguments.cells**2 * model.get_dtype().itemsize * 0.01 * model.memory_usage_factor
    print(f"Model {arguments.model}, latent {arguments.cells} x {arguments.cells}, {model.get_dtype()}, one row.")
    print(f"ComfyUI's estimate for a forward pass with fused attention: {estimate:.0f} MiB.")
    for name, memory in found.items():
        print(f"{name}: {memory:.0f} MiB, {memory / estimate:.1f} times the estimate")


if __name__ == "__main__":
    main()
