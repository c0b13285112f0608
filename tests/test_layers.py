"""Which room may import which, as ARCHITECTURE.md says; no circles; no file that is too long."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from clone import ROOT

MAY_IMPORT = {
    "parsing": "",
    "world": "",
    "pretrained": "",
    "attention/engine": "parsing",
    "attention/maps": "attention/engine parsing",
    "attention/modulation": "attention/engine parsing",
    "attention/token_merge": "attention/engine attention/maps parsing",
    "attention/guidance": "attention/engine attention/token_merge parsing",
    "attention/structured": "attention/engine parsing",
    "attention/composed": "attention/engine",
    "attention/subjects": "attention/engine attention/modulation parsing",
    "segmentation": "attention/engine attention/maps parsing pretrained",
    "subjects": "parsing",
    "evaluation": "attention/maps attention/guidance parsing pretrained world",
    "training": ("attention/engine attention/maps attention/guidance parsing pretrained segmentation evaluation world"),
    "demo": "evaluation subjects world",
    "nodes/shared": "attention/engine parsing",
    "nodes/parsing": "nodes/shared attention/engine parsing",
    "nodes/maps": "nodes/shared attention/engine attention/maps",
    "nodes/modulation": "nodes/shared attention/engine attention/modulation",
    "nodes/token_merge": "nodes/shared attention/engine attention/token_merge parsing",
    "nodes/guidance": "nodes/shared attention/engine attention/guidance",
    "nodes/structured": "nodes/shared attention/engine attention/structured attention/token_merge parsing",
    "nodes/composed": "nodes/shared attention/engine attention/composed parsing",
    "nodes/subjects": "nodes/shared attention/engine attention/subjects subjects",
    "nodes/segmentation": "nodes/shared segmentation parsing",
    "nodes/evaluation": "nodes/shared nodes/parsing evaluation parsing pretrained",
    "nodes/training": "nodes/shared training parsing pretrained",
    "nodes/demo": "demo",
}
KNOWING_COMFYUI = {
    "pretrained": {"folders", "loading"},
    "attention": {
        "engine/sampling",
        "engine/patching",
        "engine/guiding",
        "engine/gradient",
        "engine/layers",
        "maps/files",
    },
    "segmentation": {"sam", "sam_files"},
    "subjects": {"checkpoint", "adapter", "image_encoder", "unet"},
    "training": {
        "files",
        "network",
        "prepare",
        "preview",
        "run",
        "comat/decoding",
        "comat/finding",
        "comat/options",
    },
    "parsing": set(),
    "evaluation": {"judges/text_encoder", "judges/vision_language"},
    "world": set(),
}
"""The files of these folders that may import ComfyUI."""

FOLDERS = sorted({room.partition("/")[0] for room in MAY_IMPORT})


def files() -> list[Path]:
    return [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def room_of(file: Path) -> str:
    """The folder; in ``attention`` and ``nodes`` the folder within, or the file that is a room of its own."""
    if file.parts[0] in ("attention", "nodes"):
        return "/".join(file.with_suffix("").parts[:2])
    return file.parts[0]


def imported(file: Path) -> Iterator[Path]:
    """The files of the pack that a file imports, also where only types are checked."""
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in node.names:
                for found in (base / f"{name.name}.py", base.with_suffix(".py")):
                    if (ROOT / found).is_file():
                        yield found
                        break


def circle(graph: dict) -> list:
    """Some of what imports itself over others, in the order of the imports; nothing if there is none."""
    done: set = set()

    def search(name, path: list) -> list:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in graph.get(name, ()):
            if found := search(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := search(name, []))), [])


def test_rooms_import_what_they_may():
    for file in files():
        if file.name == "__init__.py":
            assert not list(imported(file)), f"{file} re-exports"
            continue
        for other in imported(file):
            mine, theirs = room_of(file), room_of(other)
            assert mine == theirs or theirs in MAY_IMPORT[mine].split(), f"{file} imports {other}"


def test_the_rooms_are_those_that_there_are():
    assert {room_of(file) for file in files() if file.name != "__init__.py"} == set(MAY_IMPORT)


def test_no_circles():
    assert circle({file: list(imported(file)) for file in files()}) == []
    assert circle({room: may.split() for room, may in MAY_IMPORT.items()}) == []


@pytest.mark.parametrize("folder", ["benchmarks", "tests/helpers"])
def test_no_circles_among_programs(folder):
    graph = {}
    for path in (ROOT / folder).glob("*.py"):
        tree = ast.walk(ast.parse(path.read_text("utf-8")))
        graph[path.stem] = [
            name
            for node in tree
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
        ]
    assert len(graph) > 10
    assert circle(graph) == []


def test_circles_are_found():
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c"]


def test_who_knows_comfyui():
    for file in files():
        knowing = KNOWING_COMFYUI.get(file.parts[0])
        if knowing is None or file.relative_to(file.parts[0]).with_suffix("").as_posix() in knowing:
            continue
        for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                assert top not in ("comfy", "comfy_api", "comfy_extras", "nodes", "folder_paths"), f"{file}: {name}"
                assert file.parts[0] != "parsing" or top != "torch", f"{file}: {name}"


def test_files_are_small():
    counted = [*ROOT.glob("*.py"), *(ROOT / "web").rglob("*.js")]
    counted += [path for folder in (*FOLDERS, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in counted}
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) <= 200
