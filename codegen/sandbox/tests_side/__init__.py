"""Runs in the process of the tests, in another sandbox than the program."""
