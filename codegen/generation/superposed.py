"""The options of the decoder ``superposed``. Light."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import ConfigError, InputError

if TYPE_CHECKING:
    from codegen.decoding.strategies.superposed import NGrams

_MOST_BYTES = 50_000_000  # of code to count n-grams in


@dataclass(frozen=True, slots=True)
class Superposed:
    """Settings of superposed decoding.

    Attributes:
        code: a file of code, or a directory of them, whose n-grams tell which token goes with which
            draft; without, the model alone tells.
        suffix: of the files that are read in a directory.
        alpha: weight of the n-grams.
        temperature: of the model's distribution from the second token on.
    """

    code: str = ""
    suffix: str = ".py"
    alpha: float = 0.54
    temperature: float = 0.06

    def ngrams(self, encode: Callable[[str], list[int]]) -> NGrams | None:
        """The n-grams of the code, None without code.

        Raises:
            InputError: if there is none to be read.
        """
        if not self.code:
            return None
        from codegen.decoding.strategies.superposed import NGrams
        from codegen.decoding.suffix import SuffixIndex

        root = Path(self.code)
        files = [root] if root.is_file() else sorted(root.rglob(f"*{self.suffix}"))
        index, read = SuffixIndex(), 0
        for file in files:
            if not file.is_file():
                continue
            try:
                text = file.read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                continue  # what is no text has no n-grams
            read += len(text)
            if read > _MOST_BYTES:
                raise InputError(
                    f"{self.code} holds more than {_MOST_BYTES // 1_000_000} MB of code.",
                    "Give a smaller directory.",
                )
            if tokens := encode(text):
                index.add(tokens)
        if not len(index):
            raise InputError(
                f"There is no code in {self.code}.",
                f"Give a file, or a directory with {self.suffix} files: -o code=DIR",
            )
        return NGrams(index)


def read_superposed(options: Mapping[str, Any]) -> Superposed:
    """Settings from a decoder's options.

    Raises:
        ConfigError: for an unknown option or a value that can't be.
    """
    known = ("code", "suffix", "alpha", "temperature")
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"The decoder superposed has no option {name!r}.",
                f"{hint}It has: {', '.join(known)}.",
            )
        kind = str if name in ("code", "suffix") else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"The option {name} of superposed can't be {value!r}.")
    found = Superposed(**options)
    if not 0 <= found.alpha < 1:
        raise ConfigError(f"The option alpha is {found.alpha}; it must lie in [0, 1).")
    if not 0.001 <= found.temperature <= 100:
        raise ConfigError(
            f"The option temperature is {found.temperature}; it must lie in [0.001, 100]."
        )
    return found
