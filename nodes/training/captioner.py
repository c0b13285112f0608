"""Loading the captioner that CoMat asks about its pictures."""

from comfy_api.latest import io

from ...pretrained.folders import changed
from ...training.comat import captioner_files
from ..shared import wires

CATEGORY = "semantic binding/training"


class SBLoadCaptioner(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadCaptioner",
            display_name="Load Captioner",
            category=CATEGORY,
            description=(
                "Loads a BLIP model for captions, which says how well a picture tells of its prompt. Train CoMat asks "
                "it about the pictures that are drawn in training."
            ),
            search_aliases=["blip", "image captioning", "comat", "concept matching", "caption model loader"],
            inputs=[
                io.Combo.Input(
                    "captioner",
                    options=captioner_files.available(),
                    default=captioner_files.REPOSITORY,
                    tooltip=(
                        "A folder in models/captioners with the files of a BLIP model for captions as transformers has "
                        "them, the repository of the Hugging Face hub, which CoMat's authors took, if it is in this "
                        f"computer's cache, or {captioner_files.DEMO_WORLD}: a small one that knows the demo model's "
                        "pictures and nothing else."
                    ),
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    advanced=True,
                    tooltip=(
                        "Let the repository of the Hugging Face hub be downloaded to the cache if it is not there yet "
                        "(1.9 GB). Off: nothing goes over the network."
                    ),
                ),
            ],
            outputs=[
                wires.Captioner.Output(
                    display_name="captioner",
                    tooltip="Connect it to Train CoMat. Several nodes may share it; it is in memory once.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, captioner) -> bool | str:
        try:
            captioner_files.folder_of(captioner)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, captioner, download) -> int | None:
        folder = captioner_files.folder_of(captioner)
        return folder and changed(folder)

    @classmethod
    def execute(cls, captioner, download) -> io.NodeOutput:
        loaded = captioner_files.load(captioner, download)
        vision = loaded.module.config.vision_config
        lines = [
            f"{captioner}: BLIP, {loaded.patcher.model_size() / 1e6:,.0f} MB, looks at {vision.image_size} x "
            f"{vision.image_size} pixels",
            f"A picture in training needs {loaded.memory(1) / 1e6:,.0f} MB beside it",
        ]
        if loaded.lacking:
            first = loaded.lacking[0]
            lines.append(f"Its files lack {len(loaded.lacking)} of its weights, which are random (the first: {first}).")
        return io.NodeOutput(loaded, ui={"text": ("\n".join(lines),)})
