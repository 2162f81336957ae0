"""How much of a corpus UniCode covers, and how much comes back equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codegen.methods.unicode.convert import Annotations, same_program, to_python, to_unicode
from codegen.methods.unicode.errors import UnsupportedProgram
from codegen.methods.unicode.styles import BRACES, Style


@dataclass(frozen=True, slots=True)
class Coverage:
    """The round trip Python -> UniCode -> Python over a corpus.

    Attributes:
        programs: how many could be written.
        unequal: names of those that came back with another AST.
        skipped: reason -> names of programs that could not be written.
        nodes: AST nodes of all programs written.
        uncovered: AST node type -> nodes that were embedded as Python.
    """

    programs: int
    unequal: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]
    nodes: int
    uncovered: Mapping[str, int]

    @property
    def covered_rate(self) -> float:
        """The share of nodes that have a form in UniCode."""
        return 1 - sum(self.uncovered.values()) / self.nodes if self.nodes else 1.0


def measure(
    programs: Iterable[tuple[str, str]],
    style: Style = BRACES,
    *,
    annotations: Annotations = "all",
) -> Coverage:
    """Sends programs, given as (name, source), through the round trip.

    Raises:
        UniCodeSyntaxError: if a text that was written can't be read, an error of this package.
    """
    count = nodes = 0
    unequal: list[str] = []
    skipped: dict[str, tuple[str, ...]] = {}
    uncovered: Counter[str] = Counter()
    for name, program in programs:
        try:
            written = to_unicode(program, style, annotations=annotations)
        except UnsupportedProgram as error:
            skipped[error.reason] = (*skipped.get(error.reason, ()), name)
            continue
        count += 1
        nodes += written.nodes
        uncovered.update(written.uncovered)
        again = to_python(written.text)
        if not same_program(program, again, annotations=annotations):
            unequal.append(name)
    return Coverage(count, tuple(unequal), skipped, nodes, dict(uncovered))
