"""Benchmarks against redis-server: `python -m bench`."""
