"""Semantic token merge (ToMe, Hu et al. 2024, arXiv 2411.07132): composite tokens, end-token substitution, and the
losses by which it optimises the composites while sampling."""
