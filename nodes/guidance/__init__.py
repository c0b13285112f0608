"""Nodes of `attention/guidance`."""
