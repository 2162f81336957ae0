"""Shared code of the benchmarks: facts on the machine, CPU time, intervals, peers, corpora."""
