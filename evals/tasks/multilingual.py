"""Tasks in many languages: MultiPL-E, HumanEvalPack and McEval.

A task's name ends with a colon and a language: ``multipl_e:js``, ``mceval:java``. The datasets
differ in their columns; otherwise they are one task: a prompt that the model continues to the end
of a function, followed by tests in the same language.

- MultiPL-E (Cassano et al. 2023, arXiv 2208.08227): translated HumanEval and MBPP, without
  reference solutions. Its tests are split (:mod:`.translated`), so a program cannot reach the
  expected values.
- HumanEvalPack (Muennighoff et al. 2023, arXiv 2308.07124, task HumanEvalSynthesize) and McEval
  (Chai et al. 2024, arXiv 2406.07436): their own tests run in the program's process. Their last
  statement, not an exit status, shows that they ran to their end; a program can still forge it.

``console.assert``, which only prints, raises here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from codegen.core.errors import ConfigError, SandboxError
from codegen.core.paths import cache_folder, write_atomic
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    Problem,
    make_problems,
    read_rows_of,
    text_field,
    text_fields,
)
from codegen.evals.tasks.extraction import Extraction, fenced_blocks
from codegen.evals.tasks.styles import PromptStyle
from codegen.evals.tasks.translated import FORMS, SplitTest, take_apart
from codegen.sandbox import Job, Limits, SandboxProtocol
from codegen.sandbox.languages import SandboxLanguage, find
from codegen.sandbox.languages.base import closing_brace, masked

_LIMITS = Limits(cpu_s=10.0)
_BROKEN = Path(__file__).parent / "broken_references.json"
# The lines of a prompt that its function needs.
_HEAD = re.compile(
    r"^(?:#include|using |import |use |package |<\?php|module |[ \t]*(?:class|object) "
    r"|\)|\(|\t?\s*\")"
)
_CLASS = re.compile(r"[ \t]*(?:class|object) ")
_IMPORT = re.compile(r"^(?:using|import)[ \t][^\n(]*\n?", re.M)


@dataclass(frozen=True, slots=True)
class TranslatedProblem(Problem):
    """One problem; ``test`` is appended to the program.

    ``solution`` and ``bug`` are completions of the prompt, empty if missing.
    """

    entry_point: str
    test: str
    solution: str = ""
    bug: str = ""


class TranslatedTask(CodeTask[TranslatedProblem]):
    """A task in one language.

    Attributes:
        codes: language -> its name in file names.
        hub: dataset on the hub, with ``{}`` for that name.
        file: path in the dataset folder, with ``{}`` likewise.
    """

    asks = ("code", "instruction")
    takes_language: ClassVar[bool] = True
    codes: ClassVar[Mapping[str, str]]
    file: ClassVar[str]
    hub: ClassVar[str] = ""

    def __init__(
        self,
        name: str,
        description: str,
        problems: Sequence[TranslatedProblem],
        source: str,
        language: SandboxLanguage,
    ) -> None:
        super().__init__(name, description, problems, source)
        self.language = language
        self.languages = (language.name,)
        self.reference_exceptions = _broken().get(name.partition(":")[0] + ":" + language.name, {})
        self.stop = language.stop

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the task in the language that its name ends with.

        Raises:
            ConfigError: if the name has no language, or one that the task lacks.
        """
        language = cls._language(name)
        code = cls.codes[language.name]
        home = DataLocation(cls.file.format(code), cls.hub and cls.hub.format(code))
        rows = read_rows_of(source, home)

        def problem(place: str, row: Mapping[str, object]) -> TranslatedProblem:
            return cls.problem_in(language, place, row)

        problems = make_problems(rows, problem)
        return cls(name, f"{description}, in {language.title}", problems, rows.source, language)

    @classmethod
    def _language(cls, name: str) -> SandboxLanguage:
        task, _, code = name.partition(":")
        known = ", ".join(f"{task}:{language}" for language in cls.codes)
        if not code:
            raise ConfigError(f"The task {task} requires a language.", f"Use one of: {known}.")
        language = find(code)
        if language.name not in cls.codes:
            raise ConfigError(
                f"{task} has no problems in {language.title}.", f"Use one of: {known}."
            )
        return language

    @classmethod
    def problem_in(
        cls, language: SandboxLanguage, place: str, row: Mapping[str, object], /
    ) -> TranslatedProblem:
        """Parses a row into a problem.

        Raises:
            InputError: if the row is invalid.
        """
        raise NotImplementedError

    def instruction(self, problem: TranslatedProblem) -> str:
        """Returns the instruction to complete the prompt."""
        title = self.language.title
        return (
            f"Complete the {title} function {problem.entry_point}. Answer with the whole function "
            f"in one code block, with the imports it needs.\n\n```\n{problem.prompt.rstrip()}\n```"
        )

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return self.stop if style.stop and style.read == "append" else super()._stops(style)

    def read(self, problem: TranslatedProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the whole program from an answer, without the answer's own tests."""
        if style.read != "find":
            return super().read(problem, style, answer)
        name = problem.entry_point
        blocks = fenced_blocks(answer)
        code = next((block for block in blocks if name in block), blocks[0] if blocks else "")
        if not code and name in answer:
            code = answer
        if not code:
            return Extraction("", f"no code block, and the text does not define {name}")
        return Extraction(self._whole(problem, code))

    def _whole(self, problem: TranslatedProblem, code: str) -> str:
        """Adds the prompt lines that the function needs, without an ending that tests supply."""
        prompt = problem.prompt
        head = [line for line in prompt.splitlines() if _HEAD.match(line)]
        missing = [line for line in head if line.strip() and line.strip() not in code]
        if any(line.startswith("package ") for line in missing) and "package " in code:
            missing = []  # a Go file with its own imports
        if any(_CLASS.match(line) for line in missing):  # a function alone, below its imports
            missing = [*(line.rstrip() for line in _IMPORT.findall(code)), *missing]
            code = _IMPORT.sub("", code)
        program = "\n".join([*missing, code])
        if not problem.test.lstrip().startswith("}"):
            return program
        blank = masked(program)
        header = re.search(rf"\b{re.escape(problem.entry_point)}\s*\(", blank)
        opening = blank.find("{", header.end()) if header else -1
        end = closing_brace(blank, opening) if opening >= 0 else -1
        return program[:end].rstrip(" ") if end > 0 else program

    def job(self, problem: TranslatedProblem, program: str) -> Job:
        """Returns a job with the row's tests in the program's process."""
        return self._job(program, test=problem.test, mode="in_sandbox")

    def _job(self, program: str, **how: Any) -> Job:
        return Job(program, limits=_LIMITS, language=self.language.name, **how)

    def reference(self, problem: TranslatedProblem) -> str:
        """Returns the prompt with the solution."""
        return problem.prompt + problem.solution if problem.solution else ""

    def buggy(self, problem: TranslatedProblem) -> Sequence[str]:
        """Returns the prompt with the bug."""
        return (problem.prompt + problem.bug,) if problem.bug else ()


@cache
def _broken() -> dict[str, dict[str, str]]:
    """Returns task -> problem -> the reason its reference fails the dataset's own tests."""
    return json.loads(_BROKEN.read_text(encoding="utf-8"))


_BOUND = re.compile(
    r"candidate\s*(?::?=|<-)\s*(?:\\&|method\(:)?([A-Za-z_]\w*)"  # most languages
    r"|return (\w+)\(\.\.\.\$args\)"  # PHP
    r'|^\s+(\w+) "\$@"'  # Bash
    r"|[aA]ssert\((\w+)\(",  # Java
    re.MULTILINE,
)


class MultiPLE(TranslatedTask):
    """MultiPL-E's HumanEval; its tests are split where they have the expected form."""

    needs_preparation = True
    file = "languages/multipl_e/humaneval-{}.jsonl.gz"
    hub = "nuprl/MultiPL-E:humaneval-{}:test"
    codes: ClassVar = {
        "bash": "sh", "cpp": "cpp", "csharp": "cs", "go": "go", "java": "java",
        "javascript": "js", "lua": "lua", "perl": "pl", "php": "php", "r": "r", "ruby": "rb",
        "rust": "rs", "scala": "scala", "swift": "swift", "typescript": "ts",
    }  # fmt: skip

    @classmethod
    def problem_in(
        cls, _: SandboxLanguage, place: str, row: Mapping[str, object]
    ) -> TranslatedProblem:
        """Parses a row into a problem; takes the function's name from its tests."""
        id_, prompt, test = text_fields(place, row, ("name", "prompt", "tests"))
        match = _BOUND.search(test)
        name = next((part for part in match.groups() if part), "") if match else ""
        return TranslatedProblem(id_, prompt, name, test)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._halves: dict[str, SplitTest | None] = {}
        self._expected: dict[str, str] = {}

    def halves(self, problem: TranslatedProblem) -> SplitTest | None:
        """Splits the problem's test; None if it has another form."""
        if problem.id not in self._halves:
            form, texts = FORMS.get(self.language.name), (problem.prompt, problem.test)
            self._halves[problem.id] = take_apart(form, *texts) if form else None
        return self._halves[problem.id]

    def prepare(self, problems: Sequence[TranslatedProblem], sandbox: SandboxProtocol) -> None:
        """Computes the expected values, once per toolchain version.

        Raises:
            SandboxError: if the sandbox fails.
        """
        version = sandbox.describe()["languages"][self.language.name]
        for problem, text in self._written(problems, version, sandbox):
            halves = self.halves(problem)
            if halves is not None and text.count("\n") == halves.count:
                self._expected[problem.id] = text

    def _written(
        self, problems: Sequence[TranslatedProblem], version: str, sandbox: SandboxProtocol
    ) -> Iterator[tuple[TranslatedProblem, str]]:
        jobs: list[tuple[tuple[TranslatedProblem, Path], Job]] = []
        for problem in problems:
            if problem.id in self._expected or (halves := self.halves(problem)) is None:
                continue
            job = self._job(halves.expected, mode="isolated", expected_stdout=None)
            inputs = [self.language.name, version, self.language.answers, self.language.support]
            key = hashlib.sha256(repr([inputs, halves.expected]).encode()).hexdigest()[:24]
            path = cache_folder() / "expected" / f"{self.language.name}-{key}.txt"
            if path.is_file():
                yield problem, path.read_text(encoding="utf-8")
            else:
                jobs.append(((problem, path), job))
        for (problem, path), outcome in sandbox.map(jobs):
            if outcome.status == "infra_error":
                raise SandboxError(
                    f"The expected values of {problem.id} cannot be computed: {outcome.message}."
                )
            # An empty file means that the values cannot be written; the problem keeps its own
            # tests.
            text = outcome.stdout if outcome.passed else ""
            write_atomic(path, text)
            yield problem, text

    def job(self, problem: TranslatedProblem, program: str) -> Job:
        """Returns a job with calls compared outside the sandbox, or the row's tests."""
        expected, halves = self._expected.get(problem.id), self.halves(problem)
        if expected is None or halves is None:
            return super().job(problem, program)
        if self.language.name == "go":
            program = re.sub(r"^package\s+\w+", "package main", program, count=1, flags=re.M)
        return self._job(program, test=halves.calls, mode="isolated", expected_stdout=expected)


class MultiPLEMbpp(MultiPLE):
    """MultiPL-E's MBPP."""

    file = "languages/multipl_e/mbpp-{}.jsonl.gz"
    hub = "nuprl/MultiPL-E:mbpp-{}:test"


_STRICT_ASSERT = 'console.assert = require("node:assert");\n'
# Crates that all rows import but few use.
_CRATES = {
    "use rand::Rng;": "thread_rng|gen_range",
    "use regex::Regex;": "Regex::",
    "use md5;": "md5::",
}


# The implicit usings of .NET that the programs need.
_USINGS = "using System; using System.Collections.Generic; using System.Linq; using System.Text;\n"
_GO_IMPORTS = re.compile(r"^import \(([^()]{0,9999})\)\n", re.MULTILINE)


def _with_imports(setup: str, prompt: str) -> str:
    """Returns a Go file with the imports of both texts, each once."""
    blocks = _GO_IMPORTS.findall(setup) + _GO_IMPORTS.findall(prompt)
    names = dict.fromkeys(line.strip() for block in blocks for line in block.split("\n"))
    imports = "\n".join(f"\t{name}" for name in names if name)
    return f"package main\n\nimport (\n{imports}\n)\n{_GO_IMPORTS.sub('', prompt)}"


class OwnTests(TranslatedTask):
    """A task with the dataset's own tests; ``names`` are its columns in field order."""

    names: ClassVar[tuple[str, ...]]

    @classmethod
    def problem_in(cls, language, place, row):
        """Parses a row into a problem."""
        id_, prompt, name, test, solution, *bug = text_fields(place, row, cls.names)
        if language.name in ("javascript", "typescript"):
            test = _STRICT_ASSERT + test
        if language.name == "rust":
            for line, used in _CRATES.items():
                if not re.search(used, solution + test):
                    prompt = prompt.replace(line, "")
        return TranslatedProblem(id_, prompt, name, f"\n{test}", solution, *bug)


class HumanEvalPack(OwnTests):
    """HumanEvalSynthesize: a function from its docstring; the known bugs must fail the tests."""

    names = ("task_id", "prompt", "entry_point", "test", "canonical_solution", "buggy_solution")
    file = "languages/humanevalpack/humanevalpack-{}.jsonl.gz"
    hub = "bigcode/humanevalpack:{}:test"
    codes: ClassVar = {
        "cpp": "cpp", "go": "go", "java": "java", "javascript": "js", "rust": "rust",
    }  # fmt: skip

    @classmethod
    def problem_in(cls, language, place, row):
        """Parses a row into a problem."""
        problem = super().problem_in(language, place, row)
        if language.name != "go":
            return problem
        imports = text_field(place, row, "test_setup")
        return replace(problem, prompt=_with_imports(imports, problem.prompt))


class McEval(OwnTests):
    """McEval: fifty problems per language, each with a reference."""

    names = HumanEvalPack.names[:5]
    file = "languages/mceval/{}.jsonl.gz"
    codes: ClassVar = {
        "bash": "Shell", "c": "C", "cpp": "CPP", "csharp": "Csharp", "go": "Go",
        "haskell": "Haskell", "java": "Java", "javascript": "JavaScript", "kotlin": "Kotlin",
        "lua": "Lua", "perl": "Perl", "php": "PHP", "r": "R", "ruby": "Ruby", "rust": "Rust",
        "scala": "Scala", "swift": "Swift", "typescript": "TypeScript",
    }  # fmt: skip

    @classmethod
    def problem_in(cls, language, place, row):
        """Parses a row into a problem."""
        problem = super().problem_in(language, place, row)
        prompt, test = f"{problem.prompt}\n", problem.test
        if language.name == "csharp":
            prompt = _USINGS + prompt
        if language.name == "kotlin":  # its tests call main, as scripts do
            test = re.sub(r"\nmain\(\)\s*\Z", "\n", test)
        return replace(problem, prompt=prompt, test=test)
