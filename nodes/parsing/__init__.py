"""Nodes of `parsing`: where a graph begins."""
