"""Image files and arrays; knows nothing of the network."""
