"""A headless ComfyUI with this pack as its only custom node, and a client for its HTTP and websocket interface.

Example:

    with Server() as server:
        run = server.run(graph)
        picture = server.view(run.images[0])
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import requests

PACK = Path(__file__).resolve().parent.parent

# The server ends when its standard input does, so that it can never outlive the process that started it.
BOOTSTRAP = """
import os, runpy, shutil, sys, threading
def end_with_parent(base):
    os.read(0, 1)
    shutil.rmtree(base, ignore_errors=True)
    os._exit(0)
threading.Thread(target=end_with_parent, args=[sys.argv[1]], daemon=True).start()
sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# Threads that wait for each other sleep instead of spinning: on two cores under a load of 9, the 20 steps of
# "Bind a prompt" take 3.9 s and not 64 s (medians of 5); with one thread, 4.4 s.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


class ServerError(RuntimeError):
    """The server could not be started, or ended by itself."""


class GraphRejected(ValueError):
    """ComfyUI did not accept a graph, or would have left out some of its outputs.

    ``node_errors`` is ComfyUI's: node id → {"class_type", "errors": [{"type", "message", "details", ...}]}.
    """

    def __init__(self, error: dict | str | None, node_errors: dict[str, dict]):
        self.error, self.node_errors = error, node_errors
        lines = [
            f"node {node_id} ({node['class_type']}): {problem['message']}: {problem['details']}"
            for node_id, node in node_errors.items()
            for problem in node["errors"]
        ]
        if isinstance(error, dict):
            lines.insert(0, f"{error['message']} {error['details']}".strip())
        super().__init__("The graph was rejected. " + "; ".join(lines))


class ExecutionFailed(RuntimeError):
    """A node raised: its id, its type, and the name and text of the exception."""

    def __init__(self, message: dict):
        self.node_id: str = message["node_id"]
        self.node_type: str = message["node_type"]
        self.exception_type: str = message["exception_type"]
        self.message: str = message["exception_message"].strip()
        self.traceback = "".join(message["traceback"])
        super().__init__(f"node {self.node_id} ({self.node_type}) raised {self.exception_type}: {self.message}")


class Interrupted(RuntimeError):
    """The run was interrupted before its end."""


@dataclass(frozen=True)
class Run:
    """What one run of a graph gave.

    ``outputs`` is the history's: node id → what the node showed, such as {"images": [...], "text": [...]};
    ``cached`` the ids of the nodes that did not have to run; ``seconds`` the time from queueing to the end.
    """

    prompt_id: str
    outputs: dict[str, dict[str, list]]
    cached: tuple[str, ...]
    seconds: float
    events: tuple[dict, ...] = field(repr=False)

    @property
    def images(self) -> list[dict[str, str]]:
        """The picture records of all nodes, in the order of their ids; ``Client.view`` fetches one."""
        order = sorted(self.outputs, key=lambda node_id: (len(node_id), node_id))
        return [image for node_id in order for image in self.outputs[node_id].get("images", [])]


class Client:
    """ComfyUI's HTTP and websocket interface, blocking. ``url`` is like http://127.0.0.1:8188."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self.waiting_for: str | None = None

    def get(self, path: str, **parameters: str) -> requests.Response:
        response = requests.get(self.url + path, params=parameters, timeout=60)
        response.raise_for_status()
        return response

    def object_info(self, node_id: str | None = None) -> dict[str, dict]:
        """The schemas of all nodes, or of one."""
        return self.get("/object_info" if node_id is None else f"/object_info/{node_id}").json()

    def view(self, image: dict[str, str]) -> bytes:
        """The file of a picture record of ``Run.images``."""
        return self.get("/view", **image).content

    def upload_image(self, name: str, data: bytes) -> str:
        """Puts a picture into the input folder; returns the name that LoadImage takes."""
        files = {"image": (name, data)}
        response = requests.post(self.url + "/upload/image", files=files, data={"overwrite": "true"}, timeout=60)
        response.raise_for_status()
        return response.json()["name"]

    def interrupt(self) -> None:
        """Stops the running graph; its ``run`` raises Interrupted."""
        requests.post(self.url + "/interrupt", json={}, timeout=60).raise_for_status()

    def withdraw(self) -> None:
        """Takes back the graph that ``run`` waits for in another thread: it is stopped, or leaves the queue."""
        if self.waiting_for is not None:
            requests.post(self.url + "/queue", json={"delete": [self.waiting_for]}, timeout=60)
            requests.post(self.url + "/interrupt", json={"prompt_id": self.waiting_for}, timeout=60)

    def run(self, graph: dict, *, timeout: float = 600, on_event: Callable[[dict], None] | None = None) -> Run:
        """Queues an API graph and waits for its end.

        ``on_event`` gets every websocket message ({"type", "data"}) of the run as it comes.

        Raises:
            GraphRejected: the graph, or one branch of it, did not validate.
            ExecutionFailed: a node raised.
            Interrupted: the run was interrupted.
            TimeoutError: it took longer than ``timeout`` seconds; the run is interrupted.
            ConnectionError: the server went away.
        """
        try:
            return asyncio.run(asyncio.wait_for(self._run(graph, on_event), timeout))
        except asyncio.TimeoutError:  # the builtin one from Python 3.11 on
            self.withdraw()
            raise TimeoutError(f"The run took longer than {timeout:g} s and was interrupted.") from None
        finally:
            self.waiting_for = None

    async def _run(self, graph: dict, on_event: Callable[[dict], None] | None) -> Run:
        events: list[dict] = []
        async with aiohttp.ClientSession() as session:
            address = f"{self.url}/ws?clientId={self.client_id}"
            async with (
                session.ws_connect(address, max_msg_size=0) as socket_,
                session.post(f"{self.url}/prompt", json={"prompt": graph, "client_id": self.client_id}) as response,
            ):
                start = time.perf_counter()
                answer = await response.json()
                if answer.get("node_errors") or "prompt_id" not in answer:
                    await self._forget(session, answer)
                    raise GraphRejected(answer.get("error"), answer.get("node_errors") or {})
                self.waiting_for = prompt_id = answer["prompt_id"]
                async for message in socket_:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    event = json.loads(message.data)
                    data = event["data"]
                    if data.get("prompt_id") != prompt_id:
                        continue
                    events.append(event)
                    if on_event is not None:
                        on_event(event)
                    if event["type"] == "executing" and data["node"] is None:
                        break
                else:
                    raise ConnectionError("The server closed the connection before the run had ended.")
                seconds = time.perf_counter() - start
            async with session.get(f"{self.url}/history/{prompt_id}") as response:
                history = (await response.json())[prompt_id]
        return finished_run(prompt_id, history["outputs"], history["status"]["messages"], seconds, events)

    async def _forget(self, session: aiohttp.ClientSession, answer: dict) -> None:
        """Takes a graph back that was queued although branches of it had been rejected."""
        if "prompt_id" in answer:
            await session.post(f"{self.url}/queue", json={"delete": [answer["prompt_id"]]})
            await session.post(f"{self.url}/interrupt", json={"prompt_id": answer["prompt_id"]})


def finished_run(
    prompt_id: str, outputs: dict, messages: list[tuple[str, dict]], seconds: float, events: list[dict]
) -> Run:
    """The Run that an execution's status messages tell of.

    Raises:
        ExecutionFailed: a node raised.
        Interrupted: the run was interrupted.
    """
    told = {kind: data for kind, data in messages}
    if "execution_error" in told:
        raise ExecutionFailed(told["execution_error"])
    if "execution_interrupted" in told:
        raise Interrupted(f"The run was interrupted at node {told['execution_interrupted']['node_id']}.")
    cached = tuple(told.get("execution_cached", {}).get("nodes", ()))
    return Run(prompt_id, outputs, cached, seconds, tuple(events))


class Server(Client):
    """A ComfyUI process on a port of this machine; a context manager that stops it on every way out.

    ``base`` is its private folder (models, input, output, user), removed at the end; ``arguments`` are further ones for
    ComfyUI's main.py; ``pack`` None starts it without this pack. Without ``port`` a free one is taken. ``cpu`` None
    means: where there is no GPU.
    """

    def __init__(
        self,
        comfyui: Path | None = None,
        *,
        pack: Path | None = PACK,
        port: int | None = None,
        cpu: bool | None = None,
        arguments: tuple[str, ...] = (),
        timeout: float = 180,
    ):
        self.port = free_port() if port is None else port
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.comfyui = comfyui_folder() if comfyui is None else comfyui
        self.pack, self.cpu, self.arguments, self.timeout = pack, cpu, arguments, timeout
        self.process: subprocess.Popen | None = None
        self.base: Path | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.stop()

    def run(self, graph: dict, **options: Any) -> Run:
        """As ``Client.run``; a server that went away is a ServerError with the end of its log."""
        try:
            return super().run(graph, **options)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise ServerError(f"ComfyUI ended during a run.\n{log_end(self.log)}") from error

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return self.log_file.read_text("utf-8", errors="replace")

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            ServerError: there is no ComfyUI, the port is taken, or the server ended or stayed silent; then the message
                has the end of its log.
        """
        if not (self.comfyui / "main.py").is_file():
            raise ServerError(f"There is no ComfyUI in {self.comfyui}: dev.py gets one, or set COMFYUI_PATH to yours.")
        if not port_is_free(self.port):
            raise ServerError(f"Port {self.port} is taken: choose another one, or leave --port away to get a free one.")
        scratch = PACK / ".dev"
        scratch.mkdir(exist_ok=True)
        self.base = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
        self.log_file = self.base / "server.log"
        try:
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and removes its folder; harmless when there is none."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdin.close()
            self.process = None
        if self.base is not None:
            shutil.rmtree(self.base, ignore_errors=True)

    def _launch(self) -> None:
        for needed in ("user", "custom_nodes"):
            (self.base / needed).mkdir()
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.comfyui,
                env=server_environment(os.environ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        settings = ["--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        settings += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-all-custom-nodes"]
        if self.pack is not None:
            folders = self.base / "folders.yaml"
            # JSON is YAML too, and quotes whatever a path may hold.
            folders.write_text(json.dumps({"pack": {"custom_nodes": str(self.pack.parent)}}), "utf-8")
            settings += ["--whitelist-custom-nodes", self.pack.name, "--extra-model-paths-config", str(folders)]
        if self.cpu or (self.cpu is None and not has_gpu()):
            settings.append("--cpu")
        start = [sys.executable, "-c", BOOTSTRAP, str(self.base), str(self.comfyui / "main.py")]
        return [*start, *settings, *self.arguments]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while self.process.poll() is None:
            try:
                requests.get(self.url + "/system_stats", timeout=5).raise_for_status()
                return
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.2)
            if time.monotonic() > deadline:
                raise ServerError(f"ComfyUI did not answer within {self.timeout:g} s.\n{log_end(self.log)}")
        raise ServerError(f"ComfyUI ended while starting (code {self.process.returncode}).\n{log_end(self.log)}")


def comfyui_folder() -> Path:
    """The ComfyUI to use: ``COMFYUI_PATH``, or the one that dev.py unpacks."""
    return Path(os.environ.get("COMFYUI_PATH") or PACK / ".dev" / "ComfyUI").resolve()


def server_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: this process's own, with what it does not say about threads."""
    return {**WAITING, **own, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def has_gpu() -> bool:
    """Asked in a process of its own, away from Ctrl-C: an interrupt while torch is imported can abort the process."""
    question = "import torch; print(torch.cuda.is_available() or torch.backends.mps.is_available())"
    command = [sys.executable, "-c", question]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True)
    return answer.stdout.strip() == "True"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def log_end(log: str, lines: int = 25) -> str:
    """The last lines of a log, under a heading."""
    return "The end of its log:\n" + "\n".join(log.splitlines()[-lines:])
