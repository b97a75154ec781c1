"""Benchmarks: run one with python -m benchmarks.NAME; README.md holds the tables."""
