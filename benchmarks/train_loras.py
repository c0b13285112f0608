"""Trains the LoRAs that trained.py compares: TokenCompose's ablation on rendered scenes with true masks, and CoMat on
their captions with each of its parts off.

    .dev/venv/bin/python benchmarks/train_loras.py [--only CASE ...] [--steps N]

Each case is trained in a process of its own, as many at a time as there are cores; one that was stopped goes on when
the command is given again. The LoRAs and their losses are kept under output/benchmarks/loras.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import host
from judging import ONE_THREAD
from rendered_data import captions_of, rendered

LORAS = host.ROOT / "output" / "benchmarks" / "loras"
SCENES, SIZE = 1000, 128
RANK = 16


@dataclass(frozen=True)
class TokenCompose:
    """Weights of the token and the pixel loss."""

    token: float
    pixel: float


@dataclass(frozen=True)
class CoMat:
    """Which parts are on."""

    concept: bool = True
    attributes: bool = True
    fidelity: bool = True


CASES: dict[str, TokenCompose | CoMat] = {
    "noise loss": TokenCompose(0.0, 0.0),
    "noise and pixel loss": TokenCompose(0.0, 5e-5),
    "noise and token loss": TokenCompose(1e-3, 0.0),
    "all losses": TokenCompose(1e-3, 5e-5),
    "CoMat": CoMat(),
    "CoMat without concept matching": CoMat(concept=False),
    "CoMat without attribute concentration": CoMat(attributes=False),
    "CoMat without fidelity preservation": CoMat(fidelity=False),
}
"""TokenCompose's table 3, and the parts of CoMat."""

STEPS = {TokenCompose: 1500, CoMat: 150}
CHOSEN = {
    TokenCompose: {"batch": 4, "accumulate": 1, "learning_rate": 1e-3, "schedule": "cosine", "warm_up": 50},
    CoMat: {"batch": 2, "accumulate": 2, "learning_rate": 1e-3, "schedule": "cosine", "warm_up": 10},
}
"""By method: less than a core does in 25 minutes."""

ROLLOUT = {"sampling_steps": 12, "gradient_steps": 3, "captured_steps": 2, "cfg": 5.0, "untrained_pictures": 60}
PROMPTS = 200


def file_of(case: str) -> Path:
    return LORAS / f"{case.lower().replace(' ', '-')}.safetensors"


def train(case: str, steps: int | None) -> None:
    """In this process."""
    host.start_comfyui("--cpu")
    import folder_paths

    folder_paths.set_output_directory(str(LORAS.parent))
    folder_paths.add_model_folder_path("loras", str(LORAS), is_default=True)
    loaded = host.run_node("SBLoadDemoModel")
    networks = loaded["MODEL"], loaded["VAE"], loaded["CLIP"]
    kind = type(CASES[case])
    module = host.part({TokenCompose: "training.tokencompose_task", CoMat: "training.comat.options"}[kind])
    chosen = {name: option.default for name, option in module.INPUTS.items()}
    chosen |= {"name": file_of(case).stem, "steps": steps or STEPS[kind], "rank": RANK, "alpha": float(RANK)}
    chosen |= {"seed": 1, "checkpointing": False, "save_every": 25, "preview_every": 0, **CHOSEN[kind]}
    make = tokencompose_task if kind is TokenCompose else comat_task
    task = make(CASES[case], networks, chosen)
    settings = host.part("training.options").settings_of(chosen)
    began = time.monotonic()
    host.part("training.session").train_lora(networks[0], task, settings, None, _every(50), lambda *_: None)
    print(f"trained in {(time.monotonic() - began) / 60:.1f} min", flush=True)


def tokencompose_task(case: TokenCompose, networks: tuple, chosen: dict[str, Any]) -> Any:
    data = host.part("nodes.training.data").read(rendered(LORAS / "scenes", SCENES), SIZE)
    weights = {"token_weight": case.token, "pixel_weight": case.pixel}
    return host.part("training.tokencompose_task").task_of(data, *networks, chosen | weights, _every(200))[0]


def comat_task(case: CoMat, networks: tuple, chosen: dict[str, Any]) -> Any:
    options, files = host.part("training.comat.options"), host.part("training.comat.captioner_files")
    captioner = files.load(files.DEMO_WORLD, False) if case.concept else None
    chosen |= {**ROLLOUT, "size": SIZE}
    chosen["masks"] = options.DEMO_WORLD if case.attributes else options.NONE
    chosen["fidelity"] = options.CUSTOM if case.fidelity else options.OFF
    # The published rate belongs to 2000 steps: in 150 the discriminator learns nothing, and is led by the nose.
    chosen |= {"fidelity_weight": 1.0, "discriminator_rate": 1e-3}
    prompts = "\n".join(captions_of(rendered(LORAS / "scenes", SCENES), PROMPTS))
    return options.task_of(prompts, options.Networks(*networks, captioner=captioner), chosen, _every(50))[0]


def _every(count: int) -> Any:
    told = iter(range(10**9))

    def say(text: str) -> None:
        if next(told) % count == 0:
            print(text, flush=True)

    return say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases to train now")
    parser.add_argument("--steps", type=int, help="instead of those of the methods")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        train(arguments.case, arguments.steps)
        return
    rendered(LORAS / "scenes", SCENES)
    waiting, running = list(arguments.only), {}
    while waiting or running:
        while waiting and len(running) < arguments.workers:
            case = waiting.pop(0)
            log = file_of(case).with_suffix(".log")
            command = [sys.executable, __file__, "--case", case]
            command += [] if arguments.steps is None else ["--steps", str(arguments.steps)]
            with log.open("w") as file:
                running[case] = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stdout=file, stderr=file)
        time.sleep(2.0)
        for case, process in list(running.items()):
            if process.poll() is not None:
                del running[case]
                told = file_of(case).with_suffix(".log").read_text().splitlines()[-1:]
                print(f"{case}: {'' if process.returncode == 0 else 'failed, '}{' '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
