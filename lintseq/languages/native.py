"""C and C++. What an included file declares is not known, so the directives come first."""

from __future__ import annotations

from dataclasses import replace

from tree_sitter import Node

from codegen.lintseq.languages.base import Grammar, text_of, words
from codegen.lintseq.languages.reader import Reader

_DECLARATOR = ("declarator",)
C = Grammar(
    name="c",
    module="tree_sitter_c",
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
    for values in reader.nodes.get("initializer_list", ()):  # of a structure, perhaps
        for unit in fields:
            reader.edge(unit, reader.unit(values))
    for operator in reader.nodes.get("operator_name", ()):
        reader.needed_by_all(reader.unit(operator))


def _class(reader: Reader, class_: Node) -> None:
    """What is above a class may ask for its methods; whoever uses it, for its constructors."""
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
    aliases=("c++", "cc"),
    module="tree_sitter_cpp",
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
