"""ComfyUI and the pack in this process, for the benchmarks."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGE = "semantic_binding"


def load(name: str, path: Path) -> ModuleType:
    """The module or package in a file, under a name of its own."""
    folder = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def helper(name: str) -> ModuleType:
    """What the tests have too: random models in the published formats, and published procedures in plain torch."""
    return load(name, ROOT / "tests" / "helpers" / f"{name}.py")


def start_comfyui(*arguments: str) -> None:
    """Make ComfyUI (dev.py's, or that of COMFYUI_PATH) importable as in its own code, and import the pack by path."""
    folder = load("_headless", ROOT / "demo" / "server.py").comfyui_folder()
    sys.path.insert(0, str(folder))
    sys.argv = [str(folder / "main.py"), *arguments]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    load(PACKAGE, ROOT / "__init__.py")


def part(name: str) -> ModuleType:
    """A module of the pack: ``part("evaluation.score")``. Layers that need no ComfyUI come without it."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = ModuleType(PACKAGE)
        sys.modules[PACKAGE].__path__ = [str(ROOT)]
    return importlib.import_module(f"{PACKAGE}.{name}")


@functools.cache
def node_classes() -> dict[str, type]:
    """The pack's node classes by id."""

    async def listed() -> list[type]:
        return await (await sys.modules[PACKAGE].comfy_entrypoint()).get_node_list()

    return {node_class.define_schema().node_id: node_class for node_class in asyncio.run(listed())}


def run_node(node_id: str, **inputs: Any) -> dict[str, Any]:
    """Run a node of the pack, inputs left out at their defaults; its outputs by type."""
    node_class = node_classes()[node_id]
    schema = node_class.define_schema()
    defaults = {each.id: default for each in schema.inputs if (default := _default(each)) is not None}
    result = node_class.execute(**{**defaults, **inputs})
    return {output.get_io_type(): value for output, value in zip(schema.outputs, result.args, strict=True)}


def _default(given: Any) -> Any:
    """An input's default; a dynamic combo's is its first option with the defaults of that option's inputs. What is
    always a socket has none, whatever its schema says."""
    from comfy_api.latest import io

    if getattr(given, "force_input", None):
        return None
    if not isinstance(given, io.DynamicCombo.Input):
        return getattr(given, "default", None)
    option = given.options[0]
    return {given.id: option.key, **{each.id: each.default for each in option.inputs}}


def machine() -> str:
    """Processor or accelerator and versions, for a result's head."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{name}, {os.cpu_count()} cores"
    return f"{device}; Python {platform.python_version()}, torch {torch.__version__}"


def file_digest(path: Path) -> str:
    """The first 12 digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
