"""Bind Prompt and Bind Conditioning on small models of each layout."""

from __future__ import annotations

import json

import pytest
import torch

PROMPT = "a (red:1.3) car and a white sheep"


@pytest.fixture
def bind(part):
    return lambda *args, **options: part("nodes.prompt").SBBindPrompt.execute(*args, **options).result


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_conditioning_is_that_of_clip_text_encode_with_the_bindings_key(layout, tiny, comfy, bind, part):
    clip = tiny(layout).clip
    conditioning, binding, _ = bind(clip, PROMPT)
    (expected,) = comfy.nodes.CLIPTextEncode().encode(clip, PROMPT)
    key = part("parsing.binding").CONDITIONING_KEY
    assert len(conditioning) == len(expected) == 1
    assert torch.equal(conditioning[0][0], expected[0][0])
    assert torch.equal(conditioning[0][1]["pooled_output"], expected[0][1]["pooled_output"])
    assert conditioning[0][1][key] == binding.key
    assert set(conditioning[0][1]) == set(expected[0][1]) | {key}


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_groups_are_the_rows_of_the_words(layout, tiny, bind):
    _, binding, _ = bind(tiny(layout).clip, PROMPT)
    assert [binding.group(entity) for entity in binding.entities] == [(2, 3), (6, 7)]
