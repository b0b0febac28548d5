"""Functional models made from others: flattened, fused, resized, or with a new head."""
