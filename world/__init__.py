"""The demo model's world: what things there are, how they are drawn, and how captions name them.

The demo model is trained on it, its pictures are judged by it, and the benchmarks take their prompts from it."""
