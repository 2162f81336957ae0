"""A toolkit for code language models whose programs are sequences of actions.

Importing this package is light: heavy libraries load inside the functions that need them.
"""

__version__ = "0.1.0"
