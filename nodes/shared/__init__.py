"""What several nodes have: wire types, inputs, progress."""
