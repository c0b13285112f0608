"""Where the clone is, and its programs as modules: by path, because the clone's root must not be importable.

(It holds a folder ``nodes``, and ComfyUI has a module of that name.)
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load_file(path: Path, name: str) -> ModuleType:
    """A module by its file, under a name that cannot meet ComfyUI's top-level modules."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


headless = load_file(ROOT / "demo" / "server.py", "semantic_binding_server")
