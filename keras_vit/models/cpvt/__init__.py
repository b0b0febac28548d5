"""CPVT and Twins."""
