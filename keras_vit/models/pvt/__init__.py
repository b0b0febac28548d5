"""PVT and PVT v2."""
