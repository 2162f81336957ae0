"""Experiments that measure a method's effect, with seeds and intervals (docs/evidence.md).

Each file is run as ``python -m codegen.benchmarks.evidence.NAME --out DIR``; the same command
resumes an interrupted run.
"""
