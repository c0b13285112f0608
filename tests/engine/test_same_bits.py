"""The same graph gives the same bits in every process: Python orders sets of text by a seed of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clone import ROOT

DIGESTS = ROOT / "tests" / "helpers" / "digests.py"


def digests(comfyui: Path, folder: Path, seed: int, layouts: list[str]) -> dict:
    folder.mkdir()
    command = [sys.executable, DIGESTS, comfyui, ROOT, folder, *layouts]
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_hash_seeds(comfy, tmp_path):
    comfyui = Path(comfy.nodes.__file__).parent
    first, other = [digests(comfyui, tmp_path / str(seed), seed, ["sd1", "sdxl"]) for seed in (0, 1)]
    assert len({str(each) for each in first.values()}) > 20, "techniques give other pictures"
    assert {name for name, found in other.items() if found != first[name]} == set()
