"""Measuring one block: a model and a data set with several explainers and metrics.

The engine knows no configuration and no run directory: selected items come in, results go out to a recorder.
"""
