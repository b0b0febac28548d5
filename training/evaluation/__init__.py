"""Measuring a model on labeled images."""
