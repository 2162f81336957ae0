"""Rust, whose types are inferred from later statements too."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from codegen.lintseq.languages.base import Grammar, text_of, words
from codegen.lintseq.languages.reader import Reader

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
    for unit in imports.keys() - used:  # of a trait, perhaps, whose methods are called
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


_BODIES = words(
    "function_item closure_expression block match_arm for_expression if_expression while_expression"
)
RUST = Grammar(
    name="rust",
    aliases=("rs",),
    module="tree_sitter_rust",
    blocks=words("source_file declaration_list block field_declaration_list enum_variant_list"),
    lists=words("array_expression"),
    nonempty=words("enum_variant_list"),
    prefixes=words("attribute_item"),
    always=words("inner_attribute_item use_wildcard macro_definition extern_crate_declaration"),
    scopes=_BODIES
    | words("source_file declaration_list impl_item trait_item struct_item enum_item type_item")
    | words("function_signature_item"),
    ordered=_BODIES,
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
