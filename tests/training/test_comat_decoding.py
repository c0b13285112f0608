"""Pictures with gradients: those of ComfyUI's VAE.decode for both kinds of autoencoder, and what is refused."""

import pytest
import torch

SMALL = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32}
SMALL |= {"ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}


@pytest.fixture
def vae_of(comfy, tiny):
    """``vae_of("kl")``: Stable Diffusion's autoencoder, small and random, or "taesd", that of the demo model."""

    @torch.inference_mode()
    def made(kind):
        import comfy.sd
        from comfy.ldm.models.autoencoder import AutoencoderKL

        if kind == "taesd":
            return tiny("sd1").vae
        config = {"params": {"ddconfig": SMALL, "embed_dim": 4}}
        module = AutoencoderKL(**config["params"])
        draw = torch.Generator().manual_seed(1)
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.3, generator=draw)
        vae = comfy.sd.VAE(sd=module.state_dict(), config=config)
        vae.upscale_ratio = vae.downscale_ratio = 2
        return vae

    return made


@pytest.mark.parametrize("kind", ["taesd", "kl"])
def test_pictures_are_those_of_the_vae(part, vae_of, kind):
    """But for what the VAE cuts off. Inference mode, as nodes run; gradients by finite differences."""
    vae = vae_of(kind)
    latents = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = vae.decode(latents)
    decoder = part("training.comat.decoding").decoder_of(vae, 4)
    assert decoder.scale == {"taesd": 8, "kl": 2}[kind]
    found, gradients = [], []
    with torch.inference_mode(False):
        for checkpointing in (False, True):
            given = latents.clone().requires_grad_(True)
            pictures = decoder.pictures(given, checkpointing)
            found.append(pictures.detach())
            gradients.append(torch.autograd.grad((pictures**2).sum(), given)[0])
        slope = gradients[0].norm()
        along = 1e-2 * gradients[0] / slope
        values = [(decoder.pictures(latents + way * along) ** 2).sum().item() for way in (1, -1)]
    assert torch.allclose(found[0].clamp(0, 1), expected, atol=1e-5)
    inside = ((found[0] > 0) & (found[0] < 1)).float().mean()
    assert 0.1 < inside < 1
    assert torch.equal(found[0], found[1])
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4 * float(slope))
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(float(slope), rel=2e-2)
    module = vae.first_stage_model
    assert all(each.is_inference() for each in module.parameters())
    assert not any("forward" in vars(each) for each in module.modules())


def test_checkpointed_blocks_keep_less(part, vae_of):
    decoder = part("training.comat.decoding").decoder_of(vae_of("kl"), 4)
    kept = []
    for checkpointing in (False, True):
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        latents = torch.randn(1, 4, 16, 16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            decoder.pictures(latents, checkpointing)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.5 * kept[0]
    assert decoder.memory((4, 64, 64), True) < decoder.memory((4, 64, 64), False)


def test_other_autoencoders_are_refused(part, vae_of):
    decoder_of = part("training.comat.decoding").decoder_of
    with pytest.raises(ValueError, match="There is no VAE"):
        decoder_of(None, 4)
    with pytest.raises(ValueError, match="made for latents of 4 channels, and the model's have 16"):
        decoder_of(vae_of("taesd"), 16)
