"""Load Subject Adapter: a checkpoint of FastComposer."""

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...subjects import checkpoint as files
from ...subjects.adapter import build
from ...subjects.unet import family, with_unet
from ..shared import wires
from .common import ALIASES, CATEGORY


class SBLoadSubjectAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadSubjectAdapter",
            display_name="Load Subject Adapter",
            category=CATEGORY,
            description=(
                "Loads a FastComposer checkpoint from models/fastcomposer: what turns reference pictures into words of "
                "the prompt. Its UNet, which has learned to draw from such words, is set on the model."
            ),
            search_aliases=[*ALIASES, "fastcomposer loader"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=files.available(),
                    tooltip=(
                        "A file of models/fastcomposer (pytorch_model.bin, or the same as safetensors). What is in it "
                        "is told from its contents."
                    ),
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "A model of the kind that the adapter was trained for: Stable Diffusion 1.5 for FastComposer's "
                        "own. It gets the weights of the checkpoint's UNet; LoRAs on it stay."
                    ),
                ),
            ],
            outputs=[
                wires.SubjectAdapter.Output(display_name="adapter", tooltip="Connect it to Subject Injection."),
                io.Model.Output(
                    display_name="model",
                    tooltip="The model with the adapter's UNet. There is none if no model was connected.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, checkpoint) -> bool | str:
        try:
            files.path_of(checkpoint)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, checkpoint, model=None) -> tuple:
        return files.fingerprint(files.path_of(checkpoint))

    @classmethod
    def execute(cls, checkpoint, model=None) -> io.NodeOutput:
        found = files.read(files.path_of(checkpoint))
        adapter = build(found, checkpoint)
        if model is not None and found.unet:
            model = with_unet(model, found, adapter.width)
        lines = [
            f"{checkpoint}: for {family(adapter.width)}",
            f"Image encoder of {adapter.patcher.model_size() / 1e6:,.0f} MB, sees {adapter.patcher.model.image_size} "
            f"x {adapter.patcher.model.image_size} pixels",
            _unet_report(model is not None, len(found.unet)),
        ]
        if adapter.unknown:
            lines.append(f"Unknown tensors, not used: {files.listed(adapter.unknown)}")
        if model is None:
            model = ExecutionBlocker("Load Subject Adapter has no model to give: connect one to its model input.")
        return io.NodeOutput(adapter, model, ui={"text": ("\n".join(lines),)})


def _unet_report(connected: bool, tensors: int) -> str:
    if not tensors:
        return "There is no UNet in the file" + (", so the model is passed on as it is." if connected else ".")
    if not connected:
        return "Its UNet is not used, as no model is connected. Subjects are weak without it."
    return f"Its UNet is set on the model: {tensors} tensors."
