"""From a configuration to a run directory: plans a block, finds the pending cells, measures and writes them."""
