"""Settings of Token Optimization that were tried as a whole."""

from __future__ import annotations

from .optimization import Plan

THRESHOLDS = (26.0, 25.0, 24.0, 23.0, 22.5, 22.0, 21.5, 21.0)
"""Of the published code, for two entities on a 32 x 32 grid."""

ATTRIBUTE_BINDING = Plan(
    token_steps=5,
    token_iterations=3,
    token_step_size=10000.0,
    entropy_steps=5,
    entropy_iterations=4,
    row_step_size=3.0,
    latent_step_size=1.5,
    thresholds=THRESHOLDS,
)
OBJECT_BINDING = Plan(
    token_steps=7,
    token_iterations=3,
    token_step_size=10000.0,
    entropy_steps=7,
    entropy_iterations=6,
    row_step_size=3.0,
    latent_step_size=1.5,
    thresholds=THRESHOLDS,
)
DEMO_MODEL = Plan(
    token_steps=3,
    token_iterations=1,
    token_step_size=2000.0,
    entropy_steps=3,
    entropy_iterations=2,
    row_step_size=0.5,
    latent_step_size=0.0,
    thresholds=THRESHOLDS,
)
PLANS = {"attribute binding": ATTRIBUTE_BINDING, "object binding": OBJECT_BINDING, "demo model": DEMO_MODEL}
"""The first two are the published code's configurations; demo model: found for the bundled model on prompts other than
those it is reported on (benchmarks/results/claims.md)."""
