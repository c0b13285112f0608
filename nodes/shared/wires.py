"""The pack's own wire types; everything else on a wire is core's."""

from comfy_api.latest import io

Binding = io.Custom("SEMANTIC_BINDING")
AttentionMaps = io.Custom("ATTENTION_MAPS")
TokenLosses = io.Custom("TOKEN_LOSSES")
Segmenter = io.Custom("SB_SEGMENTER")
SubjectAdapter = io.Custom("SUBJECT_ADAPTER")
TrainingData = io.Custom("SB_TRAINING_DATA")
Captioner = io.Custom("SB_CAPTIONER")
Judge = io.Custom("SB_JUDGE")
