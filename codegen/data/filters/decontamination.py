"""Decontamination: drops examples that contain a problem of a test set.

An example is compared with the prompt, the solution and the tests of each problem. It is dropped if
it contains at least a fraction ``min_overlap`` of the word n-grams of one of these parts. Phi-1
(Gunasekar et al. 2023) and Cosmopedia look for common 10-grams of words, and Cosmopedia then
requires half of the problem, the default here. With ``min_overlap`` 0 one common n-gram is enough,
as in open-r1 (8 words) and datatrove (12 words). Shorter parts have no n-gram, so an example is
also dropped if its program or instruction has the same words, ignoring docstrings.

Limits: paraphrases, renamed variables and rewritten solutions are not found. Text without spaces
between words, such as Chinese, has few n-grams.

Reference sets: ``humaneval``; ``mbpp`` (all 974 problems, from the hub);
``hub:org/name[:config][:split]``; or a ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file. Sets are
read entirely, and a corrupt row aborts the run, because a problem not read cannot be filtered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Example
from codegen.data.filters import digest, ngram_hashes, words
from codegen.data.filters.dedup import Dedup, DedupIndex
from codegen.data.sources import Rejected
from codegen.data.sources.rows import MBPP, format_of, hub_rows, sound_rows

_MBPP_SPLITS = ("prompt", "test", "validation", "train")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("task_id", "id", "problem_id", "question_id"),
    "prompt": (
        *("prompt", "text", "instruction", "question", "question_content", "problem"),
        *("problem_statement", "description", "complete_prompt", "instruct_prompt"),
    ),
    "solution": ("canonical_solution", "code", "solution", "solutions", "program", "reference"),
    "tests": ("test", "tests", "test_list", "challenge_test_list", "test_code", "assertion"),
}
"""Column names by content, case-insensitive. They cover HumanEval, MBPP, their Plus versions,
BigCodeBench, LiveCodeBench, DS-1000 and this toolkit's files."""

_REMEDY = (
    "Pass humaneval, mbpp, hub:org/name[:config][:split], or a .jsonl, .jsonl.gz or .parquet file."
)


@dataclass(frozen=True, slots=True)
class Reference:
    """One problem. Each part may have several versions."""

    id: str
    prompt: tuple[str, ...] = ()
    solution: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """The problems of one set; ``name`` contains no spaces."""

    name: str
    problems: tuple[Reference, ...]

    def digest(self) -> str:
        """Returns the SHA-256 (hex) of the problems' contents."""
        state = hashlib.sha256()
        for problem in self.problems:
            state.update(json.dumps(astuple(problem)).encode() + b"\n")
        return state.hexdigest()


def open_reference(spec: str) -> ReferenceSet:
    """Reads a reference set.

    Raises:
        InputError: if the set cannot be found or read, is empty, or has none of the columns.
    """
    if spec == "humaneval":
        return ReferenceSet(spec, tuple(_humaneval()))
    name, rows = open_rows(spec)
    return ReferenceSet(name, _problems(rows, spec))


def open_rows(spec: str) -> tuple[str, Iterator[tuple[str, object]]]:
    """Opens a reference set or training data; returns its name and its (place, row) pairs.

    Raises:
        InputError: if the data cannot be found or read.
    """
    if spec == "mbpp":
        return spec, (row for split in _MBPP_SPLITS for row in hub_rows(f"{MBPP}:full:{split}"))
    if spec.startswith("hub:"):
        argument = spec.removeprefix("hub:")
        return "_".join(argument.split()), hub_rows(argument)
    path = Path(spec)
    if not path.is_file():
        raise InputError(f"No reference set {spec!r}.", _REMEDY)
    if format_of(path) is None:
        raise InputError(f"The reference set {spec!r} has an unknown file type.", _REMEDY)
    rows = ((str(path.parent / place), row) for place, row in sound_rows(path))
    return "_".join(path.name.split()).partition(".")[0], rows


def _humaneval() -> Iterator[Reference]:
    from codegen.evals.tasks.humaneval import HumanEval  # imports pydantic, unused by workers

    task = HumanEval.load("humaneval", "")
    for problem in task.problems():
        yield Reference(
            problem.id,
            (problem.prompt, task.instruction(problem)),
            (task.reference(problem), problem.canonical_solution),
            (problem.test,),
        )


def _problems(rows: Iterable[tuple[str, object]], spec: str) -> tuple[Reference, ...]:
    problems = []
    columns: dict[str, None] = {}
    known = False
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}.")
        columns.update(dict.fromkeys(row))
        problem = _problem(place, row)
        known = known or bool(problem.prompt or problem.solution)
        problems.append(problem)
    if not problems:
        raise InputError(f"The reference set {spec!r} contains no problems.", _REMEDY)
    if not known:
        raise InputError(
            f"The reference set {spec!r} has neither prompts nor solutions. Its columns are: "
            f"{', '.join(columns) or '(none)'}.",
            f"Rename a column to one of: {', '.join(COLUMNS['prompt'] + COLUMNS['solution'])}.",
        )
    return tuple(problems)


def _problem(place: str, row: Mapping[str, Any]) -> Reference:
    by_name = {name.lower(): value for name, value in row.items()}
    id_ = next((by_name[name] for name in COLUMNS["id"] if by_name.get(name) is not None), place)
    prompt, solution, tests = (
        tuple(_texts(by_name, COLUMNS[part], place)) for part in ("prompt", "solution", "tests")
    )
    if "canonical_solution" in by_name:
        # HumanEval's solution completes the function that the prompt starts.
        solution += tuple(p + s for p in prompt[:1] for s in solution[:1])
    return Reference(str(id_), prompt, solution, ("\n".join(tests),) if tests else ())


def _texts(row: Mapping[str, object], names: Iterable[str], place: str) -> Iterator[str]:
    for name in names:
        value = row.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        for text in values:
            if isinstance(text, str):
                if text.strip():
                    yield text
            elif text is not None and not isinstance(value, (list, tuple)):
                raise InputError(
                    f"{place}: column {name!r} contains {type(value).__name__}, not strings."
                )


_TRIPLE_QUOTED = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''", re.DOTALL)
PARTS = ("prompt", "solution", "tests")
CONTAMINATED = "contaminated"


@dataclass(frozen=True, slots=True, eq=False)
class Decontamination:
    """An index of reference problems; picklable, some MB for HumanEval and MBPP.

    Attributes:
        ngram: words in an n-gram.
        min_overlap: minimum fraction of a part's n-grams in a contaminated example.
        sets: name, number of problems and digest of each set.
        parts: (set, problem id, part name, number of distinct n-grams) of each part.
        grams: n-gram hash -> indices of the parts that contain it.
        exact: digest of a part's words -> index of the part.
    """

    ngram: int
    min_overlap: float
    sets: tuple[Mapping[str, Any], ...]
    parts: Sequence[tuple[str, str, str, int]]
    grams: Mapping[int, Sequence[int]]
    exact: Mapping[bytes, int]

    @classmethod
    def build(
        cls, sets: Sequence[str | ReferenceSet], *, ngram: int = 10, min_overlap: float = 0.5
    ) -> Decontamination:
        """Reads the reference sets and builds the index.

        Args:
            sets: ``humaneval``, ``mbpp``, ``hub:...``, paths, or reference sets already read.
            ngram, min_overlap: see the class; with ``min_overlap`` 0 one n-gram is enough.

        Raises:
            InputError: if a set cannot be read.
            ConfigError: if a number is out of range.
        """
        if ngram < 1:
            raise ConfigError(f"ngram is {ngram}; it must be at least 1.", "The usual value is 10.")
        if not 0 <= min_overlap <= 1:
            raise ConfigError(f"min_overlap is {min_overlap}; it must be in [0, 1].")
        read = [open_reference(s) if isinstance(s, str) else s for s in dict.fromkeys(sets)]
        parts: list[tuple[str, str, str, int]] = []
        grams: dict[int, list[int]] = {}
        exact: dict[bytes, int] = {}
        for set_name, problem, part, text in _parts(read):
            tokens = words(text)
            hashes = ngram_hashes(tokens, ngram).tolist()
            for gram in hashes:
                grams.setdefault(gram, []).append(len(parts))
            exact.setdefault(digest(*tokens), len(parts))
            exact.setdefault(_without_docstrings(text), len(parts))
            parts.append((set_name, problem.id, part, len(hashes)))
        exact.pop(digest(), None)  # parts without words
        described = [
            {"name": s.name, "problems": len(s.problems), "sha256": s.digest()} for s in read
        ]
        return cls(ngram, min_overlap, tuple(described), parts, grams, exact)

    def check(self, example: Example) -> Rejected | None:
        """Returns None for a clean example, else ``skipped`` with reason ``contaminated``.

        The detail names one match: exact before n-gram matches, then the one with the highest
        fraction, then the first.
        """
        program, instruction = words(example.program), words(example.instruction)
        bare = _without_docstrings(example.program)
        for content in (digest(*program), bare, digest(*instruction)):
            if (part := self.exact.get(content)) is not None:
                return self._rejected(example, "exact", part, 1.0)
        hashes = ngram_hashes(instruction + program, self.ngram).tolist()
        counts = Counter(part for gram in hashes for part in self.grams.get(gram, ()))
        shares = {part: count / self.parts[part][3] for part, count in counts.items()}
        if not shares:
            return None
        part = max(shares, key=lambda part: (shares[part], -part))
        if shares[part] < self.min_overlap:
            return None
        return self._rejected(example, "ngram", part, shares[part])

    def _rejected(self, example: Example, kind: str, part: int, score: float) -> Rejected:
        set_name, problem, name, _ = self.parts[part]
        # The problem's id comes last, since it may be any string.
        detail = f"{kind} match: part={name} score={score:.3f} set={set_name} problem={problem}"
        return Rejected(example.id, CONTAMINATED, detail, "skipped")

    def describe(self) -> Mapping[str, Any]:
        """Returns the settings and the names and digests of the sets, as JSON values."""
        return {
            "sets": [dict(s) for s in self.sets],
            "ngram": self.ngram,
            "min_overlap": self.min_overlap,
        }


def _without_docstrings(program: str) -> bytes:
    """Returns the digest of a program's words outside triple-quoted strings."""
    return digest(*words(_TRIPLE_QUOTED.sub("", program)))


def _parts(sets: Sequence[ReferenceSet]) -> Iterator[tuple[str, Reference, str, str]]:
    """Yields (set name, problem, part, string) for each version of each part."""
    for reference_set in sets:
        for problem in reference_set.problems:
            for part in PARTS:
                for text in getattr(problem, part):
                    yield reference_set.name, problem, part, text


def find_overlap(
    problems: Mapping[str, tuple[str, str]], against: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the matches of each problem by id; problems without overlap are omitted.

    Args:
        problems: prompt and solution by id.
        against: training data, JSONL or Parquet files, or ``hub:org/name[:config][:split]``.

    Raises:
        InputError: for training data that cannot be read.
    """
    matches: dict[str, list[str]] = {}
    dedup = Dedup("near")
    index = DedupIndex(dedup)
    for id_, texts in problems.items():
        if same := index.add(id_, dedup.signature(Example(id_, "", "\n".join(texts)))):
            matches.setdefault(id_, []).append(f"{same.reason.replace('_', ' ')}: {same.detail}")
    parts = [Reference(id_, (p,), (s,) if s else ()) for id_, (p, s) in problems.items()]
    contained = Decontamination.build([ReferenceSet("audited", tuple(parts))])
    rows = (row for spec in against for row in open_rows(spec)[1])
    for place, text in ((place, text) for place, row in rows for text in _strings(row)):
        if match := contained.check(Example(place, "", text)):
            what, _, id_ = match.detail.partition(" set=audited problem=")
            matches.setdefault(id_, []).append(f"{place}: {what}")
    return matches


def _strings(value: Any) -> Iterator[str]:
    """Yields the strings of a row, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
