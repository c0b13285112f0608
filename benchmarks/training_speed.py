"""How long a step of each training takes, and how much memory; networks of full size have random weights.

    .dev/venv/bin/python benchmarks/training_speed.py [--model demo | sd15 | sdxl] [--methods ...] [--runs 9] [--gpu]

The steps of the methods are made in turn in one process; times are medians. A step of TokenCompose is compared with one
of the noise loss alone; a step of CoMat has all its parts, with masks from attention.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host
from report import number, table, write_report

NOISE, TOKENCOMPOSE, COMAT = "noise loss", "TokenCompose", "CoMat"
METHODS = (NOISE, TOKENCOMPOSE, COMAT)
TEXTS = ("a red cat and a blue dog", "a green circle and a red square")
NOUNS = ((3,), (7, 8))
RANK = {NOISE: 32, TOKENCOMPOSE: 32, COMAT: 128}
"""The nodes' defaults."""


def loaded(model: str, gpu: bool) -> tuple[Any, Any, Any]:
    """MODEL, VAE and captioner of that size."""
    import torch

    demo = host.run_node("SBLoadDemoModel")
    files = host.part("training.comat.captioner_files")
    if model == "demo":
        return demo["MODEL"], demo["VAE"], files.load(files.DEMO_WORLD, False)
    from random_unet import random_unet

    return random_unet(model, torch.bfloat16 if gpu else torch.float32), random_vae(), random_captioner()


def random_vae() -> Any:
    """Stable Diffusion's autoencoder."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    sizes |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    return comfy.sd.VAE(sd=AutoencoderKL(ddconfig=sizes, embed_dim=4).state_dict())


def random_captioner() -> Any:
    """BLIP large, which reads the words of the tests' small one."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher
    from transformers import AutoTokenizer, BlipConfig, BlipForConditionalGeneration

    captioner, held = host.part("training.comat.captioner"), host.part("pretrained.loading").Held
    with tempfile.TemporaryDirectory() as folder:
        host.helper("tiny_captioner").write_captioner(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    module = BlipForConditionalGeneration(BlipConfig(vision_config={**vision, "image_size": 384, "patch_size": 16}))
    patcher = ModelPatcher(
        held(module.eval().requires_grad_(False)),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    return captioner.Captioner(patcher, tokenizer, (0.5,) * 3, (0.25,) * 3)


def given(model: Any) -> tuple[Any, Any]:
    """A random context ``(77, D)`` and vector ``(Y,)`` or None."""
    import torch

    config, chance = model.model.model_config.unet_config, torch.Generator().manual_seed(0)
    vector = torch.randn(model.model.adm_channels, generator=chance) if model.model.adm_channels else None
    return torch.randn(77, config["context_dim"], generator=chance), vector


def task_of(method: str, model: Any, vae: Any, captioner: Any, shape: tuple[int, int, int]) -> Any:
    """The task of a training of random samples."""
    import torch

    context, vector = given(model)
    if method != COMAT:
        grounding, prepare = host.part("training.grounding"), host.part("training.prepare")
        masks = torch.zeros(2, 8 * shape[1], 8 * shape[2], dtype=torch.bool)
        masks[0, :, : 4 * shape[2]] = masks[1, : 4 * shape[1]] = True
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        sample = prepare.Sample(latent, context, vector, grounding.Nouns(NOUNS, masks), TEXTS[0])
        weights = (grounding.TOKEN_WEIGHT, grounding.PIXEL_WEIGHT) if method == TOKENCOMPOSE else (0.0, 0.0)
        return host.part("training.tokencompose").TokenCompose([sample], "random", *weights)
    comat, reading, asked = (host.part(f"training.comat.{each}") for each in ("task", "reading", "asked"))
    entities = host.part("parsing.binding")
    text = TEXTS[1]

    def phrase(words: str) -> Any:
        start = text.index(words)
        return entities.Phrase(words, (entities.Span(start, start + len(words)),))

    nouns = [
        asked.Asked(entities.Entity(noun, phrase(noun), (phrase(colour),)), rows)
        for (noun, colour), rows in zip((("circle", "green"), ("square", "red")), NOUNS, strict=True)
    ]
    prompts = reading.Prompts(
        (reading.Prompt(text, context, vector, tuple(nouns)),), reading.Prompt("", context, vector), ()
    )
    return comat.CoMat(
        prompts=prompts,
        latent_shape=shape,
        decoder=host.part("training.comat.decoding").decoder_of(vae, shape[0]),
        captioner=captioner,
        finder=host.part("training.comat.finding").ByAttention(),
        fidelity=comat.Fidelity(2e-5, 1),
        weights=host.part("training.comat.losses").Weights(),
        rollouts=comat.Rollouts(detached=model.model.adm_channels > 0),
        digest="random",
    )


def steps_of(method: str, model: Any, vae: Any, captioner: Any, shape: tuple[int, int, int]) -> Iterator[Any]:
    """The steps of a training with the nodes' defaults, without end."""
    lora, loop, session = (host.part(f"training.{each}") for each in ("lora", "loop", "session"))
    rank = RANK[method]
    settings = session.Settings(
        name=f"speed of {method}", lora=lora.LoRASettings(rank, float(rank), "attention"),
        optimisation=loop.Optimisation(1e-4), steps=10**9, batch=1, accumulate=1, seed=0, checkpointing=True,
        save_every=0, preview_every=0,
    )  # fmt: skip
    task = task_of(method, model, vae, captioner, shape)
    unet = model.model.diffusion_model
    adapters = [lora.Adapters(unet, settings.lora, 0), *task.more_adapters(unet, settings)]
    network = host.part("training.network").Network(model, adapters, settings.checkpointing)
    for each in adapters:
        each.to(network.device)
    memory = host.part("training.memory").memory_of_a_step(network, shape, task.rows(1), settings.checkpointing)
    memory += task.more_memory(1, settings.checkpointing)
    stages = task.stages(network, adapters[0], settings)
    print(f"{method}: reserves {memory / 2**30:.2f} GiB", flush=True)
    return loop.Loop(stages, settings.steps).run(lambda: network.ready(memory, task.patchers))


def timed(steps: Iterator[Any]) -> tuple[float, float]:
    """Seconds of a step, and on a GPU its peak of memory in GiB (else nan)."""
    import torch

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    next(steps)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("demo", "sd15", "sdxl"), default="demo")
    parser.add_argument("--cells", type=int, help="side of the latents (16 for the demo model, 64, and 128 for SDXL)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--runs", type=int, default=9, help="steps of each")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument("--tables", type=Path, help="where the tables go, without .md")
    arguments = parser.parse_args()
    side = arguments.cells or {"demo": 16, "sd15": 64, "sdxl": 128}[arguments.model]
    with tempfile.TemporaryDirectory() as folder:
        host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
        import folder_paths

        folder_paths.set_output_directory(folder)
        networks = loaded(arguments.model, arguments.gpu)
        trainings = {method: steps_of(method, *networks, (4, side, side)) for method in arguments.methods}
        found: dict[str, list[tuple[float, float]]] = {method: [] for method in trainings}
        for run in range(arguments.runs + 1):
            for method, steps in trainings.items():
                measured = timed(steps)
                if run:  # the first has to load and to warm up
                    found[method].append(measured)
    records = []
    for method, measured in found.items():
        seconds, peaks = zip(*measured, strict=True)
        median = statistics.median(seconds)
        ratio = median / statistics.median(each for each, _ in found[NOISE]) if NOISE in found else float("nan")
        records.append({"method": method, "seconds": median, "ratio": ratio, "peak_gib": max(peaks)})
    head = [
        f"One step of each training, batch 1, of latents of {side} x {side} of the model {arguments.model}"
        f"{'' if arguments.model == 'demo' else ', with random weights'}; blocks are computed again in the backward "
        f"pass. Median of {arguments.runs} steps, in turn. {host.machine()}."
    ]
    columns = ["method", "seconds", "against the noise loss alone", "peak, GiB"]
    lines = [[r["method"], number(r["seconds"]), number(r["ratio"]), number(r["peak_gib"], 2)] for r in records]
    text = "\n".join(["# Speed of training", "", *head, "", *table(columns, lines)]) + "\n"
    write_report(text, records, head, arguments.tables or host.RESULTS / f"speed-training-{arguments.model}")
    print(text)


if __name__ == "__main__":
    main()
