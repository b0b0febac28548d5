"""Quantization: which operations compute in int8, on which grids, and training with them."""
