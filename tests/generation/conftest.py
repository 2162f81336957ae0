"""pytest's importlib mode leaves the folder of the tests off the path, where the server stands."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
