"""Nodes of `attention/modulation`, one a file."""
