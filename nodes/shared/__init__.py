"""What several nodes have: wire types, inputs, text encoders, progress."""
