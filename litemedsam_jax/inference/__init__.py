"""How the network is asked: boxes to prompts, logits to masks, slice to slice."""
