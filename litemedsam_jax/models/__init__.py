"""The networks in Flax, with the names of PyTorch's modules."""
