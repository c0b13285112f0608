"""Token merge and its optimisation over HTTP and websocket: progress while sampling, losses afterwards, interrupts."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import NamedTuple

import aiohttp
import pytest

from clone import headless
from merge import PLAN, expected_shapes, merged_graph

TEXT = 3
"""ComfyUI's kind of binary message for progress texts."""


class Heard(NamedTuple):
    """What a client was sent: progress texts (node id, text), the last event's type, and whether another client was
    sent any text."""

    texts: list[tuple[str, str]]
    end: str
    others: list


@pytest.fixture
def made():
    """Merge and optimisation on the demo model; the losses as a plot and as JSON."""
    graph = merged_graph(optimize={})
    losses = {"losses": ["TokenOptimization", 1], "latent": ["sampler", 0]}
    graph["losses"] = {"class_type": "SBPreviewTokenLosses", "inputs": losses}
    graph["json"] = {"class_type": "PreviewAny", "inputs": {"source": ["losses", 1]}}
    return graph


def progress_text(data: bytes) -> tuple[str, str] | None:
    """The node id and text of a binary message, if it is one with a text."""
    kind, length = struct.unpack(">II", data[:8])
    return (data[8 : 8 + length].decode(), data[8 + length :].decode()) if kind == TEXT else None


def listening(server, graph: dict, interrupt_after: int | None = None) -> Heard:
    """Queue a graph and hear to its end, with a second client that listens as well."""

    async def listen() -> Heard:
        texts, others, client = [], [], "test_token_merge"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
            session.ws_connect(f"{server.url}/ws?clientId=somebody_else") as other,
            session.post(f"{server.url}/prompt", json={"prompt": graph, "client_id": client}) as response,
        ):
            assert (await response.json())["node_errors"] == {}
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    texts += filter(None, [progress_text(message.data)])
                    if len(texts) == interrupt_after:
                        await session.post(f"{server.url}/interrupt", json={})
                elif (event := json.loads(message.data))["type"].startswith("execution_"):
                    end = event["type"]
                    if end in ("execution_success", "execution_error", "execution_interrupted"):
                        break
            while True:
                try:
                    message = await other.receive(timeout=0.2)
                except asyncio.TimeoutError:
                    return Heard(texts, end, others)
                if message.type is aiohttp.WSMsgType.BINARY:
                    others += filter(None, [progress_text(message.data)])

    return asyncio.run(asyncio.wait_for(listen(), 180))


def test_losses_are_shown_while_sampling(server, made):
    heard = listening(server, made)
    assert heard.end == "execution_success"
    assert {node for node, _ in heard.texts} == {"TokenOptimization"}
    texts = [text for _, text in heard.texts]
    assert len(texts) == len(expected_shapes(PLAN, 2))
    assert texts[0].startswith("step 1 of 2, iteration 1, binding loss: circle ")
    assert ", square " in texts[0]
    assert texts[-1].startswith("step 2 of 2, iteration 2, entropy loss: circle ")
    assert heard.others == []


def test_losses_can_be_read_afterwards(server, made):
    made["sampler"]["inputs"]["seed"] = 3
    texts = listening(server, made).texts
    run = server.run(made)
    assert {"sampler", "losses"} <= set(run.cached)
    (text,) = run.outputs["json"]["text"]
    found = json.loads(text)
    assert found["prompt"] == "a red circle and a blue square"
    assert (found["entities"], found["steps"]) == (["circle", "square"], 2)
    made_losses = [(each["loss"], each["step"], each["iteration"], 1, 2) for each in found["losses"]]
    assert made_losses == expected_shapes(PLAN, 2)
    for each, (_, told) in zip(found["losses"], texts, strict=True):
        ((circle, square),) = each["values"]
        assert told.endswith(f"{each['loss']} loss: circle {circle:.4g}, square {square:.4g}")
    assert server.view(run.images[0]).startswith(b"\x89PNG")


def test_interrupt_during_the_optimisation(server, made):
    """The run ends as interrupted, long before its end; the next one of the same nodes is fine."""
    made["sampler"]["inputs"]["seed"] = 4
    many = {**made, "TokenOptimization": {**made["TokenOptimization"]}}
    many["TokenOptimization"]["inputs"] = {**made["TokenOptimization"]["inputs"], "settings.token_iterations": 500}
    heard = listening(server, many, interrupt_after=2)
    assert heard.end == "execution_interrupted"
    assert 2 <= len(heard.texts) < 400
    again = listening(server, made)
    assert again.end == "execution_success"
    assert len(again.texts) == len(expected_shapes(PLAN, 2))


def test_errors_say_what_to_do(server, made):
    made["sampler"]["inputs"]["positive"] = ["bind", 0]
    with pytest.raises(headless.ExecutionFailed, match="Connect its CONDITIONING output to the sampler") as caught:
        server.run(made)
    assert caught.value.node_type == "KSampler"
