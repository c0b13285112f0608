"""A benchmark of the user's own workflows: prompts and seeds put into their graphs (`graphs.py`), shared among ComfyUI
servers (`servers.py`), judged by a node (`judges.py`), and told in a table (`results.py`) and a page (`page.py`).

MULTIGEN (TokenCompose, arXiv 2312.03626) is in `multigen.py`, VISOR (arXiv 2212.10015) in `visor.py`. All here is plain
Python: what speaks to servers and people is `evaluation/run.py`.
"""
