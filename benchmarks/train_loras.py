"""Trains the LoRAs that trained.py compares: TokenCompose's ablation on rendered scenes with true masks.

    .dev/venv/bin/python benchmarks/train_loras.py [--only CASE ...] [--steps 1500]

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
from rendered_data import rendered

LORAS = host.ROOT / "output" / "benchmarks" / "loras"
SCENES, SIZE = 1000, 128
RANK, RATE, BATCH = 16, 1e-3, 4


@dataclass(frozen=True)
class Case:
    """Weights of the token and the pixel loss."""

    token: float
    pixel: float


CASES = {
    "noise loss": Case(0.0, 0.0),
    "noise and pixel loss": Case(0.0, 5e-5),
    "noise and token loss": Case(1e-3, 0.0),
    "all losses": Case(1e-3, 5e-5),
}
"""TokenCompose's table 3."""


def file_of(case: str) -> Path:
    return LORAS / f"{case.replace(' ', '-')}.safetensors"


def train(case: str, steps: int) -> None:
    """In this process."""
    host.start_comfyui("--cpu")
    import folder_paths

    folder_paths.set_output_directory(str(LORAS.parent))
    folder_paths.add_model_folder_path("loras", str(LORAS), is_default=True)
    LORAS.mkdir(parents=True, exist_ok=True)
    loaded = host.run_node("SBLoadDemoModel")
    data = host.part("nodes.training.data").read(rendered(LORAS / "scenes", SCENES), SIZE)
    session, chosen = host.part("training.session"), CASES[case]
    samples = host.part("training.prepare").encoded(data, loaded["MODEL"], loaded["VAE"], loaded["CLIP"]).samples
    method = host.part("training.tokencompose").TokenCompose(samples, data.digest, chosen.token, chosen.pixel)
    settings = session.Settings(
        name=file_of(case).stem,
        lora=host.part("training.lora").LoRASettings(RANK, float(RANK), "attention"),
        optimisation=host.part("training.loop").Optimisation(RATE, "cosine", 50),
        steps=steps,
        batch=BATCH,
        accumulate=1,
        seed=1,
        checkpointing=False,
        save_every=100,
        preview_every=0,
    )
    began = time.monotonic()
    session.train_lora(loaded["MODEL"], method, settings, None, _every(50), lambda *_: None)
    print(f"trained in {(time.monotonic() - began) / 60:.1f} min", flush=True)


def _every(count: int) -> Any:
    told = iter(range(10**9))

    def say(text: str) -> None:
        if next(told) % count == 0:
            print(text, flush=True)

    return say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases to train now")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        train(arguments.case, arguments.steps)
        return
    host.start_comfyui("--cpu")
    rendered(LORAS / "scenes", SCENES)
    waiting, running = list(arguments.only), {}
    while waiting or running:
        while waiting and len(running) < arguments.workers:
            case = waiting.pop(0)
            log = file_of(case).with_suffix(".log")
            command = [sys.executable, __file__, "--case", case, "--steps", str(arguments.steps)]
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
