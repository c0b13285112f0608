"""What ``dev.py demo`` does inside its environment: runs shipped workflows and shows what came out, on one page."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .page import Picture, Score, Section, page
from .server import PACK, Client, ExecutionFailed, GraphRejected, Run, Server, ServerError

WORKFLOWS = PACK / "workflows"
PAGE = PACK / "output" / "index.html"
NEEDING = {"CheckpointLoaderSimple": "a checkpoint of yours", "SBLoadSAM": "Segment Anything in models/sams"}
"""What nodes need that is not in this repository."""

TOUR = {
    "Bind a prompt",
    "Bound Sampler",
    "Object binding with token merge",
    "Nothing left out with Attend-and-Excite",
    "Two subjects",
}
"""Titles of what is run where no workflow is named: something of each kind, in a minute."""

NUMBER = re.compile(r"^\d\d ")
"""Before the title of a workflow, in the name of its file."""

ALL = "all"
CLEAR = "\r\x1b[K"
"""Takes back the line that a terminal shows."""

TITLE = "Semantic Binding: what the example workflows make"
ABOUT = (
    "On the small model of coloured shapes that comes with the pack. One seed says little: rates over hundreds of "
    "pictures, with standard errors, are in benchmarks/results."
)


def main() -> int:
    parser = argparse.ArgumentParser("dev.py demo", description="Runs shipped workflows on the bundled model.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f'workflows to run, or "{ALL}" (a tour of them)')
    parser.add_argument("--port", type=int, help="the server's port (a free one by default)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        graphs = load_graphs(WORKFLOWS / "api")
        chosen = choose(graphs, arguments.names)
        server = Server(port=arguments.port)
        print(f"Starting ComfyUI from {server.comfyui} on port {server.port} ...", flush=True)
        with server:
            return run_all(server, graphs, chosen)
    except ServerError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: interrupted; ComfyUI is stopped.", file=sys.stderr)
        return 130


def choose(graphs: dict[str, dict], names: Sequence[str]) -> list[str]:
    """The workflows to run, in their order: those whose name contains one of ``names``, whatever the case.

    Raises:
        ServerError: no workflow is called so.
    """
    if not names:
        return [name for name in graphs if NUMBER.sub("", name) in TOUR]
    if names == [ALL]:
        return list(graphs)
    for given in names:
        if not any(given.lower() in name.lower() for name in graphs):
            raise ServerError(f'There is no workflow "{given}". There are: {", ".join(graphs)}; or "{ALL}".')
    return [name for name in graphs if any(given.lower() in name.lower() for given in names)]


def run_all(server: Server, graphs: dict[str, dict], chosen: Sequence[str]) -> int:
    """Runs the chosen workflows that need no more than this repository, and writes the page after each.

    Returns the exit status.
    """
    start, clear = time.monotonic(), CLEAR if sys.stdout.isatty() else ""
    others = {name: f'python3 dev.py demo "{name}"' for name in graphs if name not in chosen}
    sections: list[Section] = []
    failed = False
    for number, name in enumerate(chosen, 1):
        graph = graphs[name]
        if needed := classes(graph) & NEEDING.keys():
            others[name] = f"needs {NEEDING[min(needed)]}"
            continue
        if clear:
            print(f"{clear}{number} of {len(chosen)}: {name}", end="", flush=True)
        try:
            run = server.run(graph)
        except (GraphRejected, ExecutionFailed) as error:
            failed, others[name] = True, f"failed: {error}"
            print(f"{clear}dev.py: the workflow {name} failed: {error}", file=sys.stderr, flush=True)
            continue
        pictures, scores = pictures_of(server, graph, run), scores_of(graph, run)
        sections.append(Section(NUMBER.sub("", name), note_of(name), pictures, scores, run.seconds))
        write(sections, others)
        if len(sections) == 1:
            print(f"{clear}The first pictures are in {PAGE}", flush=True)
    write(sections, others)
    made = sum(len(section.pictures) for section in sections)
    print(f"{clear}{len(sections)} workflows, {made} pictures, {time.monotonic() - start:.0f} s: {PAGE}")
    if others:
        print(f"Not run: {len(others)}, listed there. One of them: dev.py demo NAME; all: dev.py demo {ALL}")
    return int(failed)


def write(sections: Sequence[Section], others: dict[str, str]) -> None:
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(TITLE, ABOUT, sections, list(others.items())), "utf-8")


def load_graphs(folder: Path) -> dict[str, dict]:
    """The workflows by name; last those that read what another one has saved."""
    graphs = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    if not graphs:
        raise ServerError(f"There is no workflow in {folder}: get a whole copy of the repository.")
    return {name: graphs[name] for name in sorted(graphs, key=lambda name: "SBLoadAttention" in classes(graphs[name]))}


def classes(graph: dict) -> set[str]:
    return {node["class_type"] for node in graph.values()}


def note_of(name: str) -> str:
    """What the workflow's note says, in its form for the frontend."""
    drawn = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    return next((node["widgets_values"][0] for node in drawn["nodes"] if node["type"] == "MarkdownNote"), "")


def pictures_of(client: Client, graph: dict, run: Run) -> tuple[Picture, ...]:
    """The pictures of a run, each with the title of its node."""
    return tuple(
        Picture(title(graph, node_id), client.view(image))
        for node_id, shown in sorted(run.outputs.items(), key=lambda item: (len(item[0]), item[0]))
        for image in shown.get("images", ())
    )


def title(graph: dict, node_id: str) -> str:
    """What a node is called in the graph; a node that another one expanded into has an id like "12.0.3"."""
    node = graph[re.split(r"[.:]", node_id)[0]]
    return node.get("_meta", {}).get("title") or node["class_type"]


def scores_of(graph: dict, run: Run) -> tuple[Score, ...]:
    """What the Score Binding nodes of a run found (see evaluation/overlay.py)."""
    return tuple(
        Score(
            title(graph, node_id),
            f"{record['share_of_images_right']:.0%} of the images right, "
            f"{record['share_of_entities_right']:.0%} of the entities",
            tuple(f"{image['verdict']}: {'; '.join(bindings(image))}" for image in record["images"]),
        )
        for node_id, shown in run.outputs.items()
        for record in shown.get("semantic_binding_score", ())
    )


def bindings(image: dict) -> list[str]:
    """What became of each thing asked for in an image, and of what else is there, in words."""
    told = []
    for entity in image["entities"]:
        became = "" if entity["verdict"] == "ok" else f" -> {entity['found'] or entity['verdict']}"
        told.append(entity["wanted"] + became)
    return told + [f"also {thing}" for thing in image["not_asked_for"]]


if __name__ == "__main__":
    sys.exit(main())
