"""Data sets for training and scoring, made from image files and their masks."""
