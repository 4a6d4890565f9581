"""Consistency of metrics under noise (2302.07265)."""
