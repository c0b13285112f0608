"""TokenCompose's released UNets are in the diffusers layout: a random one of full size loads and samples."""

import gc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.mark.slow
def test_a_unet_in_the_diffusers_layout_loads(benchmark, tiny):
    import comfy.sample
    import comfy.utils
    import folder_paths
    import nodes

    random_unet = benchmark("random_unet")
    original = random_unet.random_unet("sd15", torch.float16)
    folder = Path(folder_paths.get_folder_paths("diffusion_models")[-1])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "TokenCompose_SD14_A.safetensors"
    theirs = comfy.utils.unet_to_diffusers(original.model.model_config.unet_config)
    weights = original.model.diffusion_model.state_dict()
    written = {name: weights[own].contiguous() for name, own in theirs.items() if own in weights}
    assert {own for own in theirs.values() if own in weights} == weights.keys()
    save_file(written, path)
    try:
        (loaded,) = nodes.UNETLoader().load_unet(path.name, "default")
        found = loaded.model.diffusion_model.state_dict()
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name].half(), weights[name]) for name in weights)
        clip = random_unet.RandomText(tiny("sd1").clip, "sd15")
        positive, negative = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a photo of a cat and a bicycle", "")
        )
        latent = torch.zeros(1, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 1)
        sampled = comfy.sample.sample(
            loaded, noise, 1, 7.5, "euler", "normal", positive, negative, latent, disable_pbar=True, seed=1
        )
        assert torch.isfinite(sampled).all() and sampled.std() > 0
    finally:
        path.unlink()
        gc.collect()
