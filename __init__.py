from comfy_api.latest import ComfyExtension, io

from .nodes.composed import SBComposeNoise
from .nodes.demo import SBLoadDemoLoRA, SBLoadDemoModel
from .nodes.evaluation.attention_score import SBScoreAttention
from .nodes.evaluation.judge import SBJudgeBinding
from .nodes.evaluation.load_judge import SBLoadJudge
from .nodes.evaluation.scoring import SBScoreBinding
from .nodes.guidance.guidance import SBAttentionGuidance
from .nodes.maps.files import SBLoadAttention, SBSaveAttention
from .nodes.maps.record import SBRecordAttention
from .nodes.maps.view import SBPreviewAttention
from .nodes.modulation.modulation import SBAttentionModulation
from .nodes.modulation.object_focus import SBObjectFocusedAttention
from .nodes.modulation.stage_weights import SBStageWeights
from .nodes.modulation.temperature import SBSelfAttentionTemperature
from .nodes.parsing.prompt import SBBindConditioning, SBBindPrompt
from .nodes.segmentation.detect import SBDetectEntities
from .nodes.segmentation.masks import SBAssignMask, SBAssignMasks, SBPreviewMasks
from .nodes.segmentation.masks_from_attention import SBMasksFromAttention
from .nodes.segmentation.masks_from_boxes import SBMasksFromBoxes
from .nodes.segmentation.segment import SBLoadSAM, SBSegmentEntities
from .nodes.structured import SBStructuredConditioning
from .nodes.subjects.adapter import SBLoadSubjectAdapter
from .nodes.subjects.entity_subject import SBEntitySubject
from .nodes.subjects.injection import SBSubjectInjection
from .nodes.token_merge.arithmetic import SBTokenArithmetic
from .nodes.token_merge.losses import SBPreviewTokenLosses
from .nodes.token_merge.merging import SBTokenMerge
from .nodes.token_merge.optimization import SBTokenOptimization
from .nodes.training.captioner import SBLoadCaptioner
from .nodes.training.comat import SBTrainCoMat
from .nodes.training.data import SBTrainingData
from .nodes.training.save import SBSaveTrainingData
from .nodes.training.tokencompose import SBTrainTokenCompose

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
            SBTokenArithmetic,
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
            SBTrainingData,
            SBSaveTrainingData,
            SBTrainTokenCompose,
            SBLoadCaptioner,
            SBTrainCoMat,
            SBLoadDemoModel,
            SBLoadDemoLoRA,
            SBScoreBinding,
            SBLoadJudge,
            SBJudgeBinding,
            SBScoreAttention,
        ]


async def comfy_entrypoint() -> SemanticBinding:
    return SemanticBinding()
