"""Go, in which unused imports and variables are errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tree_sitter import Node

from codegen.lintseq.languages.base import Grammar, text_of, words
from codegen.lintseq.languages.reader import Reader

_VERSION = re.compile(r"v\d+")
# Methods that interfaces of the standard library ask for.
_ASKED_FOR = words(
    "Close Deadline Done Err Error Format GoString Info Int63 IsDir Len Less Lock MarshalBinary "
    "MarshalJSON MarshalText ModTime Mode Name Open Pop Push Read ReadAt ReadByte ReadDir ReadFrom "
    "ReadRune RoundTrip Scan Seed Seek ServeHTTP Set Size Stat String Swap Sys Uint64 Unlock "
    "UnmarshalBinary UnmarshalJSON UnmarshalText UnreadByte UnreadRune Unwrap Value Write WriteAt "
    "WriteByte WriteString WriteTo"
)
_NAMED = words("type_identifier qualified_type generic_type")


def _imported(spec: Node) -> Iterable[str]:
    """The name of a package: its last element but for a version."""
    path = spec.child_by_field_name("path")
    if path is None or spec.child_by_field_name("name"):
        return []
    *above, last = text_of(path).strip('"`').split("/")
    if above and _VERSION.fullmatch(last):
        last = above[-1]
    return [last.partition(".")[0].removeprefix("go-")]


def _rules(reader: Reader) -> None:
    _constants(reader)
    _methods(reader)
    _positional(reader)
    _embedded(reader)
    for spec in reader.nodes.get("import_spec", ()):
        if (name := spec.child_by_field_name("name")) and text_of(name) in ("_", "."):
            reader.needed_by_all(reader.unit(spec))
    for element in reader.nodes.get("keyed_element", ()):
        if key := element.child_by_field_name("key"):
            for unit in reader.members.get(text_of(key), ()):
                reader.edge(unit, reader.unit(element))


def _constants(reader: Reader) -> None:
    """A constant without a value repeats the one above."""
    for group in reader.nodes.get("const_declaration", ()):
        valued = 0
        for spec in group.children:
            if spec.type == "const_spec" and spec.child_by_field_name("value"):
                valued = reader.unit(spec)
            elif spec.type == "const_spec":
                reader.edge(valued, reader.unit(spec))


def _methods(reader: Reader) -> None:
    """The users of a type may need the methods by which it satisfies an interface."""
    asked: dict[str, list[Node]] = {}
    for method in reader.nodes.get("method_elem", ()):
        if name := method.child_by_field_name("name"):
            asked.setdefault(text_of(name), []).append(method)
    for same in asked.values():  # an interface may have to satisfy another
        for method in same if len(same) > 1 else ():
            if method.parent:
                reader.edge(reader.unit(method), reader.unit(method.parent))
    asked_for = _ASKED_FOR | asked.keys()
    methods: dict[str, list[int]] = {}
    own: dict[str, set[int]] = {}
    for method in reader.nodes.get("method_declaration", ()):
        name, receiver = (method.child_by_field_name(part) for part in ("name", "receiver"))
        for kind in re.findall(r"\w+", text_of(receiver))[-1:] if receiver else ():
            if name and text_of(name) in asked_for:
                own.setdefault(kind, set()).add(reader.unit(method))
                methods.setdefault(kind, []).append(reader.unit(method))
    for use in reader.uses:
        if not any(reader.contains(unit, use.unit) for unit in own.get(use.name, ())):
            for unit in methods.get(use.name, ()):
                reader.edge(unit, use.unit)


def _positional(reader: Reader) -> None:
    """A value of a structure without names of fields needs all of them."""
    fields: dict[str, list[int]] = {}
    for field in reader.nodes.get("field_declaration", ()):
        around = field.parent and field.parent.parent and field.parent.parent.parent
        if around is None or around.type != "type_spec":  # a type without a name
            reader.edge(reader.unit(field), reader.unit(field))
            continue
        if name := around.child_by_field_name("name"):
            fields.setdefault(text_of(name), []).append(reader.unit(field))
    for literal in reader.nodes.get("literal_value", ()):
        if literal.named_children and literal.named_children[0].type != "keyed_element":
            around: Node | None = literal
            while around is not None and around.type != "composite_literal":
                around = around.parent
            kind = around and around.child_by_field_name("type")
            if kind and literal.parent == around and kind.type in _NAMED:
                for value in literal.named_children:
                    reader.edge(reader.unit(value), reader.unit(literal))
            for name in re.findall(r"\w+", text_of(kind)) if kind else ():
                for needed in fields.get(name, ()):
                    reader.edge(needed, reader.unit(literal))


def _embedded(reader: Reader) -> None:
    """Users of a type may use what it has from a type that is embedded in it."""
    for kind in ("field_declaration", "type_elem"):
        for field in reader.nodes.get(kind, ()):
            around = field.parent
            while around is not None and around.type != "type_spec":
                around = around.parent
            name = around and around.child_by_field_name("name")
            if name and not field.child_by_field_name("name"):
                for use in reader.uses:
                    if use.name == text_of(name):
                        reader.edge(reader.unit(field), use.unit)


_FUNCTIONS = words("function_declaration method_declaration func_literal")
GO = Grammar(
    name="go",
    blocks=words(
        "source_file statement_list import_spec_list const_declaration var_spec_list "
        "type_declaration field_declaration_list interface_type expression_switch_statement "
        "type_switch_statement select_statement"
    ),
    lists=words("literal_value"),
    parallel=words("expression_switch_statement type_switch_statement select_statement"),
    always=words("package_clause"),
    scopes=_FUNCTIONS
    | words("source_file block for_statement if_statement expression_switch_statement type_spec")
    | words("type_switch_statement expression_case type_case default_case communication_case")
    | words("method_elem function_type"),
    ordered=_FUNCTIONS
    | words("block for_statement if_statement expression_switch_statement type_switch_statement")
    | words("expression_case type_case default_case communication_case"),
    delayed=words("short_var_declaration var_spec"),
    names=words("identifier type_identifier package_identifier label_name"),
    members=words("field_identifier"),
    declared=words("identifier type_identifier package_identifier field_identifier label_name"),
    declares={
        "function_declaration": ("name",),
        "const_spec": ("name",),
        "var_spec": ("name",),
        "type_spec": ("name",),
        "type_alias": ("name",),
        "import_spec": ("name",),
        "short_var_declaration": ("left",),
        "range_clause": ("left",),
        "receive_statement": ("left",),
        "labeled_statement": ("label",),
        "parameter_declaration": ("name",),
        "variadic_parameter_declaration": ("name",),
        "type_parameter_declaration": ("name",),
    },
    parameters={"type_switch_statement": ("alias",)},
    declaring={"range_clause": words(":="), "receive_statement": words(":=")},
    patterns={"expression_list": ("",)},
    implied={"import_spec": _imported},
    member_names={"method_declaration": "name", "method_elem": "name", "field_declaration": "name"},
    ignored=frozenset({("qualified_type", "name"), ("package_clause", "")}),
    assignments=words("assignment_statement"),
    functions={
        "function_declaration": "result",
        "method_declaration": "result",
        "func_literal": "result",
    },
    must_use=words(
        "import_spec short_var_declaration range_clause receive_statement type_switch_statement "
        "labeled_statement var_spec"
    ),
    rules=_rules,
)
