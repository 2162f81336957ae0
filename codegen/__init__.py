"""A toolkit for code language models whose programs are sequences of actions.

Importing this package is light: heavy libraries load inside the functions that need them. It has
one side effect: it makes OpenMP's threads sleep while they wait, see :mod:`codegen.openmp`.
"""

from codegen.openmp import sleep_while_waiting

__version__ = "0.1.0"

OPENMP = sleep_while_waiting()
