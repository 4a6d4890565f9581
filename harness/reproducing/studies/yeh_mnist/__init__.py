"""(In)fidelity and sensitivity on a small net for digits (1901.09392)."""
