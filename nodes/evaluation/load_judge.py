"""Loading the model that is asked about pictures."""

from comfy_api.latest import io

from ...evaluation.judges import judge_files
from ...pretrained.folders import changed
from ...pretrained.loading import Pretrained
from ..shared import wires


class SBLoadJudge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        judges = judge_files.available()
        return io.Schema(
            node_id="SBLoadJudge",
            display_name="Load Judge",
            category="semantic binding/evaluation",
            description=(
                "Loads a model that tells whether a picture shows what its prompt binds together: BLIP for questions, "
                "a vision language model, CLIP or SigLIP, or a text encoder that can see. Judge Binding asks it."
            ),
            search_aliases=["vqa", "blip", "tifa", "t2i-compbench", "clipscore", "qwen-vl", "siglip", "paligemma"],
            inputs=[
                io.Combo.Input(
                    "judge",
                    options=judges,
                    default=next(iter(judge_files.REPOSITORIES)),
                    tooltip=(
                        "A folder in models/judges with a model as transformers saves it, a repository of the Hugging "
                        "Face hub that is in this computer's cache, demo world: the detector of the demo model's "
                        "shapes, or text encoder: the connected CLIP."
                    ),
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    advanced=True,
                    tooltip=(
                        "Let a repository of the Hugging Face hub be downloaded to the cache if it is not there yet "
                        "(1.5 to 7.5 GB). Off: nothing goes over the network."
                    ),
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "A text encoder that is a vision language model itself, such as Qwen-Image's. It judges where "
                        "judge is text encoder."
                    ),
                ),
            ],
            outputs=[
                wires.Judge.Output(
                    display_name="judge",
                    tooltip="Connect it to Judge Binding. Several nodes may share it; it is in memory once.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, judge) -> bool | str:
        try:
            judge_files.folder_of(judge)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, judge, download, clip=None) -> int | None:
        folder = judge_files.folder_of(judge)
        return folder and changed(folder)

    @classmethod
    def execute(cls, judge, download, clip=None) -> io.NodeOutput:
        loaded = judge_files.load(judge, download, clip)
        lines = [f"{judge}: {judge_files.described(loaded)}"]
        if isinstance(loaded, Pretrained) and loaded.lacking:
            first = loaded.lacking[0]
            lines.append(f"Its files lack {len(loaded.lacking)} of its weights, which are random (the first: {first}).")
        return io.NodeOutput(loaded, ui={"text": ("\n".join(lines),)})
