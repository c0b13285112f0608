"""Looking at the losses of Token Optimization."""

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ...attention.token_merge.loss_history import LossHistory
from ...attention.token_merge.loss_plot import plot
from ..shared import wires


class SBPreviewTokenLosses(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBPreviewTokenLosses",
            display_name="Preview Token Losses",
            category="semantic binding/token merge",
            description=(
                "Shows how the losses of Token Optimization went in a run, as a plot, and gives them as JSON and to "
                "core's Plot Loss Graph. Connect the sampler's LATENT output, so that the losses of that very run are "
                "found."
            ),
            search_aliases=[
                "tome",
                "loss",
                "loss graph",
                "plot loss",
                "semantic binding loss",
                "entropy loss",
                "token optimization",
            ],
            inputs=[
                wires.TokenLosses.Input("losses", tooltip="From Token Optimization."),
                io.Latent.Input(
                    "latent",
                    tooltip=(
                        "The LATENT output of the sampler that the optimised model went to: the losses of that very "
                        "run are shown."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="plot",
                    tooltip="A panel for each loss with a line for each entity, iteration by iteration.",
                ),
                io.String.Output(
                    display_name="json",
                    tooltip="Every loss of each step, iteration, latent and entity as JSON text, for scripts.",
                ),
                io.LossMap.Output(
                    display_name="binding_losses",
                    tooltip=(
                        "The semantic binding loss of each iteration, mean over latents and entities, for core's Plot "
                        "Loss Graph."
                    ),
                ),
                io.LossMap.Output(
                    display_name="entropy_losses",
                    tooltip=(
                        "The entropy loss of each iteration, mean over latents and entities, for core's Plot Loss "
                        "Graph."
                    ),
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, losses, latent) -> io.NodeOutput:
        history = losses.find(latent)
        picture = plot(history)
        maps = [loss_map(history, loss) for loss in ("binding", "entropy")]
        return io.NodeOutput(picture, history.to_json(), *maps, ui=ui.PreviewImage(picture, cls=cls))


def loss_map(history: LossHistory, loss: str):
    """The means of a loss as core's LOSS_MAP. Nothing can be drawn of none: whatever is connected is not executed then,
    and says why."""
    means = history.means(loss)
    return {"loss": means} if means else ExecutionBlocker(f"No {loss} loss was computed in this run.")
