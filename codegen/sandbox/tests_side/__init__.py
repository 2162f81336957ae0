"""Runs in the process of the tests, in a different sandbox than the program."""
