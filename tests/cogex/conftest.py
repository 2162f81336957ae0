"""pytest's importlib mode leaves the folders of the tests off the path."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "generation")]
