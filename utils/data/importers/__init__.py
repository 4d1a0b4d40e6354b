"""Data of other tools: one module per format, each a function from a path to arrays."""
