"""Train the demo model from nothing: `python demo/train.py --comfyui FOLDER --out FOLDER`.

The stages (autoencoder, latents, text encoder, UNet, export, measurement) run in order. Each stops by the clock, keeps
checkpoints in the output folder and goes on from there when the command is given again; a stage whose result exists is
skipped.
"""

import argparse
import importlib
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

STAGES = {
    "vae": "train_vae",
    "latents": "train_latents",
    "text": "train_text",
    "unet": "train_unet",
    "export": "export",
    "measure": "measure",
}
"""Modules of the stages by name, in their order."""

PARALLEL_STAGES = ("vae", "latents", "unet", "measure")
DEFAULT_SECONDS = {"vae": 390.0, "latents": 0.0, "text": 600.0, "unet": 5100.0, "export": 0.0, "measure": 1800.0}
MALLOC_SETTINGS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc keeps freed memory: without this, returning and faulting in large blocks takes much of each step."""

PACKAGE = "semantic_binding"


def stage_module(stage: str) -> types.ModuleType:
    """The module of a stage, imported as part of the package though this file runs as a script."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.demo.{stage}")


def run_stage(stage: str, arguments: argparse.Namespace) -> None:
    """Run a stage in this process, as one of `arguments.ranks`."""
    stage_module("networks").find_comfyui(arguments.comfyui)
    ranks = stage_module("parallel").join(arguments.rank, arguments.ranks, arguments.port)
    seconds = arguments.seconds if arguments.seconds is not None else DEFAULT_SECONDS[stage]
    stage_module(STAGES[stage]).train(ranks, arguments.out, seconds)


def launch_stage(stage: str, arguments: argparse.Namespace) -> None:
    """Run a stage in processes of its own and wait for them."""
    count = arguments.ranks if stage in PARALLEL_STAGES else 1
    command = [sys.executable, __file__, "--comfyui", arguments.comfyui, "--out", arguments.out, "--ranks", count]
    command += ["--stage", stage, "--port", arguments.port]
    if arguments.seconds is not None:
        command += ["--seconds", arguments.seconds]
    environment = {**os.environ, **MALLOC_SETTINGS, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([str(part) for part in [*command, "--rank", rank]], env=environment) for rank in range(count)
    ]
    failed = [process.returncode for process in processes if process.wait() != 0]
    if failed:
        raise SystemExit(f"stage {stage} failed with exit status {failed[0]}")


def main() -> None:
    """Read the command line and run one stage or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True, help="folder of ComfyUI, whose networks are trained")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the finished model")
    parser.add_argument("--stage", choices=STAGES, help="run this stage only")
    parser.add_argument("--seconds", type=float, help="training time of the stage, instead of its default")
    parser.add_argument("--ranks", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--rank", type=int, help="number of this process (set by the launcher)")
    parser.add_argument("--port", type=int, default=29517, help="free local port by which the processes meet")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if arguments.rank is not None:
        run_stage(arguments.stage, arguments)
        return
    for stage in [arguments.stage] if arguments.stage else STAGES:
        launch_stage(stage, arguments)


if __name__ == "__main__":
    main()
