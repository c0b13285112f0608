from comfy_api.latest import ComfyExtension, io

from .nodes.attention import SBRecordAttention
from .nodes.attention_files import SBLoadAttention, SBSaveAttention
from .nodes.attention_view import SBPreviewAttention
from .nodes.composed import SBComposeNoise
from .nodes.demo import SBLoadDemoModel
from .nodes.detect import SBDetectEntities
from .nodes.guidance import SBAttentionGuidance
from .nodes.masks import SBAssignMask, SBAssignMasks, SBPreviewMasks
from .nodes.masks_from_attention import SBMasksFromAttention
from .nodes.masks_from_boxes import SBMasksFromBoxes
from .nodes.modulation import SBAttentionModulation, SBObjectFocusedAttention, SBSelfAttentionTemperature
from .nodes.prompt import SBBindConditioning, SBBindPrompt
from .nodes.scoring import SBScoreBinding
from .nodes.segment import SBLoadSAM, SBSegmentEntities
from .nodes.stage_weights import SBStageWeights
from .nodes.structured import SBStructuredConditioning
from .nodes.subjects import SBEntitySubject, SBLoadSubjectAdapter, SBSubjectInjection
from .nodes.token_losses import SBPreviewTokenLosses
from .nodes.token_merge import SBTokenMerge, SBTokenOptimization

WEB_DIRECTORY = "web"


class SemanticBinding(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            SBBindPrompt,
            SBBindConditioning,
            SBAssignMask,
            SBAssignMasks,
            SBMasksFromAttention,
            SBMasksFromBoxes,
            SBDetectEntities,
            SBLoadSAM,
            SBSegmentEntities,
            SBPreviewMasks,
            SBSelfAttentionTemperature,
            SBObjectFocusedAttention,
            SBStageWeights,
            SBAttentionModulation,
            SBTokenMerge,
            SBTokenOptimization,
            SBPreviewTokenLosses,
            SBAttentionGuidance,
            SBStructuredConditioning,
            SBComposeNoise,
            SBLoadSubjectAdapter,
            SBEntitySubject,
            SBSubjectInjection,
            SBRecordAttention,
            SBPreviewAttention,
            SBSaveAttention,
            SBLoadAttention,
            SBLoadDemoModel,
            SBScoreBinding,
        ]


async def comfy_entrypoint() -> SemanticBinding:
    return SemanticBinding()
