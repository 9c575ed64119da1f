"""Scores of masks against ground truth, by case, and what is made of them."""
