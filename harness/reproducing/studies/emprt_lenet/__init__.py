"""Sanity checks by random weights on a LeNet for digits (2405.02383)."""
