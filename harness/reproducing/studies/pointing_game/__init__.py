"""The pointing game, as TorchRay plays it (1608.00507, 1910.08485)."""
