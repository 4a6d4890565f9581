"""Chooses an explainer for a model and data: candidates, trust in the metric, race, tuning, confirmation, verdict."""
