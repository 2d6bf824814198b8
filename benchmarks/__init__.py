"""Afterwards and its peers, measured side by side in one run. Start with `python -m benchmarks --help`."""
