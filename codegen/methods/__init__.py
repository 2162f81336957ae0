"""The generators of training data that have no top-level folder: one package a method."""
