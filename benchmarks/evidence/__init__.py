"""Experiments: whether a method's effect shows, with seeds and intervals (docs/evidence.md).

Each file is run as ``python -m codegen.benchmarks.evidence.NAME --out DIR``; the same command
resumes an interrupted run.
"""
