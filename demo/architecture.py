"""What the demo model is made of: plain values, so that a loader can read them without importing torch.

The model has the layout of Stable Diffusion 1: a causal CLIP text encoder with CLIP's own tokenizer, a UNet with self-
and cross-attention, and an autoencoder of the TAESD layout. Only the sizes differ. Head counts cannot be read from a
checkpoint's shapes, so a loader has to take them from here.
"""

LATENT_SIZE = 16
LATENT_CHANNELS = 4

UNET_HEADS = 4
UNET_CONFIG = {
    "image_size": 32,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": 64,
    "channel_mult": [1, 1, 2],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 128,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
    "num_heads": UNET_HEADS,
}

TEXT_CONFIG = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "projection_dim": 128,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
"""The padding after the end token is the end token again, as in Stable Diffusion 1."""

UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
VAE_PREFIX = "first_stage_model."
TOKEN_ROWS_KEY = "shapes.token_rows"
TOKEN_IDS_KEY = "shapes.token_ids"
"""The token table holds only the trained words; every other of the 49408 rows is the mean of them."""

BETA_START, BETA_END, TRAIN_TIMESTEPS = 0.00085, 0.012, 1000
"""Stable Diffusion 1's schedule: betas linear in their square root, noise prediction."""
