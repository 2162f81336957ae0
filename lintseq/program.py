r"""A program made ready for sampling: its normal form, its pieces and what depends on what.

The *normal form* is what round-trips: a byte order mark is dropped, line ends ("\r\n", "\r") become
"\n", and a missing newline at the end is added, as Python itself reads source. All else is kept
byte for byte, blank lines at the end too.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from codegen.errors import ConfigError
from codegen.lintseq.dependencies import Graph, dependencies
from codegen.lintseq.errors import UnsupportedProgram
from codegen.lintseq.scopes import collect
from codegen.lintseq.signatures import add_signatures
from codegen.lintseq.text_format import MARKER
from codegen.lintseq.units import cut
from codegen.lintseq.weights import line_weights
from codegen.python_syntax import syntax_fault

Granularity = Literal["line", "statement"]
GRANULARITIES: tuple[Granularity, ...] = ("line", "statement")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program and the dependency graph that sampling walks. Nodes are numbered from 0, the
    module.

    Attributes:
        lines: of the normal form, without line ends.
        owners: the node that each line belongs to.
        weights: of each line to be drawn as the seed of a deletion; 0 for blank lines and comments.
        dependents: for each node, those that must be deleted with it.
        groups: for each node, the groups it is a member of.
        group_sizes, group_targets: for each group, its number of members and the node that must be
            deleted when all of them are.
        faulty: nodes with errors of the program itself, which go with the first deletion.
        inert: the lines that no checker's verdict rests on: comments, text of docstrings.
        idle: docstrings, each with the nodes of which one must be there for it to be inert too.
    """

    lines: tuple[str, ...]
    owners: tuple[int, ...]
    weights: tuple[float, ...]
    dependents: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    group_sizes: tuple[int, ...]
    group_targets: tuple[int, ...]
    faulty: tuple[int, ...] = ()
    inert: frozenset[int] = frozenset()
    idle: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """The normal form."""
        return "\n".join(self.lines) + "\n"

    def with_edges(self, edges: Mapping[int, Iterable[int]]) -> Prepared:
        """A copy where further nodes must be deleted with each key."""
        dependents = list(self.dependents)
        for node, more in edges.items():
            dependents[node] = tuple(sorted({*dependents[node], *more}))
        return replace(self, dependents=tuple(dependents))


def normalise(program: str) -> str:
    """The normal form of a program; "" stays empty."""
    text = program.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def prepare(program: str, *, granularity: Granularity = "line", strict: bool = False) -> Prepared:
    """Parses a program and works out its dependencies, once for any number of sequences.

    Args:
        program: Python source.
        granularity: what one piece is. ``line``, as in the paper: statements and the lines inside
            them that can go alone; see :mod:`codegen.lintseq.lines`. ``statement`` deletes and
            inserts whole statements, their comments with them.
        strict: whether to apply rule 7 of :mod:`codegen.lintseq.dependencies` too: fewer and
            larger edits.

    Raises:
        UnsupportedProgram: with the reason why it has no edit sequence.
        ConfigError: for an unknown granularity.
    """
    if granularity not in GRANULARITIES:
        raise ConfigError(
            f"There is no granularity {granularity!r}.",
            f"Choose one of: {', '.join(GRANULARITIES)}.",
        )
    text = normalise(program)
    tree = parse(text)
    lines = text.removesuffix("\n").split("\n")
    try:
        units = cut(tree, lines, by_line=granularity == "line")
        facts = collect(tree, units.node_of)
        graph = dependencies(units, facts, strict=strict)
        add_signatures(graph, units, facts)
    except RecursionError:
        raise _too_deep() from None
    starts = frozenset(
        node.first for node in units.nodes if node.stop > node.first and node.kind != "line"
    )
    prepared = _prepared(lines, units.owners, line_weights(lines, starts), graph)
    return replace(prepared, inert=units.inert, idle=units.idle)


def parse(text: str) -> ast.Module:
    """The syntax tree of a program in its normal form.

    Raises:
        UnsupportedProgram: with the reason why it has no edit sequence.
    """
    if not text.strip():
        raise UnsupportedProgram("empty", "it is empty.")
    if MARKER in text:
        raise UnsupportedProgram(
            "contains_marker", f"it contains {MARKER!r}, which separates edits in the text form."
        )
    if "\0" in text:
        raise UnsupportedProgram("null_bytes", "it contains null bytes.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(
                tree, "<program>", "exec", dont_inherit=True
            )  # "return" outside a function, ...
    except SyntaxError as error:
        if re.match("too many (levels|nested|statically nested) ", error.msg):
            raise _too_deep() from None
        raise UnsupportedProgram(*syntax_fault(text, error)) from None
    except UnicodeEncodeError:
        raise UnsupportedProgram("not_unicode", "it contains lone surrogates.") from None
    except ValueError as error:
        raise UnsupportedProgram("syntax_error", f"{error}.") from None
    except (RecursionError, MemoryError):
        raise _too_deep() from None
    if not tree.body:
        raise UnsupportedProgram("comments_only", "it has no statement.")
    return tree


def _too_deep() -> UnsupportedProgram:
    return UnsupportedProgram("too_deep", "its blocks or expressions nest too deep.")


def _prepared(lines: list[str], owners: list[int], weights: list[float], graph: Graph) -> Prepared:
    groups: list[list[int]] = [[] for _ in graph.dependents]
    for number, group in enumerate(graph.groups):
        for member in group.members:
            groups[member].append(number)
    return Prepared(
        lines=tuple(lines),
        owners=tuple(owners),
        weights=tuple(weights),
        dependents=tuple(tuple(sorted(nodes)) for nodes in graph.dependents),
        groups=tuple(map(tuple, groups)),
        group_sizes=tuple(len(group.members) for group in graph.groups),
        group_targets=tuple(group.target for group in graph.groups),
        faulty=tuple(sorted(graph.faulty)),
    )
