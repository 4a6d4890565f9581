"""Removal of units: what replaces a removed unit, and which units are removed together.

A baseline is a tensor that replaces what is removed. An in-filling computes the replacement from the units that remain.
Segments are sets of units that are removed together. This package uses tensors and units only, and no model, explainer
or metric.
"""
