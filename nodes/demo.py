"""The bundled demo model."""

from comfy_api.latest import io


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
