"""Decontamination: what must be found, what must not, broken reference sets, the report."""

from __future__ import annotations

import ast
import gzip
import json
import pickle
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.data import Skip, make, open_source, read_rejects, run
from codegen.data.filters import exact_form, ngram_hashes, words
from codegen.data.filters.decontamination import (
    Decontamination,
    Match,
    Reference,
    ReferenceSet,
    open_reference,
    write_report,
)
from codegen.errors import ConfigError, InputError
from codegen.records import Example

SOLUTION = '''
def closest(numbers, target):
    """The number closest to the target."""
    best = numbers[0]  # so far
    for number in numbers:
        if abs(number - target) < abs(best - target):
            best = number
    return best
'''
PROMPT = "Write a function that finds in a list of numbers the one that is closest to a target."
TESTS = """assert closest([1, 5, 9], 6) == 5
assert closest([3], 100) == 3
assert closest([7, 8], 0) == 7"""
TOY = ReferenceSet("toy", (Reference("toy/1", (PROMPT,), (SOLUTION,), (TESTS,)),))


@pytest.fixture(scope="module")
def toy() -> Decontamination:
    return Decontamination.build([TOY])


def kind_of(screen: Decontamination, program: str, instruction: str = "Do it.") -> str | None:
    match = screen.match(Example("e", instruction, program))
    return match and match.kind


def renamed(program: str) -> str:
    """The program with other local names, no docstrings and no annotations, laid out by CPython."""
    tree = ast.parse(program)
    bound = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    other = {name: f"other_{name[::-1]}_{i}" for i, name in enumerate(sorted(bound))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = other.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = other[node.arg], None
        elif isinstance(node, ast.FunctionDef):
            node.name, node.returns = other[node.name], None
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                del node.body[0]
    return ast.unparse(tree)


def test_every_humaneval_problem_is_found_in_each_disguise() -> None:
    screen = Decontamination.build(["humaneval"])
    for item in open_source("humaneval"):
        assert isinstance(item, Example)
        rejected = screen.check(item)
        assert rejected and rejected.outcome == "skipped" and rejected.reason == "contaminated"
        # But for punctuation, 56 and 61 have one prompt.
        problem = item.id.replace("/61", "/56")
        assert rejected.detail.endswith(f"set=humaneval problem={problem}")
        # The solution alone, and the instruction alone.
        assert kind_of(screen, item.program) is not None
        assert kind_of(screen, "print(1)\n", item.instruction) is not None


def test_renamed_solutions_of_humaneval_are_found(humaneval_rows: list[dict[str, Any]]) -> None:
    screen = Decontamination.build(["humaneval"])
    for row in humaneval_rows:
        program = renamed(row["prompt"] + row["canonical_solution"])
        functions = [n for n in ast.parse(program).body if isinstance(n, ast.FunctionDef)]
        nodes = max(
            sum(not isinstance(n, ast.expr_context) for n in ast.walk(function))
            for function in functions
        )
        # What is missed is too short to tell from what anyone writes.
        assert (kind_of(screen, program) is not None) == (nodes >= 12), row["task_id"]


def test_nothing_is_found_in_the_standard_library() -> None:
    screen = Decontamination.build(["humaneval"])
    items = (item for item in open_source("stdlib") if isinstance(item, Example))
    examples = list(islice(items, 150))
    assert len(examples) == 150
    assert [screen.match(example) for example in examples] == [None] * len(examples)


def test_mbpp_is_found_whole(data_folder: Path) -> None:
    path = str(data_folder / "mbpp" / "mbpp.jsonl.gz")
    screen = Decontamination.build([path])
    assert screen.describe()["sets"][0]["problems"] == 974
    source = open_source(path, instruction_column="text", program_column="code")
    items = [item for item in source if isinstance(item, Example)]
    assert len(items) == 974
    for item in items:
        assert screen.check(item) is not None


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (SOLUTION, "exact"),
        (SOLUTION.upper().replace("\n    ", "\n\n   \t "), "exact"),  # case and layout
        (SOLUTION.replace("# so far", "# something else"), "exact"),
        (SOLUTION.replace("\n", "\r\n"), "exact"),
        (renamed(SOLUTION), "syntax"),
        (f"import os\n\nclass A:\n    x = 1\n\n{renamed(SOLUTION)}\n\nprint(os.name)\n", "syntax"),
        (SOLUTION.replace("numbers, target", "numbers: list[int], target: int"), "syntax"),
        (SOLUTION.replace("return best", "result = best\n    return result"), "ngram"),
        (SOLUTION.replace("return best", "return best )"), "ngram"),  # doesn't parse
        (f"x = 1\n{TESTS}\n", "ngram"),
        (SOLUTION.replace("<", ">"), "ngram"),
        ("def f(a):\n    return a + 1\n", None),
        ("", None),
        ("# closest", None),
        ("\x00\ud800", None),
        ("é = '日本語'\n", None),
    ],
)
def test_what_counts_as_the_solution(toy: Decontamination, program: str, kind: str | None) -> None:
    assert kind_of(toy, program) == kind


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        (PROMPT, "exact"),
        (f"  {PROMPT.upper()}\n", "exact"),
        (f"You are a good programmer. {PROMPT} Think first.", "ngram"),
        (f"Solve: {SOLUTION}", "ngram"),
        ("Write a function that finds in a list of numbers the largest.", None),
        ("Write it in C#, for a target.", None),
    ],
)
def test_what_counts_as_the_prompt(
    toy: Decontamination, instruction: str, kind: str | None
) -> None:
    assert kind_of(toy, "pass\n", instruction) == kind


def test_the_share_is_that_of_a_plain_count(toy: Decontamination) -> None:
    """Oracle: sets of tuples of words."""
    text = SOLUTION.replace("return best", "return max(best, 0)")
    n = 10
    lists = [re.findall(r"\w+", t.lower()) for t in (f"Do it. {text}", SOLUTION)]
    own, reference = ({tuple(ws[i : i + n]) for i in range(len(ws) - n + 1)} for ws in lists)
    match = toy.match(Example("e", "Do it.", text))
    assert match and match.part == "solution"
    assert match.score == pytest.approx(len(own & reference) / len(reference))
    strict = Decontamination.build([TOY], min_overlap=match.score + 1e-9)
    assert strict.match(Example("e", "Do it.", text)) is None
    strict = Decontamination.build([TOY], min_overlap=match.score)
    assert strict.match(Example("e", "Do it.", text)) == match


def test_one_common_ngram_can_be_made_enough() -> None:
    screen = Decontamination.build([TOY], min_overlap=0.0)
    ten = "finds in a list of numbers the one that is"
    assert kind_of(screen, "pass", f"Something {ten} best") == "ngram"
    assert kind_of(screen, "pass", f"Something {ten[:-3]} may be") is None
    assert kind_of(screen, "pass", "nothing in common at all with any problem of the set") is None


def test_the_index_is_picklable_and_says_what_it_is(toy: Decontamination) -> None:
    copy = pickle.loads(pickle.dumps(toy))  # noqa: S301 - made here
    assert copy.describe() == toy.describe()
    assert json.loads(json.dumps(toy.describe())) == toy.describe()
    assert kind_of(copy, renamed(SOLUTION)) == "syntax"
    other = ReferenceSet("toy", (Reference("toy/1", (PROMPT,), (SOLUTION + "\n",), (TESTS,)),))
    assert Decontamination.build([other]).describe() != toy.describe()


def test_a_huge_program_is_still_checked(toy: Decontamination) -> None:
    filler = "".join(f"x{i} = {i}\n" for i in range(100_000))
    assert len(filler) > 1_000_000
    assert kind_of(toy, filler) is None
    assert kind_of(toy, filler + SOLUTION) == "ngram"


def test_deep_programs_do_not_break_it(toy: Decontamination) -> None:
    nested = "".join(f"{' ' * i}def f{i}(a):\n" for i in range(95)) + f"{' ' * 95}return a\n"
    assert kind_of(toy, nested * 20 + SOLUTION) is not None
    for program in (
        "(" * 5000,
        "x = 0x" + "f" * 5000,
        "x = " + "1 + " * 20_000 + "1\n",
        "-" * 50_000 + "1",
        "'''" * 3001,
    ):
        assert kind_of(toy, program) is None


@given(st.text(alphabet="ab1_ \n\t'\"\\#([{}]):é", max_size=200))
def test_the_exact_form_never_fails_and_is_stable(text: str) -> None:
    form = exact_form(text)
    assert exact_form(text + "\n# comment") == form or "'" in text or '"' in text or "\\" in text
    assert exact_form(text.replace("\n", "\r\n")) == form


def test_the_exact_form_keeps_what_counts() -> None:
    base = "if a:\n    b = 1\n    c = 'x  y'\nd = [1, 2]\n"
    same = "\n\nif a :\n\tb=1 # one\n\n\tc = 'x  y'\n\nd = [1,\n    2]"
    assert exact_form(base) == exact_form(same)
    for other in (
        "if a:\n    b = 1\nc = 'x  y'\nd = [1, 2]\n",  # another block
        base.replace("x  y", "x y"),
        base.replace("b", "B"),
        base.replace("= 1", "= 11"),
    ):
        assert exact_form(base) != exact_form(other)
    assert exact_form("a b", "c") != exact_form("a  b", "c")
    assert exact_form("a b # c", "c") != exact_form("a b", "c")


def test_the_exact_form_takes_linear_time() -> None:
    import time

    def seconds(text: str) -> float:
        began = time.process_time()
        exact_form(text)
        return time.process_time() - began

    for piece in ("\\'''", '"""x', "'\\\n", '\\"', "f'{", "(", "\n \t"):
        small, large = seconds(piece * 10_000), seconds(piece * 80_000)
        assert large < 30 * max(small, 0.005), piece


def test_ngrams_are_those_of_a_plain_loop() -> None:
    tokens = words("a b c a b c d A, b; C")
    assert tokens == ["a", "b", "c", "a", "b", "c", "d", "a", "b", "c"]
    plain = {tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)}
    assert len(ngram_hashes(tokens, 3)) == len(plain)
    assert len(ngram_hashes(tokens, 11)) == 0 and len(ngram_hashes(tokens, 10)) == 1
    # The order within an n-gram counts; and the values are the same everywhere.
    assert ngram_hashes(["a", "b"], 2)[0] != ngram_hashes(["b", "a"], 2)[0]
    assert ngram_hashes(["a", "b"], 2).tolist() == ngram_hashes(["a", "b"], 2).tolist()


def test_syntax_units() -> None:
    base = syntax_units("def f(a, b):\n    return a.x + len(b)\n")
    renamed = syntax_units("def g(y, x):\n    'doc'\n    return y.x + len(x)\n")
    again = syntax_units("def f(a: int, b) -> int:\n    # one\n    return (a.x + len(b))\n")
    assert base and renamed and base == again
    assert [unit.digest for unit in base] == [unit.digest for unit in renamed]
    assert [unit.named_digest for unit in base] != [unit.named_digest for unit in renamed]
    assert (
        base[0].nodes == 12
    )  # by hand: def, arguments, a, b, return, +, its sign, a.x, a, call, len, b
    for other in (
        "def f(a, b):\n    return b.x + len(a)\n",
        "def f(a, b):\n    return a.y + len(b)\n",
        "def f(a, b):\n    return a.x + sum(b)\n",
        "def f(a, b=1):\n    return a.x + len(b)\n",
        "def f(a, b):\n    return a.x - len(b)\n",
        "async def f(a, b):\n    return a.x + len(b)\n",
    ):
        units = syntax_units(other)
        assert units and units[0].digest != base[0].digest
    assert syntax_units("def f(:") is None


@given(st.text(max_size=30), st.text(max_size=30).map(lambda t: "s" + "".join(t.split())))
def test_details_are_read_back(problem: str, name: str) -> None:
    match = Match("ngram", "tests", 0.625, name, problem)
    assert Match.from_detail(match.detail()) == match


def test_details_of_others_are_not_read() -> None:
    assert Match.from_detail("something else") is None


# --- reference sets ---


def write_rows(path: Path, rows: list[Any]) -> str:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


ROWS = [
    {"task_id": 7, "text": PROMPT, "code": SOLUTION, "test_list": TESTS.split("\n")},
    {
        "task_id": 8,
        "text": "Another one, which is about nothing.",
        "code": "x = 1",
        "test_list": [],
    },
]


@pytest.mark.parametrize(
    "name", ["my set.jsonl", "my set.jsonl.gz", "my set.json", "my set.parquet"]
)
def test_files_of_each_kind_are_the_same_set(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        write_rows(path, ROWS)
    read = open_reference(str(path))
    assert read.name == "my_set"
    assert [problem.id for problem in read.problems] == ["7", "8"]
    assert read.problems[0].tests == (TESTS,)
    reference = open_reference(write_rows(tmp_path / "my set2.jsonl", ROWS))
    assert read.digest() == reference.digest()
    assert kind_of(Decontamination.build([str(path)]), renamed(SOLUTION)) == "syntax"
    (tmp_path / "by id.json").write_text(json.dumps({str(row["task_id"]): row for row in ROWS}))
    assert open_reference(str(tmp_path / "by id.json")).digest() == read.digest()


def test_published_files_are_understood(data_folder: Path) -> None:
    for name, number in {
        "evalplus/HumanEvalPlus.jsonl.gz": 164,
        "evalplus/MbppPlus.jsonl.gz": 378,
        "humanevalpack/humanevalpack-python.jsonl.gz": 164,
        "mbpp/sanitized-mbpp.json.gz": 427,
        "bigcodebench/bigcodebench_hard.json.gz": 148,
    }.items():
        problems = open_reference(str(data_folder / name)).problems
        assert len(problems) == number
        assert all(problem.prompt and problem.solution and problem.tests for problem in problems)


def test_solutions_that_go_on_from_the_prompt(tmp_path: Path) -> None:
    head, body = SOLUTION.split("    best = numbers[0]")
    row = {"prompt": head, "canonical_solution": "    best = numbers[0]" + body}
    path = write_rows(tmp_path / "a.jsonl", [row])
    assert kind_of(Decontamination.build([path]), renamed(SOLUTION)) == "syntax"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no problem"),
        (b"\n\n", "holds no problem"),
        (b'{"a": 1, "b": "x"}\n', r"neither prompts nor solutions. Its columns are: a, b"),
        (b'{"prompt": "x"}\n{"prompt": \n', r"bad\.jsonl:2: not valid JSON"),
        (b'{"prompt": "x"}\n[1]\n', r"bad\.jsonl:2: expected a JSON object"),
        (b'{"prompt": 3}\n', r"column 'prompt' holds int"),
        (b'{"prompt": "\xff"}\n', "UTF-8"),
    ],
)
def test_broken_sets_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Decontamination.build([str(path)])


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No reference set"):
        open_reference(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "a.json").write_text('{"prompt": "x"}')
    with pytest.raises(InputError, match="holds no list of rows"):
        open_reference(str(tmp_path / "a.json"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="has an unknown kind"):
        open_reference(str(tmp_path / "a.txt"))
    whole = gzip.compress(b'{"prompt": "x y z"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz:\d+: damaged"):
        open_reference(str(tmp_path / "cut.jsonl.gz"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        open_reference(str(tmp_path / "bad.parquet"))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError):
        Decontamination.build([TOY], ngram=0)
    for share in (1.5, -0.1, float("nan")):
        with pytest.raises(ConfigError):
            Decontamination.build([TOY], min_overlap=share)


# --- the report ---


def test_a_run_leaves_them_out_and_reports_them(tmp_path: Path) -> None:
    rows = [
        {"id": "good", "instruction": "Print it.", "program": "print('it')\n"},
        {"id": "bad", "instruction": "Do it.", "program": renamed(SOLUTION)},
        {"id": "bäd 2", "instruction": PROMPT, "program": "pass\n"},
    ]
    source = open_source(write_rows(tmp_path / "in.jsonl", rows))
    screen = Decontamination.build([TOY])
    out = tmp_path / "out"
    manifest = run(make("whole"), source, out, workers=1, filters=[screen])
    assert manifest.counts["skipped"] == {"contaminated": 2}
    report = [json.loads(line) for line in (out / "decontamination.jsonl").open()]
    assert report == [
        {
            "id": "bad",
            "kind": "syntax",
            "part": "solution",
            "score": 1.0,
            "set": "toy",
            "problem": "toy/1",
        },
        {
            "id": "bäd 2",
            "kind": "exact",
            "part": "prompt",
            "score": 1.0,
            "set": "toy",
            "problem": "toy/1",
        },
    ]
    assert manifest.removed == {
        "inputs": 2,
        "set": {"toy": 2},
        "kind": {"exact": 1, "syntax": 1},
        "part": {"prompt": 1, "solution": 1},
    }
    assert manifest.run.decontamination == screen.describe()
    assert [row["id"] for row in read_rejects(out)] == ["bad", "bäd 2"]


def test_another_generators_reason_of_that_name_is_not_reported(tmp_path: Path) -> None:
    class Own:
        name = "own"

        def config(self) -> dict[str, Any]:
            return {}

        def generate(self, example: Example, rng: object) -> Iterator[Any]:
            raise Skip("contaminated", "with something")

    source = open_source(write_rows(tmp_path / "in.jsonl", [{"instruction": "a", "program": "b"}]))
    run(Own(), source, tmp_path / "out", workers=1)
    counted = write_report(tmp_path / "out" / "rejects.jsonl", tmp_path / "report.jsonl")
    assert counted == {"inputs": 0, "set": {}, "kind": {}, "part": {}}
    assert (tmp_path / "report.jsonl").read_text() == ""
