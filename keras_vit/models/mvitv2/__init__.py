"""MViTv2."""
