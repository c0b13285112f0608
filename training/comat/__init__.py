"""CoMat (Jiang et al. 2024, arXiv 2404.03653): trains a LoRA from prompts alone.

The model draws a prompt with gradients at a few steps (`rollout.py`); a captioner says how well the picture tells of
it (`captioner.py`), attention to a noun and its attributes is drawn to where the noun is in the picture (`asked.py`,
`finding.py`), and a discriminator keeps the picture like those of the untrained model (`discriminator.py`). Each file
says where its published code differs from the paper, and where this differs from both."""
