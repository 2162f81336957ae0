"""Decontamination: what must be found, what must not, broken reference sets, the report."""

from __future__ import annotations

import gzip
import json
import pickle
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Example
from codegen.data import make, open_source, read_rejects, run
from codegen.data.filters import exact_form, ngram_hashes, words
from codegen.data.filters.decontamination import (
    Decontamination,
    Reference,
    ReferenceSet,
    find_overlap,
    open_reference,
)

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
    rejected = screen.check(Example("e", instruction, program))
    return rejected.detail.partition(" ")[0] if rejected else None


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


def test_nothing_is_found_in_the_standard_library() -> None:
    screen = Decontamination.build(["humaneval"])
    items = (item for item in open_source("stdlib") if isinstance(item, Example))
    examples = list(islice(items, 150))
    assert len(examples) == 150
    assert [screen.check(example) for example in examples] == [None] * len(examples)


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
        (SOLUTION.replace("\n", "\r\n"), "exact"),
        (SOLUTION.replace("numbers, target", "numbers: list[int], target: int"), "ngram"),
        (SOLUTION.replace("return best", "result = best\n    return result"), "ngram"),
        (SOLUTION.replace("return best", "return best )"), "exact"),  # doesn't parse
        (f"x = 1\n{TESTS}\n", "ngram"),
        (SOLUTION.replace("<", ">"), "exact"),
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
    example, share = Example("e", "Do it.", text), len(own & reference) / len(reference)
    rejected = toy.check(example)
    assert rejected and f"part=solution score={share:.3f} " in rejected.detail
    assert Decontamination.build([TOY], min_overlap=share + 1e-9).check(example) is None
    assert Decontamination.build([TOY], min_overlap=share).check(example) == rejected


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
    assert kind_of(copy, SOLUTION) == "exact"
    other = ReferenceSet("toy", (Reference("toy/1", (PROMPT,), (SOLUTION + "\n",), (TESTS,)),))
    assert Decontamination.build([other]).describe() != toy.describe()


def test_a_huge_program_is_still_checked(toy: Decontamination) -> None:
    filler = "".join(f"x{i} = {i}\n" for i in range(100_000))
    assert len(filler) > 1_000_000
    assert kind_of(toy, filler) is None
    assert kind_of(toy, filler + SOLUTION) == "ngram"


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


@pytest.mark.parametrize("name", ["my set.jsonl", "my set.jsonl.gz", "my set.parquet"])
def test_files_of_each_kind_are_the_same_set(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        write_rows(path, ROWS)
    read = open_reference(str(path))
    assert read.name == "my_set"
    assert [problem.id for problem in read.problems] == ["7", "8"]
    assert read.problems[0].tests == (TESTS,)
    reference = open_reference(write_rows(tmp_path / "my set2.jsonl", ROWS))
    assert read.digest() == reference.digest()
    assert kind_of(Decontamination.build([str(path)]), SOLUTION) == "exact"


def test_published_files_are_understood(data_folder: Path) -> None:
    for name, number in {
        "evalplus/HumanEvalPlus.jsonl.gz": 164,
        "evalplus/MbppPlus.jsonl.gz": 378,
        "humanevalpack/humanevalpack-python.jsonl.gz": 164,
    }.items():
        problems = open_reference(str(data_folder / name)).problems
        assert len(problems) == number
        assert all(problem.prompt and problem.solution and problem.tests for problem in problems)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no problems"),
        (b"\n\n", "contains no problems"),
        (b'{"a": 1, "b": "x"}\n', r"neither prompts nor solutions. Its columns are: a, b"),
        (b'{"prompt": "x"}\n{"prompt": \n', r"bad\.jsonl:2: bad json"),
        (b'{"prompt": "x"}\n[1]\n', r"bad\.jsonl:2: not an object"),
        (b'{"prompt": 3}\n', r"column 'prompt' contains int"),
        (b'{"prompt": "\xff"}\n', "not utf8"),
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
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="has an unknown file type"):
        open_reference(str(tmp_path / "a.txt"))
    whole = gzip.compress(b'{"prompt": "x y z"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz:\d+: damaged archive"):
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


def test_a_run_leaves_them_out_and_names_the_problem(tmp_path: Path) -> None:
    rows = [
        {"id": "good", "instruction": "Print it.", "program": "print('it')\n"},
        {"id": "bad", "instruction": "Do it.", "program": SOLUTION + "x = 1\n"},
        {"id": "bäd 2", "instruction": PROMPT, "program": "pass\n"},
    ]
    source = open_source(write_rows(tmp_path / "in.jsonl", rows))
    screen = Decontamination.build([TOY])
    out = tmp_path / "out"
    manifest = run(make("whole"), source, out, workers=1, filters=[screen])
    assert manifest.counts["skipped"] == {"contaminated": 2}
    assert [(row["id"], row["detail"]) for row in read_rejects(out)] == [
        ("bad", "ngram match: part=solution score=1.000 set=toy problem=toy/1"),
        ("bäd 2", "exact match: part=prompt score=1.000 set=toy problem=toy/1"),
    ]
    assert manifest.run.decontamination == screen.describe()


SUM = (
    "Write a function that returns the sum of all even numbers in a list of integers, and zero for "
    "an empty list.",
    "def even_sum(items):\n    return sum(item for item in items if item % 2 == 0)\n",
)
MAX = ("Return the longest word of a sentence.", "def f(s):\n    return max(s.split(), key=len)\n")


def test_copies_in_the_set_and_in_nested_training_data_are_found(tmp_path: Path) -> None:
    problems = {"a": SUM, "b": MAX, "c": (SUM[0], SUM[1] + "# copied\n"), "d": MAX}
    path = tmp_path / "train.jsonl"
    chat = {"messages": [{"role": "user", "content": f"Please help. {SUM[0]} Thanks."}]}
    path.write_text(json.dumps({"text": "unrelated"}) + "\n" + json.dumps(chat) + "\n")
    found = find_overlap(problems, [str(path)])
    assert found["d"] == ["duplicate: of=b"]
    assert [text.partition(":")[0] for text in found["c"]] == ["duplicate"]
    (match,) = found["a"]
    assert match.startswith(f"{path}:2: ngram match: part=prompt")
    assert "b" not in found
