"""Runs in the tests' process, in a different sandbox from the program's."""
