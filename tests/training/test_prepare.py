"""Training data as the network takes it, with core's own encoders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from attention_reference import encode

CAPTION = "a Tabby cat (on a sofa) and a traffic light"


@pytest.fixture
def prepare(part):
    module = part("training.prepare")
    module._last.clear()
    return module


@pytest.fixture
def given(part, tmp_path):
    """``given(size, caption=..., nouns=...)``: one picture of 90 x 60 pixels as training data."""
    data = part("training.data")

    def make(size, caption=CAPTION, nouns=("cat", "traffic light")):
        pixels = np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text(caption)
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        (tmp_path / "a").mkdir()
        for place, noun in enumerate(nouns):
            mask = np.zeros((60, 90), np.uint8)
            mask[10:50, 20 + 30 * place : 40 + 30 * place] = 255
            Image.fromarray(mask).save(tmp_path / "a" / f"{noun}.png")
        found = data.read_folder(tmp_path)
        assert found.broken == ()
        return data.TrainingData(tmp_path, found.items, found.broken, size, data.digest_of(found.items))

    return make


def encoded(prepare, data, loaded, **changes):
    sides = {"model": loaded.model, "vae": loaded.vae, "clip": loaded.clip, **changes}
    return prepare.encoded(data, **sides)


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_a_sample(prepare, part, given, tiny, layout):
    loaded, masks = tiny(layout), part("training.masks")
    data = given(64)
    ((sample,), notes) = encoded(prepare, data, loaded)
    assert notes == () and sample.caption == CAPTION

    square = masks.cropped(Image.open(data.items[0].picture), 64)
    with torch.inference_mode():
        latent = loaded.vae.encode(torch.from_numpy(np.array(square)).float()[None] / 255)
    assert torch.equal(sample.latent, latent[0] * {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}[layout])

    prompt = CAPTION.replace("(", r"\(").replace(")", r"\)")
    ((context, options),) = encode(loaded.clip, prompt)
    assert torch.equal(sample.context, context[0]) and len(context[0]) == 77

    (ids,) = loaded.clip.tokenize(prompt)["h" if layout == "sd2" else "l"]
    vocabulary = getattr(loaded.clip.tokenizer, f"clip_{'h' if layout == 'sd2' else 'l'}").inv_vocab
    words = [[vocabulary[ids[row][0]] for row in rows] for rows in sample.nouns.rows]
    assert words == [["cat</w>"], ["traffic</w>", "light</w>"]]
    assert sample.nouns.masks.dtype == torch.bool and sample.nouns.masks.shape == (2, 64, 64)
    # Columns 20 to 39 of 90 become 21.3 to 42.7 of 96, of which the middle 64 begin at 16.
    assert sample.nouns.masks[0].any(0).nonzero().flatten().tolist() == list(range(5, 27))

    if layout == "sdxl":
        from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep

        sizes = [Timestep(256)(torch.tensor([value]))[0] for value in (60.0, 90.0, 0.0, 16.0, 64.0, 64.0)]
        assert torch.equal(sample.vector, torch.cat([options["pooled_output"][0], *sizes]))
    else:
        assert sample.vector is None
    tensors = [sample.latent, sample.context, sample.nouns.masks, *([sample.vector] if layout == "sdxl" else [])]
    assert not any(tensor.is_inference() for tensor in tensors)
    assert all(tensor.dtype == torch.float32 for tensor in tensors if tensor is not sample.nouns.masks)


def test_gradients_pass_in_a_graph(prepare, given, tiny):
    """Nodes run in inference mode, whose tensors no gradient can pass."""
    with torch.inference_mode():
        ((sample,), _) = encoded(prepare, given(64), tiny("sd1"))
    weight = torch.ones((), requires_grad=True)
    (weight * sample.latent).square().sum().backward()
    assert float(weight.grad) == pytest.approx(float(2 * sample.latent.square().sum()))


def test_a_picture_without_masks(prepare, given, tiny):
    ((sample,), _) = encoded(prepare, given(64, nouns=()), tiny("sd1"))
    assert sample.nouns.rows == () and sample.nouns.masks.shape == (0, 64, 64)


def test_a_long_caption_is_cut(prepare, given, tiny):
    caption = "a cat " + "in the big garden " * 30 + "and a horse"
    ((sample,), notes) = encoded(prepare, given(64, caption, ("cat", "horse")), tiny("sd1"))
    assert len(sample.context) == 77 and sample.nouns.rows == ((2,),) and len(sample.nouns.masks) == 1
    assert notes == (
        "a.png: its caption is longer than 75 tokens, the rest is left out",
        "a.png: horse is in that rest, its mask is left out",
    )
    ((context, _),) = encode(tiny("sd1").clip, caption)
    assert torch.allclose(sample.context, context[0, :77], atol=1e-6)


def test_samples_are_kept_while_nothing_changes(prepare, given, tiny):
    loaded = tiny("sd1")
    first = encoded(prepare, given(64), loaded)
    assert encoded(prepare, given(64), loaded) is first
    assert encoded(prepare, given(64, nouns=("cat",)), loaded) is not first
    assert encoded(prepare, given(64), loaded) is not first
    first = encoded(prepare, given(64), loaded)
    skipping = loaded.clip.clone()
    skipping.clip_layer(-2)
    other = encoded(prepare, given(64), loaded, clip=skipping)
    assert not torch.equal(other.samples[0].context, first.samples[0].context)
    patched = loaded.clip.clone()
    key = next(key for key in patched.patcher.model_state_dict() if key.endswith("mlp.fc1.weight"))
    weight = patched.patcher.model_state_dict()[key]
    patched.add_patches({key: ("diff", (torch.ones_like(weight),))})
    other = encoded(prepare, given(64), loaded, clip=patched)
    assert not torch.equal(other.samples[0].context, first.samples[0].context)


def test_progress_and_interrupts(prepare, given, tiny, comfy):
    import comfy.model_management as management

    loaded, told = tiny("sd1"), []
    prepare.encoded(given(64), loaded.model, loaded.vae, loaded.clip, told.append)
    assert told == ["encoding picture 1 of 1"]
    data = given(128)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        encoded(prepare, data, loaded)
    assert encoded(prepare, data, loaded).samples[0].latent.shape == (4, 16, 16)


def test_errors(prepare, given, tiny):
    loaded = tiny("sd1")
    for side, name in (("vae", "VAE"), ("clip", "CLIP")):
        with pytest.raises(ValueError, match=f"There is no {name}"):
            encoded(prepare, given(64), loaded, **{side: None})
    with pytest.raises(ValueError, match=r"a\.png: .*embedding:"):
        encoded(prepare, given(64, "a cat, embedding:", ("cat",)), loaded)
