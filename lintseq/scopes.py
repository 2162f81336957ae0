"""Collects a program's bindings and uses of names, attributes and function results.

One walk over the syntax tree records facts, each with its unit or clause and its number in
evaluation order within its scope; :mod:`codegen.lintseq.dependencies` applies rules to
them. Scopes follow the Python reference (4.2, "Naming and binding"): functions, lambdas and
comprehensions see enclosing functions and the module but not enclosing classes; ``global`` and
``nonlocal`` move bindings; assignment expressions bind outside of comprehensions.

Limits: attributes are matched by name, not by type; names made by ``exec``, ``setattr`` or
``globals()`` are ignored.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from codegen.core.python_syntax import parameters_of

_COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
ASSIGNED = "="
_KINDS: dict[type[ast.AST], type] = {
    ast.JoinedStr: str,
    ast.List: list,
    ast.ListComp: list,
    ast.Dict: dict,
    ast.DictComp: dict,
    ast.Set: set,
    ast.SetComp: set,
    ast.Tuple: tuple,
}
_CONVERSIONS = {
    kind.__name__: kind for kind in (str, int, float, bool, bytes, list, dict, set, tuple)
} | {"len": int, "sorted": list, "input": str, "repr": str}
_LITERALS = (ast.Constant, ast.JoinedStr, ast.List, ast.Dict, ast.Set, ast.Tuple)


@dataclass(slots=True)
class Function:
    """A function definition.

    Attributes:
        unit, name: its node and name.
        results: the units that return or yield a value.
        decorators: the last name of each decorator.
        super_inits: units in ``__init__`` that call a parent's ``__init__``.
    """

    unit: int
    name: str
    results: list[int] = field(default_factory=list)
    decorators: tuple[str, ...] = ()
    super_inits: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Class:
    """A class definition.

    Attributes:
        unit: its node.
        bases: the last names of its bases and metaclass, without ``object``.
        decorated: whether it has decorators.
        methods: (name, unit) of its methods and special names.
        fields: the units of its annotated names (constructor parameters in a data class).
        abstract: the units of its abstract methods.
    """

    unit: int
    bases: tuple[str, ...] = ()
    decorated: bool = False
    methods: list[tuple[str, int]] = field(default_factory=list)
    fields: list[int] = field(default_factory=list)
    abstract: list[int] = field(default_factory=list)


class NameBinding(NamedTuple):
    """A binding of a name or, with ``owner``, of an attribute.

    Attributes:
        unit, order: its node, and its number in evaluation order.
        vague: whether it is an annotation without a value.
        kind: the built-in type of the value, if it is evident.
        imported: the dotted name of an import, else "".
        definition: the function or class that it defines.
        owner: the class of an attribute.
        scope: the function or class that binds an attribute.
        inline: whether its block is on the header's line.
    """

    unit: int
    order: int
    vague: bool = False
    kind: type | None = None
    imported: str = ""
    definition: Function | Class | None = None
    owner: Class | None = None
    scope: PythonScope | None = None
    inline: bool = False


@dataclass(slots=True, eq=False)
class PythonScope:
    """A module, class, function, lambda (as ``function``) or comprehension."""

    kind: str
    parent: PythonScope | None
    unit: int
    bindings: dict[str, list[NameBinding]] = field(default_factory=dict)
    declared: dict[str, tuple[str, int]] = field(default_factory=dict)
    definition: Function | Class | None = None
    self_name: str = ""  # the first parameter of a method

    @property
    def owner(self) -> Class | None:
        """The class of a method."""
        parent = self.parent
        if parent is not None and isinstance(parent.definition, Class):
            return parent.definition
        return None


class NameUse(NamedTuple):
    """A use of a name; ``bare`` is false for the ``x`` of ``x.a``.

    ``operation`` is the attribute that the value must have, such as ``__getitem__`` for ``x[0]``;
    "" if it is not known.
    """

    name: str
    scope: PythonScope
    unit: int
    order: int
    bare: bool = True
    annotation: bool = False
    operation: str = ""


class Load(NamedTuple):
    """A read of an attribute; ``base`` is the name before the dot, "" if it is not a name."""

    name: str
    scope: PythonScope
    unit: int
    order: int
    base: str
    operation: str = ""


class Call(NamedTuple):
    """A call by a name, or by an attribute's name if ``method``.

    ``operation`` is the attribute that its value must have, as in :class:`NameUse`, or
    :data:`ASSIGNED`.
    """

    name: str
    scope: PythonScope
    unit: int
    order: int
    method: bool
    base: str
    operation: str
    arguments: bool


@dataclass(slots=True)
class ScopeAnalysis:
    """Names, attributes and calls that :func:`collect` finds."""

    module: PythonScope
    scopes: list[PythonScope] = field(default_factory=list)
    uses: list[NameUse] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    attributes: dict[str, list[NameBinding]] = field(default_factory=dict)
    functions: list[Function] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    exports: list[tuple[str, int]] = field(default_factory=list)
    star_imports: list[int] = field(default_factory=list)
    relative_imports: list[int] = field(default_factory=list)
    future_annotations: int | None = None
    operations: frozenset[str] = frozenset()


def collect(tree: ast.Module, node_of: dict[ast.AST, int]) -> ScopeAnalysis:
    """Analyzes a module; ``node_of`` is as in :class:`codegen.lintseq.units.Units`."""
    module = PythonScope("module", None, 0)
    walker = _Walker(ScopeAnalysis(module, [module]), node_of)
    walker.block(tree.body, module, 0)
    walker.facts.operations = frozenset(walker.operations.values())
    _move_declared(walker.facts.scopes)
    return walker.facts


def lookup(scope: PythonScope, name: str) -> tuple[PythonScope, list[NameBinding]] | None:
    """Returns the scope that a name in ``scope`` refers to, and the name's bindings in order."""
    at: PythonScope | None = scope
    while at is not None:
        if at is scope or at.kind != "class":
            if name in at.declared:
                return _declared_target(at, name)
            if name in at.bindings:
                return at, at.bindings[name]
        at = at.parent
    return None


def _declared_target(scope: PythonScope, name: str) -> tuple[PythonScope, list[NameBinding]] | None:
    kind, _ = scope.declared[name]
    at = scope.parent
    while at is not None:
        if at.kind == "module" if kind == "global" else at.kind == "function":
            if name in at.declared:
                return _declared_target(at, name)
            if name in at.bindings:
                return at, at.bindings[name]
        at = at.parent
    return None


def _move_declared(scopes: list[PythonScope]) -> None:
    """Moves bindings of names declared global or nonlocal to the scope they are bound in."""
    for scope in scopes:
        for name, (kind, _) in scope.declared.items():
            moved = scope.bindings.pop(name, None)
            if not moved:
                continue
            target = scope.parent
            while target is not None and target.parent is not None:
                if kind == "nonlocal" and target.kind == "function" and name in target.bindings:
                    break
                target = target.parent
            if target is not None:
                merged = target.bindings.get(name, []) + moved
                target.bindings[name] = sorted(merged, key=lambda binding: binding.order)


@cache
def _child_fields(kind: type[ast.AST]) -> tuple[str, ...]:
    """Returns the fields of a node that may contain expressions, last first."""
    skipped = {"ctx", "op", "ops", "kind", "attr", "id", "conversion"}
    return tuple(name for name in reversed(kind._fields) if name not in skipped)


class _Walker:
    def __init__(self, facts: ScopeAnalysis, node_of: dict[ast.AST, int]) -> None:
        self.facts = facts
        self.node_of = node_of
        self.order = 0
        self.inline = False
        self.operations: dict[ast.AST, str] = {}  # expression -> required attribute

    def tick(self) -> int:
        self.order += 1
        return self.order

    def bind(
        self,
        scope: PythonScope,
        name: str,
        unit: int,
        vague: bool = False,
        kind: type | None = None,
        imported: str = "",
        definition: Function | Class | None = None,
    ) -> None:
        order = self.tick()
        binding = NameBinding(unit, order, vague, kind, imported, definition, inline=self.inline)
        scope.bindings.setdefault(name, []).append(binding)
        if isinstance(scope.definition, Class):
            owner = scope.definition
            own = binding._replace(owner=owner, scope=scope)
            self.facts.attributes.setdefault(name, []).append(own)
            if isinstance(definition, Function) or is_special(name):
                owner.methods.append((name, unit))

    def use(
        self,
        name: str,
        scope: PythonScope,
        unit: int,
        bare: bool = True,
        note: bool = False,
        operation: str = "",
    ) -> None:
        self.facts.uses.append(NameUse(name, scope, unit, self.tick(), bare, note, operation))

    def bind_attribute(
        self,
        target: ast.Attribute,
        scope: PythonScope,
        unit: int,
        vague: bool = False,
        kind: type | None = None,
    ) -> None:
        base = target.value.id if isinstance(target.value, ast.Name) else ""
        owner = self_class(scope, base)
        binding = NameBinding(unit, self.tick(), vague, kind, owner=owner, scope=scope)
        self.facts.attributes.setdefault(target.attr, []).append(binding)

    def block(self, statements: list[ast.stmt], scope: PythonScope, unit: int) -> None:
        around = self.inline
        for statement in statements:
            self.inline = statement not in self.node_of
            self.statement(statement, scope, self.node_of.get(statement, unit))
        self.inline = around

    def statement(self, node: ast.stmt, scope: PythonScope, unit: int) -> None:
        visit = getattr(self, "visit_" + type(node).__name__, None)
        if visit:
            visit(node, scope, unit)
        else:
            self.expression(node, scope, unit)

    def visit_Expr(self, node: ast.Expr, scope: PythonScope, unit: int) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            function = value.func
            if isinstance(function, ast.Attribute) and _is_name(function.value, "__all__"):
                self.export(value, scope, unit)
            self.call(value, scope, unit)
        else:
            self.expression(value, scope, unit)

    def visit_Return(self, node: ast.Return, scope: PythonScope, unit: int) -> None:
        if node.value is None:
            return
        if isinstance(scope.definition, Function) and not _is_none(node.value):
            scope.definition.results.append(unit)
        self.expression(node.value, scope, unit)

    def visit_Assign(self, node: ast.Assign, scope: PythonScope, unit: int) -> None:
        unpacked = any(isinstance(target, (ast.Tuple, ast.List)) for target in node.targets)
        self.operations[node.value] = "__iter__" if unpacked else ASSIGNED
        self.expression(node.value, scope, unit)
        kind = None if unpacked else _kind(node.value)
        for target in node.targets:
            if _is_name(target, "__all__"):
                self.export(node.value, scope, unit)
            self.target(target, scope, unit, kind=kind)

    def visit_AnnAssign(self, node: ast.AnnAssign, scope: PythonScope, unit: int) -> None:
        self.annotation(node.annotation, scope, unit)
        kind = None
        if node.value is not None:
            self.operations[node.value] = ASSIGNED
            self.expression(node.value, scope, unit)
            kind = _kind(node.value)
            if _is_name(node.target, "__all__"):
                self.export(node.value, scope, unit)
        if isinstance(scope.definition, Class):
            scope.definition.fields.append(unit)
        self.target(node.target, scope, unit, node.value is None, kind)

    def visit_AugAssign(self, node: ast.AugAssign, scope: PythonScope, unit: int) -> None:
        target = node.target
        self.expression(node.value, scope, unit)
        if isinstance(target, ast.Name):
            self.use(target.id, scope, unit)
            if target.id == "__all__":
                self.export(node.value, scope, unit)
            self.bind(scope, target.id, unit)
        elif isinstance(target, ast.Attribute):
            self.attribute(target, scope, unit)
        else:
            self.expression(target, scope, unit)

    def visit_For(self, node: ast.For | ast.AsyncFor, scope: PythonScope, unit: int) -> None:
        self.operations[node.iter] = "__iter__" if isinstance(node, ast.For) else "__aiter__"
        self.expression(node.iter, scope, unit)
        self.target(node.target, scope, unit)
        self.block(node.body, scope, unit)
        self.block(node.orelse, scope, unit)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While, scope: PythonScope, unit: int) -> None:
        self.expression(node.test, scope, unit)
        self.block(node.body, scope, unit)
        self.block(node.orelse, scope, unit)

    def visit_If(self, node: ast.If, scope: PythonScope, unit: int) -> None:
        # Not recursive: a long chain of elif is deeply nested in the tree.
        while True:
            self.expression(node.test, scope, unit)
            self.block(node.body, scope, unit)
            if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If):
                break
            node = node.orelse[0]
            unit = self.node_of.get(node, unit)
        self.block(node.orelse, scope, unit)

    def visit_With(self, node: ast.With | ast.AsyncWith, scope: PythonScope, unit: int) -> None:
        for item in node.items:
            entered = "__enter__" if isinstance(node, ast.With) else "__aenter__"
            self.operations[item.context_expr] = entered
            self.expression(item.context_expr, scope, unit)
            if item.optional_vars is not None:
                self.target(item.optional_vars, scope, unit)
        self.block(node.body, scope, unit)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try | ast.TryStar, scope: PythonScope, unit: int) -> None:
        self.block(node.body, scope, unit)
        for handler in node.handlers:
            clause = self.node_of.get(handler, unit)
            if handler.type is not None:
                self.expression(handler.type, scope, clause)
            if handler.name:
                self.bind(scope, handler.name, clause)
            self.block(handler.body, scope, clause)
        self.block(node.orelse, scope, unit)
        self.block(node.finalbody, scope, unit)

    visit_TryStar = visit_Try

    def visit_Match(self, node: ast.Match, scope: PythonScope, unit: int) -> None:
        self.expression(node.subject, scope, unit)
        for case in node.cases:
            clause = self.node_of.get(case, unit)
            self.expression(case.pattern, scope, clause)
            if case.guard is not None:
                self.expression(case.guard, scope, clause)
            self.block(case.body, scope, clause)

    def visit_Import(self, node: ast.Import, scope: PythonScope, unit: int) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            self.bind(scope, name, self.node_of.get(alias, unit), imported=alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom, scope: PythonScope, unit: int) -> None:
        if node.level:
            self.facts.relative_imports.append(unit)
        for alias in node.names:
            if alias.name == "*":
                self.facts.star_imports.append(unit)
            else:
                if node.module == "__future__" and alias.name == "annotations":
                    self.facts.future_annotations = unit
                at = self.node_of.get(alias, unit)
                self.bind(scope, alias.asname or alias.name, at, imported=alias.name)

    def visit_Global(self, node: ast.Global, scope: PythonScope, unit: int) -> None:
        for name in node.names:
            scope.declared[name] = ("global", unit)

    def visit_Nonlocal(self, node: ast.Nonlocal, scope: PythonScope, unit: int) -> None:
        for name in node.names:
            scope.declared[name] = ("nonlocal", unit)
            self.use(name, scope, unit)

    def visit_ClassDef(self, node: ast.ClassDef, scope: PythonScope, unit: int) -> None:
        for expression in (*node.decorator_list, *node.bases, *node.keywords):
            self.expression(expression, scope, unit)
        parents = (*node.bases, *(keyword.value for keyword in node.keywords))
        bases = tuple(_last_name(base) for base in parents if not _is_name(base, "object"))
        definition = Class(unit, bases, bool(node.decorator_list))
        self.facts.classes.append(definition)
        self.bind(scope, node.name, unit, definition=definition)
        inner = self.open("class", scope, unit, definition)
        self.type_parameters(node, inner, unit)
        self.block(node.body, inner, unit)

    def visit_FunctionDef(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: PythonScope, unit: int
    ) -> None:
        for decorator in node.decorator_list:
            self.expression(decorator, scope, unit)
        self.defaults(node.args, scope, unit)
        decorators = tuple(map(_last_name, node.decorator_list))
        definition = Function(unit, node.name, decorators=decorators)
        self.facts.functions.append(definition)
        inner = self.open("function", scope, unit, definition)
        self.type_parameters(node, inner, unit)
        for argument in parameters_of(node.args):
            if argument.annotation is not None:
                self.annotation(argument.annotation, scope, unit)
        if node.returns is not None:
            self.annotation(node.returns, scope, unit)
        self.bind(scope, node.name, unit, definition=definition)
        if isinstance(scope.definition, Class) and any("abstract" in name for name in decorators):
            scope.definition.abstract.append(unit)
        for argument in parameters_of(node.args):
            self.bind(inner, argument.arg, self.node_of.get(argument, unit))
        positional = node.args.posonlyargs + node.args.args
        if isinstance(scope.definition, Class) and positional and "staticmethod" not in decorators:
            inner.self_name = positional[0].arg
        self.block(node.body, inner, unit)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_TypeAlias(self, node: ast.stmt, scope: PythonScope, unit: int) -> None:
        inner = self.open("function", scope, unit)
        self.type_parameters(node, inner, unit)
        self.expression(node.value, inner, unit)  # type: ignore[attr-defined]
        self.target(node.name, scope, unit)  # type: ignore[attr-defined]

    def type_parameters(self, node: ast.stmt, scope: PythonScope, unit: int) -> None:
        """Binds type parameters (Python 3.12 and later)."""
        for parameter in getattr(node, "type_params", ()):
            self.bind(scope, parameter.name, unit)
            if bound := getattr(parameter, "bound", None):
                self.expression(bound, scope, unit)

    def open(
        self, kind: str, parent: PythonScope, unit: int, definition: Function | Class | None = None
    ) -> PythonScope:
        scope = PythonScope(kind, parent, unit, definition=definition)
        self.facts.scopes.append(scope)
        return scope

    def defaults(self, arguments: ast.arguments, scope: PythonScope, unit: int) -> None:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.expression(default, scope, unit)

    def export(self, value: ast.expr, scope: PythonScope, unit: int) -> None:
        """Records the names that a value adds to ``__all__``."""
        if scope.kind != "module":
            return
        for node in ast.walk(value):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.facts.exports.append((node.value, self.node_of.get(node, unit)))

    def target(
        self,
        node: ast.expr,
        scope: PythonScope,
        unit: int,
        vague: bool = False,
        kind: type | None = None,
    ) -> None:
        """Binds the names of an assignment target."""
        if isinstance(node, ast.Name):
            self.bind(scope, node.id, unit, vague, kind)
        elif isinstance(node, ast.Attribute):
            self.expression(node.value, scope, unit)
            self.bind_attribute(node, scope, unit, vague, kind)
        else:
            self.expression(node, scope, unit)

    def annotation(self, node: ast.expr, scope: PythonScope, unit: int) -> None:
        self.expression(node, scope, unit, note=True)

    def expression(
        self, root: ast.AST, scope: PythonScope, around: int, note: bool = False
    ) -> None:
        """Walks an expression, pattern or simple statement in the node ``around``.

        Uses a stack instead of recursion: long sums nest deeper than Python's recursion limit.
        """
        stack = [root]
        while stack:
            node = stack.pop()
            unit = self.node_of.get(node, around)
            kind = type(node)
            if kind is ast.Name:
                self.name(node, scope, unit, note)  # type: ignore[arg-type]
                continue
            if kind is ast.Constant:
                if note and isinstance(node.value, str):  # type: ignore[attr-defined]
                    self.quoted(node.value, scope, unit)
                continue
            if isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store):
                    self.bind_attribute(node, scope, unit)
                    stack.append(node.value)
                else:
                    self.attribute(node, scope, unit, stack, note)
                continue
            if isinstance(node, ast.Call):
                self.call(node, scope, unit, stack)
                continue
            if isinstance(node, _COMPREHENSION):
                self.comprehension(node, scope, unit)
                continue
            if isinstance(node, ast.Lambda):
                self.defaults(node.args, scope, unit)
                inner = self.open("function", scope, unit)
                for argument in parameters_of(node.args):
                    self.bind(inner, argument.arg, unit)
                self.expression(node.body, inner, unit)
                continue
            if note and isinstance(node, ast.Subscript) and _last_name(node.value) == "Literal":
                stack.append(node.value)  # its strings are values, not names
                continue
            if isinstance(node, ast.NamedExpr):
                self.expression(node.value, scope, unit)
                self.bind(outside_comprehensions(scope), node.target.id, unit)
                continue
            if isinstance(node, (ast.Yield, ast.YieldFrom)):
                function = outside_comprehensions(scope).definition
                if isinstance(function, Function):
                    function.results.append(unit)
                if isinstance(node, ast.YieldFrom):
                    self.operations[node.value] = "__iter__"
            elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
                if node.name:
                    self.bind(scope, node.name, unit)
            elif isinstance(node, ast.MatchMapping) and node.rest:
                self.bind(scope, node.rest, unit)
            elif kind in _OPERATORS:
                self.operations.update(_operands(node))
            _push_children(stack, node)

    def name(self, node: ast.Name, scope: PythonScope, unit: int, note: bool) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bind(scope, node.id, unit)
        else:
            self.use(node.id, scope, unit, note=note, operation=self._operation(node))

    def _operation(self, node: ast.AST) -> str:
        """Returns the attribute that the value of a name or attribute must have."""
        operation = self.operations.get(node, "")
        return "" if operation == ASSIGNED else operation

    def attribute(
        self,
        node: ast.Attribute,
        scope: PythonScope,
        unit: int,
        stack: list[ast.AST] | None = None,
        note: bool = False,
    ) -> None:
        """Records a read of an attribute; its base is walked, or pushed on ``stack``."""
        value = node.value
        base = ""
        if isinstance(value, ast.Name):
            base = value.id
            self.use(base, scope, unit, bare=False, note=note, operation=node.attr)
        elif stack is not None:
            stack.append(value)
        else:
            self.expression(value, scope, unit)
        if not isinstance(value, _LITERALS):
            operation = self._operation(node)
            self.facts.loads.append(Load(node.attr, scope, unit, self.order, base, operation))

    def call(
        self,
        node: ast.Call,
        scope: PythonScope,
        unit: int,
        stack: list[ast.AST] | None = None,
    ) -> None:
        function = node.func
        operation = self.operations.get(node, "")
        arguments = bool(node.args or node.keywords)
        self.operations[function] = "__call__"
        if isinstance(function, ast.Attribute):
            value = function.value
            if function.attr == "__init__" and _is_parent(value):
                enclosing = scope.definition
                if isinstance(enclosing, Function) and enclosing.name == "__init__":
                    enclosing.super_inits.append(unit)
            if not isinstance(value, _LITERALS):
                base = value.id if isinstance(value, ast.Name) else ""
                self.facts.calls.append(
                    Call(function.attr, scope, unit, self.order, True, base, operation, arguments)
                )
        elif isinstance(function, ast.Name):
            self.facts.calls.append(
                Call(function.id, scope, unit, self.order, False, "", operation, arguments)
            )
        if stack is None:
            for child in (function, *node.args, *node.keywords):
                self.expression(child, scope, unit)
        else:
            _push_children(stack, node)

    def comprehension(self, node: ast.expr, scope: PythonScope, unit: int) -> None:
        inner = self.open("comprehension", scope, unit)
        for number, generator in enumerate(node.generators):  # type: ignore[attr-defined]
            # Only the first iterable is evaluated outside.
            if not generator.is_async:
                self.operations[generator.iter] = "__iter__"
            self.expression(generator.iter, inner if number else scope, unit)
            self.expression(generator.target, inner, unit)
            for condition in generator.ifs:
                self.expression(condition, inner, unit)
        if isinstance(node, ast.DictComp):
            self.expression(node.key, inner, unit)
            self.expression(node.value, inner, unit)
        else:
            self.expression(node.elt, inner, unit)  # type: ignore[attr-defined]

    def quoted(self, text: str, scope: PythonScope, unit: int) -> None:
        """Records the names of an annotation that is written as a string."""
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # a plain string, not an annotation
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                self.use(node.id, scope, unit)


def self_class(scope: PythonScope, name: str) -> Class | None:
    """Returns the class that a name such as ``self`` or ``cls`` refers to in a method."""
    at: PythonScope | None = scope
    while name and at is not None:
        if at.self_name == name:
            return at.owner
        if name in at.bindings:
            return None
        at = at.parent
    return None


def outside_comprehensions(scope: PythonScope) -> PythonScope:
    """Returns the scope around nested comprehensions."""
    while scope.kind == "comprehension" and scope.parent is not None:
        scope = scope.parent
    return scope


def is_special(name: str) -> bool:
    """Returns True if a name has the form of Python's special names, such as ``__init__``."""
    return name.startswith("__") and name.endswith("__")


def _push_children(stack: list[ast.AST], node: ast.AST) -> None:
    for name in _child_fields(type(node)):
        child = getattr(node, name, None)
        if isinstance(child, ast.AST):
            stack.append(child)
        elif isinstance(child, list):
            stack.extend(item for item in reversed(child) if isinstance(item, ast.AST))


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _kind(node: ast.expr) -> type | None:
    """Returns the built-in type of an expression's value, if it is evident."""
    if isinstance(node, ast.Constant):
        return type(node.value)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return _CONVERSIONS.get(node.func.id)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "format"):
            return str if _kind(node.func.value) is str else None
        return None
    return _KINDS.get(type(node))


_OPERATORS = (ast.Subscript, ast.Starred, ast.UnaryOp, ast.Compare)
_ITEMS: dict[type, str] = {ast.Store: "__setitem__", ast.Del: "__delitem__"}
_UNARY: dict[type, str] = {ast.USub: "__neg__", ast.UAdd: "__pos__", ast.Invert: "__invert__"}


def _operands(node: ast.AST) -> dict[ast.AST, str]:
    """Returns the operands whose values need an attribute, with the attribute's name."""
    if isinstance(node, ast.Subscript):
        return {node.value: _ITEMS.get(type(node.ctx), "__getitem__")}
    if isinstance(node, ast.Starred):
        return {node.value: "__iter__"}
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return {node.operand: _UNARY[type(node.op)]}
    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, node.comparators, strict=True)
        return {right: "__contains__" for op, right in pairs if isinstance(op, (ast.In, ast.NotIn))}
    return {}


def _is_parent(node: ast.expr) -> bool:
    """Returns True if ``node.__init__`` initializes a parent: ``super()`` or a class name."""
    return isinstance(node, (ast.Name, ast.Attribute)) or (
        isinstance(node, ast.Call) and _is_name(node.func, "super")
    )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
