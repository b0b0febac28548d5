"""Benchmarks, each with the figure that it should reach. Run them with `python -m tests.benchmarks [NAME]`."""
