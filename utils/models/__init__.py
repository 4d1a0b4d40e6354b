"""Networks, losses and value models: pure functions over parameters."""
