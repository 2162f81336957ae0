"""Sequences, how a model is asked for their programs, and how its answers are read.

Sequences come from :mod:`sampler` (without end, no data needed) or from a file's bytes, cut into
pieces: any file, or those of the paper (text, DNA, audio). The paper's files are CC-BY-NC-4.0 and
not part of this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.paths import read_packed

END = "###"
LENGTH = 128  # bytes of a piece in the paper's main experiments
MOST_OUTPUT = 256  # items that an output may have there

_ASK = """\
Write a short Python program that assigns a given list of integers to the variable `output`.

- Each line assigns a variable or defines a function; later lines may use them.
- Find patterns in the list: the shorter the program, the better.
- It must run as it is. No input, no files, no printing.
- Write nothing but the program, and end it with {end}

The list:
{sequence}
"""
_CODE = "# A short program that assigns this list to the variable output:\n# {sequence}\n"
_LIST = re.compile(r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]")
_OPENS = re.compile(r"\bopen\b")
_MARK = "The Python program that generates the sequence is:"  # of the paper's prompts


def instruction(sequence: Sequence[int]) -> str:
    """The question in words, with the requirements of the paper's prompt."""
    return _ASK.format(end=END, sequence=list(sequence))


def as_comment(sequence: Sequence[int]) -> str:
    """The question as the head of a program, for models that continue code."""
    return _CODE.format(sequence=list(sequence))


def sequence_in(prompt: str, where: str = "The prompt") -> tuple[int, ...]:
    """The sequence that a prompt asks for: the longest list of integers in it.

    Raises:
        InputError: if there is none, or one that is not of bytes.
    """
    found = max(_LIST.findall(prompt), key=len, default=None)
    if found is None:
        raise InputError(f"{where} holds no list of integers.")
    values = tuple(int(part) for part in re.findall(r"\d{1,9}", found))
    if max(values) > 255:
        raise InputError(f"{where} holds a list with {max(values)}; items are from 0 to 255.")
    return values


def find_program(answer: str) -> str:
    """The program in an answer; empty if there is none, or if it would open a file.

    As the paper reads answers: behind its marker sentence, up to the end mark, without fences.
    """
    text = answer.rsplit(_MARK, 1)[-1].split(END, 1)[0]
    text = text.rsplit("```python", 1)[-1].replace("```", "").strip("\n")
    if text.startswith("python\n"):
        text = text.removeprefix("python\n")
    return "" if _OPENS.search(text) else text.strip()


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file, unpacked if it is a ``.gz``.

    Raises:
        InputError: if it can't be read.
    """
    return read_packed(Path(path))


def pieces(data: bytes, count: int, length: int = LENGTH) -> list[tuple[int, bytes]]:
    """At most ``count`` pieces of ``length`` bytes, spread evenly: (offset, piece).

    Raises:
        InputError: if there is not even one.
    """
    whole = len(data) // length
    if not whole:
        raise InputError(f"{len(data)} bytes are less than one piece of {length}.")
    count = min(count, whole)
    offsets = [whole * number // count * length for number in range(count)]
    return [(offset, data[offset : offset + length]) for offset in offsets]


@dataclass(frozen=True, slots=True)
class Answer:
    """A sequence and the program that was given for it."""

    sequence: tuple[int, ...]
    program: str


def read_answers(path: str | Path) -> Iterator[Answer]:
    """The answers of a JSONL file, packed as ``.gz`` or not.

    A row is a sample of ``codegen eval run kolmogorov``; or an object with ``sequence`` (integers)
    or ``prompt`` or ``instruction`` (a text with the list in it), and ``program`` or ``generation``
    (an answer in which the program is found). The paper's files hold such objects written into JSON
    strings.

    Raises:
        InputError: naming the file and the line.
    """
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: not valid JSON ({error}).") from None
            yield _answer(where, row)


def _answer(where: str, row: Any) -> Answer:
    if isinstance(row, str):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError):
            raise InputError(f"{where}: the string is not a JSON object.") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}.")
    sequence = row.get("sequence")
    asked = next((row[n] for n in ("prompt", "instruction") if isinstance(row.get(n), str)), None)
    if sequence is None and asked is not None:
        sequence = sequence_in(asked, where)
    whole = isinstance(sequence, (list, tuple)) and bool(sequence)
    if not whole or not all(type(item) is int and 0 <= item <= 255 for item in sequence):  # type: ignore[union-attr]
        raise InputError(
            f"{where}: a row needs 'sequence', integers from 0 to 255, or a 'prompt' with them."
        )
    for name, is_program in (("program", True), ("generation", False), ("completion", False)):
        if isinstance(text := row.get(name), str):
            return Answer(tuple(sequence), text if is_program else find_program(text))  # type: ignore[arg-type]
    raise InputError(f"{where}: a row needs a text 'program', 'generation' or 'completion'.")
