"""The engine's life in a run: what it leaves alone, what it leaves behind, and what it refuses."""

import copy
import pathlib
import subprocess
import sys

import pytest
import torch

from attention_reference import Reference, bind, encode, in_threads, record, sample
from clone import ROOT

PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"
SMALL = {"size": (8, 8)}


@pytest.fixture(scope="module")
def sd1(tiny, part):
    loaded = tiny("sd1")
    loaded.bound = bind(part, loaded.clip, PROMPT, ENTITIES)
    loaded.negative = encode(loaded.clip, "bad")
    return loaded


def run(comfy, loaded, model, **options):
    return sample(comfy, model, loaded.bound.conditioning, loaded.negative, **SMALL, **options)


@pytest.fixture
def plain(comfy, sd1):
    """The latent of a run without the pack's nodes."""
    return run(comfy, sd1, sd1.model, steps=3)["samples"]


def weights(loaded):
    return {name: value.clone() for name, value in loaded.model.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("layout", "sampler"),
    [("sd1", "euler"), ("sd1", "dpmpp_sde"), ("sd1", "uni_pc"), ("sd2", "heun"), ("sdxl", "euler")],
)
def test_recorded_images_are_bit_identical(comfy, part, tiny, layout, sampler):
    loaded = tiny(layout)
    loaded.bound, loaded.negative = bind(part, loaded.clip, PROMPT, ENTITIES), encode(loaded.clip, "bad")
    model, _ = record(part, loaded.model, loaded.bound, keep=1, point=(0.5, 0.5))
    options = {"batch": 2, "sampler": sampler}
    with_recorder = run(comfy, loaded, model, **options)["samples"]
    assert torch.equal(with_recorder, run(comfy, loaded, loaded.model, **options)["samples"])
    assert with_recorder.std() > 0.1


UNUSED = """
import asyncio, sys
comfyui, pack, tests, base = sys.argv[1:]
sys.argv = ["main.py", "--cpu", "--base-directory", base, "--database-url", "sqlite:///:memory:"]
sys.path[:0] = [comfyui, tests]
import comfy.options
comfy.options.enable_args_parsing()
import nodes, pathlib, tiny_models, torch
from attention_reference import sample
from comfy.sd import load_checkpoint_guess_config
from types import SimpleNamespace
tiny_models.register()
path = pathlib.Path(base, "tiny.safetensors")
tiny_models.write_checkpoint("sd1", path)
def images():
    with torch.inference_mode():
        model, clip, vae, _ = load_checkpoint_guess_config(str(path))
        encode = lambda text: clip.encode_from_tokens_scheduled(clip.tokenize(text))
        positive, negative = encode("a (red:1.2) cat"), encode("")
        latent = sample(SimpleNamespace(nodes=nodes), model, positive, negative)
        return vae.decode(latent["samples"])
before = images()
assert asyncio.run(nodes.load_custom_node(pack))
assert "SBRecordAttention" in nodes.NODE_CLASS_MAPPINGS
assert torch.equal(images(), before)
assert before.std() > 0.01
"""


@pytest.mark.slow
def test_pack_in_place_but_unused_changes_nothing(comfy, pack, tmp_path):
    """In a process of its own: the same images before and after ComfyUI loads the pack."""
    folders = pathlib.Path(comfy.nodes.__file__).parent, ROOT, ROOT / "tests" / "helpers", tmp_path
    done = subprocess.run(
        [sys.executable, "-c", UNUSED, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nodes_only_add_settings(part, sd1):
    model, _ = record(part, sd1.model, sd1.bound)
    model, _ = record(part, model, sd1.bound)
    options = model.model_options["transformer_options"]
    assert len(options["semantic_binding"]) == 2
    assert len(model.get_all_wrappers("outer_sample")) == 1
    assert options.keys() - sd1.model.model_options["transformer_options"].keys() == {"semantic_binding"}
    assert "semantic_binding" not in sd1.model.model_options["transformer_options"]
    assert not sd1.model.get_all_wrappers("outer_sample")


def test_run_leaves_nothing_on_the_model(comfy, part, sd1):
    model, _ = record(part, sd1.model, sd1.bound)
    before = copy.copy(model.model_options["transformer_options"]), model.wrappers.copy(), weights(sd1)
    run(comfy, sd1, model)
    assert model.model_options["transformer_options"] == before[0]
    assert model.wrappers == before[1]
    assert same(weights(sd1), before[2])


def failing(kind):
    """A patch of another pack that interrupts or fails in the second step."""
    import comfy.model_management

    calls = []

    def patch(n, context, value, extra):
        calls.append(extra["block"])
        if len(calls) == 20:
            if kind == "interrupt":
                comfy.model_management.interrupt_current_processing()
            else:
                raise RuntimeError("a patch of another pack failed")
        return n, context, value

    return patch


@pytest.mark.parametrize("kind", ["interrupt", "error"])
def test_stopped_run_leaves_nothing(comfy, part, sd1, plain, kind):
    from comfy.model_management import InterruptProcessingException

    model, maps = record(part, sd1.model, sd1.bound, point=(0.5, 0.5))
    options = copy.copy(model.model_options["transformer_options"])
    before = weights(sd1)
    broken = model.clone()
    broken.set_model_attn2_patch(failing(kind))
    expected = InterruptProcessingException if kind == "interrupt" else RuntimeError
    with pytest.raises(expected):
        run(comfy, sd1, broken, steps=3)
    with pytest.raises(ValueError, match="Nothing has been recorded"):
        maps.find({"samples": plain})
    assert model.model_options["transformer_options"] == options
    assert same(weights(sd1), before)
    latent = run(comfy, sd1, model, steps=3)
    assert torch.equal(latent["samples"], plain)
    assert maps.find(latent).steps == ((0, 1, 2),)


def test_error_in_our_own_patch_leaves_nothing(comfy, part, sd1, plain, monkeypatch):
    model, maps = record(part, sd1.model, sd1.bound)
    with monkeypatch.context() as patched:
        patched.setattr(part("attention.engine.calls"), "mean_probabilities", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(comfy, sd1, model, steps=3)
    assert torch.equal(run(comfy, sd1, sd1.model, steps=3)["samples"], plain)
    latent = run(comfy, sd1, model, steps=3)
    assert torch.equal(latent["samples"], plain)
    assert maps.find(latent).labels == ("cat", "dog")


def test_attention_override_of_another_pack_still_sees_every_call(comfy, part, sd1, plain):
    calls = []

    def override(function, *args, **kwargs):
        calls.append((kwargs["transformer_options"]["block"], args[1].shape, sorted(kwargs)))
        return function(*args, **kwargs)

    overridden = sd1.model.clone()
    overridden.model_options["transformer_options"]["optimized_attention_override"] = override
    run(comfy, sd1, overridden, steps=3)
    without, calls[:] = calls[:], []
    model, _ = record(part, overridden, sd1.bound, point=(0.5, 0.5))
    assert torch.equal(run(comfy, sd1, model, steps=3)["samples"], plain)
    assert calls == without


def test_replacement_that_comes_with_a_conditioning(comfy, part, sd1):
    """A hook puts an attn2 replacement into the calls of one conditioning: it runs, and we record."""
    from comfy import hooks as core

    called = []

    def theirs(q, k, v, extra):
        called.append(extra["cond_or_uncond"])
        return q * 0

    replace = {"patches_replace": {"attn2": {("input", 1): theirs}}}
    group = core.HookGroup()
    group.add(core.TransformerOptionsHook(replace, hook_scope=core.EnumHookScope.HookedOnly))
    positive = core.set_hooks_for_conditioning(sd1.bound.conditioning, group)
    latents = []
    recording_model, maps = record(part, sd1.model, sd1.bound)
    for model in (sd1.model, recording_model):
        latents.append(sample(comfy, model, positive, sd1.negative, **SMALL))
    assert torch.equal(latents[0]["samples"], latents[1]["samples"])
    assert called == [[0]] * 4
    assert maps.find(latents[1]).steps == ((0, 1),)


def test_model_calls_in_threads(comfy, part, sd1):
    model, maps = record(part, in_threads(sd1.model), sd1.bound, keep=1)
    with Reference(sd1.model).watching() as reference:
        latent = run(comfy, sd1, model, steps=2)
    assert [len(call.context) for call in reference.calls] == [1] * 4
    expected = reference.maps(sd1.bound.embedding, sd1.bound.groups, (8, 8), 1, reference.calls[:2])
    assert (maps.find(latent).grids[0].maps[0].double() - expected).abs().max() < 1e-4 * expected.max()


def test_tiled_sampling_is_refused(comfy, part, sd1):
    """A node that runs the model on parts of the latent: where they belong cannot be known."""

    def tiled(apply_model, args):
        halves = [apply_model(part, args["timestep"], **args["c"]) for part in args["input"].split(4, dim=-1)]
        return torch.cat(halves, -1)

    model, _ = record(part, sd1.model, sd1.bound)
    model.set_model_unet_function_wrapper(tiled)
    with pytest.raises(
        ValueError, match="has split the latent: 8 x 8 cells .* 8 x 4 found.* Record Attention has to know"
    ):
        run(comfy, sd1, model)


def test_unsupported_models_are_refused(comfy, part, sd1):
    from types import SimpleNamespace

    from comfy import supported_models as stock
    from comfy.model_patcher import ModelPatcher

    flux = {
        **{"image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 16},
        **{"context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1},
        **{"depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000, "qkv_bias": True, "guidance_embed": False},
        "txt_ids_dims": [],
    }
    video = {
        **stock.SVD_img2vid.unet_config,
        **{"image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1]},
        **{"channel_mult": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4},
        **{"transformer_depth_middle": 1, "context_dim": 32, "use_spatial_transformer": True, "legacy": False},
        **{"video_kernel_size": [3, 1, 1], "merge_strategy": "learned_with_images", "extra_ff_mix_layer": True},
        **{"use_temporal_resblock": True, "num_classes": "sequential", "num_head_channels": 16, "num_heads": -1},
    }
    cases = (stock.Flux(flux), "Flux, network Flux"), (stock.SVD_img2vid(video), "SVD_img2vid, network UNetModel")
    for config, names in cases:
        config.set_inference_dtype(torch.float32, None)
        config.optimizations = {}
        network = config.get_model({})
        patcher = ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
        with pytest.raises(ValueError, match=f"{names}.*not supported.*Stable Diffusion 1 and 2, SDXL"):
            record(part, patcher, SimpleNamespace(binding=sd1.bound.binding))


def test_inventory_of_layers(part, tiny):
    layers_of = part("attention.engine.layers").layers_of
    sd1 = layers_of(tiny("sd1").model)
    assert [layer.name for layer in sd1 if layer.level == 2] == [
        "input 7.0", "input 8.0", "output 3.0", "output 4.0", "output 5.0",
    ]  # fmt: skip
    assert [layer.level for layer in sd1] == [0, 0, 1, 1, 2, 2, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0]
    sdxl = layers_of(tiny("sdxl").model)
    assert {layer.key[:2] for layer in sdxl if layer.level == 2} == {
        ("input", 7), ("input", 8), ("middle", 0), ("output", 0), ("output", 1), ("output", 2),
    }  # fmt: skip
    assert sum(layer.level == 1 for layer in sdxl) == 2 * 5


def test_steps_are_found_from_the_noise_level(part):
    steps = part("attention.engine.steps")
    sigmas = (10.0, 5.0, 1.0, 0.0)
    found = [steps.step_of(sigma, sigmas) for sigma in (12, 10, 9.9999, 7, 5.0001, 5, 4.9999, 2, 1, 0.5, 0)]
    assert found == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert list(steps.step_range(0, 1, 3)) == [0, 1, 2]
    assert list(steps.step_range(0.1, 0.3, 30)) == list(range(3, 9))
    assert list(steps.step_range(0.5, 0.51, 2)) == [1]


def test_copy_of_the_options_still_records_for_the_same_viewers(comfy, part, sd1):
    """Some packs copy the options of a model deeply."""
    model, maps = record(part, sd1.model, sd1.bound)
    clone = model.clone()
    clone.model_options = copy.deepcopy(model.model_options)
    assert maps.find(run(comfy, sd1, clone)).labels == ("cat", "dog")


PURE = """
import sys, types
package = types.ModuleType("package")
package.__path__ = [sys.argv[1]]
sys.modules["package"] = package
import importlib
for name in sys.argv[2:]:
    importlib.import_module(f"package.attention.{name}")
assert "comfy" not in sys.modules
"""


def test_the_mathematics_needs_no_comfyui(pack):
    knowing = {"engine.sampling", "engine.patching", "engine.guiding", "engine.gradient", "engine.layers", "maps.files"}
    files = [path.relative_to(ROOT / "attention").with_suffix("") for path in (ROOT / "attention").rglob("*.py")]
    names = sorted({".".join(path.parts) for path in files if path.name != "__init__"} - knowing)
    assert "maps.recorder" in names
    subprocess.run([sys.executable, "-c", PURE, str(ROOT), *names], check=True, cwd=ROOT.parent)
