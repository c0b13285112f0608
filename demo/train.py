"""Train the demo model: `python demo/train.py --comfyui FOLDER --out FOLDER [--start MODEL]`.

The stages (autoencoder, latents, text encoder, UNet, export, measurement) run in order. Each stops by the clock, keeps
checkpoints in the output folder and goes on from there when the command is given again; a stage whose result exists is
skipped. They compute on a GPU where there is one; on a CPU in bf16 where a short measurement finds it faster than fp32.

All of it is trained from nothing, or with `--start model.safetensors` from the networks of an earlier release: its
autoencoder and text encoder are taken as they are, its UNet goes on.
"""

import argparse
import importlib
import logging
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Stage(NamedTuple):
    """A stage's module in this folder, its training time in seconds, and whether several processes share it."""

    module: str
    seconds: float = 0.0
    parallel: bool = False


STAGES = {
    "start": Stage("start"),
    "vae": Stage("train_vae", 390.0, parallel=True),
    "latents": Stage("train_latents", parallel=True),
    "text": Stage("train_text", 600.0),
    "unet": Stage("train_unet", 5100.0, parallel=True),
    "export": Stage("export"),
    "measure": Stage("measure", 3000.0, parallel=True),
}
"""By name, in their order."""

MALLOC_SETTINGS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
"""glibc keeps freed memory: without this, returning and faulting in large blocks takes much of each step."""

PACKAGE = "semantic_binding"


def demo_module(name: str) -> types.ModuleType:
    """A module of this folder, imported as part of the package though this file runs as a script."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.demo.{name}")


def run_stage(stage: Stage, arguments: argparse.Namespace) -> None:
    """Run a stage in this process, as one of `arguments.ranks`."""
    demo_module("networks").find_comfyui(arguments.comfyui)
    ranks = demo_module("parallel").join(arguments.rank, arguments.ranks, arguments.port)
    computing = demo_module("computing").named(arguments.device, arguments.dtype)
    seconds = arguments.seconds if arguments.seconds is not None else stage.seconds
    demo_module(stage.module).train(ranks, computing, arguments.out, seconds)


def launch_stage(name: str, stage: Stage, arguments: argparse.Namespace) -> None:
    """Run a stage in processes of its own and wait for them."""
    count = arguments.ranks if stage.parallel else 1
    command = [sys.executable, sys.argv[0], "--comfyui", arguments.comfyui, "--out", arguments.out, "--ranks", count]
    command += ["--stage", name, "--port", arguments.port, "--device", arguments.device, "--dtype", arguments.dtype]
    if arguments.seconds is not None:
        command += ["--seconds", arguments.seconds]
    environment = {**os.environ, **MALLOC_SETTINGS, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([str(part) for part in [*command, "--rank", rank]], env=environment) for rank in range(count)
    ]
    failed = [process.returncode for process in processes if process.wait() != 0]
    if failed:
        raise SystemExit(f"stage {name} failed with exit status {failed[0]}")


def take_start(source: Path, folder: Path) -> bool:
    """Copy the release's file to where the first stage looks for it; False if something else was trained there."""
    target = folder / demo_module("start").SOURCE_FILE
    if target.exists():
        return target.read_bytes() == source.read_bytes()
    if any(folder.glob("*.pt")):
        return False
    shutil.copyfile(source, target)
    return True


def main(about: str, stages: Mapping[str, Stage]) -> None:
    """Read the command line and run one stage or all of them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True, help="folder of ComfyUI, whose networks are trained")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the finished model")
    if "start" in stages:
        parser.add_argument("--start", type=Path, help="model.safetensors of a release whose networks go on")
    parser.add_argument("--stage", choices=stages, help="run this stage only")
    parser.add_argument("--seconds", type=float, help="training time of the stage, instead of its default")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, mps ...")
    parser.add_argument("--ranks", type=int, help="processes, one thread each: 2 on the CPU, 1 on a GPU")
    parser.add_argument("--rank", type=int, help="number of this process (set by the launcher)")
    parser.add_argument("--dtype", help="what this process computes in (set by the launcher)")
    parser.add_argument("--port", type=int, default=29517, help="free local port by which the processes meet")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if arguments.rank is not None:
        run_stage(stages[arguments.stage], arguments)
        return
    computing = demo_module("computing")
    try:
        arguments.device = computing.find_device(arguments.device, computing.device_names())
    except ValueError as error:
        parser.error(str(error))
    if getattr(arguments, "start", None) and not take_start(arguments.start, arguments.out):
        parser.error(f"--start: there is another training in {arguments.out}")
    arguments.dtype = computing.choose_dtype(arguments.device)
    arguments.ranks = arguments.ranks or (2 if arguments.device == "cpu" else 1)
    for name in [arguments.stage] if arguments.stage else stages:
        launch_stage(name, stages[name], arguments)


if __name__ == "__main__":
    main(__doc__, STAGES)
