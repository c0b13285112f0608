"""Subject Injection: subjects in the place of nouns."""

import comfy.model_management
import comfy.utils
from comfy_api.latest import io

from ...attention.engine.marks import SUBJECTS_KEY
from ...attention.engine.sampling import with_technique
from ...attention.subjects import FREE, LOCALISATIONS, SubjectSettings, with_subjects
from ...subjects.unet import family
from ..shared import wires
from ..shared.inputs import binding_input, model_input, model_output, parts_of
from .common import ALIASES, CATEGORY, pictures_of

COUNTINGS = PUBLISHED, CORRECTED = "published", "corrected"


class SBSubjectInjection(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBSubjectInjection",
            display_name="Subject Injection",
            category=CATEGORY,
            description=(
                "Has the subjects of Entity Subject drawn in the place of their nouns, several at once and without "
                "training. The first steps have the text alone, so that the prompt decides on the picture, and the "
                "subjects on who is in it. From FastComposer (arXiv 2305.10431)."
            ),
            search_aliases=[*ALIASES, "delayed subject conditioning", "identity blending", "personalization"],
            inputs=[
                model_input(),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The conditioning that came with the BINDING, or that Semantic Token Merge made of it.",
                ),
                binding_input(),
                wires.SubjectAdapter.Input("adapter", tooltip="From Load Subject Adapter."),
                io.Float.Input(
                    "delay",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Part of the sampler's steps that have the text alone. Higher: closer to the prompt; lower: "
                        "closer to the subjects. The published code's alpha is 1 minus this: 0.3 for several subjects, "
                        "0.5 for one."
                    ),
                ),
                io.Combo.Input(
                    "counting",
                    options=list(COUNTINGS),
                    default=CORRECTED,
                    advanced=True,
                    tooltip=(
                        "corrected: as many steps as delay says, to the nearest. published: as in the published code, "
                        "whose comparison mostly has one step more with the text alone; at least one."
                    ),
                ),
                io.Combo.Input(
                    "localisation",
                    options=list(LOCALISATIONS),
                    default=FREE,
                    tooltip=(
                        "Keeps each subject to its own place. masks: a subject acts only within the mask or box of "
                        "its entity; those without one act anywhere. masks, else attention: those without one act "
                        "where their entity had more attention than the others in the step before."
                    ),
                ),
            ],
            outputs=[
                model_output(),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The conditioning as it was, marked. Connect it to the sampler's positive input.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, conditioning, binding, adapter, delay, counting, localisation) -> io.NodeOutput:
        entities = with_subjects(binding)
        marked = with_mark(conditioning, binding, adapter, tuple(entity.name for entity in entities))
        embeddings = embedded(adapter, entities)
        settings = SubjectSettings(binding, adapter.fusion, embeddings, delay, counting == PUBLISHED, localisation)
        return io.NodeOutput(with_technique(model, settings), marked, ui={"text": (report(settings),)})


def embedded(adapter, entities):
    """The embeddings ``(S, D)`` of the entities' subjects, with progress."""
    subjects = [entity.subject for entity in entities]
    progress = comfy.utils.ProgressBar(sum(len(subject.chosen) for subject in subjects))

    def step() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    return adapter.embeddings(subjects, step)


def with_mark(conditioning, binding, adapter, names: tuple[str, ...]) -> list:
    """The conditioning, in whose parts that are the binding's it is said which entities are to get their subjects.

    Raises:
        ValueError: no part is the binding's, one is not of the adapter's width, or an entity has its subject already.
    """
    marked = []
    for (rows, options), own in zip(conditioning, parts_of(binding, conditioning), strict=True):
        if own:
            before = options.get(SUBJECTS_KEY, ())
            twice = [name for name in names if name in before]
            if twice:
                raise ValueError(
                    f"Another Subject Injection has given {', '.join(twice)} a subject already. Use one node for all "
                    "subjects of a prompt."
                )
            if len(binding.encoders) > 1 or rows.shape[-1] != adapter.width:
                raise ValueError(
                    f"This adapter is for {family(adapter.width)}, and the conditioning is that of "
                    f"{family(rows.shape[-1])}. Load a checkpoint of a model that it is for."
                )
            options = {**options, SUBJECTS_KEY: (*before, *names)}
        marked.append([rows, options])
    return marked


def report(settings: SubjectSettings) -> str:
    """Who gets which subject, when and where, for people."""
    lines = []
    for entity in settings.entities:
        where = "anywhere"
        if entity in settings.by_region:
            where = "within its mask" if entity.mask is not None else "within its box"
        elif entity in settings.by_attention:
            where = "where its attention is"
        lines.append(f"{entity.name}: {pictures_of(entity.subject)}, strength {entity.subject.strength:g}, {where}")
    until = f"after {settings.delay:.0%} of the steps" if settings.delay else "from the first step"
    return "\n".join((*lines, f"Subjects come in {until}."))
