"""Training data generators without a top-level package, one package or module per method."""
