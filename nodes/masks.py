"""Where in the picture each entity is to be."""

from comfy_api.latest import io

from . import wires


class SBAssignMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBAssignMask",
            display_name="Assign Mask",
            category="semantic binding/masks",
            description=(
                "Gives an entity of the prompt its region of the picture, from any MASK: painted, from a segmentation "
                "node, or made of an image. Nodes that confine entities, such as Object-Focused Attention, use it. "
                "Repeat for the other entities."
            ),
            search_aliases=["region", "regional prompt", "segment", "layout", "mask to entity"],
            inputs=[
                wires.Binding.Input("binding", tooltip="The prompt's entities, from Bind Prompt or another node."),
                io.Mask.Input(
                    "mask",
                    tooltip=(
                        "White where the entity is to be; one for all pictures of a batch, or one for each. Any size: "
                        "it is stretched over the picture. It replaces a mask that the entity had."
                    ),
                ),
                io.String.Input(
                    "entity",
                    default="1",
                    tooltip="The entity's name or its number, as Bind Prompt shows them: cat, or 1 for the first.",
                ),
            ],
            outputs=[wires.Binding.Output(display_name="binding", tooltip="The binding with the mask.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, binding, mask, entity) -> io.NodeOutput:
        name = binding.entity(entity).name
        covered = mask.float().mean((-2, -1)).tolist()
        if not any(covered):
            raise ValueError(f"The mask for {name} is empty (black everywhere). Paint where {name} is to be in white.")
        parts = ", ".join(f"{part:.0%}" for part in covered)
        text = f"{name}: {mask.shape[-1]} x {mask.shape[-2]} mask, covers {parts} of the picture"
        return io.NodeOutput(binding.with_entity(name, mask=mask.detach().cpu()), ui={"text": (text,)})
