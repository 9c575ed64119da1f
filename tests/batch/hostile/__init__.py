"""Hostile and broken cases by the hundred, from a seed."""
