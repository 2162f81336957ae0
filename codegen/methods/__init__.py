"""Generators of training data without a top-level folder, one package per method."""
