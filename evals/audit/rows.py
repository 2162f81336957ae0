"""The records of an audit: one row per problem, written as JSON lines."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant of the reference that passes all tests of its problem.

    Attributes:
        kind: class of the mistake.
        program: the mutant, laid out by :func:`ast.unparse`.
        proved_by: ``suite`` (a stronger suite rejects it) and ``inputs`` (it differs from the
            reference on a generated input); none if it may be equivalent to the reference.
        input: a call with different results; empty if unproved.
        expected: the reference's result, as Python prints it.
        got: the mutant's result, or the way it failed.
        killed: the hardened tests reject it.
    """

    kind: str
    program: str
    proved_by: tuple[str, ...] = ()
    input: str = ""
    expected: str = ""
    got: str = ""
    killed: bool = False

    @property
    def is_proved(self) -> bool:
        """Whether it is known to be wrong."""
        return bool(self.proved_by)


@dataclass(frozen=True, slots=True)
class Row:
    """The audit of one problem.

    Attributes:
        state: ``audited``; or why not, and the fields below are empty: ``no_reference``,
            ``reference_fails``, ``flaky_reference`` (it passes some runs only),
            ``tests_nothing`` (the tests pass regardless of the program), ``not_python``,
            ``not_run`` (nothing to run, or packages are missing), ``too_large``, ``unreadable``,
            ``sandbox_failed`` (run the audit again).
        message: details of the state.
        reference: the reference solution, laid out as the mutants are.
        cpu_s, limit_s: CPU seconds of the reference, and its limit.
        modules: modules outside the standard library that the reference and the tests import.
        unstable: calls on which the reference returned different results in two runs.
        assertions: number of assertions with twins.
        dead: assertions whose twins all pass, or that pass for all constant programs.
        constants: constant programs that pass.
        mutants: number of mutants by class of mistake.
        survivors: mutants that pass.
        suite: the stronger suite has the problem and accepts its reference.
        trust: grade of the tests, see :attr:`codegen.evals.sandbox.Job.trust`.
        sites, open_sites: assertions about the program; those that it could forge.
        forgers: tricks that pass in the chosen harness.
        duplicates: similar problems of the set, and training examples that contain this one.
        added: assertions of the hardened tests.
    """

    id: str
    state: str = "audited"
    message: str = ""
    reference: str = ""
    cpu_s: float = 0.0
    limit_s: float = 0.0
    modules: tuple[str, ...] = ()
    unstable: tuple[str, ...] = ()
    assertions: int = 0
    dead: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    mutants: dict[str, int] = field(default_factory=dict)
    survivors: tuple[Survivor, ...] = ()
    suite: bool = False
    trust: str = ""
    sites: int = 0
    open_sites: tuple[str, ...] = ()
    forgers: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def proved(self) -> list[Survivor]:
        """The wrong programs that the tests accept."""
        return [survivor for survivor in self.survivors if survivor.is_proved]
