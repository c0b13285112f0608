"""The bundled demo model, and LoRAs that were trained for it."""

from pathlib import Path

from comfy_api.latest import io

LORAS = Path(__file__).parents[1] / "demo" / "loras"
TRAINED = {"TokenCompose": "tokencompose.safetensors", "CoMat": "comat.safetensors"}


class SBLoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadDemoModel",
            display_name="Load Demo Model",
            category="semantic binding/loaders",
            description=(
                "Loads the small text-to-image model that comes with this node pack, to try nodes without a "
                "checkpoint. It draws one to three coloured shapes: circle, square, triangle, star, cross or heart, in "
                "red, green, blue, yellow, purple or orange, with a white dot or bar if asked. Made for 128 x 128 "
                "pixels: set Empty Latent Image to them. All stock nodes work with it."
            ),
            search_aliases=["demo", "example model", "shapes model", "tiny model", "test checkpoint", "sample model"],
            inputs=[],
            outputs=[
                io.Model.Output(
                    tooltip="The demo UNet, in the layout of Stable Diffusion 1. Sample it at 128 x 128 pixels."
                ),
                io.Clip.Output(tooltip='Its text encoder. It knows captions such as "a red circle and a blue square".'),
                io.Vae.Output(tooltip="Its autoencoder, eight pixels to one latent cell."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        import folder_paths

        from ..demo.loader import load_clip, load_model, load_vae

        clip = load_clip(embedding_directory=folder_paths.get_folder_paths("embeddings"))
        return io.NodeOutput(load_model(), clip, load_vae())


class SBLoadDemoLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadDemoLoRA",
            display_name="Load Demo LoRA",
            category="semantic binding/loaders",
            description=(
                "Loads a LoRA for the demo model that comes with this node pack: one that Train TokenCompose made, one "
                "that Train CoMat made. It shows what such a training does, without training. For other models train "
                "your own."
            ),
            search_aliases=["demo", "example lora", "sample lora", "tokencompose", "comat", "trained lora"],
            inputs=[
                io.Combo.Input(
                    "trained_with",
                    options=list(TRAINED),
                    default=next(iter(TRAINED)),
                    tooltip=(
                        "TokenCompose: on rendered scenes with true captions and masks. CoMat: on captions alone, by "
                        "concept matching with the demo world's captioner, and fidelity preservation."
                    ),
                ),
            ],
            outputs=[
                io.LoraModel.Output(
                    display_name="lora", tooltip="Connect it to core's Load LoRA Model, with the demo model."
                ),
            ],
        )

    @classmethod
    def execute(cls, trained_with) -> io.NodeOutput:
        import comfy.utils

        return io.NodeOutput(comfy.utils.load_torch_file(str(LORAS / TRAINED[trained_with]), safe_load=True))
