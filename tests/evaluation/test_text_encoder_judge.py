"""Text encoders as judges: ComfyUI's own Qwen3-VL and Qwen2.5-VL, small and random, against those of transformers."""

import re
from types import SimpleNamespace

import pytest
import torch

YES, NO = [9693, 9454, 9834, 7414], [2152, 2753, 902, 2308]
"""In Qwen's vocabulary: yes and no, with a capital, and both after a space."""

TEXTS = ["is the cat black?", "are there exactly (two) dogs?"]


@pytest.fixture
def text_encoder(part):
    return part("evaluation.judges.text_encoder")


@pytest.fixture
def qwen(comfy, monkeypatch):
    import tiny_text_encoder

    with torch.inference_mode():
        return tiny_text_encoder.made(monkeypatch)


def picture_of(patch):
    """Of whole bytes and 4 x 6 patches of that side, so that nothing is rounded or resized."""
    return torch.randint(0, 256, (4 * patch, 6 * patch, 3), generator=torch.Generator().manual_seed(0)) / 255


@pytest.fixture
def picture():
    return picture_of(16)


QWEN3 = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def expected(qwen, picture, text, processor=QWEN3):
    """P(yes) by the class of transformers."""
    from transformers import Qwen2VLImageProcessor

    images = Qwen2VLImageProcessor(min_pixels=3136, max_pixels=12845056, **processor)
    pixels = images((picture * 255).round().to(torch.uint8).numpy(), return_tensors="pt")
    vision = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    prompt = f"<|im_start|>user\n{vision}{text} Answer with one word: yes or no.<|im_end|>\n<|im_start|>assistant\n"
    tokenizer = getattr(qwen.clip.tokenizer, qwen.clip.tokenizer.clip).tokenizer
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    assert (ids == qwen.module.config.image_token_id).sum() == 6
    seen = (ids == qwen.module.config.image_token_id).int()
    with torch.no_grad():
        logits = qwen.module(input_ids=ids, mm_token_type_ids=seen, **pixels).logits[0, -1].double()
    probabilities = logits.softmax(-1)
    yes, no = probabilities[YES].sum().item(), probabilities[NO].sum().item()
    return yes / (yes + no)


def test_answers_are_those_of_transformers(text_encoder, part, qwen, picture):
    question = part("evaluation.judges.questions").Question
    text_encoder.check(qwen.clip)
    judge = text_encoder.TextEncoderJudge(qwen.clip)
    with torch.inference_mode():
        found = judge.answer(picture, [question(text, "cat", "own") for text in TEXTS])
    wanted = [expected(qwen, picture, text) for text in TEXTS]
    assert found == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted[0] - wanted[1]) > 1e-3


def test_the_text_encoder_is_as_before_afterwards(text_encoder, part, qwen, picture):
    network = qwen.clip.cond_stage_model.qwen3vl_4b.transformer
    asked = [part("evaluation.judges.questions").Question(TEXTS[0], "cat", "own")]
    judge = text_encoder.TextEncoderJudge(qwen.clip)
    with torch.inference_mode():
        judge.answer(picture, asked)
        assert "sample_token" not in vars(network)
        with pytest.raises(IndexError):
            judge.answer(picture[..., :2], asked)
    assert "sample_token" not in vars(network)


def test_clip_is_told_that_it_is_no_judge(text_encoder, tiny):
    with pytest.raises(
        ValueError, match=r"connected CLIP \(CLIPTextModel\) cannot judge pictures: it reads no pictures"
    ):
        text_encoder.check(tiny("sd1").clip)
    with pytest.raises(ValueError, match=r"connected CLIP \(SDXLClipModel\) cannot judge pictures"):
        text_encoder.check(tiny("sdxl").clip)


def clip_of(network_class, config):
    """A CLIP of that network, without the weights."""
    import comfy.ops

    with torch.device("meta"):
        network = network_class(config, torch.float32, "meta", comfy.ops.disable_weight_init)
    model = SimpleNamespace(clip="only", only=SimpleNamespace(transformer=network))
    return SimpleNamespace(cond_stage_model=model)


@pytest.fixture
def qwen_image(comfy, monkeypatch, tmp_path):
    """Qwen-Image's text encoder, as ComfyUI loads it from a file, and ``file``."""
    import tiny_text_encoder

    with torch.inference_mode():
        return tiny_text_encoder.made_of_qwen_image(monkeypatch, tmp_path / "qwen.safetensors")


@pytest.mark.parametrize("form", ["as it is", "fp8 with its scale"])
def test_qwen_image_s_encoder_gets_its_output_layer_from_its_file(text_encoder, part, qwen_image, form):
    from safetensors.torch import load_file, save_file

    if form != "as it is":
        weights, head = load_file(qwen_image.file), qwen_image.module.lm_head.weight
        weights["lm_head.weight"] = (head / 0.25).to(torch.float8_e4m3fn)
        weights["lm_head.scale_weight"] = torch.tensor(0.25)
        with torch.inference_mode():
            head.copy_(weights["lm_head.weight"].float() * 0.25)
        save_file(weights, qwen_image.file)
    question = part("evaluation.judges.questions").Question
    text_encoder.check(qwen_image.clip)
    picture = picture_of(14)
    with torch.inference_mode():
        judge = text_encoder.TextEncoderJudge(qwen_image.clip)
        found = judge.answer(picture, [question(text, "cat", "own") for text in TEXTS])
    wanted = [expected(qwen_image, picture, text, {}) for text in TEXTS]
    assert found == pytest.approx(wanted, rel=1e-3)
    assert abs(wanted[0] - wanted[1]) > 1e-3


def test_a_file_without_output_layer_is_told(text_encoder, part, qwen_image):
    from safetensors.torch import load_file, save_file

    weights = load_file(qwen_image.file)
    save_file({**weights, "lm_head.weight": torch.zeros(152064, 1, dtype=torch.uint8)}, qwen_image.file)
    file = part("evaluation.judges.output_layer").file_of(qwen_image.clip)
    with pytest.raises(ValueError, match=r"qwen.safetensors has its output layer \(lm_head.weight\) as uint8, which"):
        part("evaluation.judges.output_layer").rows(file, [0])
    del weights["lm_head.weight"]
    save_file(weights, qwen_image.file)
    with pytest.raises(
        ValueError,
        match=r"\(Qwen25_7BVLI\) cannot judge pictures: .* \(lm_head.weight\), and qwen.safetensors does not",
    ):
        text_encoder.check(qwen_image.clip)
    qwen_image.file.write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"qwen.safetensors does not have it"):
        text_encoder.check(qwen_image.clip)
    qwen_image.clip.patcher.cached_patcher_init = None
    with pytest.raises(ValueError, match=r"its file is not known\. Connect"):
        text_encoder.check(qwen_image.clip)


def test_encoders_without_their_last_layers_are_told(text_encoder, comfy):
    from comfy.text_encoders.qwen3vl import _make_qwen3vl_model

    kind = _make_qwen3vl_model("qwen3vl_8b")
    with pytest.raises(
        ValueError, match=r"\(Qwen3VL\) cannot judge pictures: ComfyUI loads it without its last layers"
    ):
        text_encoder.check(clip_of(kind, {"num_hidden_layers": 1, "final_norm": False, "lm_head": False}))


def test_a_clip_has_to_be_wanted_and_there(judge_files, comfy):
    with pytest.raises(ValueError, match='choose the judge "text encoder"; now it is "demo world"'):
        judge_files.load("demo world", False, object())
    with pytest.raises(ValueError, match=re.escape('The judge "text encoder" needs a CLIP')):
        judge_files.load("text encoder", False)
