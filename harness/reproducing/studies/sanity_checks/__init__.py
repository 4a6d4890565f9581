"""Random layers and permuted labels, on generated images and on MNIST (1810.03292)."""
