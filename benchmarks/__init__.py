"""Benchmarks: ratios and counters against floors and peers, in one run on one machine."""
