"""Makes a CoGEX record of a real function by running it, without a model.

:func:`with_intermediates` turns ``return value`` into a return of the named results before it and
the answer; :func:`run_record` calls the function in the sandbox. The output is what it returns,
without results that are not literals (a compiled pattern, a generator).

Limits: only imports may come before the function, and nothing after it. A function with several
returns, or none at the end of its body, keeps the answer only.
"""

from __future__ import annotations

import ast
from itertools import takewhile

from codegen.cogex.literals import UNPARSABLE, Invalid, parse_literal, syntax_tree
from codegen.cogex.program import (
    ANSWER,
    check_call,
    entries,
    find_call,
    parse_function,
    parse_program,
    returns_of,
)
from codegen.cogex.record import CogexRecord, check_record
from codegen.evals.sandbox import Sandbox


def run_record(
    instruction: str, input: str, program: str, call: str, sandbox: Sandbox
) -> CogexRecord:
    """Runs a call of a real function and makes a record of it.

    Args:
        input: by default the call's arguments.
        call: a text with a call: the call itself, a doctest, an assertion.

    Raises:
        Invalid: if the function or the call breaks a rule; ``raised`` if the run fails (an
            exception, an undefined helper, a limit), ``not_literal`` if the result is not a
            literal.
    """
    imports, program = split_imports(program)
    parsed = parse_program(with_intermediates(program))
    call = find_call(call, parsed.name)
    bound = check_call(parsed, call)
    output = _returned(imports, parsed.text, call, sandbox)
    if odd := frozenset(key for key, value in output.items() if not _is_literal(value)) - {ANSWER}:
        parsed = parse_program(with_intermediates(program, leave_out=odd))
        output = _returned(imports, parsed.text, call, sandbox)
    if not _is_literal(output):
        raise Invalid("not_literal", f"{call[:80]} gives {repr(output)[:80]}")
    shown = ", ".join(f"{name} = {value!r}" for name, value in bound.arguments.items())
    record = CogexRecord(instruction.strip(), input.strip() or shown, parsed.text, call, output)
    check_record(record)
    return record


def _returned(imports: str, program: str, call: str, sandbox: Sandbox) -> dict[str, object]:
    outcome = sandbox.run(f"{imports}\n{program}", calls=[call])
    if outcome.results and outcome.results[0].ok:
        value = outcome.results[0].value
        return value if isinstance(value, dict) else {}  # a generator: its keys are missing
    error = outcome.results[0].error if outcome.results else outcome.message
    raise Invalid("raised", f"{call[:80]}: {error or outcome.status}"[:300])


def _is_literal(value: object) -> bool:
    try:
        parse_literal(repr(value))
    except Invalid:
        return False
    return True


def split_imports(program: str) -> tuple[str, str]:
    """The import statements before a function, and the function.

    The function is run with its imports; its record has none, so there they are undefined helpers.
    """
    try:
        body = syntax_tree(program).body
    except UNPARSABLE:
        return "", program  # the rules of programs say what is wrong
    imports = list(takewhile(lambda node: isinstance(node, ast.Import | ast.ImportFrom), body))
    end = (imports[-1].end_lineno or 0) if imports else 0
    lines = program.split("\n")
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def with_intermediates(program: str, leave_out: frozenset[str] = frozenset()) -> str:
    """The function, changed to return a dictionary with ``answer`` if it does not already.

    Args:
        leave_out: named results that are not returned.

    Raises:
        Invalid: if the text is not a single function, or returns nothing.
    """
    function = parse_function(program)
    returns = returns_of(function)
    if not any(node.value for node in returns):
        raise Invalid("no_return", f"{function.name} returns nothing")
    if all(_returns_answer(node, function) for node in returns):
        return program
    last = function.body[-1]
    alone = len(returns) == 1 and last is returns[0]
    names = [n for n in _named_results(function) if n not in leave_out] if alone else []
    lines = program.split("\n")
    for node in sorted(returns, key=lambda node: -node.lineno):
        value = ast.get_source_segment(program, node.value) if node.value else "None"
        if isinstance(node.value, ast.Tuple) and value and not value.startswith("("):
            value = f"({value})"
        entries = "".join(f"{name!r}: {name}, " for name in names if name != value)
        _replace(lines, node, f"return {{{entries}{ANSWER!r}: {value}}}")
    return "\n".join(lines)


def _returns_answer(node: ast.Return, function: ast.FunctionDef) -> bool:
    try:
        return ANSWER in dict(entries(node, function))
    except Invalid:
        return False


def _named_results(function: ast.FunctionDef) -> list[str]:
    """The names that top-level statements of the function assign, each once."""
    names: dict[str, None] = {}
    for node in function.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value:
            targets = [node.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            names.update((part.id, None) for part in parts if isinstance(part, ast.Name))
    names.pop(ANSWER, None)
    return list(names)


def _replace(lines: list[str], node: ast.stmt, text: str) -> None:
    """Replaces a statement by a text; columns of the syntax tree count bytes of UTF-8."""
    end = node.end_lineno or node.lineno
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    after = lines[end - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno - 1 : end] = [before + text + after]
