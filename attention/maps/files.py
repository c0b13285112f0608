"""Recordings as files: safetensors, with a JSON header that says what each map is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import folder_paths
from safetensors import safe_open
from safetensors.torch import save_file

from .recording import Grid, Recording

SUFFIX = ".attention.safetensors"
HEADER = "semantic_binding"
FORMAT = 1


def save(recording: Recording, filename_prefix: str) -> str:
    """Write a recording below ComfyUI's output folder; returns its name in the form ``load`` takes."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory()
    )
    header = {
        "format": FORMAT,
        "prompt": recording.prompt,
        "what": recording.what,
        "labels": recording.labels,
        "entities": recording.entities,
        "latent_size": recording.latent_size,
        "cell": recording.cell,
        "steps": recording.steps,
        "sigmas": recording.sigmas,
        "grids": [{"level": grid.level, "layers": grid.layers} for grid in recording.grids],
        "dimensions": "step, latent, label, height, width",
    }
    file = f"{name}_{counter:05}_{SUFFIX}"
    tensors = {f"maps.{grid.level}": grid.maps.contiguous() for grid in recording.grids}
    tensors |= {f"affinity.{grid.level}": grid.affinity for grid in recording.grids if grid.affinity is not None}
    save_file(tensors, os.path.join(folder, file), metadata={HEADER: json.dumps(header)})
    return f"{Path(subfolder, file).as_posix()} [output]"


def load(name: str) -> Recording:
    """The recording in a file of the input folder, or of the output folder if the name ends in " [output]".

    Raises:
        ValueError: the file was not written by Save Attention.
    """
    with safe_open(_path(name), framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
        if header.get("format") != FORMAT:
            raise ValueError(f'"{name}" was not written by Save Attention, or by a newer version of it.')
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        grids = tuple(
            Grid(
                grid["level"],
                tuple(grid["layers"]),
                tensors[f"maps.{grid['level']}"],
                tensors.get(f"affinity.{grid['level']}"),
            )
            for grid in header["grids"]
        )
    return Recording(
        prompt=header["prompt"],
        labels=tuple(header["labels"]),
        entities=tuple(header["entities"]),
        latent_size=tuple(header["latent_size"]),
        cell=header["cell"],
        steps=tuple(map(tuple, header["steps"])),
        sigmas=tuple(header["sigmas"]),
        grids=grids,
        what=header.get("what", ""),
    )


def available() -> list[str]:
    """Attention files of the input and output folders, the newest of the output folder first."""
    inputs = _below(folder_paths.get_input_directory())
    outputs = _below(folder_paths.get_output_directory())
    outputs.sort(key=lambda entry: -entry[1])
    return sorted(name for name, _ in inputs) + [f"{name} [output]" for name, _ in outputs]


def exists(name: str) -> bool:
    return isinstance(name, str) and SUFFIX in name and folder_paths.exists_annotated_filepath(name)


def fingerprint(name: str) -> str:
    """Changes when the file is written anew."""
    status = os.stat(_path(name))
    return f"{status.st_mtime_ns}-{status.st_size}"


def _path(name: str) -> str:
    return folder_paths.get_annotated_filepath(name)


def _below(folder: str) -> list[tuple[str, float]]:
    found = []
    for path, _, files in os.walk(folder):
        for file in files:
            if file.endswith(SUFFIX):
                whole = Path(path, file)
                found.append((whole.relative_to(folder).as_posix(), whole.stat().st_mtime))
    return found
