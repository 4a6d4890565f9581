"""From a configuration to a run directory: what is planned, what is pending, and where results are written."""
