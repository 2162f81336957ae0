"""Grammar and rules of Java."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tree_sitter import Node

from codegen.lintseq.languages.program_graph import Grammar, Reader, fields, text_of, words

# Exceptions that a block may throw without declaring them.
_UNCHECKED = re.compile(
    r"Exception|Throwable|Error|\w*(Runtime|Argument|State|Bounds|Pointer|Arithmetic|Cast|Format|"
    r"Operation|Element|Modification|Mismatch|Stack|Size|DateTime|Overflow|Memory)\w*"
)
_CLASSES = ("class_declaration", "enum_declaration", "record_declaration")
_LOOPS = words(
    "while_statement for_statement do_statement enhanced_for_statement switch_expression"
)


def _imported(node: Node) -> Iterable[str]:
    path = next((child for child in node.children if child.type.endswith("identifier")), None)
    return [text_of(path).rpartition(".")[2]] if path else []


def _rules(reader: Reader) -> None:
    for field in reader.nodes.get("field_declaration", ()):
        _field(reader, field)
    for kind in _CLASSES:
        for class_ in reader.nodes.get(kind, ()):
            _class(reader, class_)
    for creation in reader.nodes.get("object_creation_expression", ()):
        for body in creation.named_children:
            if body.type == "class_body":
                for member in body.named_children:
                    reader.edge(reader.unit(member), reader.unit(creation))
    for interface in reader.nodes.get("interface_declaration", ()):
        body = interface.child_by_field_name("body")
        methods = [c for c in body.named_children if c.type == "method_declaration"] if body else []
        if len(methods) == 1:  # a lambda may implement it
            reader.edge(reader.unit(methods[0]), reader.unit(interface))
    for kind in ("try_statement", "try_with_resources_statement"):
        for statement in reader.nodes.get(kind, ()):
            _try(reader, statement)
    for kind in ("while_statement", "for_statement"):
        for loop in reader.nodes.get(kind, ()):
            condition = loop.child_by_field_name("condition")
            if condition is None or text_of(condition) in ("true", "(true)"):
                for jump in _breaks(loop):  # without the break, code after the loop is unreachable
                    reader.edge(reader.unit(jump), reader.unit(loop))
    for rule in reader.nodes.get("switch_rule", ()):
        for unit in reader.ends(rule):
            reader.edge(unit, reader.unit(rule))


def _field(reader: Reader, field: Node) -> None:
    """Adds edges from a final field without a value to its assignments."""
    unit = reader.unit(field)
    is_final = any("final" in text_of(c).split() for c in field.children if c.type == "modifiers")
    for declarator in field.children_by_field_name("declarator"):
        name = declarator.child_by_field_name("name")
        if name is None:
            continue
        reader.members.setdefault(text_of(name), []).append(unit)
        if is_final and not declarator.child_by_field_name("value"):
            for assignment in reader.nodes.get("assignment_expression", ()):
                left = assignment.child_by_field_name("left")
                if left and text_of(left).removeprefix("this.") == text_of(name):
                    reader.edge(reader.unit(assignment), unit)


def _class(reader: Reader, class_: Node) -> None:
    """Adds edges for classes: interfaces and superclasses may require methods; object creation and
    subclasses may need constructors, and constructors the constructors that they call.
    """
    own, body = reader.unit(class_), class_.child_by_field_name("body")
    name = class_.child_by_field_name("name")
    has_interfaces = class_.child_by_field_name("interfaces") is not None
    inherits = class_.child_by_field_name("superclass") is not None
    for member in _members(body):
        unit = reader.unit(member)
        modifiers = next((text_of(c) for c in member.children if c.type == "modifiers"), "")
        if member.type == "method_declaration" and "@Override" in modifiers:
            reader.edge(unit, own)
            called = member.child_by_field_name("name")
            for asking in reader.members.get(text_of(called), ()) if called else ():
                if not reader.contains(own, asking):
                    reader.edge(asking, unit)
        elif member.type == "method_declaration" and has_interfaces and "public" in modifiers:
            reader.edge(unit, own)
        elif member.type == "constructor_declaration":
            if inherits or class_.type == "enum_declaration":
                reader.edge(unit, own)
            block = member.child_by_field_name("body")
            for statement in block.named_children if block else ():
                if statement.type == "explicit_constructor_invocation":
                    reader.edge(reader.unit(statement), unit)
                    for other in _members(body):
                        if other.type == "constructor_declaration":
                            reader.edge(reader.unit(other), unit)
            for use in reader.uses:
                if name and use.name == text_of(name) and not reader.contains(own, use.unit):
                    reader.edge(unit, use.unit)


def _members(body: Node | None) -> Iterator[Node]:
    for member in body.named_children if body else ():
        if member.type == "enum_body_declarations":
            yield from member.named_children
        else:
            yield member


def _try(reader: Reader, statement: Node) -> None:
    """Adds edges for checked exceptions, which may be caught only if they are thrown."""
    body = statement.child_by_field_name("body")
    caught = [
        text_of(kind)
        for clause in statement.children
        if clause.type == "catch_clause"
        for parameter in clause.named_children
        if parameter.type == "catch_formal_parameter"
        for types in parameter.named_children
        if types.type == "catch_type"
        for kind in types.named_children
    ]
    if body and not all(map(_UNCHECKED.fullmatch, caught)):
        for inner in body.named_children:
            for unit in range(reader.unit(inner), reader.last[reader.unit(inner)] + 1):
                reader.edge(unit, reader.unit(statement))


def _breaks(node: Node) -> Iterator[Node]:
    """Yields the breaks that leave a loop."""
    for child in node.children:
        if child.type == "break_statement":
            yield child
        elif child.type not in _LOOPS:
            yield from _breaks(child)


_BODIES = words(
    "method_declaration constructor_declaration compact_constructor_declaration block "
    "constructor_body for_statement enhanced_for_statement try_with_resources_statement "
    "catch_clause lambda_expression switch_block"
)
JAVA = Grammar(
    name="java",
    blocks=words(
        "program class_body interface_body enum_body_declarations annotation_type_body block "
        "constructor_body switch_block_statement_group"
    ),
    lists=words("array_initializer"),
    always=words("package_declaration asterisk"),
    scopes=_BODIES
    | words("program class_declaration class_body interface_declaration interface_body")
    | words("enum_declaration record_declaration"),
    ordered=_BODIES,
    names=words("identifier type_identifier"),
    declared=words("identifier type_identifier"),
    declares=fields(
        name="annotation_type_declaration catch_formal_parameter class_declaration "
        "enum_declaration formal_parameter instanceof_expression interface_declaration "
        "record_declaration resource variable_declarator",
        itself="type_parameter type_pattern",
    ),
    parameters={"enhanced_for_statement": ("name",), "lambda_expression": ("parameters",)},
    patterns={"inferred_parameters": ("",)},
    implied={"import_declaration": _imported},
    member_names={
        "constructor_declaration": "name",
        "enum_constant": "name",
        "method_declaration": "name",
    },
    member_uses=frozenset({("method_invocation", "name"), ("field_access", "field")}),
    inherits=True,
    ignored=frozenset({("scoped_identifier", "name"), ("scoped_type_identifier", "name")}),
    assignments=words("assignment_expression"),
    assigned_later=words("variable_declarator"),
    functions={"method_declaration": "type", "lambda_expression": "type"},
    no_result=words("void"),
    infers_results=True,
    rules=_rules,
)
