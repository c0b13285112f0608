"""Benchmark workflows of your own on running ComfyUI servers, without a browser:

    python evaluation/run.py --server http://127.0.0.1:8188 --server http://other:8188 \\
        --workflow plain.json --workflow bound.json --prompts color_val.txt --seeds 4 --judge shapes --out results

Every workflow, exported in the API format, draws every prompt with every seed; the servers, which need this pack, share
the work. One that dies loses nothing: its picture is made by another. Given again, the same command goes on where it
was stopped. The output folder gets rows.jsonl (a line for each run), table.md, table.json, page.html and the pictures.

Where the prompt and the seed go, and which picture is judged, is found by rules: the prompt goes to every Bind Prompt,
else to the CLIP Text Encode wired to a sampler's positive; the seed to every sampler and Random Noise; the picture is
what the one VAE Decode gives that is saved or previewed. Where that is not clear, an error lists what there is, and
--prompt-node ID.input, --seed-node ID.input and --image-node ID say it, for all workflows or, as NAME:ID, for one. So
one file with two pictures can be two workflows: --workflow plain=both.json --image-node plain:9
--workflow merged=both.json --image-node merged:14.

Prompts: a text file (a prompt a line, or a category, a tab and the prompt), T2I-CompBench's lists, the JSON of MULTIGEN
and VISOR, or multigen:CLASSES:COUNT and visor:CLASSES:COUNT, which make prompts of the classes in a file.

Judges: "shapes" for pictures of the demo model; "detector:NAME" with a detector of Detect Entities, for MULTIGEN and
VISOR (names with "owl" are asked for "a photo of a ..." at the threshold 0.1, as published); any other name is a judge
of Load Judge, asked by Judge Binding with the given --aggregate. T2I-CompBench's own score is --judge
Salesforce/blip-vqa-capfilt-large --aggregate T2I-CompBench.

This program needs ComfyUI's Python packages, but neither ComfyUI nor torch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import re
import signal
import sys
import types
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "semantic_binding"
RUN_SECONDS = 3600
"""A server that takes longer for one run is lost."""

FIRST_FAILURES = 3
"""So many runs of a workflow fail, and none succeeds, before the benchmark stops: it is the workflow's fault."""


def part(name: str) -> types.ModuleType:
    """A module of the pack, imported as part of the package though this file runs as a script."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(ROOT)]
        sys.modules[PACKAGE] = package
        # The folder of this file, which Python looks in first, has modules of common names.
        sys.path[:] = [each for each in sys.path if Path(each).resolve() != ROOT / "evaluation"]
    return importlib.import_module(f"{PACKAGE}.{name}")


class Job(NamedTuple):
    template: Any
    digest: str
    prompt: Any
    seed: int

    def __str__(self) -> str:
        return f'{self.template.name}, "{self.prompt.text}", seed {self.seed}'


class Drawn(NamedTuple):
    """The files of a run's pictures and what the judge says of each."""

    pictures: list[bytes]
    judged: list[Any]
    server: str
    seconds: float


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return Benchmark(arguments).run()
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; the same command goes on where this stopped.", file=sys.stderr)
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def several(name: str, metavar: str, told: str, required: bool = False) -> None:
        parser.add_argument(name, action="append", default=[], metavar=metavar, help=told, required=required)

    several("--server", "URL", "a running ComfyUI; may be given several times, as may all that follow", True)
    several("--workflow", "[NAME=]FILE", "a workflow in the API format; others are compared with the first", True)
    several("--prompts", "FILE", "a file of prompts", True)
    several("--prompt-node", "[NAME:]ID.input", "where the prompt goes")
    several("--seed-node", "[NAME:]ID.input", "where the seed goes")
    several("--image-node", "[NAME:]ID", "the Save Image or Preview Image of the picture to judge")
    parser.add_argument("--seeds", type=int, default=4, help="how many seeds for each prompt, from 0 on (4)")
    parser.add_argument("--judge", required=True, help='"shapes", "detector:NAME" or the name of a judge')
    parser.add_argument("--aggregate", help="how a judge's answers become a score: Judge Binding's aggregate")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="the output folder (benchmark)")
    return parser.parse_args()


def load_templates(arguments: argparse.Namespace) -> list[Any]:
    """The workflows, by the names that they are told apart by.

    Raises:
        ValueError: a file is no workflow, or two have one name.
    """
    graphs = part("evaluation.bench.graphs")
    files: dict[str, Path] = {}
    for given in arguments.workflow:
        name, is_named, file = given.partition("=")
        path = Path(given if not is_named or Path(given).exists() else file)
        name = path.stem if path == Path(given) else name
        if name in files:
            raise ValueError(f'Two workflows are called "{name}": call one otherwise, --workflow NAME={path}')
        files[name] = path

    def chosen(name: str, given: Sequence[str]) -> tuple[str, ...]:
        """What is said for this workflow, else what is said for all."""
        of_one = tuple(each.removeprefix(f"{name}:") for each in given if each.startswith(f"{name}:"))
        return of_one or tuple(each for each in given if not any(each.startswith(f"{other}:") for other in files))

    templates = []
    for name, path in files.items():
        try:
            graph = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"Workflow {name}: {path} cannot be read as JSON: {error}") from error
        images = chosen(name, arguments.image_node)
        if len(images) > 1:
            raise ValueError(f"Workflow {name}: --image-node is given {len(images)} times.")
        choices = graphs.Choices(
            chosen(name, arguments.prompt_node), chosen(name, arguments.seed_node), images[0] if images else None
        )
        templates.append(graphs.read_template(name, graph, choices))
    return templates


def file_name(text: str, seed: int, place: int) -> str:
    """ "a-red-circle-1a2b3c4d-0-0.png": the prompt, its digest, the seed and the number within the batch."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-")
    return f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-{seed}-{place}.png"


class Benchmark:
    """What the command asks for.

    Raises:
        ValueError: it cannot be done.
    """

    def __init__(self, arguments: argparse.Namespace):
        graphs, rows = part("evaluation.bench.graphs"), part("evaluation.bench.rows")
        if arguments.seeds < 1:
            raise ValueError("--seeds must be 1 or more.")
        self.judge = part("evaluation.bench.judges").judge_named(arguments.judge, arguments.aggregate)
        self.templates = load_templates(arguments)
        prompts = [
            prompt
            for given in arguments.prompts
            for prompt in part("evaluation.bench.prompt_files").read_prompts(given)
        ]
        prompts = list({prompt.text: prompt for prompt in prompts}.values())
        nothing = part("evaluation.bench.prompt").Prompt("")
        digests = {
            each.name: graphs.digest(self.judge.added_to(each.filled("", 0), each, nothing)) for each in self.templates
        }
        if len(set(digests.values())) < len(digests):
            raise ValueError(f"Two workflows are the same graph: {', '.join(digests)}.")
        # A server keeps the models of a workflow while it makes its pictures one after another.
        self.jobs = [
            Job(template, digests[template.name], prompt, seed)
            for template in self.templates
            for prompt in prompts
            for seed in range(arguments.seeds)
        ]
        self.out, self.file = arguments.out, arguments.out / "rows.jsonl"
        self.rows = rows.read_rows(self.file)
        self.key = rows.Key
        urls = [url if "://" in url else f"http://{url}" for url in dict.fromkeys(arguments.server)]
        self.servers = [part("demo.server").Client(url) for url in urls]
        self.about = [
            f"{len(prompts)} prompts, seeds 0 to {arguments.seeds - 1}; judge: {self.judge.name}",
            *(f"{name}: graph {each}" for name, each in digests.items()),
        ]

    def run(self) -> int:
        """Makes what is not there yet, and writes table and page of what there is on every way out; the exit status."""
        open_ = [job for job in self.jobs if self._key(job) not in self.rows]
        print(f"{len(self.jobs)} runs, {len(self.jobs) - len(open_)} of them are there already.", flush=True)
        try:
            failed = self._make(open_)
        finally:
            self._write()
        if failed:
            print(f"run.py: {failed} runs failed; the same command tries them again.", file=sys.stderr)
        return 1 if failed else 0

    def _key(self, job: Job) -> Any:
        return self.key(job.digest, job.prompt.text, job.seed)

    def _make(self, jobs: list[Job]) -> int:
        """How many of the jobs failed."""
        import aiohttp

        servers = part("evaluation.bench.servers")
        failed: Counter[str] = Counter()
        events = servers.share(jobs, self.servers, self._draw, (OSError, aiohttp.ClientError))
        try:
            with closing(events):
                for event in events:
                    if isinstance(event, servers.Lost):
                        why = str(event.error) or type(event.error).__name__
                        print(f"The server {event.server.url} is lost: {why}", flush=True)
                    elif event.error is None:
                        self._keep(event.job, event.result)
                    else:
                        failed[event.job.digest] += 1
                        told = f"{event.job}, on {event.server.url}: {event.error}"
                        if self._is_hopeless(event.job, event.error, failed[event.job.digest]):
                            raise ValueError(f"stopped at {told}")
                        print(f"Failed: {told}", file=sys.stderr, flush=True)
        except servers.NoServerLeft as error:
            raise ValueError(f"{error} The same command goes on where this stopped.") from error
        finally:
            self._withdraw()
        return failed.total()

    def _is_hopeless(self, job: Job, error: Exception, failures: int) -> bool:
        """Whether the other runs of a workflow will fail as this one did."""
        if isinstance(error, part("demo.server").GraphRejected):
            return True
        return failures >= FIRST_FAILURES and all(key.digest != job.digest for key in self.rows)

    def _draw(self, server: Any, job: Job) -> Drawn:
        graph = job.template.filled(job.prompt.text, job.seed)
        run = server.run(self.judge.added_to(graph, job.template, job.prompt), timeout=RUN_SECONDS)
        shown = run.outputs[part("evaluation.bench.graphs").PICTURE]["images"]
        judged = self.judge.read(run.outputs, job.prompt)
        if len(judged) != len(shown):
            raise ValueError(f"there are {len(shown)} pictures, but {len(judged)} judgements.")
        return Drawn([server.view(image) for image in shown], judged, server.url, run.seconds)

    def _keep(self, job: Job, drawn: Drawn) -> None:
        """Writes the pictures, then the row."""
        rows = part("evaluation.bench.rows")
        words = re.sub(r"[^\w-]+", "-", job.template.name)
        folder = Path("pictures") / f"{words}-{job.digest}"
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        pictures = []
        for place, (content, judged) in enumerate(zip(drawn.pictures, drawn.judged, strict=True)):
            file = folder / file_name(job.prompt.text, job.seed, place)
            (self.out / file).write_bytes(content)
            pictures.append(rows.Picture(file.as_posix(), judged))
        row = rows.Row(
            job.template.name, job.digest, job.prompt, job.seed, tuple(pictures), drawn.server, drawn.seconds
        )
        rows.append_row(self.file, row)
        self.rows[row.key] = row
        scores = ", ".join("not judged" if each.score is None else f"{each.score:.2f}" for each in drawn.judged)
        print(f"{job}: {scores} ({drawn.server}, {drawn.seconds:.1f} s)", flush=True)

    def _withdraw(self) -> None:
        """Takes back what servers are still making."""
        for server in self.servers:
            try:
                server.withdraw()
            except OSError:
                print(f"The server {server.url} does not answer: it may still be making a picture.", file=sys.stderr)

    def _write(self) -> None:
        tables, pages = part("evaluation.bench.table"), part("evaluation.bench.page")
        found = [
            replace(self.rows[key], workflow=job.template.name, prompt=job.prompt)
            for job in self.jobs
            if (key := self._key(job)) in self.rows
        ]
        if not found:
            return
        names = [template.name for template in self.templates]
        about = [*self.about, f"{len(found)} of {len(self.jobs)} runs are made"]
        table = tables.table_of(found, names)
        text = tables.markdown(table, about)
        (self.out / "table.md").write_text(text, "utf-8")
        (self.out / "table.json").write_text(tables.as_json(table, about), "utf-8")
        (self.out / "page.html").write_text(pages.page("Benchmark", about, table, found, names), "utf-8")
        print(f"\n{text}\n{self.out / 'page.html'} has the pictures.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
