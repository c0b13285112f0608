"""Judging pictures of the demo model."""

from comfy_api.latest import io, ui

from ..shared.wires import Binding


class SBScoreBinding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBScoreBinding",
            display_name="Score Binding",
            category="semantic binding/evaluation",
            description=(
                "Looks for the coloured shapes of a prompt in images and says which are there and carry the right "
                "colour and mark. It judges the world of the demo model only (Load Demo Model): flat circles, squares, "
                "triangles, stars, crosses and hearts in six colours on a grey ground. Entities with other words are "
                "listed as not judged; it says nothing about photographs or paintings."
            ),
            search_aliases=["attribute binding", "evaluate", "metric", "color bleed", "leakage", "swap", "benchmark"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="Images the demo model made from the prompt; a batch is judged one by one."
                ),
                Binding.Input("binding", tooltip="The prompt's entities, from Bind Prompt or Bind Conditioning."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="score",
                    tooltip="Share of the prompt's entities that are there as they should be, mean over the images.",
                ),
                io.String.Output(
                    display_name="report", tooltip="What was found for each entity in each image, in words."
                ),
                io.Image.Output(
                    display_name="overlay",
                    tooltip="The images, enlarged, with outlines: green is right, red is wrong, grey not asked for.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, binding) -> io.NodeOutput:
        import numpy as np
        import torch

        from ...evaluation.detect import detect
        from ...evaluation.overlay import as_record, draw_score, report
        from ...evaluation.score import judge, summarise
        from ...evaluation.wanted import wanted_by

        wanted = wanted_by(binding)
        pictures = image[..., :3].cpu().float().numpy()
        found = [detect(picture) for picture in pictures]
        scores = [judge(wanted, things) for things in found]
        overlay = torch.from_numpy(np.stack([draw_score(*each) for each in zip(pictures, scores, found, strict=True)]))
        text = report(scores, found)
        shown = ui.PreviewImage(overlay, cls=cls).as_dict()
        shown |= {"text": (text,), "semantic_binding_score": (as_record(scores, found),)}
        return io.NodeOutput(summarise(scores).share_right, text, overlay, ui=shown)
