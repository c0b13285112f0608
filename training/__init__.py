"""Training with attention supervision: fine-tunes a LoRA so that plain sampling binds better.

TokenCompose (Wang et al. 2023, arXiv 2312.03626) from pictures with masks of their nouns, and CoMat (Jiang et al.
2024, arXiv 2404.03653) from prompts alone. `loop.py` is the one loop of both; `session.py` runs it for a node or for
`run.py`, the entrance without a graph."""
