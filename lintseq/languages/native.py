"""C, C++ and Rust.

What an included file declares is not known, so the directives of C and C++ come first. Rust's types
are inferred from later statements too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tree_sitter import Node

from codegen.lintseq.languages.base import Grammar, text_of, words
from codegen.lintseq.languages.reader import Reader

_DECLARATOR = ("declarator",)
C = Grammar(
    name="c",
    blocks=words(
        "translation_unit compound_statement case_statement field_declaration_list "
        "enumerator_list preproc_ifdef preproc_if preproc_else preproc_elif linkage_specification "
        "declaration_list"
    ),
    lists=words("initializer_list"),
    nonempty=words("enumerator_list"),
    always=words("preproc_include preproc_call using_declaration"),
    scopes=words("translation_unit function_definition compound_statement for_statement"),
    ordered=words("translation_unit function_definition compound_statement for_statement"),
    names=words("identifier type_identifier"),
    members=words("field_identifier statement_identifier"),
    declared=words("identifier type_identifier field_identifier statement_identifier"),
    declares={
        "declaration": _DECLARATOR,
        "enum_specifier": ("name",),
        "enumerator": ("name",),
        "function_definition": _DECLARATOR,
        "parameter_declaration": _DECLARATOR,
        "preproc_def": ("name",),
        "preproc_function_def": ("name",),
        "struct_specifier": ("name",),
        "type_definition": _DECLARATOR,
        "union_specifier": ("name",),
    },
    declaring={
        "enum_specifier": words("enumerator_list"),
        "struct_specifier": words("field_declaration_list"),
        "union_specifier": words("field_declaration_list"),
    },
    patterns={
        "array_declarator": _DECLARATOR,
        "function_declarator": _DECLARATOR,
        "init_declarator": _DECLARATOR,
        "parenthesized_declarator": ("",),
        "pointer_declarator": _DECLARATOR,
    },
    member_names={"field_declaration": "declarator", "labeled_statement": "label"},
    ignored=frozenset({("preproc_ifdef", "name")}),
    raw=words("preproc_arg"),
    functions={"function_definition": "type"},
    no_result=words("void"),
)


def _cpp(reader: Reader) -> None:
    for kind in ("class_specifier", "struct_specifier"):
        for class_ in reader.nodes.get(kind, ()):
            _class(reader, class_)
    fields = [
        reader.unit(field)
        for field in reader.nodes.get("field_declaration", ())
        if not any(child.type == "function_declarator" for child in field.children)
    ]
    for values in reader.nodes.get("initializer_list", ()):  # it may fill a structure
        for unit in fields:
            reader.edge(unit, reader.unit(values))
    for operator in reader.nodes.get("operator_name", ()):
        reader.needed_by_all(reader.unit(operator))


def _class(reader: Reader, class_: Node) -> None:
    """The class above may ask for the methods of a class, and its users for its constructors."""
    own, name = reader.unit(class_), class_.child_by_field_name("name")
    body = class_.child_by_field_name("body")
    inherits = any(child.type == "base_class_clause" for child in class_.children)
    for member in body.named_children if body else ():
        unit = reader.unit(member)
        called = _called(member)
        if inherits and (called in reader.members or "override" in text_of(member)):
            reader.edge(unit, own)
        if name and called == text_of(name):
            for use in reader.uses:
                if use.name == called and not reader.contains(own, use.unit):
                    reader.edge(unit, use.unit)


def _called(member: Node) -> str:
    """The name of a function that is a member; "" for another member."""
    node: Node | None = member
    while node is not None and node.type != "function_declarator":
        node = node.child_by_field_name("declarator")
    name = node and node.child_by_field_name("declarator")
    return text_of(name) if name else ""


_BODIES = words("function_definition compound_statement for_statement for_range_loop catch_clause")
CPP = replace(
    C,
    name="cpp",
    always=C.always | words("using_directive"),
    scopes=C.scopes | _BODIES | words("lambda_expression class_specifier struct_specifier"),
    ordered=C.ordered | _BODIES | words("lambda_expression"),
    names=C.names | words("namespace_identifier"),
    declared=C.declared | words("namespace_identifier"),
    declares={
        **C.declares,
        "alias_declaration": ("name",),
        "class_specifier": ("name",),
        "concept_definition": ("name",),
        "namespace_definition": ("name",),
        "optional_parameter_declaration": _DECLARATOR,
        "type_parameter_declaration": ("",),
        "optional_type_parameter_declaration": ("name",),
        "variadic_parameter_declaration": _DECLARATOR,
        "variadic_type_parameter_declaration": ("",),
    },
    parameters={"for_range_loop": _DECLARATOR},
    declaring={**C.declaring, "class_specifier": words("field_declaration_list")},
    patterns={
        **C.patterns,
        "reference_declarator": ("",),
        "structured_binding_declarator": ("",),
        "variadic_declarator": ("",),
    },
    member_names={**C.member_names, "enumerator": "name", "function_definition": "declarator"},
    functions={**C.functions, "lambda_expression": "type"},
    infers_results=True,
    member_uses=frozenset({("qualified_identifier", "name")}),
    inherits=True,
    rules=_cpp,
)


# --- Rust ----------------------------------------------------------------------------------------


# Values whose type says nothing of what they hold, and uses that tell.
_OPEN = re.compile(
    r"::new\(\)|with_capacity|vec!\[\]|\bNone\b|default\(\)|collect\(\)|parse\(\)|into\(\)|sum\(\)"
    r"|channel\(\)|\.clone\(\)"
)
_INNER = re.compile(r"\b(self|crate|super)::")  # an import from the program itself
_TELLS = re.compile(r"\.(push\w*|insert|extend|entry|append|send)\(")


def _imported(node: Node) -> Iterator[str]:
    kind = node.type
    if kind in ("identifier", "type_identifier"):
        yield text_of(node)
    elif kind in ("scoped_identifier", "use_as_clause"):
        name = node.child_by_field_name("alias") or node.child_by_field_name("name")
        yield from _imported(name) if name else ()
    elif kind == "scoped_use_list":
        names = node.child_by_field_name("list")
        yield from _imported(names) if names else ()
    elif kind in ("use_declaration", "use_list"):
        for child in node.named_children:
            yield from _imported(child)


def _rules(reader: Reader) -> None:
    imports = {reader.unit(node): node for node in reader.nodes.get("use_declaration", ())}
    inner = {unit for unit, node in imports.items() if _INNER.search(text_of(node))}
    reader.member_uses = [
        use for use in reader.member_uses if use.unit in inner or use.unit not in imports
    ]
    for unit in inner:
        names = set(_imported(imports[unit]))
        for binding in reader.bindings:
            if binding.name in names:
                reader.edge(binding.unit, unit)
    for implementation in reader.nodes.get("impl_item", ()):
        if implementation.child_by_field_name("trait"):
            _trait(reader, implementation)
    for kind in ("field_pattern", "shorthand_field_initializer"):
        for field in reader.nodes.get(kind, ()):
            name = field.child_by_field_name("name") or field.named_children[-1]
            for unit in reader.members.get(text_of(name), ()):
                reader.edge(unit, reader.unit(field))
    for kind in ("struct_item", "enum_item"):
        for item in reader.nodes.get(kind, ()):
            body = item.child_by_field_name("body")
            # A parameter that no field uses is an error.
            if body and item.child_by_field_name("type_parameters"):
                for field in body.named_children:
                    reader.edge(reader.unit(field), reader.unit(item))
    for block in reader.nodes.get("block", ()):
        _tail(reader, block)
    for binding in reader.bindings:
        value = binding.node.child_by_field_name("value")
        is_open = value is None or _OPEN.search(text_of(value))
        is_typed = binding.node.child_by_field_name("type") is not None
        if binding.node.type == "let_declaration" and is_open and not is_typed:
            reads = {use.unit for use in binding.reads}
            telling = [unit for unit in reads if _TELLS.search(reader.text(unit))]
            reader.any_of(sorted(telling or reads), binding.unit)
    used = {binding.unit for binding in reader.bindings if binding.reads}
    for unit in imports.keys() - used:  # it may be a trait whose methods are called
        for use in reader.member_uses:
            if use.name not in reader.members:
                reader.edge(unit, use.unit)


def _trait(reader: Reader, implementation: Node) -> None:
    """A trait's implementation is complete, and users of the type may need it."""
    own, body = reader.unit(implementation), implementation.child_by_field_name("body")
    for member in body.named_children if body else ():
        reader.edge(reader.unit(member), own)
        name = member.child_by_field_name("name")
        for asking in reader.members.get(text_of(name), ()) if name else ():
            if reader.is_in(asking, "trait_item"):
                reader.edge(asking, reader.unit(member))
    type_ = implementation.child_by_field_name("type")
    names = set(re.findall(r"\w+", text_of(type_))) if type_ else set()
    for use in reader.uses:
        if use.name in names and not reader.is_in(use.unit, "impl_item"):
            reader.edge(own, use.unit)


def _tail(reader: Reader, block: Node) -> None:
    """The value of a block is its last expression."""
    around = block.parent
    if around is None or around.type in ("for_expression", "while_expression", "loop_expression"):
        return
    if around.type == "function_item" and not around.child_by_field_name("return_type"):
        return
    children = [c for c in block.named_children if not c.type.endswith("comment")]
    if children and not text_of(children[-1]).endswith(";"):
        reader.edge(reader.unit(children[-1]), reader.unit(block))


_RUST_BODIES = words(
    "function_item closure_expression block match_arm for_expression if_expression while_expression"
)
RUST = Grammar(
    name="rust",
    blocks=words("source_file declaration_list block field_declaration_list enum_variant_list"),
    nonempty=words("enum_variant_list"),
    prefixes=words("attribute_item"),
    always=words("inner_attribute_item use_wildcard macro_definition extern_crate_declaration"),
    scopes=_RUST_BODIES
    | words("source_file declaration_list impl_item trait_item struct_item enum_item type_item")
    | words("function_signature_item"),
    ordered=_RUST_BODIES,
    delayed=words("let_declaration"),
    names=words("identifier type_identifier"),
    members=words("field_identifier"),
    declared=words("identifier type_identifier shorthand_field_identifier field_identifier"),
    declares={
        "const_item": ("name",),
        "const_parameter": ("name",),
        "enum_item": ("name",),
        "function_item": ("name",),
        "function_signature_item": ("name",),
        "let_condition": ("pattern",),
        "let_declaration": ("pattern",),
        "mod_item": ("name",),
        "parameter": ("pattern",),
        "static_item": ("name",),
        "struct_item": ("name",),
        "trait_item": ("name",),
        "type_item": ("name",),
        "type_parameter": ("name",),
        "union_item": ("name",),
    },
    parameters={
        "closure_expression": ("parameters",),
        "for_expression": ("pattern",),
        "match_arm": ("pattern",),
    },
    patterns={
        "captured_pattern": ("",),
        "closure_parameters": ("",),
        "field_pattern": ("pattern", "name"),
        "match_pattern": ("",),
        "mut_pattern": ("",),
        "or_pattern": ("",),
        "parameter": ("pattern",),
        "ref_pattern": ("",),
        "reference_pattern": ("",),
        "slice_pattern": ("",),
        "struct_pattern": ("",),
        "tuple_pattern": ("",),
        "tuple_struct_pattern": ("",),
    },
    implied={"use_declaration": _imported},
    member_names={
        "const_item": "name",
        "enum_variant": "name",
        "field_declaration": "name",
        "function_item": "name",
        "function_signature_item": "name",
    },
    member_uses=frozenset({("scoped_identifier", "name"), ("scoped_type_identifier", "name")}),
    inherits=True,
    assignments=words("assignment_expression"),
    assigned_later=words("let_declaration"),
    functions={"function_item": "return_type", "closure_expression": "return_type"},
    no_result=words("() !"),
    rules=_rules,
)
