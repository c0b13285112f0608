"""Predicting from attention alone which pictures bind what their prompt binds."""

import json

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...evaluation.prediction import as_record, best_of, mean_score, predictions, report
from ..shared import wires


class SBScoreAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBScoreAttention",
            display_name="Score Attention",
            category="semantic binding/evaluation",
            description=(
                "Predicts from the recorded attention alone which pictures of a batch have everything of their prompt, "
                "each with what belongs to it, and gives the best. Nothing is downloaded, and the pictures are not "
                "looked at. It compares pictures of one prompt, and sees things left out better than colours exchanged."
            ),
            search_aliases=[
                "best of n",
                "attend and excite",
                "pick best",
                "select best image",
                "rank",
                "attribute binding",
                "attention map",
                "evaluate",
                "metric",
                "judge",
            ],
            inputs=[
                wires.AttentionMaps.Input(
                    "maps",
                    tooltip="From Record Attention, set to record entities (its default), or from Load Attention.",
                ),
                wires.Binding.Input(
                    "binding", tooltip="The prompt's entities, two or more: the same BINDING as at Record Attention."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "The LATENT output of the sampler that the recorded model went to: the maps of that very run "
                        "are scored. Required, except for maps from Load Attention, which need none."
                    ),
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The pictures decoded from that latent, to get the best of them. They are not looked at.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="score", tooltip="The mean score of the pictures. Higher is better; see the help page."
                ),
                io.String.Output(
                    display_name="report", tooltip="The score of each picture, and what is weakest in it, in words."
                ),
                io.String.Output(
                    display_name="json", tooltip="The score of each picture and of each of its parts as JSON text."
                ),
                io.Int.Output(
                    display_name="best",
                    tooltip="The index of the best picture, from 0 on, for Latent From Batch or Get Image from Batch.",
                ),
                io.Image.Output(display_name="image", tooltip="The best of the images, if they are connected."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The latent of the best picture, to be decoded or drawn on, if latent is connected.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, maps, binding, latent=None, images=None) -> io.NodeOutput:
        recording = maps.find(latent)
        for name, batch in (("images", images), ("latents", None if latent is None else latent["samples"])):
            if batch is not None and len(batch) != recording.latents:
                raise ValueError(
                    f"There are {len(batch)} {name}, but the recording is of {recording.latents}. Connect the latent "
                    "of the recorded run, and the pictures decoded from it."
                )
        found = predictions(recording, binding)
        best, text = best_of(found), report(found)
        return io.NodeOutput(
            mean_score(found),
            text,
            json.dumps(as_record(found)),
            best,
            _missing("images") if images is None else images[best : best + 1],
            _missing("latent") if latent is None else _from_batch(latent, best),
            ui={"text": (text,)},
        )


def _missing(name: str) -> ExecutionBlocker:
    return ExecutionBlocker(f"Score Attention has nothing to give here: connect its {name} input.")


def _from_batch(latent: dict, index: int) -> dict:
    """One latent as core's Latent From Batch gives it: with its mask, and its place in the batch for its noise."""
    from nodes import LatentFromBatch

    return LatentFromBatch().frombatch(latent, index, 1)[0]
