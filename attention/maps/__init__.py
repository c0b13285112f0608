"""Attention as values: recorded while sampling, kept, saved, and drawn.

Probabilities are computed as DAAM (Tang et al. 2022, arXiv 2210.04885) has them, for chosen rows and layers."""
