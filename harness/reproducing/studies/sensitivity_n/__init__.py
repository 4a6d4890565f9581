"""Sensitivity-n of small nets, on generated data and on MNIST (1711.06104)."""
