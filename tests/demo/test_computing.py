"""Where the demo model's training computes and in what, and that all its processes do the same."""

import logging
import shutil
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from clone import ROOT, headless


@pytest.fixture(scope="module")
def computing(part):
    return part("demo.computing")


def training(*arguments):
    """The output of demo/train.py with these arguments, and its exit status."""
    command = [sys.executable, ROOT / "demo" / "train.py", "--comfyui", headless.comfyui_folder(), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout, done.returncode


@pytest.mark.parametrize(
    ("seconds", "chosen", "told"),
    [
        ({"bfloat16": 0.0019, "float32": 0.0042}, "bfloat16", "in bfloat16: 1.9 ms a step against 4.2 ms in float32"),
        ({"bfloat16": 0.169, "float32": 0.0097}, "float32", "in float32: 9.7 ms a step against 169.0 ms in bfloat16"),
    ],
)
def test_a_cpu_computes_in_what_is_faster(computing, monkeypatch, caplog, seconds, chosen, told):
    monkeypatch.setattr(computing, "step_seconds", lambda: seconds)
    with caplog.at_level(logging.INFO):
        assert computing.choose_dtype("cpu") == chosen
    assert caplog.messages == [f"computing on the CPU {told}"]


@pytest.mark.parametrize(("units", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_computes_in_bf16_if_it_has_units_for_it(computing, monkeypatch, caplog, units, chosen):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units or including_emulation)
    with caplog.at_level(logging.INFO):
        assert computing.choose_dtype("cuda:0") == chosen
    assert caplog.messages == [f"computing on cuda:0 in {chosen}"]


def test_the_measurement_is_short_and_leaves_no_trace(computing, monkeypatch):
    monkeypatch.setattr(computing, "MEASUREMENT", 0.05)
    threads = torch.get_num_threads()
    with torch.inference_mode(False), torch.enable_grad():
        seconds = computing.step_seconds()
    assert seconds.keys() == computing.DTYPES.keys()
    assert all(0.0 < each < 10.0 for each in seconds.values())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("auto", ["cuda:0", "cuda:1", "cpu"], "cuda:0"),
        ("auto", ["mps", "cpu"], "mps"),
        ("auto", ["cpu"], "cpu"),
        ("cpu", ["cuda:0", "cpu"], "cpu"),
        ("cuda", ["cuda:0", "cuda:1", "cpu"], "cuda:0"),
        ("cuda:1", ["cuda:0", "cuda:1", "cpu"], "cuda:1"),
    ],
)
def test_a_gpu_is_used_where_there_is_one(computing, wanted, names, found):
    assert computing.find_device(wanted, names) == found


def test_a_device_that_is_not_there(tmp_path):
    said, status = training("--out", tmp_path, "--device", "cuda:99")
    assert status == 2
    assert "There is no cuda:99 device here: choose auto or one of " in said and "Traceback" not in said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_networks_compute_in_the_dtype_with_weights_of_fp32(computing, dtype):
    place = computing.named("cpu", dtype)
    layer = torch.nn.Linear(4, 2)
    with place.autocast():
        assert layer(*place.put(torch.ones(3, 4))).dtype is getattr(torch, dtype)
    assert layer.weight.dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_orthogonal_steps_in_each_dtype(part, dtype):
    matrices = torch.randn(3, 24, 8, generator=torch.Generator().manual_seed(0))
    result = part("demo.muon").orthogonalise(matrices, dtype)
    assert result.dtype is torch.float32
    values = torch.linalg.svdvals(result)
    assert 0.6 < values.min() and values.max() < 1.3


def test_what_a_gpu_has_saved_loads_without_one(part, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        part("demo.progress").save_atomically({"weight": torch.ones(2)}, tmp_path / "vae.pt")
    weight = part("demo.progress").load(tmp_path / "vae.pt")["weight"]
    assert weight.device.type == "cpu" and weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("names", "count"), [(["cuda:0", "cpu"], 1), (["cpu"], 2)])
def test_all_processes_are_told_the_same(part, computing, monkeypatch, tmp_path, names, count):
    program, started = part("demo.train"), []

    def start(command, env):
        started.append(command)
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(program, "demo_module", lambda name: part(f"demo.{name}"))
    monkeypatch.setattr(program.subprocess, "Popen", start)
    monkeypatch.setattr(computing, "device_names", lambda: names)
    monkeypatch.setattr(computing, "choose_dtype", lambda device: {"cuda:0": "bfloat16", "cpu": "float32"}[device])
    monkeypatch.setattr(sys, "argv", ["train.py", "--comfyui", "ComfyUI", "--out", str(tmp_path)])
    program.main("", program.STAGES)
    given = [dict(zip(command[2::2], command[3::2], strict=True)) for command in started]
    told = {"cuda:0": "bfloat16", "cpu": "float32"}[names[0]]
    assert {(each["--device"], each["--dtype"]) for each in given} == {(names[0], told)}
    ranks = [each["--rank"] for each in given if each["--stage"] == "unet"]
    assert ranks == [str(rank) for rank in range(count)]


@pytest.mark.slow
def test_two_processes_train_in_what_was_chosen(tmp_path):
    said, status = training("--out", tmp_path, "--stage", "vae", "--seconds", "3", "--device", "cpu", "--port", "29518")
    assert status == 0, said
    assert said.count("computing on the CPU in") == 1
    assert torch.load(tmp_path / "vae.pt", weights_only=True)["taesd_decoder.1.weight"].isfinite().all()


@pytest.fixture(scope="module")
def stages_done(part, tmp_path_factory):
    """A folder with what the stages need of each other, of little data and untrained."""
    folder, cpu = tmp_path_factory.mktemp("stages"), part("demo.computing").named("cpu", "float32")
    text = part("demo.text")
    networks = {
        "vae": part("demo.networks").build_autoencoder(),
        "text": text.TextEncoder(text.load_vocabulary()),
        "encoder": part("demo.subject_networks").SubjectEncoder(),
    }
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / f"{name}.pt")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(part("demo.train_latents"), "EXCHANGED_SCENES", 0)
        for stage in ("train_latents", "train_subject_scenes"):
            patched.setattr(part(f"demo.{stage}"), "SCENES", 16)
            part(f"demo.{stage}").train(part("demo.parallel").Ranks(0, 1), cpu, folder, 0.0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["train_vae", "train_text", "train_unet", "train_subject_encoder", "train_subject_adapter"]
)
def test_a_whole_step_is_computed_on_the_device(part, computing, stages_done, tmp_path, monkeypatch, stage):
    """The device without data: a step gets as far as the loss, which is read as a number after all else."""
    made = {"train_vae": "vae.pt", "train_text": "text.pt", "train_subject_encoder": "encoder.pt"}.get(stage)
    for path in stages_done.iterdir():
        if path.name != made:
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(computing.Computing, "autocast", lambda self: nullcontext())
    monkeypatch.setattr(part("demo.train_unet"), "TEXT_FROM", 0.0)
    meta = computing.Computing(torch.device("meta"), torch.float32)
    with torch.inference_mode(False), torch.enable_grad():
        with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors") as caught:
            part(f"demo.{stage}").train(part("demo.parallel").Ranks(0, 1), meta, tmp_path, 60.0)
    assert any(
        ".append({name: float" in str(each.statement) or "losses.append" in str(each.statement)
        for each in caught.traceback
    )
