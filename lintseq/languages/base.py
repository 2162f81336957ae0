"""What a language's grammar means for edit sequences: the tables that :mod:`.reader` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tree_sitter import Node

if TYPE_CHECKING:
    from codegen.lintseq.languages.reader import Reader

Words = frozenset[str]
Fields = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grammar:
    """The node types of a tree-sitter grammar, by their part in an edit sequence.

    Attributes:
        name: of the language, as in :data:`codegen.languages.LANGUAGES`.
        blocks: their children on lines of their own are units: statements, members.
        lists: so are their elements, each with its comma, with granularity ``line``.
        nonempty: blocks that must not be empty.
        parallel: blocks that end in each of their children, such as the cases of a switch.
        prefixes: belong to the sibling after them, such as attributes.
        always: come with the first edit, since what needs them does not name them.
        scopes: names declared inside are unknown outside.
        ordered: scopes in which a name refers to the last declaration above.
        hoisted: their declarations belong to the function around them.
        delayed: declarations that are known only after their end (``let x = x + 1``).
        names, members: leaves that use a name, or a member of something.
        declared: leaves that can be declared.
        declares: node type -> fields whose names it declares in the scope around it; "" means
            children without a field.
        parameters: the same for a scope of its own.
        declaring: node type -> tokens, one of which marks a declaration; a node without any of
            them is an assignment.
        patterns: node types that hold declared names -> the fields with them.
        implied: node type -> the names it declares without a leaf of that name (imports).
        member_names: node type -> the field with the member that it declares.
        member_uses: (node type, field) of leaves in ``names`` that name a member.
        inherits: whether a name that no scope around it declares may be a member, and the other way
            round a member a name in another scope, such as a namespace.
        ignored: (node type, field) of names from elsewhere.
        raw: leaves whose text holds names, such as the body of a macro.
        assignments: node types of assignments, with a field ``left``.
        assigned_later: declarations whose names, if they have no value, need every assignment.
        functions: function type -> the field with its type of result; the last statement must stay.
        no_result: types of result that mean none.
        infers_results: whether a function without such a type may have a result all the same.
        any_declaration: whether one of several declarations is enough.
        must_use: declarations of names that must be used.
        rules: adds the language's own rules.
    """

    name: str
    blocks: Words
    lists: Words = frozenset()
    nonempty: Words = frozenset()
    parallel: Words = frozenset()
    prefixes: Words = frozenset()
    always: Words = frozenset()
    scopes: Words
    ordered: Words = frozenset()
    hoisted: Words = frozenset()
    delayed: Words = frozenset()
    names: Words
    members: Words = frozenset()
    declared: Words
    declares: Fields
    parameters: Fields = field(default_factory=dict)
    declaring: Mapping[str, Words] = field(default_factory=dict)
    patterns: Fields = field(default_factory=dict)
    implied: Mapping[str, Callable[[Node], Iterable[str]]] = field(default_factory=dict)
    member_names: Mapping[str, str] = field(default_factory=dict)
    member_uses: frozenset[tuple[str, str]] = frozenset()
    inherits: bool = False
    ignored: frozenset[tuple[str, str]] = frozenset()
    raw: Words = frozenset()
    assignments: Words = frozenset()
    assigned_later: Words = frozenset()
    functions: Mapping[str, str] = field(default_factory=dict)
    no_result: Words = frozenset()
    infers_results: bool = False
    any_declaration: bool = False
    must_use: Words = frozenset()
    rules: Callable[[Reader], None] | None = None


def words(text: str) -> Words:
    """A set of words."""
    return frozenset(text.split())


def text_of(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode("utf-8")
