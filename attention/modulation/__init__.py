"""Attention modulation (arXiv 2404.13899): temperature of self-attention, object-focused attention, stage weights.

None takes gradients; each is a factor on queries or a bias on logits."""
