"""Benchmarks: each checks equality first, runs its peers in the same run, and prints ratios; see docs/benchmarks.md."""
