"""Nodes of `attention/maps`: recording, viewing, saving and loading."""
