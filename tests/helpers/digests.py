"""A program that prints what the pack gives as digests, to be run in processes that have other hash seeds.

python digests.py COMFYUI PACK FOLDER LAYOUT...
"""

import asyncio
import functools
import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

PROMPTS = [
    "a cat wearing sunglasses and a dog with a red hat, a girl's blue bag and two old wooden chairs in a garden",
    "the dog is brown and white, the horse is black; a woman holding a green umbrella",
]


def digest(value) -> str:
    return hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def main(comfyui: str, pack: str, folder: str, *layouts: str) -> None:
    arguments = ["--cpu", "--base-directory", folder, "--database-url", "sqlite:///:memory:"]
    sys.argv = ["main.py", *arguments]
    sys.path[:0] = [comfyui, str(Path(__file__).parent)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import nodes

    assert asyncio.run(nodes.load_custom_node(pack))
    part = functools.partial(_part, pack.replace(".", "_x_"))
    host = SimpleNamespace(base=Path(folder), nodes=nodes)
    found = {f"{layout} {name}": told for layout in layouts for name, told in of_layout(host, part, layout)}
    sys.stdout.write(json.dumps(found))


def _part(package: str, name: str):
    return importlib.import_module(f"{package}.{name}")


def of_layout(host, part, layout: str):
    import torch

    import tiny_models
    from attention_reference import record, sample
    from gradients import soft
    from techniques import TECHNIQUES, TechniquesBench

    tiny_models.register()
    path = host.base / "models" / "checkpoints" / f"tiny-{layout}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny_models.write_checkpoint(layout, path)
    bench = TechniquesBench(host, part, soft(host, lambda layout: SimpleNamespace(name=path.name), layout))
    for technique in TECHNIQUES:
        if technique == "subjects" and layout == "sdxl":
            continue  # FastComposer has no adapter for it
        yield technique, digest(bench.run(*bench.with_technique(technique)).latent)
    model, maps = record(part, bench.model, bench.bound)
    recording = maps.find(sample(host, model, bench.positive, bench.negative, size=(8, 8)))
    yield "maps", [digest(grid.maps) for grid in recording.grids]
    for number, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            rows, binding, told = part("nodes.parsing.prompt").SBBindPrompt.execute(bench.clip, prompt).args
        yield f"prompt {number}", [told.replace(binding.key, "key"), digest(rows[0][0])]


if __name__ == "__main__":
    main(*sys.argv[1:])
