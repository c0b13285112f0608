"""Nodes of `subjects` and `attention/subjects.py`, one a file."""
