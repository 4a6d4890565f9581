"""Explainers against conditional Shapley values on correlated Gaussian columns (2106.12543)."""
