"""The distribution of edit sequences against LintSeq by brute force."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest
from scipy.stats import chi2

from codegen.benchmarks.tools.lintseq_pass import edits_by_program
from codegen.benchmarks.tools.programs import edit_programs
from codegen.core.records import Example
from codegen.lintseq import LintSeq, prepare, resolve
from codegen.lintseq.resampling import sample_edits
from tests.lintseq.brute_force import (
    Lint,
    States,
    all_sequences,
    chi_square,
    mean_edits,
    pylint_lines,
    shown,
)
from tests.selection import some

DRAWS = 1500

PROGRAMS = {
    "two functions": "def f(x):\n    y = x + 1\n    return y\n\n\n"
    "def g(x):\n    z = f(x)\n    return z\n",
    "independent functions": "def f(a):\n    return a\n\n\n"
    "def g(b):\n    b = b + 1\n    return b\n",
    "a function and its users": "def double(x):\n    y = x * 2\n    return y\n\n\n"
    "def main():\n    print(double(3))\n    print(double(4))\n",
    "branches": "def f(x):\n    if x > 0:\n        y = 1\n    elif x < 0:\n        y = -1\n"
    "    else:\n        y = 0\n    return y\n",
    "two returns": "def sign(x):\n    if x < 0:\n        return -1\n    return 1\n\n\n"
    "value = sign(3)\nprint(value)\n",
    "names bound again": "def f(text):\n    words = text.split()\n"
    "    words = [w.lower() for w in words]\n    words = sorted(words)\n    return words\n",
    "another type": "def f(text):\n    out = []\n    for c in text:\n        out.append(c)\n"
    "    out = ''.join(out)\n    return out.split()\n",
    "a class": "class A:\n    def __init__(self, x):\n        self.x = x\n\n"
    "    def get(self):\n        return self.x\n\n\na = A(1)\nprint(a.get())\n",
    "special methods": "class P:\n    kind = 1\n\n    def __repr__(self):\n        return 'P'\n\n\n"
    "p = P()\nprint(p)\n",
    "a parent": "class A:\n    def __init__(self):\n        self.x = 1\n\n\nclass B(A):\n"
    "    def __init__(self):\n        super().__init__()\n        self.y = 2\n",
    "an error that is raised": "def f(k):\n    if k == 1:\n        v = 'a'\n    else:\n"
    "        raise ValueError(k)\n    return v\n",
    "comments": "# a tool\ndef f(x):\n    # add one\n    y = x + 1\n    return y\n\n\n"
    "# run it\nprint(f(1))\n",
    "an unknown name": "def f(x):\n    y = x\n    print(y)\n    z = missing(y)\n    return z\n\n\n"
    "def g(a):\n    b = a\n    return b\n",
    "a loop with break": "def f(n):\n    i = 0\n    while True:\n        i += 1\n"
    "        if i > n:\n            break\n    return i\n",
    "lines of a call": "def f(a, b):\n    return max(\n        a,\n        b,\n    )\n",
    "lines of a table": "D = {\n    'a': 1,\n    'b': 2,\n}\nprint(D)\n",
    "imports": "import os\nimport sys\n\n\ndef f(p):\n    print(os.path.join(p, 'a'))\n"
    "    sys.exit(1)\n",
}


@pytest.fixture(scope="module")
def lint() -> Lint:
    return pylint_lines()


@cache
def expected(name: str, lint: Lint) -> Mapping[States, float]:
    return all_sequences(PROGRAMS[name], lint)


def p_value(counts: Mapping[States, int], shares: Mapping[States, float]) -> float:
    statistic, freedom = chi_square(counts, shares)
    return float(chi2.sf(statistic, max(freedom, 1)))


def drawn_states(states: tuple[str, ...]) -> States:
    """The unfinished states of a sequence, in the order of deletion."""
    texts = [shown(state.split("\n")) for state in reversed(states[:-1])]
    return tuple(filter(None, dict.fromkeys(texts)))


@pytest.mark.slow
@pytest.mark.parametrize("name", some(PROGRAMS, 2))
def test_preset_paper_has_the_distribution_of_the_paper(name: str, lint: Lint) -> None:
    config = LintSeq(preset="paper", sequences=DRAWS)
    texts = config.generate(Example(name, "", PROGRAMS[name]), random.Random(1))
    counts = Counter(drawn_states(resolve(text.trained).states) for text in texts)
    assert sum(counts.values()) == DRAWS
    assert p_value(counts, expected(name, lint)) > 0.01


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_default_has_the_distribution_of_the_paper(name: str, lint: Lint) -> None:
    """Of programs without docstrings and loops that pylint can't follow, the rules are exact."""
    prepared = prepare(PROGRAMS[name])
    rng = random.Random(3)
    counts = Counter(drawn_states(sample_edits(prepared, rng).states) for _ in range(DRAWS))
    assert p_value(counts, expected(name, lint)) > 0.001
    likely = {states for states, share in expected(name, lint).items() if share > 10 / DRAWS}
    assert likely <= set(counts)


@pytest.mark.parametrize(("granularity", "strict"), [("statement", True), ("statement", False)])
def test_the_test_can_fail(granularity: str, strict: bool, lint: Lint) -> None:
    """Whole statements and strict rules are other distributions; the comparison tells."""
    failed = 0
    for name in ("another type", "lines of a table", "comments", "two returns"):
        prepared = prepare(PROGRAMS[name], granularity=granularity, strict=strict)  # type: ignore[arg-type]
        rng = random.Random(3)
        counts = Counter(drawn_states(sample_edits(prepared, rng).states) for _ in range(DRAWS))
        failed += p_value(counts, expected(name, lint)) < 0.001
    assert failed >= 2


def test_brute_force_on_a_program_that_can_be_worked_out_by_hand(lint: Lint) -> None:
    found = all_sequences("a = 1\nb = a\n", lint)
    assert found == pytest.approx({(): 0.5, ("a = 1",): 0.5})
    assert mean_edits(found) == pytest.approx(1.5)


@pytest.mark.long
def test_edits_a_sequence_are_those_of_the_reference() -> None:
    """On HumanEval's solutions, library functions and modules of classes: within a tenth."""
    for name, programs in edit_programs().items():
        ours, theirs = (edits_by_program(programs, engine) for engine in ("fast", "reference"))
        both = ours.keys() & theirs.keys()
        assert len(both) > 0.9 * len(programs)
        ratio = sum(ours[id_] for id_ in both) / sum(theirs[id_] for id_ in both)
        assert 0.9 < ratio < 1.1, name
