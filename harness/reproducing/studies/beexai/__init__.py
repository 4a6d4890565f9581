"""Explainers of nets for tables, ranked by nine metrics (BEExAI)."""
