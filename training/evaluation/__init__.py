"""Evaluate models on labeled images."""
