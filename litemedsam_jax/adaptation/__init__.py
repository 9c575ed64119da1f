"""Adaptation: the decoder learns from a few cases of one's own, on cached embeddings."""
