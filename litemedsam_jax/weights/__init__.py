"""Formats of weights: PyTorch checkpoints and safetensors, checked by one contract."""
