"""Benchmarks: each figure beside its physical limit or a rival, measured in the same run."""
