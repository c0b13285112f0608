"""Text encoders as judges: ComfyUI's own Qwen3-VL, small and random, against that of transformers."""

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


@pytest.fixture
def picture():
    """Of whole bytes and whole patches, so that nothing is rounded or resized."""
    return torch.randint(0, 256, (64, 96, 3), generator=torch.Generator().manual_seed(0)) / 255


def expected(qwen, picture, text):
    """P(yes) by transformers' Qwen3VLForConditionalGeneration."""
    from transformers import Qwen2VLImageProcessor

    images = Qwen2VLImageProcessor(
        min_pixels=3136, max_pixels=12845056, patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
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
    judge = text_encoder.TextEncoderJudge(qwen.clip)
    with torch.inference_mode():
        judge.first_logits(picture, TEXTS[0])
        assert "sample_token" not in vars(network)
        with pytest.raises(IndexError):
            judge.first_logits(picture[..., :2], TEXTS[0])
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


def test_qwen_image_s_encoder_lacks_its_output_layer(text_encoder, comfy):
    from comfy.text_encoders.llama import Qwen25_7BVLI

    with pytest.raises(
        ValueError, match=r"\(Qwen25_7BVLI\) cannot judge pictures: ComfyUI loads Qwen2.5-VL without its"
    ):
        text_encoder.check(clip_of(Qwen25_7BVLI, {"num_hidden_layers": 1}))


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
