"""Attention modulation over HTTP and websocket, as the browser and scripts use it."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from clone import headless
from modulation_graphs import FOCUS, TEMPERATURE, graph, painted

EVENT = "semantic_binding.stage_weights"


@pytest.fixture(scope="module")
def modulated():
    """All three nodes, the mask in soft mode, and a curve as core's widget sends it."""
    flat = {"points": [[0.0, 0.75], [1.0, 0.75]], "interpolation": "linear"}
    falling = {"points": [[0.0, 1.0], [1.0, 0.0]], "interpolation": "linear"}
    drawn = {"shape": "drawn", "shape.global_curve": falling, "shape.entity_curve": flat, "end_and_padding": "weight 1"}
    soft = {**FOCUS, "mode": "soft", "mode.penalty": 3.0}
    made = graph(SelfAttentionTemperature=TEMPERATURE, ObjectFocusedAttention=soft, StageWeights=drawn)
    made["sampler"]["inputs"]["steps"] = 3
    return made


def messages(server, made) -> list[dict]:
    """Everything that a client is sent while its graph runs."""

    async def listen():
        found, client = [], "test_modulation"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
            session.post(f"{server.url}/prompt", json={"prompt": made, "client_id": client}) as response,
        ):
            assert (await response.json())["node_errors"] == {}
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    found.append(json.loads(message.data))
                    if found[-1]["type"] in ("execution_success", "execution_error"):
                        return found

    return asyncio.run(asyncio.wait_for(listen(), 120))


def test_a_graph_from_a_script(server, modulated):
    run = server.run(modulated)
    assert run.outputs["ObjectFocusedAttention"]["text"] == ["circle, square: patches are assigned by attention."]
    (shown,) = run.outputs["StageWeights"]["semantic_binding_weights"]
    assert (shown["words"][0], shown["words"][-1], shown["entities"][16]) == pytest.approx((2.0, 0.0, 1.5))
    assert shown["focused"] is True


def test_the_plan_of_a_starting_run_is_sent(server, modulated):
    modulated["sampler"]["inputs"]["seed"] = 2
    found = messages(server, modulated)
    (plan,) = [message["data"] for message in found if message["type"] == EVENT]
    curves = plan.pop("curves")
    assert plan == {"node": "StageWeights", "words": [2.0, 1.0, 0.0], "entities": [1.5, 1.5, 1.5], "focused": True}
    assert (curves["words"][0], curves["words"][-1], set(curves["entities"])) == (2.0, 0.0, {1.5})
    types = [message["type"] for message in found]
    assert types.index(EVENT) < types.index("execution_success")


def test_errors_say_what_to_do(server, modulated):
    with pytest.raises(headless.ExecutionFailed, match="1 = circle, 2 = square") as caught:
        server.run(painted(graph(ObjectFocusedAttention=FOCUS), 1, 1.0, "triangle"))
    assert caught.value.node_type == "SBAssignMask"
    with pytest.raises(headless.GraphRejected, match="Value -1.0 smaller than min of 0.0: mode.penalty"):
        server.run(graph(ObjectFocusedAttention={**FOCUS, "mode": "soft", "mode.penalty": -1.0}))
