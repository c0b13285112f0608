"""What ``dev.py demo`` does inside its environment: runs the shipped workflows and shows what came out."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from pathlib import Path

from .server import PACK, Client, ExecutionFailed, GraphRejected, Run, Server, ServerError

WORKFLOWS = PACK / "workflows" / "api"
OUTPUT = PACK / "output"
NEEDING = {"CheckpointLoaderSimple": "a checkpoint of yours", "SBLoadSAM": "Segment Anything in models/sams"}
"""What nodes need that is not in this repository."""


def main() -> int:
    parser = argparse.ArgumentParser("dev.py demo", description="Runs the shipped workflows on the bundled model.")
    parser.add_argument("--port", type=int, help="the server's port (a free one by default)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = Server(port=arguments.port)
    try:
        print(f"Starting ComfyUI from {server.comfyui} on port {server.port} ...", flush=True)
        with server:
            return run_all(server)
    except ServerError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: interrupted; ComfyUI is stopped.", file=sys.stderr)
        return 130


def run_all(server: Server) -> int:
    """Runs every workflow that needs no more than this repository, then prints picture paths and scores.

    Returns the exit status.
    """
    graphs = load_graphs(WORKFLOWS)
    pictures: list[Path] = []
    scores: list[tuple[str, dict]] = []
    for number, (name, graph) in enumerate(graphs.items(), 1):
        print(f"Workflow {number} of {len(graphs)}, {name} ... ", end="", flush=True)
        if needed := classes(graph) & NEEDING.keys():
            print(f"left out: it needs {NEEDING[min(needed)]}", flush=True)
            continue
        try:
            run = server.run(graph)
        except (GraphRejected, ExecutionFailed) as error:
            print("failed", flush=True)
            print(f"dev.py: the workflow {name} failed: {error}", file=sys.stderr)
            return 1
        print(f"{run.seconds:.1f} s", flush=True)
        pictures += save_pictures(server, slug(name), graph, run)
        scores += [(f"{name}: {label}", record) for label, record in score_records(graph, run)]
    print("\nPictures:", *pictures, sep="\n  ")
    print(f"\n{score_table(scores)}")
    return 0


def load_graphs(folder: Path) -> dict[str, dict]:
    """The workflows by name: those with scores first, and last those that read what another one has saved."""
    graphs = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    if not graphs:
        raise ServerError(f"There is no workflow in {folder}: get a whole copy of the repository.")

    def order(name: str) -> tuple[bool, bool]:
        used = classes(graphs[name])
        return "SBLoadAttention" in used, "SBScoreBinding" not in used

    return {name: graphs[name] for name in sorted(graphs, key=order)}


def classes(graph: dict) -> set[str]:
    return {node["class_type"] for node in graph.values()}


def save_pictures(client: Client, name: str, graph: dict, run: Run) -> list[Path]:
    """Writes a run's pictures as output/<workflow>-<node title>-<number>.png, instead of those of an earlier run."""
    OUTPUT.mkdir(exist_ok=True)
    for old in OUTPUT.glob(f"{name}-*.png"):
        old.unlink()
    paths = []
    for node_id, shown in sorted(run.outputs.items(), key=lambda item: (len(item[0]), item[0])):
        label = slug(title(graph, node_id))
        for image in shown.get("images", ()):
            number = sum(path.stem.startswith(f"{name}-{label}-") for path in paths) + 1
            path = OUTPUT / f"{name}-{label}-{number}.png"
            path.write_bytes(client.view(image))
            paths.append(path)
    return paths


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def title(graph: dict, node_id: str) -> str:
    """What a node is called in the graph; a node that another one expanded into has an id like "12.0.3"."""
    node = graph[node_id.split(".")[0]]
    return node.get("_meta", {}).get("title") or node["class_type"]


def score_records(graph: dict, run: Run) -> list[tuple[str, dict]]:
    """What the Score Binding nodes of a run found: node title and record (see evaluation/overlay.py)."""
    return [
        (title(graph, node_id), record)
        for node_id, shown in run.outputs.items()
        for record in shown.get("semantic_binding_score", ())
    ]


def score_table(scores: list[tuple[str, dict]]) -> str:
    """One line per image: its verdict, and for each entity what was asked for and what is there; totals at the end."""
    rows = [("workflow and node", "image", "verdict", "what was bound to what")]
    for name, record in scores:
        rows += [
            (name if number == 1 else "", str(number), image["verdict"], "; ".join(bindings(image)))
            for number, image in enumerate(record["images"], 1)
        ]
        right, entities = record["share_of_images_right"], record["share_of_entities_right"]
        rows.append(("", "all", f"{right:.0%} right", f"{entities:.0%} of the entities right"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def bindings(image: dict) -> list[str]:
    """What became of each thing asked for in an image, and of what else is there, in words."""
    told = []
    for entity in image["entities"]:
        became = "" if entity["verdict"] == "ok" else f" -> {entity['found'] or entity['verdict']}"
        told.append(entity["wanted"] + became)
    return told + [f"also {thing}" for thing in image["not_asked_for"]]


if __name__ == "__main__":
    sys.exit(main())
