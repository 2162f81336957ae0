"""What the LintSeq benchmark rests on: corpus, the peer's worker, the audit, the bookkeeping."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from codegen.benchmarks.tools.lintseq_audit import audit, published_round_trips, round_trips
from codegen.benchmarks.tools.lintseq_pass import Pass, cost_by_program, one_pass
from codegen.benchmarks.tools.programs import (
    STDLIB,
    Program,
    benchmark_programs,
    third_party_programs,
)
from codegen.benchmarks.tools.published import VARIABLE, Peer, find_peer
from codegen.benchmarks.tools.pylint_audit import dirty_states, look_up, messages_of
from codegen.benchmarks.tools.reference_pass import lint, reference_pass
from codegen.errors import ConfigError
from codegen.lintseq import format_edits
from codegen.lintseq.edits import Edit, Hunk

# Stands in for PyPI's package: a diff for each line, no answer, or the end of the process.
FAKE_UTILS = """
import numpy, os
linted = []
def set_seed_everywhere(seed):
    global current
    current = seed
def file_linter(path):
    linted.append(open(path).read())
def lintseq_backward_sampling_pythonic(code, **options):
    assert options["max_depth"] == 512 and options["children_per_round"] == 1
    if "die" in code and "warm" not in code:
        os._exit(3)
    if "hopeless" in code:
        return None
    print("noise of a linter")
    return [[[[0]]]]
def inflate_edit_path(code, path):
    lines = code.splitlines()
    diffs = [f"@@ -{n},0 +{n + 1} @@\\n+{line}" for n, line in enumerate(lines)]
    return [], diffs + [f"seed {current}, warmed up with {linted}"]
"""


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter in which a package of the peer's name is installed."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "pylintseq").mkdir()
    (packages / "pylintseq" / "__init__.py").write_text("")
    (packages / "pylintseq" / "utils.py").write_text(FAKE_UTILS)
    (packages / "numpy.py").write_text("")
    for name in ("pylintseq", "pylint", "astroid", "numpy"):
        info = packages / f"{name}-7.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 7.0\n")
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_the_peer_goes_on_after_programs_that_end_it(
    other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, other_python)
    peer = find_peer()
    assert peer == Peer(other_python, peer.versions if peer else {})
    assert peer and peer.versions["pylintseq"] == "7.0"
    texts = ["a = 1\nb = 2\n", "die\n", "hopeless\n", "die\n", "c = 3\n"]
    results = peer.run([(f"p{n}", text, 40 + n) for n, text in enumerate(texts)], ["w = 'die'"])
    assert list(results) == ["p0", "p2", "p4"]
    assert results["p2"].diffs is None
    assert all(result.cpu_s >= 0 for result in results.values())
    assert results["p0"].diffs == (
        "@@ -0,0 +1 @@\n+a = 1",
        "@@ -1,0 +2 @@\n+b = 2",
        """seed 40, warmed up with ["w = 'die'"]""",
    )
    assert results["p4"].diffs and "seed 44, warmed" in results["p4"].diffs[-1]


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable])
def test_a_wrong_interpreter_is_named_with_the_remedy(
    python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, python)
    with pytest.raises(ConfigError, match=r"pip install pylintseq") as caught:
        find_peer()
    assert python in str(caught.value)


def test_without_the_package_there_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    assert find_peer() is None


def test_the_corpus() -> None:
    programs = benchmark_programs()
    human = [program for program in programs if program.set == "humaneval"]
    library = [program for program in programs if program.set == "stdlib"]
    assert len(human) == 30 and 11 <= len(library) <= len(STDLIB) == 14  # Debian has no turtledemo
    assert len({program.id for program in programs}) == len(programs)
    numbers = [int(program.id.partition("/")[2]) for program in human]
    gaps = {b - a for a, b in itertools.pairwise(numbers)}
    assert gaps == {5, 6} and numbers[0] == 0 and numbers[-1] <= 163
    for program in programs:
        compile(program.text, program.id, "exec")


def test_third_party_programs_are_drawn_by_seed(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"m{number}.py").write_text(f"x = {number}\n" * (10 * number))
    (tmp_path / "broken.py").write_text("x = (\n" * 50)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "m.py").write_text("x = 1\n" * 50)
    chosen = [third_party_programs(4, seed, [tmp_path]) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(third_party_programs(99, 1, [tmp_path])) == 10  # 20 to 110 lines
    assert all(20 <= program.text.count("\n") <= 200 for program in chosen[0])


STATES = [
    "print(undefined)\n",
    "def f(:\n",
    "import os\n",  # an unused import is only a warning
    "def f():\n   return 1\n",
    "class A:\n    def __init__(self):\n        pass\n\n\nclass B(A):\n"
    "    def __init__(self):\n        pass\n",
]


@pytest.mark.slow
def test_the_audit_says_what_pylints_command_line_says(tmp_path: Path) -> None:
    """Line by line with ``python -m pylint``, a process for each file."""
    flags = ["--disable=C,R", "--unsafe-load-any-extension=y", "--score=n", "--rcfile="]
    template = "--msg-template={msg_id}"
    for text, messages in zip(STATES, messages_of(STATES), strict=True):
        path = tmp_path / "state.py"
        path.write_text(text)
        command = [sys.executable, "-m", "pylint", *flags, template, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        ids = [
            line for line in done.stdout.splitlines() if line[:1] in "EFW" and line[1:].isdigit()
        ]
        heeded = sorted(i for i in ids if i[0] in "EF" or i in ("W0311", "W0231"))
        assert sorted(id_ for id_, _ in messages.elements()) == heeded, text


@pytest.mark.slow
def test_a_state_is_dirty_only_by_what_the_program_has_not() -> None:
    program = "print(gone)\nx = 1\nprint(x)\n"
    states = ["print(gone)\n", "print(gone)\nprint(gone)\n", "print(x)\n", "x = 1\n"]
    known: dict = {}
    look_up([program, *states], known)
    assert dirty_states(program, states, known) == [1, 2]


def _text(*edits: list[tuple[int, list[str]]]) -> str:
    return format_edits(
        Edit(tuple(Hunk(start, tuple(lines)) for start, lines in edit)) for edit in edits
    )


@pytest.mark.slow
def test_an_audit_counts_unfinished_states_and_names_the_programs() -> None:
    clean = Program("clean", "s", "x = 1\nprint(x)\n")
    bad = Program("bad", "s", "x = 1\nprint(x)\n")
    passes = [
        Pass(
            texts={
                "clean": [_text([(0, ["x = 1"])], [(1, ["print(x)"])])],
                "bad": [_text([(0, ["print(x)"])], [(0, ["x = 1"])])],
            }
        )
    ]
    found = audit([clean, bad], passes, {})
    assert (found.states, found.dirty, found.dirty_programs) == (2, 1, {"bad"})
    assert found.reasons == {"E0602": 1}
    assert round_trips([clean, bad], passes) == (2, 2)
    other = Program("bad", "s", "x = 1\nprint(x) \n")
    assert round_trips([clean, other], passes) == (1, 2)


def test_round_trips_of_the_published_diffs() -> None:
    program = Program("p", "s", "\nx = 1\ny = 2\n\n")
    right = {"p": ("@@ -0,0 +1 @@\n+y = 2", "@@ -0,0 +1 @@\n+x = 1")}
    wrong = {"p": ("@@ -0,0 +1 @@\n+y = 2", "@@ -1,0 +2 @@\n+x = 1")}
    assert published_round_trips([program], [right, wrong]) == (1, 2)


def test_the_costs_of_programs_add_up_to_the_pass() -> None:
    """Each pays for itself, and for the check by the characters of its states."""
    small, large = _text([(0, ["x"])]), _text([(0, ["x" * 5])])
    done = Pass(
        repeats=2,
        cpu_s=10.0,
        alone_s={"small": 1.0, "large": 1.0, "refused": 2.0},
        texts={"small": [small, small], "large": [large, large]},
        refused={"refused": "why"},
    )
    costs = cost_by_program(done)
    assert sum(costs.values()) * done.repeats == pytest.approx(done.cpu_s)
    # States of 2 and 6 characters share what the two did not use alone: 10 - 2.
    assert costs == pytest.approx({"small": (1 + 2) / 2, "large": (1 + 6) / 2})


@pytest.mark.slow
def test_our_reference_sets_up_a_linter_for_each_check_and_gives_programs_back() -> None:
    programs = [
        Program("a", "s", "def f(x):\n    y = x\n    return y\n\n\nprint(f(1))\n"),
        Program("comments", "s", "# nothing\n"),
    ]
    results = reference_pass(programs, seed=1)
    assert results["comments"].diffs is None
    assert results["a"].diffs and results["a"].cpu_s > 0
    assert published_round_trips(programs[:1], [{"a": results["a"].diffs}]) == (1, 1)
    assert reference_pass(programs, seed=1)["a"].diffs == results["a"].diffs


def test_the_linter_puts_a_block_without_a_body_on_its_header() -> None:
    (finding,) = lint("x = 1\nif x:\nprint(x)\n")
    assert (finding.line, finding.rule) == (2, "E0001")


@pytest.mark.parametrize("verify", ["static", "ruff"])
def test_a_pass_makes_what_the_generator_makes(verify: str) -> None:
    from codegen.lintseq import LintSeq
    from codegen.records import Example

    programs = [
        Program("a", "s", "import os\n\n\ndef f(x):\n    y = x\n    return y\n"),
        Program("broken", "s", "def f(:\n"),
        Program("b", "s", "x = 1\ny = x\nprint(x, y)\n"),
    ]
    done = one_pass(programs, verify, sequences=2, repeats=3, seed=9)
    assert list(done.refused) == ["broken"]
    assert {id_: len(texts) for id_, texts in done.texts.items()} == {"a": 6, "b": 6}
    assert done.sequences == 12
    generator = LintSeq(sequences=2, verify="static", audit=0.0)
    example = Example("a@1", "", programs[0].text)
    texts = generator.generate(example, random.Random("9 a@1"))
    if verify == "static":
        assert done.texts["a"][2:4] == [text.segments[-1].text for text in texts]
    assert round_trips(programs, [done]) == (12, 12)
    assert set(cost_by_program(done)) == {"a", "b"}


@pytest.mark.long
@pytest.mark.parametrize(("verify", "most"), [("ruff", 0.005), ("pylint", 0.0)])
def test_states_of_installed_packages_are_clean(verify: str, most: float) -> None:
    """Code that no rule was tuned on; plain pylint is the oracle."""
    programs = third_party_programs(60, seed=11)
    done = one_pass(programs, verify, seed=11)
    found = audit(programs, [done], {})
    assert found.states > 300
    assert found.dirty <= most * found.states, found
