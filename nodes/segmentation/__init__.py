"""Nodes of `segmentation`: masks of entities, made, assigned and shown."""
