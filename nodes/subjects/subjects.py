"""Subjects: reference pictures that take the place of nouns."""

import comfy.model_management
import comfy.utils
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...attention.engine.roles import check_rows
from ...attention.engine.sampling import with_technique
from ...attention.subjects import FREE, LOCALISATIONS, SUBJECTS_KEY, SubjectSettings, with_subjects
from ...parsing.binding import CONDITIONING_KEY
from ...subjects import checkpoint as files
from ...subjects.adapter import build
from ...subjects.preprocess import references
from ...subjects.subject import Subject
from ...subjects.unet import family, with_unet
from .. import wires
from ..inputs import binding_input, model_input, model_output, not_of_binding

CATEGORY = "semantic binding/subjects"
ALIASES = ["fastcomposer", "reference image", "subject driven", "multiple subjects", "identity", "face", "ip adapter"]
COUNTINGS = PUBLISHED, CORRECTED = "published", "corrected"


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
        text = f"{of_entity.name}: {_pictures(subject)}, strength {strength:g}"
        return io.NodeOutput(binding.with_entity(of_entity.name, subject=subject), ui={"text": (text,)})


def _pictures(subject: Subject) -> str:
    count = len(subject.pictures)
    if count == 1:
        return "1 picture"
    return f"the mean of {count} pictures" if subject.reference == 0 else f"picture {subject.reference} of {count}"


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
    if not any(options.get(CONDITIONING_KEY) == binding.key for _, options in conditioning):
        raise not_of_binding(binding)
    marked = []
    for rows, options in conditioning:
        if options.get(CONDITIONING_KEY) == binding.key:
            before = options.get(SUBJECTS_KEY, ())
            twice = [name for name in names if name in before]
            if twice:
                raise ValueError(
                    f"Another Subject Injection has given {', '.join(twice)} a subject already. Use one node for all "
                    "subjects of a prompt."
                )
            check_rows(binding, rows.shape[1])
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
        lines.append(f"{entity.name}: {_pictures(entity.subject)}, strength {entity.subject.strength:g}, {where}")
    until = f"after {settings.delay:.0%} of the steps" if settings.delay else "from the first step"
    return "\n".join((*lines, f"Subjects come in {until}."))
