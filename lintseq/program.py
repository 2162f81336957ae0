r"""Prepares a program for sampling: its normal form, its pieces and their dependencies.

The *normal form* round-trips: a byte order mark is dropped, line ends ("\r\n", "\r") become "\n",
and a missing final newline is added, as Python itself reads source. Everything else is kept,
including blank lines at the end.

:func:`line_weights` are the odds of each line as the seed of a deletion, as in the reference code
of LintSeq: deeper lines weigh more, so they are deleted earlier and written later. Blank lines,
comments and the inside of global definitions (``NAME = [`` up to ``]``) are never sampled; they are
deleted with the lines around them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from codegen.core.errors import require_known
from codegen.core.python_syntax import TOO_DEEP, parse_example, with_newlines
from codegen.core.records import has_lone_surrogate
from codegen.lintseq.dependencies import Graph, dependencies
from codegen.lintseq.edits import UnsupportedProgram
from codegen.lintseq.scopes import collect
from codegen.lintseq.text_format import MARKER
from codegen.lintseq.units import cut

Granularity = Literal["line", "statement"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)


@dataclass(frozen=True, slots=True)
class PreparedProgram:
    """A program and its dependency graph. Nodes are numbered from 0, the module.

    Attributes:
        lines: lines of the normal form, without line ends.
        owners: node of each line.
        weights: sampling weight of each line as the seed of a deletion; 0 for blank lines and
            comments.
        dependents: nodes that must be deleted with each node.
        groups: groups that contain each node.
        group_sizes, group_targets: number of members of each group, and the node that must be
            deleted with the last of them.
        faulty: nodes with errors of the program itself, removed by the first deletion.
        inert: lines that do not affect any checker: comments, text of docstrings.
        idle: docstring -> nodes; it is inert while one of these nodes exists.
        language: language of the program.
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
    language: str = "python"

    @property
    def program(self) -> str:
        """The program in its normal form."""
        return "\n".join(self.lines) + "\n"

    def with_edges(self, edges: Mapping[int, Iterable[int]]) -> PreparedProgram:
        """Returns a copy in which additional nodes must be deleted with given nodes."""
        dependents = list(self.dependents)
        for node, more in edges.items():
            dependents[node] = tuple(sorted({*dependents[node], *more}))
        return replace(self, dependents=tuple(dependents))


def normalize(program: str) -> str:
    """Returns the normal form of a program; "" stays empty."""
    text = with_newlines(program.removeprefix("\ufeff"))
    return text if not text or text.endswith("\n") else text + "\n"


def prepare(
    program: str,
    *,
    granularity: Granularity = "line",
    strict: bool = False,
    language: str = "python",
) -> PreparedProgram:
    """Parses a program and finds its dependencies, once for any number of sequences.

    Args:
        granularity: unit of deletion. ``line``, as in the paper: statements, and lines inside
            them that can be deleted alone (:mod:`codegen.lintseq.line_pieces`). ``statement``:
            whole statements with their comments.
        strict: also apply rule 7 of :mod:`codegen.lintseq.dependencies`: fewer and larger edits;
            only in Python.
        language: ``python`` or one of :data:`codegen.lintseq.languages.GRAMMARS`.

    Raises:
        UnsupportedProgram: if it has no edit sequence; contains the reason.
        ConfigError: for an unknown granularity.
        MachineError: if the language's grammar is not installed.
    """
    require_known("granularity", granularity, GRANULARITIES)
    text = normalize(program)
    lines = text.removesuffix("\n").split("\n")
    if language != "python":
        return _prepare_foreign(text, lines, language, by_line=granularity == "line")
    tree = parse(text)
    try:
        units = cut(tree, lines, by_line=granularity == "line")
        facts = collect(tree, units.node_of)
        graph = dependencies(units, facts, strict=strict)
    except RecursionError:
        raise UnsupportedProgram("too_deep", TOO_DEEP) from None
    starts = frozenset(
        node.first for node in units.nodes if node.stop > node.first and node.kind != "line"
    )
    prepared = _prepared(lines, units.owners, line_weights(lines, starts), graph)
    return replace(prepared, inert=units.inert, idle=units.idle)


def _prepare_foreign(
    text: str, lines: list[str], language: str, *, by_line: bool
) -> PreparedProgram:
    """Prepares a program in a language other than Python."""
    from codegen.lintseq.languages import (  # not needed for Python
        GRAMMARS,
        LANGUAGES,
        read,
    )

    _require_usable(text)
    if "\0" in text:
        raise UnsupportedProgram("null_bytes", "it contains null bytes.")
    if has_lone_surrogate(text):
        raise UnsupportedProgram("not_unicode", "it contains lone surrogates.")
    if language not in GRAMMARS:
        known = ", ".join(("python", *(grammar.name for grammar in LANGUAGES)))
        raise UnsupportedProgram(
            "unknown_language", f"{language!r} is unsupported; choose from: {known}."
        )
    grammar = GRAMMARS[language]
    parts = read(grammar, lines, by_line=by_line)
    indents = indentations(lines)
    tab = next((indent for indent in indents if indent > 0), 1)
    weights = [
        max(indent / tab, 1.0) * drawn for indent, drawn in zip(indents, parts.drawn, strict=True)
    ]
    prepared = _prepared(lines, parts.owners, weights, parts.graph)
    return replace(prepared, inert=parts.inert, language=grammar.name)


def _require_usable(text: str) -> None:
    if not text.strip():
        raise UnsupportedProgram("empty", "it has only whitespace.")
    if MARKER in text:
        raise UnsupportedProgram(
            "contains_marker", f"it contains {MARKER!r}, which separates edits in the text form."
        )


def parse(text: str) -> ast.Module:
    """Parses a program in its normal form.

    Raises:
        UnsupportedProgram: if it has no edit sequence; contains the reason.
    """
    _require_usable(text)
    tree = parse_example(text, UnsupportedProgram, compiles=True)
    if not tree.body:
        raise UnsupportedProgram("comments_only", "it has no statement.")
    return tree


def _prepared(
    lines: list[str], owners: list[int], weights: list[float], graph: Graph
) -> PreparedProgram:
    groups: list[list[int]] = [[] for _ in graph.dependents]
    for number, group in enumerate(graph.groups):
        for member in group.members:
            groups[member].append(number)
    return PreparedProgram(
        lines=tuple(lines),
        owners=tuple(owners),
        weights=tuple(weights),
        dependents=tuple(tuple(sorted(nodes)) for nodes in graph.dependents),
        groups=tuple(map(tuple, groups)),
        group_sizes=tuple(len(group.members) for group in graph.groups),
        group_targets=tuple(group.target for group in graph.groups),
        faulty=tuple(sorted(graph.faulty)),
    )


_CLOSING = {"(": ")", "[": "]"}


def line_weights(lines: Sequence[str], starts: Set[int] = frozenset()) -> list[float]:
    """Returns the weight of each line, 0 for lines that are never sampled.

    With ``i`` the indentation of a line, see :func:`indentations`, and ``tab`` the first positive
    one, a line weighs 1 if ``i`` is 0, else ``i / tab``.

    Args:
        starts: numbers of lines that start a piece of the program. A global definition ends before
            the next one; the reference looks for its closing bracket up to the program's end.
    """
    indents = indentations(lines)
    tab = next((indent for indent in indents if indent > 0), 1)
    weights = [0.0] * len(lines)
    closing = ""
    for number, line in enumerate(lines):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        if closing and number not in starts:
            if text.endswith(closing):
                closing = ""
            continue
        closing = _opened(text)
        weights[number] = indents[number] / tab if indents[number] > 0 else 1.0
    return weights


def indentations(lines: Sequence[str]) -> list[int]:
    """Returns the indentation of each line in characters.

    A line with at most one other character has the indentation of the line before.
    """
    indents: list[int] = []
    for line in lines:
        text = line.lstrip()
        if len(text) <= 1:
            indents.append(indents[-1] if indents else 0)
        else:
            indents.append(len(line) - len(text))
    return indents


def _opened(text: str) -> str:
    """Returns the bracket that closes a global definition opened by the line, or ""."""
    name, equals, _ = text.partition("=")
    if equals and text[-1] in _CLOSING and name.replace(" ", "").isupper():
        return _CLOSING[text[-1]]
    return ""
