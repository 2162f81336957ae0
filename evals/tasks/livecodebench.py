r"""LiveCodeBench, code generation (Jain et al. 2024, arXiv 2403.07974): dated contest problems.

The data is a file with the authors' columns, such as ``test6.jsonl`` of their dataset (concatenate
the files of several releases); ``-o since=`` and ``-o until=`` select problems by contest date, to
exclude those older than a model. Rows in SandboxFusion's format (``content``, ``test``, ``labels``)
are also accepted, such as its samples of LiveCodeBench and CodeContests.

A problem with starter code is scored by calling ``Solution().NAME`` with the JSON values of each
line of a test's input; other programs read standard input and print. Results are compared as in the
authors' ``testing_util.py``: text line by line without trailing whitespace, or word by word as
decimal numbers; values by ``==``, where a returned tuple counts as a list. As in their script, each
test has 6 seconds (here of CPU time), common modules are imported for the program, and the last
fenced block of an answer is the program. The prompt is their general one.

Some private tests are a base64-encoded, zlib-compressed pickle. It is never unpickled: strings are
read from its opcodes, and a pickle that would build anything but strings and dictionaries is
rejected.
"""

from __future__ import annotations

import base64
import functools
import json
import pickletools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Verdict
from codegen.evals.tasks.base import CodeTask, Key
from codegen.evals.tasks.cases import cases_test, with_runner, with_timeouts
from codegen.evals.tasks.dataset_rows import DataLocation, Problem, optional_text, text_field
from codegen.evals.tasks.extraction import Extraction, fenced_blocks, parses, with_preamble
from codegen.evals.tasks.styles import PromptStyle
from codegen.sandbox import Job, Limits, Outcome, SandboxProtocol

CPU_S = 6.0  # per test
_MEMORY_MIB = 2048
_MOST_BYTES = 512 << 20  # maximum size of a problem's unpacked tests
_TEXT_OPERATIONS = {
    *("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "EMPTY_DICT", "MARK"),
    *("SETITEM", "SETITEMS", "STOP", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_MODULES = [
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
]
# Code that the authors prepend to each program.
PREAMBLE = "\n".join(
    [
        *(f"from {name} import *" for name in [*_MODULES, "builtins", "typing"]),
        f"import {', '.join(_MODULES)}",
        "sys.setrecursionlimit(50000)",
    ]
)
_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and "
    "will generate a correct Python program that matches the specification and passes all tests."
)
_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your "
    "code within delimiters."
)
_STDIN = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
    "test on the sample inputs). Enclose your code within delimiters as follows. Ensure that when "
    "the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
)


@dataclass(frozen=True, slots=True)
class ContestProblem(Problem):
    """One row; ``prompt`` is the whole instruction.

    Attributes:
        question: the problem statement.
        starter: code to complete; empty for a program that reads and prints.
        function: name of the ``Solution`` method; empty for such a program.
        tests: the row's test columns, unparsed.
        day: contest date.
        difficulty, platform: the row's values.
        place: the row's file and line.
    """

    question: str
    starter: str = ""
    function: str = ""
    tests: tuple[str, ...] = field(default=(), repr=False)
    day: date | None = None
    difficulty: str = ""
    platform: str = ""
    place: str = ""


class LiveCodeBench(CodeTask[ContestProblem]):
    """LiveCodeBench's contest problems."""

    home = DataLocation("languages/samples/live_code_bench_v1.jsonl.gz")
    whole_programs = True

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> ContestProblem:
        """Parses a row of either format; its tests are parsed on demand."""
        return _official(place, row) if "question_content" in row else _of_fusion(place, row)

    def dated(self, since: date | None, until: date | None) -> Self:
        """Returns the task limited to contests from ``since`` to ``until``, inclusive.

        Raises:
            ConfigError: if no problem is in that range.
            InputError: if a row has no date.
        """
        for problem in self._problems:
            if problem.day is None:
                raise InputError(
                    f"{problem.place}: the row has no contest_date.",
                    "Remove -o since and -o until.",
                )
        chosen = [
            problem
            for problem in self._problems
            if problem.day and (since or date.min) <= problem.day <= (until or date.max)
        ]
        if not chosen:
            days = sorted(problem.day for problem in self._problems if problem.day)
            raise ConfigError(
                f"{self.source} has no problem from {since or days[0]} to {until or days[-1]}.",
                f"Its problems are from {days[0]} to {days[-1]}.",
            )
        return type(self)(self.name, self.description, chosen, self.source)

    def labels(self, problem: ContestProblem) -> Sequence[str]:
        """Returns difficulty and platform."""
        return [label for label in (problem.difficulty, problem.platform) if label]

    def remarks(self, problems: Sequence[ContestProblem]) -> Sequence[str]:
        """Returns a sentence with the range of contest dates."""
        days = sorted(problem.day for problem in problems if problem.day)
        return [f"The problems are from contests from {days[0]} to {days[-1]}."] if days else []

    def code(self, problem: ContestProblem) -> str:
        """Returns the question as a docstring, and the starter code."""
        question = problem.question.replace('"""', "'''").strip()
        return f'"""\n{question}\n"""\n\n{problem.starter.rstrip()}\n'.rstrip("\n") + "\n"

    def read(self, problem: ContestProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the last fenced block, as the authors do; else applies the general rules."""
        if style.read == "find" and (blocks := fenced_blocks(answer)):
            return Extraction(blocks[-1])
        return super().read(problem, style, answer)

    def judge(
        self, programs: Iterable[tuple[Key, ContestProblem, str]], sandbox: SandboxProtocol
    ) -> Iterator[tuple[Key, Verdict | Outcome]]:
        """Scores programs by :meth:`job`; a test over its time limit yields ``timeout``."""
        for key, found in super().judge(programs, sandbox):
            yield key, with_timeouts(found)

    def job(self, problem: ContestProblem, program: str) -> Job | Verdict:
        """Returns a job with all tests, each in a separate process."""
        if not parses(program):
            return Verdict(problem.id, 0, "syntax_error", message="not valid Python")
        cases = read_tests(problem)
        call = f"Solution().{problem.function}" if problem.function else ""
        whole = with_preamble(PREAMBLE, program)
        try:
            test = _test_of(cases, bool(call))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{problem.place}: an expected value is not JSON ({error}).") from None
        return Job(
            with_runner(whole, modules=f"import {', '.join(_MODULES)}", call=call, cpu_s=CPU_S),
            test=test,
            limits=Limits(cpu_s=CPU_S * (len(cases) + 1), memory_mib=_MEMORY_MIB, file_mib=64),
            plain=True,
        )


@functools.lru_cache(maxsize=64)
def _test_of(cases: tuple[tuple[str, str], ...], is_call: bool) -> str:
    if not is_call:
        return cases_test(cases, "decimals")
    return cases_test([(given, json.loads(expected)) for given, expected in cases], "value")


def _official(place: str, row: Mapping[str, Any]) -> ContestProblem:
    question = text_field(place, row, "question_content")
    starter = optional_text(place, row, "starter_code")
    metadata = row.get("metadata") or {}
    try:
        known = json.loads(metadata) if isinstance(metadata, str) else metadata
        function = str(known.get("func_name") or "")
        day = date.fromisoformat(str(row["contest_date"])[:10]) if row.get("contest_date") else None
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{place}: metadata or contest_date cannot be read.") from None
    tests = [text_field(place, row, "public_test_cases")]
    if row.get("private_test_cases"):
        tests.append(text_field(place, row, "private_test_cases"))
    asked = _STARTER if starter else _STDIN
    shown = f"```python\n{starter or '# YOUR CODE HERE'}\n```"
    return ContestProblem(
        f"{row.get('platform', 'contest')}/{text_field(place, row, 'question_id')}",
        f"{_SYSTEM}\n\n### Question:\n{question}\n\n### Format: {asked}\n{shown}\n\n"
        "### Answer: (use the provided format with backticks)\n\n",
        question,
        starter,
        _named(place, function) if function else "",
        tuple(tests),
        day,
        str(row.get("difficulty") or ""),
        str(row.get("platform") or ""),
        place,
    )


def _of_fusion(place: str, row: Mapping[str, Any]) -> ContestProblem:
    content = text_field(place, row, "content")
    try:
        labels = json.loads(row.get("labels") or "{}")
        id_ = str(labels.get("task_id") or f"{labels.get('source', 'row')}/{row['id']}")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise InputError(f"{place}: the row has no id, or labels that are not JSON.") from None
    test = text_field(place, row, "test")
    starter, function = "", ""
    if "starter code" in content and (blocks := fenced_blocks(content)):
        starter = blocks[-1]
        unpacked = _unpacked(place, test)
        function = _named(place, str(unpacked.get("fn_name") if isinstance(unpacked, dict) else ""))
    return ContestProblem(
        id_,
        content,
        content.partition("### Format:")[0],
        starter,
        function,
        (test,),
        None,
        str(labels.get("difficulty") or "").lower(),
        str(labels.get("category") or labels.get("source") or "").lower(),
        place,
    )


def _named(place: str, name: str) -> str:
    if not name.isidentifier():
        raise InputError(f"{place}: the function's name {name!r} is not a Python identifier.")
    return name


def read_tests(problem: ContestProblem) -> tuple[tuple[str, str], ...]:
    """Returns a problem's inputs and expected outputs, public ones first.

    Raises:
        InputError: if tests are unreadable or missing; names the row.
    """
    return _read_tests(problem.place, problem.tests)


@functools.lru_cache(maxsize=16)  # tests are large, and needed once per sample
def _read_tests(place: str, columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    cases = [case for column in columns for case in _cases(place, _unpacked(place, column))]
    if not cases:
        raise InputError(f"{place}: the row has no tests.")
    return tuple(cases)


def _cases(place: str, tests: Any) -> list[tuple[str, str]]:
    pairs: list[tuple[Any, Any]] = []
    try:
        if isinstance(tests, dict):  # APPS's format
            pairs = list(zip(tests.get("inputs", ()), tests.get("outputs", ()), strict=False))
        elif isinstance(tests, list):
            pairs = [(test["input"], test["output"]) for test in tests]
        # SandboxFusion wraps the strings in objects.
        pairs = [(i["stdin"], o["stdout"]) if isinstance(i, dict) else (i, o) for i, o in pairs]
    except (TypeError, LookupError):
        pairs = [(None, None)]
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise InputError(f"{place}: a test's input or output is not a string.")
    return pairs


def _unpacked(place: str, text: str) -> Any:
    """Parses a column's tests: JSON, or base64-encoded, zlib-compressed pickled JSON."""
    try:
        if text.lstrip()[:1] in ("[", "{"):
            return json.loads(text)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise InputError(f"{place}: the tests are larger than {_MOST_BYTES >> 20} MiB.")
        tests = json.loads(_pickled_text(data))
        return tests["input_output"] if isinstance(tests, dict) and len(tests) == 1 else tests
    except (ValueError, TypeError, KeyError, zlib.error, RecursionError) as error:
        raise InputError(f"{place}: the tests cannot be read ({error}).") from None


def _pickled_text(data: bytes) -> str:
    """Returns the last string in a pickle that contains only strings in dictionaries.

    Raises:
        ValueError: if the pickle would build anything else.
    """
    text: str | None = None
    for operation, argument, _ in pickletools.genops(data):
        if operation.name not in _TEXT_OPERATIONS:
            raise ValueError(f"its pickle has the operation {operation.name}")
        if isinstance(argument, str):
            text = argument
    if text is None:
        raise ValueError("its pickle has no string")
    return text
