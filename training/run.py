"""Train without a graph:

    python training/run.py CONFIG.json [--out FOLDER]
    torchrun --nproc_per_node=N training/run.py CONFIG.json [--out FOLDER]

CONFIG.json names the method, the model ("demo", or the file of a checkpoint) and the data. All else is called as the
inputs of the trainer node are, and has their defaults; an error lists what there is:

    {"method": "tokencompose", "model": "sd15.safetensors", "data": "my_pictures", "size": 512, "name": "my_lora"}

ComfyUI is found by COMFYUI_PATH, or is the one that dev.py unpacks. The LoRA goes to its models/loras, checkpoints and
curves to its output folder; with --out both go there. Given again, the same command goes on where it was stopped.
Each process of torchrun takes a GPU, or a part of the CPU where there is none, and the batch of a step is theirs
together.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed

METHODS = {"tokencompose": "training.tokencompose_task", "comat": "training.comat.options"}
"""By method the module that has its ``OPTIONS`` and, as ``from_options``, makes its task of them."""
DEMO = "demo"
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "semantic_binding"


class Loaded(NamedTuple):
    model: Any
    vae: Any
    clip: Any


def part(name: str) -> types.ModuleType:
    """A module of the pack, imported as part of the package though this file runs as a script."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(ROOT)]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


def find_comfyui() -> None:
    """Make ComfyUI importable, on the CPU where there is no GPU.

    Raises:
        ValueError: it is not there.
    """
    folder = part("demo.server").comfyui_folder()
    if not (folder / "main.py").is_file():
        raise ValueError(f"There is no ComfyUI in {folder}: dev.py gets one, or set COMFYUI_PATH to yours.")
    # The folder of this file, which Python looks in first, has modules of common names.
    sys.path[:] = [str(folder), *(each for each in sys.path if Path(each).resolve() != ROOT / "training")]
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    before, sys.argv = sys.argv, [sys.argv[0], *([] if has_gpu else ["--cpu"])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # which reads them

    sys.argv = before


@contextlib.contextmanager
def joined() -> Iterator[bool]:
    """Among the processes of torchrun, if it started this one: whether it is the first, which tells and writes.

    Raises:
        ValueError: there are more of them than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield True
        return
    if torch.cuda.is_available():
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise ValueError(f"There are {torch.cuda.device_count()} GPUs: set nproc_per_node to that number.")
        torch.cuda.set_device(own)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank() == 0
    finally:
        torch.distributed.destroy_process_group()


def read(config: Path) -> dict[str, Any]:
    """The options that a file has and, by default, has not.

    Raises:
        ValueError: it cannot be read, or says something that cannot be.
    """
    try:
        given = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{config} cannot be read as JSON: {error}") from error
    if not isinstance(given, dict) or given.get("method") not in METHODS:
        raise ValueError(f'{config} must be an object whose "method" is one of: {", ".join(METHODS)}.')
    options = part("training.options")
    first = {"method": options.Option(None, choices=tuple(METHODS)), "model": options.Option(None)}
    try:
        return options.chosen_of(given, first | part(METHODS[given["method"]]).OPTIONS)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error


def load(model: str) -> Loaded:
    """The networks of a checkpoint, as ComfyUI's nodes load them.

    Raises:
        ValueError: there is no such file.
    """
    with torch.inference_mode():
        if model == DEMO:
            loader = part("demo.loader")
            return Loaded(loader.load_model(), loader.load_vae(), loader.load_clip())
        if not Path(model).is_file():
            raise ValueError(f'There is no file "{model}". "model" is "{DEMO}" or the file of a checkpoint.')
        import comfy.sd
        import folder_paths

        embeddings = folder_paths.get_folder_paths("embeddings")
        found, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(model, embedding_directory=embeddings)
        return Loaded(found, vae, clip)


def write_to(folder: Path) -> None:
    """Have the LoRA, its checkpoints and curves written there."""
    import folder_paths

    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path("loras", str(folder.resolve()), is_default=True)
    folder_paths.set_output_directory(str(folder.resolve()))


def train(chosen: dict[str, Any], first: bool) -> None:
    """Make the LoRA, or what is left to make; the first process says how far it is."""

    def say(text: str) -> None:
        if first:
            print(text, flush=True)

    settings = part("training.options").settings_of(chosen)
    curves = part("training.files").checkpoint_path(settings.name).with_name("curves.png")

    def show(step: int, steps: int, shown: Any) -> None:
        if shown is not None:
            curves.parent.mkdir(parents=True, exist_ok=True)
            shown.save(curves)

    loaded = load(chosen["model"])
    task, notes = part(METHODS[chosen["method"]]).from_options(chosen, *loaded, say)
    for note in notes:
        say(note)
    preview = part("training.preview").preview_of(
        loaded.clip, loaded.vae, chosen["preview_prompts"], task.latent_shape, settings.seed
    )
    result = part("training.session").train_lora(loaded.model, task, settings, preview, say, show)
    say(f"{result.path} {'was there already' if result.found else 'is written'}: {len(result.curves)} steps.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="what to train, as JSON")
    parser.add_argument("--out", type=Path, help="folder for the LoRA, checkpoints and curves")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with joined() as first:
            find_comfyui()
            if arguments.out:
                write_to(arguments.out)
            train(read(arguments.config), first)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; the same command goes on where this stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
