"""Measurements against other libraries, each one command: `python -m benchmarks.<name>`."""
