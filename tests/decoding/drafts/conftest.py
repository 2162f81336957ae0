"""Code as tokens that need no model: words, signs, runs of blanks, and breaks with indentation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

_TOKEN = re.compile(r"\n+[ ]*|[ ]?\w+|[ ]+|[^\w\s]|\s")


class Words:
    """Numbers tokens as they come; a break and the next line's indentation are one token."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.line_ends: set[int] = set()

    def encode(self, text: str) -> list[int]:
        found = []
        for token in _TOKEN.findall(text):
            number = self.ids.setdefault(token, len(self.ids))
            if "\n" in token:
                self.line_ends.add(number)
            found.append(number)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        texts = list(self.ids)
        return "".join(texts[i] for i in ids)


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture(scope="session")
def sources() -> list[str]:
    """Some modules of the standard library."""
    import argparse
    import ast
    import inspect
    import json.decoder
    import tarfile
    import textwrap

    modules = (argparse, ast, inspect, json.decoder, tarfile, textwrap)
    return [inspect.getsource(module) for module in modules]
