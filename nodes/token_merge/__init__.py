"""Nodes of `attention/token_merge`, one a file."""
