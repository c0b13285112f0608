"""Entity Subject: reference pictures for an entity."""

from comfy_api.latest import io

from ...subjects.preprocess import references
from ...subjects.subject import Subject
from ..shared import wires
from .common import ALIASES, CATEGORY, pictures_of


class SBEntitySubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBEntitySubject",
            display_name="Entity Subject",
            category=CATEGORY,
            description=(
                "Gives an entity of the prompt its reference pictures: this man, this dog. Repeat for the other "
                "entities. Subject Injection then has them drawn."
            ),
            search_aliases=ALIASES,
            inputs=[
                wires.Binding.Input("binding", tooltip="The prompt's entities, from Bind Prompt or another node."),
                io.Image.Input(
                    "image",
                    tooltip=(
                        "The subject, filling most of the picture; or several pictures of it. If the entity has "
                        "pictures already, from another of these nodes, these come behind them."
                    ),
                ),
                io.String.Input(
                    "entity",
                    default="1",
                    tooltip="The entity's name or its number, as Bind Prompt shows them: man, or 1 for the first.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "How much of the word the subject takes over. 1 is as published, 0 leaves the word as it is."
                    ),
                ),
                io.Int.Input(
                    "reference",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Which of the entity's pictures counts: 1 for the first, 0 for the mean of all.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "White where the subject is; the rest of the picture becomes black. One for all pictures, or "
                        "one for each."
                    ),
                ),
            ],
            outputs=[
                wires.Binding.Output(
                    display_name="binding",
                    tooltip="The binding with the subject. Connect this one to Subject Injection.",
                )
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, binding, image, entity, strength, reference, mask=None) -> io.NodeOutput:
        of_entity = binding.entity(entity)
        before = of_entity.subject.pictures if of_entity.subject is not None else ()
        subject = Subject((*before, *references(image, mask)), reference, strength)
        if not subject.chosen:
            raise ValueError(
                f"{of_entity.name} has {len(subject.pictures)} reference pictures, so there is no number {reference}."
            )
        text = f"{of_entity.name}: {pictures_of(subject)}, strength {strength:g}"
        return io.NodeOutput(binding.with_entity(of_entity.name, subject=subject), ui={"text": (text,)})
