"""Measurements, each with the figure it should reach: `python -m tests.benchmarks [NAME]`."""
