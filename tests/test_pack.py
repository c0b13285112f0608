"""The pack as ComfyUI and its users meet it: the published nodes, their texts, start-up, and the files around them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from clone import ROOT, headless

SNAPSHOT = ROOT / "tests" / "snapshots" / "schemas.json"
DOCS = ROOT / "web" / "docs"
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
CHOICES = (DYNAMIC, "COMBO")
FIRST = "the first of the list"
SKIPPED = {".git", ".dev", "output", "__pycache__", ".pytest_cache", ".ruff_cache"}

START_UP = """
import asyncio, gc, json, os, sys, time
comfyui, base, *packs = sys.argv[1:]
sys.path.insert(0, comfyui)
sys.argv = ["main.py", "--cpu", "--base-directory", base]
import comfy.options
comfy.options.enable_args_parsing()
import nodes
from comfy_config import config_parser
before = set(sys.modules)
gc.collect()
gc.freeze()
start = time.process_time()
loaded = asyncio.run(nodes.load_custom_node(packs[0]))
seconds = time.process_time() - start
added = sorted(set(sys.modules) - before)
loaded_again = asyncio.run(nodes.load_custom_node(packs[1]))
ids = sorted(name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("SB"))
told = {"loaded": loaded, "seconds": seconds, "added": added, "loaded_again": loaded_again, "ids": ids}
print("\\n" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def published(started) -> dict[str, dict]:
    """The pack's nodes as the server tells the frontend of them."""
    nodes = {name: dict(told) for name, told in started.nodes.items()}
    ours = {name: told for name, told in nodes.items() if told["category"].startswith("semantic binding")}
    for told in ours.values():
        told.pop("python_module")
    return ours


@pytest.fixture(scope="module")
def start_up(tmp_path_factory) -> dict:
    """What loading the pack adds to a ComfyUI with only its core loaded; then the same pack under another name.

    That of a second start, as Python compiles modules at the first. ComfyUI's reader of pyproject.toml, which any pack
    makes it load, is loaded before; and what ComfyUI and torch hold is left out of Python's garbage collection, which
    now and then goes over all of it, whoever happens to run.

    ``seconds`` is processor time, so that other work on the machine does not count.
    """
    base = tmp_path_factory.mktemp("start")
    renamed = base / "renamed-1.0 copy"
    renamed.symlink_to(ROOT, target_is_directory=True)
    command = [sys.executable, "-c", START_UP, str(headless.comfyui_folder()), str(base), str(ROOT), str(renamed)]
    for _ in range(2):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        )
    return json.loads(done.stdout.splitlines()[-1])


def project_files(*suffixes: str) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in SKIPPED]
        found += [Path(folder, name) for name in files if name not in SKIPPED]
    return [path for path in found if not suffixes or path.suffix in suffixes]


def inputs_of(told: dict) -> dict[str, list]:
    """The inputs of a node and, under names like "mode.penalty", those of each choice of its dynamic combos."""
    return dict(_named(told["input"], ""))


def _named(inputs: dict, prefix: str):
    for group in ("required", "optional"):
        for name, spec in inputs.get(group, {}).items():
            yield prefix + name, spec
            for option in spec[1].get("options", ()) if spec[0] == DYNAMIC else ():
                yield from _named(option["inputs"], f"{prefix}{name}.")


def test_every_node_of_the_list_is_served(published, pack):
    import asyncio

    listed = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    assert sorted(node.GET_SCHEMA().node_id for node in listed) == sorted(published)
    assert len(published) >= 8


def test_schemas_are_those_of_the_snapshot(published, request):
    if request.config.getoption("--update-snapshots"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(published, indent=1, sort_keys=True) + "\n", "utf-8")
    expected = json.loads(SNAPSHOT.read_text("utf-8"))
    assert json.loads(json.dumps(published)) == expected, (
        "A published node has changed. Saved graphs depend on ids, inputs, outputs and defaults: if the change is "
        "meant, run dev.py test tests/test_pack.py --update-snapshots and say so in CHANGELOG.md."
    )


def test_every_node_explains_itself(published):
    for node_id, told in published.items():
        assert node_id.startswith("SB"), node_id
        assert told["display_name"] and told["description"] and told["search_aliases"], node_id
        for name, spec in inputs_of(told).items():
            assert len(spec) > 1 and spec[1].get("tooltip"), f"{node_id}.{name} has no tooltip"
        assert len(told["output_tooltips"]) == len(told["output"]) and all(told["output_tooltips"]), node_id


def test_numbers_have_bounds(published):
    for node_id, told in published.items():
        for name, (kind, *options) in inputs_of(told).items():
            if kind in ("INT", "FLOAT"):
                assert {"min", "max", "default"} <= set(options[0]), f"{node_id}.{name}"


def test_every_node_has_a_help_page_that_is_served(published, server):
    for node_id in published:
        page = server.get(f"/extensions/{ROOT.name}/docs/{node_id}.md").text
        for name in inputs_of(published[node_id]):
            assert name in page, f"the help page of {node_id} does not speak of its input {name}"


def test_every_help_page_begins_with_a_sentence_and_a_picture(published):
    for node_id in published:
        page = (DOCS / f"{node_id}.md").read_text("utf-8")
        begin = rf"# [^\n]+\n\n[^\n]+[.]\n\n!\[[^\]\n]{{20,}}\]\(pictures/{node_id}\.jpg\)\n\n"
        assert re.match(begin, page), node_id
        assert page.count("](pictures/") == 1, node_id


def test_the_pictures_of_help_pages_are_small_and_none_is_unused(published):
    pictures = list((DOCS / "pictures").iterdir())
    assert sorted(path.name for path in pictures) == sorted(f"{node_id}.jpg" for node_id in published)
    for path in pictures:
        assert path.stat().st_size <= 40_000, path.name
        with Image.open(path) as picture:
            assert 300 <= picture.width <= 768 and picture.height <= 768, path.name
    assert sum(path.stat().st_size for path in pictures) < 1_000_000


def test_help_pages_tell_of_at_most_three_settings_with_their_names_and_defaults(published):
    for node_id, told in published.items():
        page = (DOCS / f"{node_id}.md").read_text("utf-8")
        below = page.split("\n\n", 3)[3]
        settings = [each for each in _named(told["input"], "") if "default" in each[1][1] or each[1][0] in CHOICES]
        if not settings:
            assert "## Settings worth touching" not in page, node_id
            continue
        assert below.startswith("## Settings worth touching\n\n- "), node_id
        items = below.split("\n\n")[1].split("\n")
        assert 1 <= len(items) <= 3, node_id
        named = []
        for item in items:
            found = re.fullmatch(r"- ((?:\*\*[\w.]+\*\*(?:, )?)+) \(([^)]+)\): .{40,}", item)
            assert found, f"{node_id}: {item}"
            for name in re.findall(r"\*\*([\w.]+)\*\*", found[1]):
                named.append(name)
                defaults = {shown(spec) for each, spec in settings if each == name}
                assert defaults, f"{node_id} has no setting {name}"
                assert any(found[2].startswith(each) for each in defaults), f"{node_id}.{name}: {defaults}"
        assert len(set(named)) == len(named) >= min(3, len({name for name, _ in settings})), node_id


def shown(spec: list) -> str:
    """The default of an input as help pages write it; of a list that depends on what is installed, its place."""
    kind, options = spec
    match options.get("default", FIRST):
        case bool(on):
            return "on" if on else "off"
        case int(number) | float(number):
            return f"{Decimal(str(number)).normalize():f}"
        case str(text) if len(text) > 60:
            return "a list"
        case default if default != FIRST:
            return default or "empty"
    return options["options"][0]["key"] if kind == DYNAMIC else FIRST


def test_every_node_is_used_by_a_workflow(published):
    graphs = [json.loads(path.read_text("utf-8")) for path in (ROOT / "workflows" / "api").glob("*.json")]
    used = {node["class_type"] for graph in graphs for node in graph.values()}
    assert not set(published) - used


def test_the_readme_lists_every_node(published):
    readme = (ROOT / "README.md").read_text("utf-8")
    for told in published.values():
        assert f"| **{told['display_name']}** |" in readme, told["display_name"]


@pytest.mark.slow
def test_loading_the_pack_takes_less_than_half_a_second(start_up):
    assert start_up["loaded"]
    assert start_up["seconds"] < 0.5


def test_loading_the_pack_imports_nothing_heavy(start_up):
    heavy = re.compile(r"(spacy|thinc|transformers|scipy|safetensors|kornia|matplotlib|torchvision)\b|.*\.demo\.(?!$)")
    assert [name for name in start_up["added"] if heavy.match(name)] == []


def test_the_folder_may_have_any_name(start_up):
    assert start_up["loaded_again"]
    assert start_up["ids"]


def test_registry_metadata_is_what_comfyui_reads(comfy):
    from comfy_config.config_parser import extract_node_configuration

    told = extract_node_configuration(str(ROOT))
    assert told.project.name == "semantic-binding"
    assert told.tool_comfy.display_name == "Semantic Binding"
    assert told.tool_comfy.publisher_id == "semantic-binding"
    assert told.project.supported_comfyui_version == ">=0.30.0"
    assert told.project.supported_os == ["OS Independent"]
    assert told.project.license.text == "GPL-3.0-or-later"
    assert told.project.dependencies == (ROOT / "requirements.txt").read_text("utf-8").split("\n")[:-1]
    assert re.search(rf"^## .*{re.escape(told.project.version)}", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)


def test_requirements_are_not_those_of_comfyui_and_pin_nothing():
    own = (ROOT / "requirements.txt").read_text("utf-8").split()
    theirs = re.findall(r"^[A-Za-z0-9_.-]+", (headless.comfyui_folder() / "requirements.txt").read_text("utf-8"), re.M)
    for line in own:
        name, bound = re.fullmatch(r"([a-z0-9-]+)(>=[0-9.]+)", line).groups()
        assert name not in theirs and bound


def test_files_name_no_machine_and_no_package_index():
    machine = re.compile(r"(?<![\w.])/(work|root|home|tmp|Users)/\w|(extra-)?index-url|find-links|files\.pythonhosted")
    for path in project_files(".py", ".js", ".md", ".json", ".toml", ".txt", ".ini", ".css", ".yaml", ""):
        if path != Path(__file__):
            for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
                assert not machine.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def test_the_linter_finds_nothing():
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."],
        cwd=ROOT,
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stdout.decode()[-3000:]
