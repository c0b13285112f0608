"""Fixtures on the real ComfyUI: booted in this process, or as a server spoken to over HTTP."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import logging
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import workers
from clone import BENCHMARKS, ROOT, headless

workers.one_thread_each()


def pytest_configure() -> None:
    """Programs the tests start can be interrupted, also where this one was started in the background of a script."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.count()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [each for found in terminalreporter.stats.values() for each in found if hasattr(each, "duration")]
    if reports:
        terminalreporter.section("slowest files")
    for line in workers.slowest_files(reports):
        terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write tests/snapshots anew instead of comparing")


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """ComfyUI booted in this process on the CPU, with its built-in nodes; ``base`` is its private folder.

    After it, tests import ``comfy.*``, ``nodes``, ``folder_paths`` and ``execution`` as ComfyUI's own code does. What
    it has made is kept from the garbage collector, which ComfyUI calls at every loading of models while a test still
    holds an older one: going through all of it would take much of the tests' time.
    """
    base = tmp_path_factory.mktemp("comfyui")
    (base / "user").mkdir()
    folder = headless.comfyui_folder()
    sys.path.insert(0, str(folder))
    arguments = ["--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    before, sys.argv = sys.argv, [str(folder / "main.py"), *arguments, "--disable-all-custom-nodes"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import execution
    import folder_paths
    import nodes
    import server

    sys.argv = before
    server.PromptServer(asyncio.new_event_loop())
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    gc.freeze()
    return SimpleNamespace(base=base, nodes=nodes, execution=execution, folder_paths=folder_paths)


@pytest.fixture(scope="session")
def pack(comfy: SimpleNamespace, request: pytest.FixtureRequest) -> ModuleType:
    """The pack as ComfyUI's loader imports it: by path, under a package name made of that path."""
    records: list[logging.LogRecord] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = records.append
    logging.getLogger().addHandler(listener)
    try:
        loaded = asyncio.run(comfy.nodes.load_custom_node(str(ROOT)))
    finally:
        logging.getLogger().removeHandler(listener)
    if not loaded:
        request.session.shouldfail = "There is nothing to test."
        told = "\n".join(record.getMessage() for record in records)
        pytest.fail(f"ComfyUI could not load the pack:\n{told}", pytrace=False)
    return sys.modules[str(ROOT).replace(".", "_x_")]


@pytest.fixture(scope="session")
def part(pack: ModuleType) -> Callable[[str], ModuleType]:
    """``part("nodes.parsing.prompt")``: a module of the loaded pack."""
    return lambda name: importlib.import_module(f"{pack.__name__}.{name}")


@pytest.fixture(scope="session")
def graph_runner(pack: ModuleType, comfy: SimpleNamespace) -> GraphRunner:
    return GraphRunner(comfy)


@pytest.fixture
def run_graph(graph_runner: GraphRunner) -> Iterator[GraphRunner]:
    """``run_graph(graph, latent=["3", 0])``: see GraphRunner. Starts each test with nothing cached, and keeps no model
    of it for the next."""
    graph_runner.forget()
    yield graph_runner
    graph_runner.forget()


@pytest.fixture(scope="session")
def tiny(comfy: SimpleNamespace) -> Callable[[str], SimpleNamespace]:
    """``tiny("sd1")``, "sd2" or "sdxl": a small random model of that layout (see tiny_models.py).

    ``model``, ``clip``, ``vae`` are from core's loader; ``name`` is the checkpoint's for CheckpointLoaderSimple. They
    are clones of what is loaded once. A test that changes more than clones keep apart (weights, a tokenizer) asks for
    ``tiny("sd1", own=True)``, which is loaded for it alone.
    """
    import torch
    from comfy.sd import load_checkpoint_guess_config

    import tiny_models

    folder = comfy.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    tiny_models.register()

    def load(layout: str) -> SimpleNamespace:
        path = folder / f"tiny-{layout}.safetensors"
        if not path.exists():
            tiny_models.write_checkpoint(layout, path)
        with torch.inference_mode():
            model, clip, vae, _ = load_checkpoint_guess_config(str(path))
        return SimpleNamespace(name=path.name, model=model, clip=clip, vae=vae)

    shared = functools.cache(load)

    def give(layout: str, own: bool = False) -> SimpleNamespace:
        if own:
            return load(layout)
        loaded = shared(layout)
        return SimpleNamespace(**vars(loaded) | {"model": loaded.model.clone(), "clip": loaded.clip.clone()})

    return give


@pytest.fixture
def benchmark(monkeypatch) -> Callable[[str], ModuleType]:
    """``benchmark("speed")``: a module of the benchmarks folder, found as its own scripts find it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def asked_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The hosts that were looked up; none is found, and any fails the test unless it clears the list."""
    hosts = []

    def refuse(host, *_, **__):
        hosts.append(host)
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield hosts
    assert not hosts


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the Hugging Face hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def started() -> Iterator[SimpleNamespace]:
    """``server``, and the ``nodes`` it tells of at its start, while there are no files of tests in its folders."""
    with headless.Server(cpu=True) as running:
        yield SimpleNamespace(server=running, nodes=running.object_info())


@pytest.fixture(scope="session")
def server(started: SimpleNamespace) -> headless.Server:
    """A real server with the pack, on the CPU; shared by the whole session."""
    return started.server


@dataclass(frozen=True)
class LocalRun(headless.Run):
    """A Run with the values of the outputs that were asked for."""

    values: dict[str, Any] = field(default_factory=dict)


class GraphRunner:
    """Runs API graphs with ComfyUI's own executor in this process.

    ``run_graph(graph, name=[node id, output], ...)`` returns a LocalRun, whose ``values`` are the named outputs as they
    are on the wire (a list where the output is a list). Nodes stay cached from one call to the next, as in a server,
    until ``forget``. Raises Rejected, Failed or Interrupted (the exceptions of demo/server.py).
    """

    Rejected, Failed, Interrupted = headless.GraphRejected, headless.ExecutionFailed, headless.Interrupted

    def __init__(self, comfy: SimpleNamespace):
        self.comfy = comfy
        self.caught: dict[str, list] = {}
        comfy.nodes.NODE_CLASS_MAPPINGS["TestCatch"] = catching_node(self.caught)
        self.forget()

    def forget(self) -> None:
        """Empties the cache of executed nodes."""
        self.caught.clear()
        execution = self.comfy.execution
        listener = SimpleNamespace(client_id=None, last_node_id=None, sockets_metadata={}, send_sync=lambda *_: None)
        sizes = {"lru": 0, "ram": 0, "ram_inactive": 0}
        self.executor = execution.PromptExecutor(listener, cache_type=execution.CacheType.CLASSIC, cache_args=sizes)

    def __call__(self, graph: dict, **wanted: list) -> LocalRun:
        self.caught.clear()
        graph = {node_id: {**node, "inputs": dict(node["inputs"])} for node_id, node in graph.items()}
        for name, link in wanted.items():
            graph[f"catch {name}"] = {"class_type": "TestCatch", "inputs": {"value": link, "name": name}}
        return asyncio.run(self._execute(graph))

    async def _execute(self, graph: dict) -> LocalRun:
        prompt_id = str(uuid.uuid4())
        valid, error, outputs, node_errors = await self.comfy.execution.validate_prompt(prompt_id, graph, None)
        if not valid or node_errors:
            raise self.Rejected(error, node_errors)
        start = time.perf_counter()
        await self.executor.execute_async(graph, prompt_id, {}, outputs)
        seconds = time.perf_counter() - start
        shown = self.executor.history_result["outputs"]
        run = headless.finished_run(prompt_id, shown, self.executor.status_messages, seconds, [])
        values = {name: found[0] if len(found) == 1 else found for name, found in self.caught.items()}
        return LocalRun(**vars(run), values=values)


def catching_node(caught: dict[str, list]) -> type:
    """A node class that puts the values it gets into ``caught`` by name, every time it is asked to."""
    from comfy_api.latest import io

    class TestCatch(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            inputs = [io.AnyType.Input("value"), io.String.Input("name")]
            return io.Schema("TestCatch", inputs=inputs, outputs=[], is_output_node=True, is_input_list=True)

        @classmethod
        def fingerprint_inputs(cls, **_) -> float:
            return time.perf_counter()

        @classmethod
        def execute(cls, value: list, name: list) -> io.NodeOutput:
            caught[name[0]] = value
            return io.NodeOutput()

    return TestCatch
