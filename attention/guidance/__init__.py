"""Losses on attention maps that move the latent: Attend-and-Excite (arXiv 2301.13826), SynGen (arXiv 2306.08877),
layout guidance (arXiv 2304.03373), the losses of TokenCompose (arXiv 2312.03626), and ToMe's entropy."""
