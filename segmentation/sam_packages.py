"""The packages that Segment Anything needs, and what is wrong where one cannot be imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

PACKAGES = {"segment_anything": "segment-anything", "timm": "timm"}


@contextmanager
def explained(package: str) -> Iterator[None]:
    """Around the import of a package: raises ValueError that says what is wrong with it and what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise ValueError(_unimportable(package, error)) from error
        raise ValueError(
            f"Segment Anything needs a package that is not installed: {PACKAGES[error.name]}. Run this, then restart "
            f'ComfyUI: "{sys.executable}" -m pip install {" ".join(PACKAGES.values())}'
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(_unimportable(package, error)) from error


def _unimportable(package: str, error: Exception) -> str:
    why = str(error).strip().split("\n")[-1]
    return (
        f"{package} {_version(package)} cannot be imported: {why}. Most often torchvision ({_version('torchvision')}) "
        f"does not fit torch ({_version('torch')}): install the torchvision that was made for this torch, from where "
        f"torch came from. A {package} that is too old is the other reason."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
