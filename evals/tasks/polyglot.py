"""Aider's polyglot benchmark (Gauthier 2024): exercises of Exercism, 34 of them in Python.

``aider-polyglot:go`` has those in Go, and so on (:mod:`.exercises`): their tests run beside the
program (trust ``in_sandbox``). What follows is about those in Python, except for the tries.

A problem shows the exercise's instructions and the file to complete; the answer is the whole file
(``aider-polyglot``, aider's format ``whole``) or blocks of search and replace
(``aider-polyglot-diff``, its format ``diff``). A program has two tries: ``codegen eval run TASK
--retry RUN`` shows what failed with the file as the first try left it and what its tests said, as
aider does. Aider's pass_rate_1 is the pass@1 of the first run and pass_rate_2 that of the second,
which keeps what has passed. ``well_formed`` is the share of answers with a file, or with blocks
that fit.

The data is a copy of the repository Aider-AI/polyglot-benchmark (``--source DIR``), or a file with
one exercise a row: ``id``, ``files`` (path -> text), and lists of paths in ``solution``, ``test``
and ``example``.

Differences from aider: one conversation turn instead of two, no repository map, and no further
requests after a malformed answer. Tests that need more than plain values and functions run in the
program's process (``in_sandbox``) and could be forged, as in aider: blinded tests report only the
first failure. The second prompt reports the
tests as pytest does: the failing tests' text and the difference, at most 50 lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from codegen.errors import ConfigError, InputError
from codegen.evals.sandbox import Job, Limits, Mode
from codegen.evals.sandbox.languages import find
from codegen.records import Sample, Verdict

from .base import CodeTask
from .exercises import ENDINGS, TOGETHER, answered, joined, parted
from .extraction import BLOCKS, Extraction, apply_blocks, fenced_blocks
from .rows import (
    Home,
    Problem,
    Rows,
    make_problems,
    read_json,
    read_rows_of,
    read_text,
    text_field,
    texts_field,
)
from .styles import PromptStyle, style_of

# The wording is aider's (benchmark/prompts.py).
_ADDENDUM = """\
####

Use the above instructions to modify the supplied files: {name}
Don't change the names of existing functions or classes, as they may be referenced from other code \
like unit tests, etc.
Only use standard libraries, don't suggest installing any packages.
"""
_FAILED = """\
####

See the testing errors above.
The tests are correct, don't try and change them.
Fix the code in {name} to resolve the errors.
"""
_WHOLE = "Answer with the whole file {name}, in one code block."
_WHOLE_EACH = "Answer with whole files, each in a code block of its own below a line with its name."
_LINES = 50  # shown of the tests' output
_MOST_BYTES = 16 << 20  # per file of an exercise
_DOCS = (".docs/introduction.md", ".docs/instructions.md", ".docs/instructions.append.md")
# Exercises whose tests catch the program's own exceptions, patch what it calls, or pass it objects.
_BESIDE = frozenset({"python/grep", "python/list-ops", "python/paasio"})
_CRATE = "its example needs the crate {}, and the sandbox has none"
_BROKEN = {
    "python/paasio": "its tests look for the file name paasio.py in the call stack",
    "go/counter": "the tests are what is to be written; a program always fails here",
    "go/paasio": "its tests need two processors, and a sandbox has one",
    "java/hangman": "needs RxJava 2, and Debian has version 3",
    "javascript/grep": "its tests start the program with files as another process",
    "rust/gigasecond": "its tests need the crate time, and the sandbox has none",
    **{
        f"rust/{name}": _CRATE.format(crate)
        for name, crate in {
            "alphametics": "itertools",
            "decimal": "num-bigint",
            "grep": "anyhow",
            "pig-latin": "regex",
            "poker": "counter",
            "robot-name": "rand",
            "simple-cipher": "rand",
        }.items()
    },
}
_LIMITS = Limits(cpu_s=30.0)
_THREADS = Limits(cpu_s=30.0, processes=1200, memory_mib=3072)  # a thousand
_OWN_LIMITS = {
    "cpp/bank-account": _THREADS,
    "java/alphametics": Limits(cpu_s=90.0),
    "java/bank-account": _THREADS,
}
# What references need -> where Debian's package of that name has it.
_NEEDED = {
    "<boost/": ("libboost-date-time-dev", "/usr/include/boost/date_time"),
    "org.json.": ("libandroid-json-org-java", "/usr/share/java/json-latest.jar"),
}
# Refactoring exercises, whose files are already correct.
_COMPLETE = frozenset(
    {"go/ledger", "go/markdown", "java/ledger", "java/tree-building", "javascript/ledger"}
)
_AS_MODULE = "import sys\n\nsys.modules[{module!r}] = sys.modules['candidate']\n\n"


@dataclass(frozen=True, slots=True)
class Exercise(Problem):
    """One exercise; ``prompt`` is the file to complete, or several (:func:`.exercises.joined`).

    Attributes:
        instructions: the exercise in words.
        test: the tests in Python, without the imports of the program.
        example: the solution, like ``prompt``.
        stubs: path -> text of the files to complete, in other languages.
        others: likewise of the other files: tests, and code that is given.
    """

    name: str
    instructions: str
    test: str
    example: str
    stubs: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)


class Polyglot(CodeTask[Exercise]):
    """The task over given exercises, in the language that its name ends with, else in Python."""

    home = Home("languages/aider_polyglot/python.jsonl.gz")
    takes_language: ClassVar[bool] = True
    asks = ("instruction",)
    whole_programs = True
    style = "chat"

    def __init__(
        self, name: str, description: str, problems: Sequence[Exercise], source: str
    ) -> None:
        super().__init__(name, description, problems, source)
        self.language = _language(name)
        self.languages = () if self.language == "python" else (self.language,)
        self.reference_exceptions = {
            problem.id: why for problem in problems if (why := _why_not(problem))
        }

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """One of the tasks, by its name.

        Raises:
            ConfigError: for a language that the task lacks.
        """
        language = _language(name)
        if source and Path(source).is_dir():
            rows = Rows(_exercises(Path(source), language), Path(source).name)
        else:
            rows = read_rows_of(source, Home(cls.home.file.replace("python", language)))

        def problem(place: str, row: Mapping[str, Any]) -> Exercise:
            return cls.problem_of(place, row) if language == "python" else _foreign(place, row)

        if language != "python":
            description = f"{description}; in {find(language).title}"
        return cls(name, description, make_problems(rows, problem), rows.source)

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> Exercise:
        """The exercise of a row in Python."""
        files = _files(place, row)
        solution = _paths(place, row, "solution", files)
        if len(solution) != 1:
            raise InputError(f"{place}: the exercise has several files to complete.")
        (name,) = solution
        module = name.removesuffix(".py")
        tests = [
            (path.removesuffix(".py"), files[path]) for path in _paths(place, row, "test", files)
        ]
        try:
            test = test_of(tests, module)
        except SyntaxError as error:
            raise InputError(f"{place}: the tests are not Python ({error}).") from None
        return Exercise(
            text_field(place, row, "id"),
            files[name],
            name,
            _instructions(files),
            test,
            files[_paths(place, row, "example", files)[0]],
        )

    @property
    def by_blocks(self) -> bool:
        """Whether the answer is blocks of search and replace: so for a name in ``-diff``."""
        return self.name.partition(":")[0].endswith("-diff")

    def instruction(self, problem: Exercise) -> str:
        """The instructions, the file, and how to answer."""
        return self._asked(problem, problem.prompt)

    def _asked(self, problem: Exercise, code: str) -> str:
        addendum = _ADDENDUM.format(name=problem.name)
        return f"{problem.instructions}\n\n{addendum}\n{self._shown(problem, code)}"

    def _shown(self, problem: Exercise, code: str) -> str:
        files = parted(problem.stubs or {problem.name: ""}, code)
        whole = _WHOLE.format(name=problem.name) if len(files) == 1 else _WHOLE_EACH
        how = BLOCKS if self.by_blocks else whole
        shown = "".join(
            f"{name}\n```{self.language}\n{text.strip(chr(10))}\n```\n\n"
            for name, text in files.items()
        )
        return f"{shown}{how}"

    def again(self, problem: Exercise, sample: Sample, verdict: Verdict) -> str:
        """The instructions, the file as the first try left it, and what its tests said."""
        said = "\n".join(verdict.message.splitlines()[:_LINES])
        code = self.extract(problem, sample).program or self._before(problem, sample)
        failed = _FAILED.format(name=problem.name)
        addendum = _ADDENDUM.format(name=problem.name)
        shown = self._shown(problem, code)
        return f"{problem.instructions}\n\n{addendum}\n{said}\n\n{failed}\n{shown}"

    def extract(self, problem: Exercise, sample: Sample) -> Extraction:
        """The file after the answer."""
        if not self.by_blocks or style_of(sample).read == "whole":
            return super().extract(problem, sample)
        return apply_blocks(self._before(problem, sample), sample.completion)

    def read(self, problem: Exercise, style: PromptStyle, answer: str) -> Extraction:
        """The files of an answer; those that it lacks stay as they are."""
        if style.read == "find" and problem.stubs:
            found = answered(list(problem.stubs), answer)
            if found:
                return Extraction(joined({**problem.stubs, **found}))
            blocks = fenced_blocks(answer)
            if len(problem.stubs) > 1 and len(blocks) == len(problem.stubs):
                return Extraction(joined(dict(zip(problem.stubs, blocks, strict=True))))
            if len(problem.stubs) > 1:
                return Extraction("", "no code block below the name of a file")
        return super().read(problem, style, answer)

    def _before(self, problem: Exercise, sample: Sample) -> str:
        before = sample.meta.get("before")
        return before if isinstance(before, str) and before else problem.prompt

    def job(self, problem: Exercise, program: str) -> Job:
        """The exercise's tests."""
        limits = _OWN_LIMITS.get(problem.id, _LIMITS)
        if problem.stubs:
            put = TOGETHER[self.language]
            own = parted(problem.stubs, program)
            together, test = put(problem.id.rpartition("/")[2], own, problem.others)
            return Job(
                together, test=test, mode="in_sandbox", limits=limits, language=self.language
            )
        if problem.id not in _BESIDE:
            own = Job(program, test=problem.test.partition(_RUN)[0])
            plain = own.mechanism == "isolated"
            # Not blinded: the second try is shown what each failed test says.
            mode: Mode = "isolated" if plain else "in_sandbox"
            return Job(program, test=problem.test, mode=mode, limits=limits, plain=plain)
        module = _AS_MODULE.format(module=problem.name.removesuffix(".py"))
        return Job(program, test=module + problem.test, mode="in_sandbox", limits=limits)

    def reference(self, problem: Exercise) -> str:
        """The exercise's example."""
        return problem.example

    def buggy(self, problem: Exercise) -> Sequence[str]:
        """The file as it is before, which has no body."""
        return () if problem.id in _COMPLETE else (problem.prompt,)

    def measure(self, problem: Exercise, sample: Sample) -> Mapping[str, float]:
        """See the module's docstring."""
        return {"well_formed": float(bool(self.extract(problem, sample).program))}


# --- rows --------------------------------------------------------------------------------------


def _language(name: str) -> str:
    task, _, code = name.partition(":")
    language = "python" if code.lower() in ("", "python", "py") else find(code).name
    if language not in ENDINGS:
        known = ", ".join(f"{task}:{one}" for one in ENDINGS)
        raise ConfigError(
            f"{task} has no exercises in {find(code).title}.", f"Use one of: {known}."
        )
    return language


def _why_not(problem: Exercise) -> str:
    """Why the reference of a problem is known to fail here; empty if it is not."""
    for text, (package, path) in _NEEDED.items():
        if text in problem.example and not Path(path).exists():
            return f"needs {package}"
    return _BROKEN.get(problem.id, "")


def _files(place: str, row: Mapping[str, Any]) -> Mapping[str, str]:
    """The texts of a row's files; those that many exercises share are elsewhere."""
    files = row.get("files")
    if isinstance(files, Mapping):
        files = {
            path: text
            for path, text in files.items()
            if not (isinstance(text, Mapping) and "shared" in text)
        }
    if not isinstance(files, Mapping) or not all(isinstance(t, str) for t in files.values()):
        raise InputError(f"{place}: the field 'files' must be an object of texts by path.")
    return files


def _paths(
    place: str, row: Mapping[str, Any], column: str, files: Mapping[str, str]
) -> Sequence[str]:
    names = texts_field(place, row, column)
    if not names or not {*names} <= {*files}:
        raise InputError(f"{place}: {column!r} must be a list of paths of 'files'.")
    return names


def _instructions(files: Mapping[str, str]) -> str:
    return "\n\n".join(files[path].strip() for path in _DOCS if path in files)


def _foreign(place: str, row: Mapping[str, Any]) -> Exercise:
    """The exercise of a row in another language than Python."""
    files = _files(place, row)
    id_ = text_field(place, row, "id")
    endings = ENDINGS[find(id_.partition("/")[0]).name]
    code = [path for path in files if path.endswith(endings) and not path.startswith(".")]
    stubs = {
        path: files[path]
        for path in _paths(place, row, "solution", files)
        if path.endswith(endings)
    }
    if not stubs:
        raise InputError(f"{place}: 'solution' has no file of code.")
    wanted = [path for path in _paths(place, row, "test", files) if path in code]
    examples = {Path(path).name: files[path] for path in _paths(place, row, "example", files)}
    by_suffix = {Path(name).suffix: text for name, text in examples.items()}
    solved = {
        path: examples.get(Path(path).name) or by_suffix.get(Path(path).suffix, stub)
        for path, stub in stubs.items()
    }
    # What is not named as a test there is code that is given, or tests in further files.
    others = {path: files[path] for path in [*wanted, *code] if path not in stubs}
    if id_.startswith("rust/"):
        others = {p: t for p, t in others.items() if p in wanted or not p.startswith("tests/")}
    if id_.startswith("java/"):  # further classes, which an answer has in one of its files
        known = {Path(path).name for path in (*stubs, *others)}
        *_, last = solved
        solved[last] += "".join(f"\n{text}" for name, text in examples.items() if name not in known)
    return Exercise(
        id_, joined(stubs), " ".join(stubs), _instructions(files), "", joined(solved), stubs, others
    )


# --- tests -------------------------------------------------------------------------------------


def test_of(tests: Sequence[tuple[str, str]], module: str) -> str:
    """One test of several modules, in which names of the program and of each other are global.

    Args:
        tests: name and text of each module; the first one has the test cases.
    """
    names = {module, *(name for name, _ in tests)}
    texts = []
    for _, text in reversed(tests):
        tree = _Imports(names).visit(ast.parse(text))
        texts.append(ast.unparse(ast.fix_missing_locations(tree)))
    cases = {
        f"{kind.name}.{method.name}": ast.unparse(method)
        for kind in ast.parse(tests[0][1]).body
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
    }
    return "\n\n".join([*texts, f"CASES = {cases!r}", _RUN])


class _Imports(ast.NodeTransformer):
    """Removes imports of modules whose names are global here."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._imported: set[str] = set()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """``from m import a as b`` becomes ``b = a``."""
        if node.module not in self._modules:
            return node
        return [
            ast.parse(f"{alias.asname} = {alias.name}").body[0]
            for alias in node.names
            if alias.asname and alias.asname != alias.name
        ] or ast.Pass()

    def visit_Import(self, node: ast.Import) -> Any:
        """``import m`` is removed."""
        self._imported |= self._modules & {alias.name for alias in node.names}
        node.names = [alias for alias in node.names if alias.name not in self._modules]
        return node if node.names else ast.Pass()

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """``m.a`` becomes ``a``."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self._imported:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return node


# Reports each failed test as pytest does: its text, and the difference.
_RUN = """
def run_all():
    import traceback
    import unittest

    said = []

    class Result(unittest.TestResult):
        def addFailure(self, test, err):
            self.tell(test, err[1])

        addError = addFailure

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.tell(test, err[1])

        def tell(self, test, error):
            name = ".".join(test.id().split(".")[-2:])
            text = "".join(traceback.format_exception_only(error)).strip()
            said.append(f"FAILED {name}\\n{CASES.get(name, '')}\\nE   {text}\\n")

    count = 0
    for name, value in list(globals().items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            suite = unittest.defaultTestLoader.loadTestsFromTestCase(value)
            count += suite.countTestCases()
            suite.run(Result())
            del globals()[name]  # so that it is not run again
    assert count, "there are no tests"
    if said:
        raise AssertionError(f"{len(said)} of {count} tests failed\\n\\n" + "\\n".join(said))


run_all()
"""


# --- a copy of the repository -------------------------------------------------------------------


def _exercises(folder: Path, language: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The exercises of a copy of the repository, as rows."""
    pattern = f"{language}/exercises/practice/*/.meta/config.json"
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(
            f"{folder} holds no {pattern}.",
            "Give the directory of a copy of Aider-AI/polyglot-benchmark.",
        )
    for config in found:
        place, exercise = str(config), config.parent.parent
        try:
            named = read_json(config)["files"]
            paths = {column: list(named[column]) for column in ("solution", "test", "example")}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{place}: not the configuration of an exercise.") from None
        wanted = [*_DOCS, *(str(path) for paths_ in paths.values() for path in paths_)]
        if language != "python":
            code = (path for end in ENDINGS[language] for path in sorted(exercise.rglob(f"*{end}")))
            found_code = (str(path.relative_to(exercise)) for path in code)
            wanted += [path for path in found_code if not path.startswith(".")]
        files = {}
        for path in wanted:
            file = (exercise / path).resolve()
            if file.is_relative_to(exercise.resolve()) and file.is_file():
                if file.stat().st_size > _MOST_BYTES:
                    raise InputError(f"{file} holds more than {_MOST_BYTES >> 20} MiB.")
                files[path] = read_text(file)
        yield place, {"id": f"{language}/{exercise.name}", "files": files, **paths}
