"""Measuring one block: a model and a data set with several explainers and metrics.

The engine reads no configuration and writes no run directory. It gets a list of cells and passes results to a recorder.
"""
