"""How a technique gets into a sampling run: hooks, rows of bound conditionings, layers, gradients.

Follows no paper; ComfyUI's patch points are known here and nowhere else."""
