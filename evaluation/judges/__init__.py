"""Judges: models that are asked about a picture what a prompt binds together.

Soft questions (TIFA, Hu et al. 2023, arXiv 2303.11897; soft TIFA, GenEval 2, arXiv 2512.16853) are made from a binding
(`questions.py`), a judge tells how likely yes is (`blip.py`, `vision_language.py`, `text_encoder.py`, `shapes.py`), and
`judging.py` puts the answers together. `t2i_compbench.py` is the protocol of T2I-CompBench (Huang et al. 2023, arXiv
2307.06350), `clip.py` CLIPScore (Hessel et al. 2021, arXiv 2104.08718)."""
