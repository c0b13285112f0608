"""What the viewer of a recording in the browser is given: files, and the description that names them."""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from .atlas import atlas, lookers, sent_size
from .colours import colour_table
from .drawing import as_image
from .pictures import Style
from .recording import Recording


@dataclass(frozen=True)
class Folder:
    """Where the files of one run go; their names are of this run alone."""

    path: Path
    run: str

    @classmethod
    def within(cls, path: Path) -> Folder:
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, uuid.uuid4().hex[:12])

    def keep(self, kind: str, contents: Iterable[bytes]) -> list[str]:
        """Write PNG files, one at a time; returns their names."""
        names = []
        for number, content in enumerate(contents):
            names.append(f"{self.run}_{kind}_{number}.png")
            (self.path / names[-1]).write_bytes(content)
        return names


def write(recording: Recording, images: torch.Tensor | None, style: Style, path: Path) -> dict:
    """Write the maps of a recording, and the pictures ``(latents, H, W, 3)`` they lie over, into a folder.

    Returns:
        What the files are, for JSON. They are named for each latent; the maps in a file are in the order step, label,
        those of the affinity in the order of the patches that are looked at.
    """
    folder = Folder.within(path)
    return {
        "labels": recording.labels,
        "entities": recording.entities,
        "steps": [(steps[0], steps[-1]) for steps in recording.steps],
        "steps_of_run": len(recording.sigmas) - 1,
        "latents": recording.latents,
        "latent_size": recording.latent_size,
        "image_size": recording.image_size if images is None else tuple(images.shape[1:3]),
        "normalisation": style.normalisation,
        "opacity": style.opacity,
        "palette": _palette(style.colour_map),
        "pictures": [] if images is None else folder.keep("picture", map(_picture, images)),
        "grids": [
            {
                "size": tuple(grid.maps.shape[-2:]),
                "layers": len(grid.layers),
                "files": folder.keep(f"maps_{grid.level}", map(atlas, grid.maps.transpose(0, 1).flatten(1, 2))),
            }
            for grid in recording.grids
        ],
        "affinity": _affinity(recording, folder),
    }


def write_step(maps: torch.Tensor, colour_map: str, path: Path) -> dict:
    """Write maps ``(labels, h, w)`` that are shown for a moment into a folder; returns what the file is, for JSON."""
    [name] = Folder.within(path).keep("step", [atlas(maps)])
    return {"file": name, "size": tuple(maps.shape[1:]), "palette": _palette(colour_map)}


def _picture(pixels: torch.Tensor) -> bytes:
    file = io.BytesIO()
    as_image(pixels[..., :3].cpu().float()).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _affinity(recording: Recording, folder: Folder) -> dict | None:
    """That of the finest grid, if it was recorded."""
    grid = recording.grids[0]
    if grid.affinity is None:
        return None
    size = tuple(grid.maps.shape[-2:])
    files = folder.keep("affinity", (atlas(lookers(affinity, size)) for affinity in grid.affinity))
    return {"size": sent_size(size), "files": files}


def _palette(colour_map: str) -> str:
    """256 colours of three bytes, as base64."""
    return base64.b64encode((colour_table(colour_map) * 255).round().byte().numpy().tobytes()).decode()
