"""Grammars and rules of JavaScript and TypeScript."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tree_sitter import Node

from codegen.lintseq.languages.program_graph import Grammar, Reader, fields, text_of, words


def _imported(specifier: Node) -> Iterable[str]:
    name = specifier.child_by_field_name("name")
    return [text_of(name)] if name and not specifier.child_by_field_name("alias") else []


_FUNCTIONS = words(
    "function_declaration function_expression generator_function generator_function_declaration "
    "arrow_function method_definition"
)
JAVASCRIPT = Grammar(
    name="javascript",
    blocks=words("program statement_block class_body switch_body switch_case switch_default"),
    lists=words("object array named_imports export_clause"),
    parallel=words("switch_body"),
    prefixes=words("decorator"),
    scopes=_FUNCTIONS
    | words("program statement_block class_declaration class class_body switch_body catch_clause")
    | words("for_statement for_in_statement class_static_block"),
    hoisted=words("variable_declaration"),
    names=words("identifier shorthand_property_identifier"),
    members=words("property_identifier private_property_identifier"),
    declared=words(
        "identifier shorthand_property_identifier_pattern property_identifier "
        "private_property_identifier"
    ),
    declares=fields(
        name="variable_declarator function_declaration generator_function_declaration "
        "class_declaration",
        itself="import_clause namespace_import",
        alias="import_specifier",
    ),
    parameters=dict.fromkeys(_FUNCTIONS, ("parameters", "parameter"))
    | fields(name="class", parameter="catch_clause", left="for_in_statement")
    | {"function_expression": ("name", "parameters"), "generator_function": ("name", "parameters")},
    declaring={"for_in_statement": words("const let var")},
    patterns=fields(
        itself="formal_parameters object_pattern array_pattern rest_pattern namespace_import",
        value="pair_pattern",
        left="assignment_pattern object_assignment_pattern",
    ),
    implied={"import_specifier": _imported},
    member_names={"method_definition": "name", "field_definition": "property"},
    ignored=frozenset(
        {("import_specifier", "name"), ("export_specifier", "alias"), ("pair", "key")}
    ),
    any_declaration=True,
)


def _typescript(reader: Reader) -> None:
    for enum in reader.nodes.get("enum_body", ()):
        for member in enum.named_children:
            if member.type == "property_identifier":
                unit = reader.unit(member)
                reader.members.setdefault(text_of(member), []).append(unit)
    for parameter in reader.nodes.get("required_parameter", ()):
        name = parameter.child_by_field_name("pattern")
        if name and any(child.type == "accessibility_modifier" for child in parameter.children):
            reader.members.setdefault(text_of(name), []).append(reader.unit(parameter))
    for use in reader.uses:
        if use.leaf.type == "shorthand_property_identifier":
            for unit in reader.members.get(use.name, ()):
                reader.edge(unit, use.unit)
    for pattern in reader.nodes.get("object_pattern", ()):
        for name in pattern.named_children:
            name = name.child_by_field_name("left") or name
            for unit in reader.members.get(text_of(name), ()):
                reader.edge(unit, reader.unit(pattern))
    for kind in ("class_declaration", "abstract_class_declaration", "class"):
        for class_ in reader.nodes.get(kind, ()):
            _class(reader, class_)
    for kind in ("function_signature", "method_signature"):
        for overload in reader.nodes.get(kind, ()):
            statement = overload
            if overload.parent and overload.parent.type == "export_statement":
                statement = overload.parent
            around, following = statement.parent, statement.next_named_sibling
            if following and around and around.type in ("program", "class_body", "statement_block"):
                reader.edge(reader.unit(following), reader.unit(overload))


def _class(reader: Reader, class_: Node) -> None:
    """Adds edges for classes: interfaces and superclasses may require any member; object creation
    needs the constructor, and the constructor its ``super()`` call.
    """
    name, body = class_.child_by_field_name("name"), class_.child_by_field_name("body")
    inherits = any(child.type == "class_heritage" for child in class_.children)
    own = reader.unit(class_)
    for member in body.named_children if body else ():
        if inherits and member.id in reader.unit_of:
            reader.edge(reader.unit_of[member.id], own)
        called = member.child_by_field_name("name")
        if called is None or text_of(called) != "constructor":
            continue
        unit = reader.unit(member)
        for use in reader.uses:
            if name and use.name == text_of(name):
                reader.edge(unit, use.unit)
        block = member.child_by_field_name("body")
        for statement in block.named_children if block else ():
            if text_of(statement).startswith("super("):
                reader.edge(reader.unit(statement), unit)


_SIGNATURES = words(
    "function_signature method_signature abstract_method_signature function_type "
    "construct_signature call_signature constructor_type"
)
_PARAMETERS = ("parameters", "parameter")
TYPESCRIPT = replace(
    JAVASCRIPT,
    name="typescript",
    blocks=JAVASCRIPT.blocks | words("interface_body object_type enum_body"),
    lists=words("array named_imports export_clause"),
    scopes=JAVASCRIPT.scopes
    | _SIGNATURES
    | words("abstract_class_declaration interface_declaration type_alias_declaration")
    | words("internal_module conditional_type mapped_type_clause"),
    names=JAVASCRIPT.names | words("type_identifier"),
    members=JAVASCRIPT.members | words("string_fragment"),  # "name" may be a key of a type
    member_uses=frozenset({("nested_type_identifier", "name")}),
    inherits=True,
    declared=JAVASCRIPT.declared | words("type_identifier"),
    declares={
        **JAVASCRIPT.declares,
        **fields(
            name="abstract_class_declaration enum_declaration function_signature "
            "interface_declaration internal_module mapped_type_clause type_alias_declaration "
            "type_parameter",
            itself="infer_type",
        ),
    },
    parameters={**JAVASCRIPT.parameters, **dict.fromkeys(_SIGNATURES, _PARAMETERS)},
    patterns={
        **JAVASCRIPT.patterns,
        "optional_parameter": ("pattern",),
        "required_parameter": ("pattern",),
    },
    member_names=dict.fromkeys(
        words(
            "abstract_method_signature enum_assignment method_definition method_signature "
            "property_signature public_field_definition"
        ),
        "name",
    ),
    ignored=JAVASCRIPT.ignored - {("pair", "key")},
    functions=dict.fromkeys(_FUNCTIONS, "return_type"),
    no_result=words("void any undefined never unknown Promise<void>"),
    any_declaration=False,
    infers_results=True,
    rules=_typescript,
)
