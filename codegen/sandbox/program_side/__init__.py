"""Runs in the program's process, which the program controls: nothing that it sends is trusted."""
