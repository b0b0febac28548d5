"""Losses, and the detection of logits and probabilities."""
