"""What commands do with agents: assemble a run, train its phases, restore it."""
