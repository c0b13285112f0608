"""Nodes of `evaluation`: the score of a picture of the demo model, and judges of any picture."""
