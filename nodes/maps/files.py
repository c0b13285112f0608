"""Keeping recorded attention in files."""

from comfy_api.latest import io, ui

from ...attention.maps import files
from ...attention.maps.recording import AttentionMaps
from ..shared import wires


class SBSaveAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBSaveAttention",
            display_name="Save Attention",
            category="semantic binding/attention",
            description=(
                "Writes recorded attention to ComfyUI's output folder as a .safetensors file, with a header that says "
                "what each map is. Load Attention reads it again."
            ),
            search_aliases=["export attention", "attention map", "save heat map", "safetensors"],
            inputs=[
                wires.AttentionMaps.Input("maps", tooltip="From Record Attention."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "The LATENT output of the sampler that the recorded model went to: the maps of that very run "
                        "are saved. Required, except for maps from Load Attention, which need none."
                    ),
                ),
                io.String.Input(
                    "filename_prefix",
                    default="attention/ComfyUI",
                    tooltip=(
                        "Start of the file's name below the output folder; a counter and .attention.safetensors are "
                        "added. May have a subfolder and core's placeholders such as %year%."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(display_name="file", tooltip="The written file, in the form Load Attention takes."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, maps, filename_prefix, latent=None) -> io.NodeOutput:
        name = files.save(maps.find(latent), filename_prefix)
        return io.NodeOutput(name, ui=ui.PreviewText(f"Saved as {name}"))


class SBLoadAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadAttention",
            display_name="Load Attention",
            category="semantic binding/attention",
            description="Reads recorded attention that Save Attention wrote, from ComfyUI's input or output folder.",
            search_aliases=["import attention", "attention map", "open heat map", "safetensors"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files.available(),
                    tooltip="An .attention.safetensors file of the input folder, or of the output folder ([output]).",
                ),
            ],
            outputs=[
                wires.AttentionMaps.Output(
                    display_name="maps", tooltip="The recording. Preview Attention shows it without a latent."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file) -> bool | str:
        if files.exists(file):
            return True
        return f'There is no attention file "{file}" in the input or output folder. Save Attention writes such files.'

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        return files.fingerprint(file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(AttentionMaps(fixed=files.load(file)))
