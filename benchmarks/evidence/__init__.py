"""Experiments: whether a method's effect shows, with seeds and intervals (docs/evidence.md).

Each file is run as ``python -m codegen.benchmarks.evidence.NAME --out DIR``; what is done already
in DIR is not done again, so a run that was cut off continues.
"""
