"""Nodes of `training`: data, captioner, and the trainers, one a file."""
