"""What the benchmarks share: facts on the machine, CPU time, intervals, peers, corpora."""
