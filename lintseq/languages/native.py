"""Grammars of C, C++, Rust and Go. In Go, unused imports and variables are errors.

Declarations in included files are unknown, so C and C++ directives come first. Rust also infers
types from later statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tree_sitter import Node

from codegen.lintseq.languages.program_graph import Grammar, Reader, fields, text_of, words

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
    declares=fields(
        declarator="declaration function_definition parameter_declaration type_definition",
        name="enum_specifier enumerator preproc_def preproc_function_def struct_specifier "
        "union_specifier",
    ),
    declaring={
        "enum_specifier": words("enumerator_list"),
        "struct_specifier": words("field_declaration_list"),
        "union_specifier": words("field_declaration_list"),
    },
    patterns=fields(
        declarator="array_declarator function_declarator init_declarator pointer_declarator",
        itself="parenthesized_declarator",
    ),
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
    for values in reader.nodes.get("initializer_list", ()):  # it may initialize a structure
        for unit in fields:
            reader.edge(unit, reader.unit(values))
    for operator in reader.nodes.get("operator_name", ()):
        reader.needed_by_all(reader.unit(operator))


def _class(reader: Reader, class_: Node) -> None:
    """Adds edges for classes: superclasses may require methods, and users constructors."""
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
    """Returns the name of a member function; "" for other members."""
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
        **fields(
            name="alias_declaration class_specifier concept_definition namespace_definition "
            "optional_type_parameter_declaration",
            declarator="optional_parameter_declaration variadic_parameter_declaration",
            itself="type_parameter_declaration variadic_type_parameter_declaration",
        ),
    },
    parameters={"for_range_loop": _DECLARATOR},
    declaring={**C.declaring, "class_specifier": words("field_declaration_list")},
    patterns={
        **C.patterns,
        **fields(
            itself="reference_declarator structured_binding_declarator variadic_declarator",
        ),
    },
    member_names={**C.member_names, "enumerator": "name", "function_definition": "declarator"},
    functions={**C.functions, "lambda_expression": "type"},
    infers_results=True,
    member_uses=frozenset({("qualified_identifier", "name")}),
    inherits=True,
    rules=_cpp,
)


# Values that do not determine their element type, and uses that do.
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
            # A type parameter that no field uses is an error.
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
    for unit in imports.keys() - used:  # the import may be a trait whose methods are called
        for use in reader.member_uses:
            if use.name not in reader.members:
                reader.edge(unit, use.unit)


def _trait(reader: Reader, implementation: Node) -> None:
    """Adds edges for a trait's implementation: users of the type may need all its members."""
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
    """Adds edges to a block's last expression, which is its value."""
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
    declares=fields(
        name="const_item const_parameter enum_item function_item function_signature_item mod_item "
        "static_item struct_item trait_item type_item type_parameter union_item",
        pattern="let_condition let_declaration parameter",
    ),
    parameters=fields(parameters="closure_expression", pattern="for_expression match_arm"),
    patterns=fields(
        itself="captured_pattern closure_parameters match_pattern mut_pattern or_pattern "
        "ref_pattern reference_pattern slice_pattern struct_pattern tuple_pattern "
        "tuple_struct_pattern",
        pattern="parameter",
    )
    | {"field_pattern": ("pattern", "name")},
    implied={"use_declaration": _imported},
    member_names=dict.fromkeys(
        words("const_item enum_variant field_declaration function_item function_signature_item"),
        "name",
    ),
    member_uses=frozenset({("scoped_identifier", "name"), ("scoped_type_identifier", "name")}),
    inherits=True,
    assignments=words("assignment_expression"),
    assigned_later=words("let_declaration"),
    functions={"function_item": "return_type", "closure_expression": "return_type"},
    no_result=words("() !"),
    rules=_rules,
)


_VERSION = re.compile(r"v\d+")
# Methods that interfaces of the standard library require.
_ASKED_FOR = words(
    "Close Deadline Done Err Error Format GoString Info Int63 IsDir Len Less Lock MarshalBinary "
    "MarshalJSON MarshalText ModTime Mode Name Open Pop Push Read ReadAt ReadByte ReadDir ReadFrom "
    "ReadRune RoundTrip Scan Seed Seek ServeHTTP Set Size Stat String Swap Sys Uint64 Unlock "
    "UnmarshalBinary UnmarshalJSON UnmarshalText UnreadByte UnreadRune Unwrap Value Write WriteAt "
    "WriteByte WriteString WriteTo"
)
_NAMED = words("type_identifier qualified_type generic_type")


def _go_imported(spec: Node) -> Iterable[str]:
    """Returns the name of a package: the last element of its path, ignoring a version."""
    path = spec.child_by_field_name("path")
    if path is None or spec.child_by_field_name("name"):
        return []
    *above, last = text_of(path).strip('"`').split("/")
    if above and _VERSION.fullmatch(last):
        last = above[-1]
    return [last.partition(".")[0].removeprefix("go-")]


def _go_rules(reader: Reader) -> None:
    _constants(reader)
    _go_methods(reader)
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
    """Adds edges from a constant without a value to the one above, which it repeats."""
    for group in reader.nodes.get("const_declaration", ()):
        valued = 0
        for spec in group.children:
            if spec.type == "const_spec" and spec.child_by_field_name("value"):
                valued = reader.unit(spec)
            elif spec.type == "const_spec":
                reader.edge(valued, reader.unit(spec))


def _go_methods(reader: Reader) -> None:
    """Adds edges from uses of a type to the methods that implement an interface."""
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
    """Adds edges from a struct literal without field names to all fields."""
    fields: dict[str, list[int]] = {}
    for field in reader.nodes.get("field_declaration", ()):
        around = field.parent and field.parent.parent and field.parent.parent.parent
        if around is None or around.type != "type_spec":  # an anonymous type
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
    """Adds edges from users of a type to the types embedded in it."""
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
    declares=fields(
        name="function_declaration const_spec var_spec type_spec type_alias import_spec "
        "parameter_declaration variadic_parameter_declaration type_parameter_declaration",
        left="short_var_declaration range_clause receive_statement",
        label="labeled_statement",
    ),
    parameters={"type_switch_statement": ("alias",)},
    declaring={"range_clause": words(":="), "receive_statement": words(":=")},
    patterns={"expression_list": ("",)},
    implied={"import_spec": _go_imported},
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
    rules=_go_rules,
)
