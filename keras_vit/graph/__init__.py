"""Rebuilding functional models: flatten, fuse, resize, a new head."""
