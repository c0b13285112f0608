"""Asking a judge about pictures."""

import json
from dataclasses import replace

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...evaluation.judges import questions as asking
from ...evaluation.judges import t2i_compbench
from ...evaluation.judges.aggregate import AGGREGATES, ARITHMETIC
from ...evaluation.judges.blip import BlipJudge
from ...evaluation.judges.judging import COSINE, as_record, judge_pictures, report
from ...parsing import models
from ..parsing.prompt import FOLDER
from ..shared import wires

OTHER_JUDGE = (
    f"{t2i_compbench.NAME} is measured with BLIP; its questions were asked of another judge here, so that the score is "
    "none of its published ones."
)


class SBJudgeBinding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBJudgeBinding",
            display_name="Judge Binding",
            category="semantic binding/evaluation",
            description=(
                "Asks a judge about each picture whether the entities of the prompt are there, with their attributes "
                "and what they wear or have, and whether one has what belongs to another; finds the best picture."
            ),
            search_aliases=[
                "evaluate",
                "metric",
                "vqa",
                "tifa",
                "t2i-compbench",
                "clipscore",
                "attribute binding",
                "color bleed",
                "leakage",
                "best of n",
                "pick best image",
            ],
            inputs=[
                io.Image.Input("image", tooltip="Pictures made from the prompt; a batch is judged one by one."),
                wires.Binding.Input("binding", tooltip="The prompt's entities, from Bind Prompt or Bind Conditioning."),
                wires.Judge.Input("judge", tooltip="The judge, from Load Judge."),
                io.Combo.Input(
                    "aggregate",
                    options=[*AGGREGATES, t2i_compbench.NAME],
                    default=ARITHMETIC,
                    tooltip=(
                        "How the answers become an image's score. Arithmetic mean: as much as is right. Geometric "
                        "mean and product: all has to be right. T2I-CompBench: its own questions and rounding, and the "
                        "product. CLIP and SigLIP give the cosine of the prompt instead."
                    ),
                ),
                io.String.Input(
                    "questions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=(
                        'Leave empty to have the questions made from the binding. Or one a line, "cat: is there a '
                        'cat?"; "not dog: is the dog black?" where the answer should be no. For CLIP and SigLIP, '
                        "captions."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(display_name="score", tooltip="How right the pictures are, 0 to 1, mean over them."),
                io.String.Output(display_name="report", tooltip="Each question and its answer, as the panel shows it."),
                io.String.Output(display_name="JSON", tooltip="The same as JSON text, for scripts."),
                io.Image.Output(
                    display_name="overlay",
                    tooltip="The pictures with a table below: green is rather right, red rather wrong.",
                ),
                io.Int.Output(display_name="best", tooltip="Which picture has the highest score, counted from 0."),
                io.Image.Output(display_name="best image", tooltip="The picture with the highest score."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, binding, judge, aggregate, questions="") -> io.NodeOutput:
        import numpy as np
        import torch

        from ...evaluation.judges.table import draw

        pictures = image[..., :3]
        judge, asked, notes = _asked(binding, judge, aggregate, questions)
        progress = comfy.utils.ProgressBar(len(pictures))

        def before(done: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(done)

        judgement = judge_pictures(judge, pictures, binding.text, asked, aggregate, before)
        progress.update_absolute(len(pictures))
        tables = [draw(picture.cpu().float().numpy(), judgement, place) for place, picture in enumerate(pictures)]
        text, record, best = report(judgement, notes), as_record(judgement), judgement.best
        return io.NodeOutput(
            judgement.score,
            text,
            json.dumps(record, ensure_ascii=False),
            torch.from_numpy(np.stack(tables)),
            best,
            image[best : best + 1],
            ui={"text": (text,), "semantic_binding_judgement": (record,)},
        )


def _asked(binding, judge, aggregate, questions):
    """The judge as it is to be asked, the questions, and what is to be told of it."""
    if aggregate != t2i_compbench.NAME:
        made = asking.made_from(binding) if binding.entities or not questions.strip() else ()
        return judge, asking.read(questions, made) if questions.strip() else made, ()
    if questions.strip():
        raise ValueError(
            f"{t2i_compbench.NAME} asks its own questions: leave questions empty, or choose another aggregate."
        )
    if judge.measures == COSINE:
        raise ValueError(
            f"{t2i_compbench.NAME} asks questions, and {judge.name} compares captions only. Choose another judge or "
            "aggregate."
        )
    published = isinstance(judge, BlipJudge)
    asked = t2i_compbench.questions_of(binding.text, _tagger())
    return replace(judge, as_published=True) if published else judge, asked, () if published else (OTHER_JUDGE,)


def _tagger():
    """The protocol's spaCy model, or else its copy on the Python package index."""
    folders = folder_paths.get_folder_paths(FOLDER)
    first, copy = t2i_compbench.TAGGERS
    try:
        return models.load(first, folders)
    except ValueError:
        return models.load(copy, folders)
