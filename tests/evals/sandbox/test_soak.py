"""The soak, shortened: many jobs, some of which leave all they can, and nothing is left of them."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from codegen.benchmarks import hostile, soak
from codegen.benchmarks.tools.hostile_suite import HOSTILE, PROBLEMS
from codegen.errors import SandboxError
from codegen.evals.sandbox import Sandbox
from codegen.evals.sandbox.launch import SLOTS

DESCRIPTORS_OF_A_PLACE = 6


@pytest.mark.long
def test_a_short_soak_leaves_nothing() -> None:
    try:
        Sandbox(workers=1).run("pass")
    except SandboxError as error:
        pytest.skip(str(error))
    figures = soak.run(minutes=0.15, hostile_share=0.3, every_s=3600)
    assert figures["wrong_verdicts"] == 0, figures["notes"]
    assert isinstance(jobs := figures["jobs"], int) and jobs > len(soak.NUISANCES)
    for what in ("processes", "files", "mounts", "ipc_objects"):
        # Fewer is no leak: a process of tests that is due to be replaced is missing then.
        assert isinstance(leaked := figures[f"leaked_{what}"], int) and leaked <= 0, what
    assert figures["processes_after_closing"] == 0
    # Zygotes may have made more sets of namespaces since the warm-up; they have a most.
    leaked = figures["leaked_descriptors"]
    assert isinstance(leaked, int) and leaked % DESCRIPTORS_OF_A_PLACE == 0
    assert leaked <= 4 * SLOTS * DESCRIPTORS_OF_A_PLACE
    growth = figures["memory_growth_mib"]
    assert isinstance(growth, float) and growth < 64


def test_peers_get_the_same_problems() -> None:
    """The arguments and results for EvalPlus say what the tests say."""
    assert set(hostile.AS_VALUES) == {name for name, p in PROBLEMS.items() if not p.stdout}
    for name, (inputs, expected) in hostile.AS_VALUES.items():
        known = {tuple(i): value for i, value in zip(inputs, expected, strict=True)}

        def add(a: int, b: int, known: dict[tuple[int, ...], object] = known) -> object:
            return known[a, b]

        namespace: dict[str, object] = {
            "add": add,
            "Sums": lambda add=add: contextlib.nullcontext(SimpleNamespace(add=add)),
            "each": lambda function, items: [function(*item) for item in items],
            "SumError": ArithmeticError,
        }
        exec(PROBLEMS[name].test, namespace)
        check = namespace.get("check")
        if callable(check):
            check(add)
    assert not hostile.fooled(next(r for r in HOSTILE if r.name.startswith("29 ")), True)
    assert hostile.fooled(HOSTILE[0], True) and not hostile.fooled(HOSTILE[0], False)
