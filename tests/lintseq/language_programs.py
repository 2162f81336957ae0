"""A program in each language, which its compiler accepts: the files in ``programs``."""

from pathlib import Path

PROGRAMS = [
    (path.stem, path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "programs").iterdir())
]
