"""A UNet whose weights are stored in 8 bits, as ComfyUI has them with ``--fp8_e4m3fn-unet`` and from fp8 files."""

import pytest
import torch

import examples

STEPS = 6


@pytest.fixture
def in_eight_bits(comfy, run_graph, monkeypatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management.args, "fp8_e4m3fn_unet", True)
    run_graph.forget()
    yield
    run_graph.forget()


@pytest.mark.parametrize(
    "title",
    [
        "Attention modulation, plain and modulated",
        "Nothing left out with Attend-and-Excite",
        "Attribute binding with token merge",
    ],
)
def test_techniques_act(run_graph, in_eight_bits, title):
    graph = examples.api(title)
    samplers = [node_id for node_id, node in graph.items() if node["class_type"] == "KSampler"]
    for node_id in samplers:
        graph[node_id]["inputs"]["steps"] = STEPS
    demo = next(node_id for node_id, node in graph.items() if node["class_type"] == "SBLoadDemoModel")
    found = run_graph(graph, model=[demo, 0], **{f"of {each}": [each, 0] for each in samplers}).values
    weights = found["model"].model.diffusion_model.state_dict().values()
    assert {weight.dtype for weight in weights} == {torch.float8_e4m3fn}
    plain, bound = (found[f"of {each}"]["samples"] for each in samplers)
    assert torch.isfinite(plain).all() and torch.isfinite(bound).all()
    assert not torch.allclose(plain, bound, atol=0.05)
