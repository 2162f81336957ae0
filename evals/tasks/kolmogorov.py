"""The KoLMogorov test (Yoran et al., ICLR 2025, arXiv 2503.13992): programs that output a sequence.

Without a source, the sequences are outputs of random programs in the test's language
(``codegen.evals.kolmogorov``): this needs no data, and models cannot have seen them. With a source,
they are 128-byte chunks, spread evenly over that file.

A sample passes if the variable ``output`` of its program is exactly the sequence, a list of exact
integers. ``codegen eval kolmogorov score`` computes compression rates from the samples.

Files can be any bytes, such as the paper's (text, DNA, audio). The paper's files are CC-BY-NC-4.0
and not part of this package.

Scoring is strict: a program replaces its sequence only if its output equals it, item by item, as a
list of exact integers. (The paper's released script accepts any program that runs and prints
integers, but these do not determine the sequences.)

A rate is compressed bits / sequence bits; lower is better. The correct programs are gzipped
together, as are the sequences without a correct program, and a list of flags that distinguishes
them. The decoder (Python) is not counted, as usual.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Self

from codegen.core.errors import InputError
from codegen.core.generation import cut_at_stop
from codegen.core.paths import read_packed
from codegen.core.records import Status, read_rows
from codegen.core.runs import OnProgress
from codegen.evals.kolmogorov import paper_bits, parse, prelude, sample_programs
from codegen.evals.statistics import wilson
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import Problem
from codegen.evals.tasks.extraction import Extraction
from codegen.evals.tasks.styles import PromptStyle
from codegen.sandbox import Job, Limits, Outcome, SandboxProtocol

_PROBLEMS = 500
_LONGEST = 256  # maximum items per random sequence
_SEED = 0
CPU_S = 2.0


END = "###"
LENGTH = 128  # bytes per chunk in the paper's main experiments
MOST_OUTPUT = 256  # maximum items per output in the paper

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
_MARK = "The Python program that generates the sequence is:"  # from the paper's prompts


def instruction(sequence: Sequence[int]) -> str:
    """Returns the prompt in words, with the requirements of the paper's prompt."""
    return _ASK.format(end=END, sequence=list(sequence))


def as_comment(sequence: Sequence[int]) -> str:
    """Returns the prompt as a comment, for models that continue code."""
    return _CODE.format(sequence=list(sequence))


def sequence_in(prompt: str, where: str = "The prompt") -> tuple[int, ...]:
    """Returns the sequence in a prompt: its longest list of integers.

    Raises:
        InputError: if the prompt has no list, or an item is not a byte.
    """
    listed = max((at[0] for at in _LIST.finditer(prompt)), key=len, default=None)
    if listed is None:
        raise InputError(f"{where} has no list of integers.")
    values = tuple(int(part) for part in re.findall(r"\d{1,9}", listed))
    if max(values) > 255:
        raise InputError(f"{where} has a list with {max(values)}; items must be from 0 to 255.")
    return values


def find_program(answer: str) -> str:
    """Extracts the program from an answer; empty if missing, or if it would open a file.

    As in the paper, it is the text between marker sentence and end mark, without fences.
    """
    text = answer.rsplit(_MARK, 1)[-1].split(END, 1)[0]
    text = text.rsplit("```python", 1)[-1].replace("```", "").strip("\n")
    if text.startswith("python\n"):
        text = text.removeprefix("python\n")
    return "" if _OPENS.search(text) else text.strip()


def pieces(data: bytes, count: int, length: int = LENGTH) -> list[tuple[int, bytes]]:
    """Returns at most ``count`` chunks of ``length`` bytes, spread evenly: (offset, chunk).

    Raises:
        InputError: if the data is shorter than one chunk.
    """
    whole = len(data) // length
    if not whole:
        raise InputError(f"{len(data)} bytes are less than one chunk of {length}.")
    count = min(count, whole)
    offsets = [whole * number // count * length for number in range(count)]
    return [(offset, data[offset : offset + length]) for offset in offsets]


@dataclass(frozen=True, slots=True)
class Answer:
    """A sequence and the program in its answer."""

    sequence: tuple[int, ...]
    program: str


def read_answers(path: str | Path) -> Iterator[Answer]:
    """Yields the answers of a JSONL file, optionally gzipped (``.gz``).

    A row is a sample of ``codegen eval run kolmogorov``; or an object with ``sequence`` (integers)
    or ``prompt`` or ``instruction`` (strings with the list), and ``program`` or ``generation`` (an
    answer that contains the program). The paper's files encode such objects as JSON strings.

    Raises:
        InputError: for an invalid row; names the file and the line.
    """
    for where, row in read_rows(path):
        yield _answer(where, row)


def _answer(where: str, row: object) -> Answer:
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
    if not whole or not all(type(item) is int and 0 <= item <= 255 for item in sequence):
        raise InputError(
            f"{where}: a row needs 'sequence' (integers from 0 to 255) or a 'prompt' with it."
        )
    for name, is_program in (("program", True), ("generation", False), ("completion", False)):
        if isinstance(text := row.get(name), str):
            return Answer(tuple(sequence), text if is_program else find_program(text))  # type: ignore[arg-type]
    raise InputError(f"{where}: a row needs a string 'program', 'generation' or 'completion'.")


_SEPARATOR = b"\n"
_FLAG_BITS = 2  # bits per item in the best-of code: program, gzip or raw


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """The result of running one answer.

    Attributes:
        status: ``passed`` if the program finished and its output is the sequence; ``wrong`` if it
            finished and the output differs.
        output: the output, if it is a list of integers of allowed length.
    """

    answer: Answer
    status: Status
    output: tuple[int, ...] | None
    message: str = ""

    @property
    def correct(self) -> bool:
        """True if the sequence can be recovered from the program."""
        return self.status == "passed"


@dataclass(frozen=True, slots=True)
class KolmogorovScores:
    """The scores of a set of answers.

    Attributes:
        items, symbols: number of sequences, and total number of their items.
        accuracy, accuracy_low, accuracy_high: fraction with the exact output, and its 95% Wilson
            interval for similar sequences.
        execution: fraction whose program ran and output a list of integers.
        precision: gzipped correct programs / gzipped sequences that they solve; below 1 they beat
            gzip; None without correct programs.
        rate: the strict compression rate.
        best_rate: rate if each item is stored as program, gzip or raw, whichever is shortest, plus
            2 bits that identify the choice.
        gzip, gzip_each: gzip's rates on the joined sequences, and on each.
        bz2, lzma: their rates on the joined sequences.
        paper_rate: ``rate`` with program sizes in the paper's bits; None unless all correct
            programs are in the language.
        program_characters: mean length of the correct programs.
        statuses: status -> number of answers.
    """

    items: int
    symbols: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    execution: float
    precision: float | None
    rate: float
    best_rate: float
    gzip: float
    gzip_each: float
    bz2: float
    lzma: float
    paper_rate: float | None
    program_characters: float | None
    statuses: Mapping[str, int]


def run_answers(
    answers: Sequence[Answer],
    sandbox: SandboxProtocol,
    *,
    language: bool = False,
    on_progress: OnProgress | None = None,
) -> list[ScoredAnswer]:
    """Runs each distinct program once, in the sandbox, and compares its output.

    Args:
        language: whether programs may use the functions of the test's language (``filter`` then is
            the language's). Otherwise they are plain Python.
        on_progress: called with (programs run, programs to run).
    """
    before = prelude() + "\n" if language else ""
    distinct = list(dict.fromkeys(answer.program for answer in answers if answer.program))
    limits = Limits(cpu_s=CPU_S)
    jobs = (
        (text, Job(before + text, mode="calls", calls=(("output", None),), limits=limits))
        for text in distinct
    )
    outcomes: dict[str, Outcome] = {}
    for text, outcome in sandbox.map(jobs):
        outcomes[text] = outcome
        if on_progress:
            on_progress(len(outcomes), len(distinct))
    return [_judge(answer, outcomes.get(answer.program)) for answer in answers]


def _judge(answer: Answer, outcome: Outcome | None) -> ScoredAnswer:
    if outcome is None:
        return ScoredAnswer(
            answer, "empty", None, "no program in the answer, or one that opens a file"
        )
    if not outcome.passed:
        return ScoredAnswer(answer, outcome.status, None, outcome.message)
    value = outcome.values[0] if outcome.values else None
    if type(value) is not list or not all(type(item) is int for item in value):
        return ScoredAnswer(answer, "wrong", None, "output is not a list of integers")
    most = max(MOST_OUTPUT, len(answer.sequence))
    if len(value) > most:
        return ScoredAnswer(answer, "wrong", None, f"output has more than {most} items")
    output = tuple(value)
    if output == answer.sequence:
        return ScoredAnswer(answer, "passed", output)
    pairs = zip(output, answer.sequence, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ScoredAnswer(answer, "wrong", output, f"output differs from item {same} on")


def score_results(results: Sequence[ScoredAnswer]) -> KolmogorovScores:
    """Computes the test's scores.

    Raises:
        InputError: without results, or if the sandbox failed on some.
    """
    if not results:
        raise InputError("No answers to score.")
    statuses = Counter(result.status for result in results)
    if failed := statuses["infra_error"]:
        raise InputError(
            f"The sandbox failed on {failed} of {len(results)} programs.", "Score them again."
        )
    sequences = [bytes(result.answer.sequence) for result in results]
    together = b"".join(sequences)
    whole = len(together)
    right = [result.correct for result in results]
    programs = [_text(r) for r in results if r.correct]
    solved = [s for s, flag in zip(sequences, right, strict=True) if flag]
    low, high = wilson(sum(right) / len(results), len(results))
    return KolmogorovScores(
        items=len(results),
        symbols=whole,
        accuracy=sum(right) / len(results),
        accuracy_low=low,
        accuracy_high=high,
        execution=sum(r.output is not None for r in results) / len(results),
        precision=_gzipped(programs) / _gzipped(solved) if solved else None,
        rate=_mixed(results, sequences, right) / whole,
        best_rate=sum(
            8 * min(_best(result, sequence)) + _FLAG_BITS
            for result, sequence in zip(results, sequences, strict=True)
        )
        / (8 * whole),
        gzip=_gzip(together) / whole,
        gzip_each=sum(map(_gzip, sequences)) / whole,
        bz2=len(bz2.compress(together)) / whole,
        lzma=len(lzma.compress(together)) / whole,
        paper_rate=_paper_rate(results, whole),
        program_characters=sum(map(len, programs)) / len(programs) if programs else None,
        statuses=dict(sorted(statuses.items())),
    )


def _text(result: ScoredAnswer) -> bytes:
    return result.answer.program.encode("utf-8", "surrogatepass")


def _gzip(data: bytes) -> int:
    return len(gzip.compress(data, mtime=0))


def _gzipped(parts: Sequence[bytes]) -> int:
    """Returns the size of the joined parts after gzip; 0 without parts."""
    return _gzip(_SEPARATOR.join(parts)) if parts else 0


def _mixed(
    results: Sequence[ScoredAnswer], sequences: Sequence[bytes], replaced: Sequence[bool]
) -> int:
    """Returns the gzipped bytes of programs, other sequences, and flags that distinguish them."""
    programs = [_text(r) for r, flag in zip(results, replaced, strict=True) if flag]
    others = [s for s, flag in zip(sequences, replaced, strict=True) if not flag]
    flags = "".join("1" if flag else "0" for flag in replaced)
    return _gzipped(programs) + _gzipped(others) + _gzip(flags.encode())


def _best(result: ScoredAnswer, sequence: bytes) -> Iterator[int]:
    yield len(sequence)
    yield _gzip(sequence)
    if result.correct:
        yield _gzip(_text(result))


def _paper_rate(results: Sequence[ScoredAnswer], whole: int) -> float | None:
    """Returns the paper's rate: program bits, failing sequences, one flag per item."""
    try:
        programs = [parse(result.answer.program) for result in results if result.correct]
    except InputError:
        return None
    if not programs:
        return None
    failing = [bytes(r.answer.sequence) for r in results if not r.correct]
    total = sum(map(paper_bits, programs)) + 8 * _gzipped(failing) + len(results)
    return math.ceil(total) / (8 * whole)


@dataclass(frozen=True, slots=True)
class SequenceProblem(Problem):
    """A sequence; ``program`` is a program known to output it."""

    sequence: tuple[int, ...]
    program: str


class Kolmogorov(CodeTask[SequenceProblem]):
    """The KoLMogorov test."""

    whole_programs = True
    passing = "its program outputs exactly the sequence, regardless of the program's length"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads random sequences of the language, or chunks of a file."""
        if source is None:
            return cls(name, description, _drawn(), "drawn from the language")
        sequences = pieces(read_packed(Path(source)), _PROBLEMS)
        stem = Path(source).name.split(".")[0]
        problems = [
            SequenceProblem(
                f"{stem}/{offset}", as_comment(piece), tuple(piece), f"output = {list(piece)}\n"
            )
            for offset, piece in sequences
        ]
        return cls(name, description, problems, source)

    def instruction(self, problem: SequenceProblem) -> str:
        """Returns the prompt in words."""
        return instruction(problem.sequence)

    def code(self, problem: SequenceProblem) -> str:
        """Returns the prompt as a comment."""
        return as_comment(problem.sequence)

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return ("###", "\n# ")

    def read(self, problem: SequenceProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the program from the answer."""
        if style.read == "append":
            answer = cut_at_stop(answer, self._stops(style))
        program = find_program(answer)
        if not program:
            return Extraction("", "no program in the answer, or one that opens a file")
        return Extraction(program)

    def job(self, problem: SequenceProblem, program: str) -> Job:
        """Returns a job that compares the variable ``output`` outside the program's process."""
        test = (
            f"output, expected = read_output(), {list(problem.sequence)}\n"
            "assert type(output) is list, 'output is not a list'\n"
            "assert all(type(item) is int for item in output), 'output holds more than integers'\n"
            "assert output == expected, 'output is another sequence'\n"
        )
        program += "\n\ndef read_output():\n    return output\n"
        return Job(program, test=test, limits=Limits(cpu_s=CPU_S), plain=True)

    def reference(self, problem: SequenceProblem) -> str:
        """Returns the program that generated the sequence, or the sequence as a list."""
        return problem.program

    def buggy(self, problem: SequenceProblem) -> Sequence[str]:
        """Returns programs that output one item too many, a tuple, and strings."""
        items = list(problem.sequence)
        return (
            f"output = {[*items, 0]}",
            f"output = tuple({items})",
            f"output = {list(map(str, items))}",
        )


def _drawn() -> list[SequenceProblem]:
    problems: list[SequenceProblem] = []
    for number, program in enumerate(sample_programs(2 * _PROBLEMS, _SEED)):
        sequence = tuple(program.run())
        if len(sequence) > _LONGEST or len(problems) == _PROBLEMS:
            continue
        text = f"{prelude()}\n{program.to_text()}"
        problems.append(SequenceProblem(f"drawn/{number}", as_comment(sequence), sequence, text))
    return problems
