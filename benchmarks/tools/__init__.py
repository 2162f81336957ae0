"""Shared code of the benchmarks: facts about the machine, CPU time, intervals, peers, corpora."""
