"""Composed noise (Composable Diffusion): what a node puts on a MODEL. How the parts are predicted and added up is in
``engine.composing``, as it takes slots of the sampler's own."""

from __future__ import annotations

from dataclasses import dataclass

from .engine.calls import Layer
from .engine.composing import NAME
from .engine.run import Participant, Run


@dataclass(frozen=True)
class ComposeSettings:
    """On the MODEL: that the parts of this composition are to be composed. ``text`` is the prompt."""

    composition: str
    text: str

    name = NAME

    def check(self, layers: tuple[Layer, ...]) -> None:
        pass

    def begin(self, run: Run) -> Participant:
        """Raises ValueError if the sampler was not given the composition."""
        if self.composition not in run.compositions:
            raise ValueError(
                f'{NAME} has nothing to act on: the sampler was not given its conditioning of "{self.text}" to draw. '
                "Connect its CONDITIONING output to the sampler's positive input; what is to be kept out of the "
                f"picture belongs into the node's input exclude. Or take {NAME} off the model of this sampler."
            )
        return Participant()
