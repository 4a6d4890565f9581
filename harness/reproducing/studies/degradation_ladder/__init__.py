"""The degradation ladder of F-Fidelity (2410.02970)."""
