"""The CoGEX generator: training texts from rows.

Modes:

* ``records``: rows are CoGEX records to check, from ``families`` or the published dataset.
* ``run``: rows are real functions with a call, or with a test that has one; each runs in the
  sandbox, and its result is the output (:func:`run_record`).
* ``llm``: rows are instructions with an input and an answer (Alpaca); three requests to a model
  convert each (:func:`converted`).

A row that breaks a rule is skipped under the rule's name (:class:`codegen.cogex.Invalid`).

Limits of ``run``: only imports may come before the function, and no code after it. A function with
several returns, or none at the end of its body, keeps only the answer; results that are not
literals (a compiled pattern, a generator) are omitted.

Source: arXiv 2405.16337 §2.2. Training uses only the completion; the paper does not specify this.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Literal

from codegen.cogex.literals import Invalid, normalized, parse_literal, parse_output
from codegen.cogex.program import (
    ANSWER,
    check_call,
    entries,
    find_call,
    parse_function,
    parse_program,
    returns_of,
)
from codegen.cogex.record import (
    CogexRecord,
    check_record,
    completion_of,
    prompt_of,
    read_record,
    split_completion,
)
from codegen.core.config import read_yaml
from codegen.core.errors import ConfigError, MachineError, SandboxError
from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.core.records import BatchGenerator, Example, Segment, TrainingText
from codegen.generation.request_chains import Conversation, ModelClient, Plan, Unusable
from codegen.sandbox import Sandbox

Mode = Literal["records", "run", "llm"]
MODES: tuple[Mode, ...] = ("records", "run", "llm")


@dataclass(frozen=True, slots=True)
class CoGEX(BatchGenerator):
    """Pseudo-programs with their outputs (CoGEX).

    Attributes:
        mode: kind of rows; see the module.
        input, output, call: columns, in ``Example.meta``, with the input, the output (mode
            ``records``) and the call (mode ``run``; by default it follows the function, after
            ``>>>``).
        llm: model for mode ``llm``.

    A text's ``meta`` contains ``undefined``, the number of undefined helpers, and
    ``intermediates``; from a model ``llm_model``, ``llm_prompt_tokens``, ``llm_completion_tokens``
    and ``llm_cost_micros``.
    """

    mode: Mode = "records"
    input: str = "input"
    output: str = "code_output"
    call: str = ""
    llm: ModelClient | None = None
    name: str = field(default="cogex", init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"Unknown mode {self.mode!r}.", f"Choose from: {', '.join(MODES)}.")
        if (self.mode == "llm") != (self.llm is not None):
            raise ConfigError(
                f"Mode {self.mode!r} {'takes no' if self.llm else 'needs a'} model.",
                "Use mode llm with --endpoint and --model, or with --llm.",
            )

    def config(self) -> dict[str, object]:
        """Returns the settings that affect the texts."""
        config: dict[str, object] = {"name": self.name, "mode": self.mode, "input": self.input}
        if self.mode == "records":
            config["output"] = self.output
        elif self.mode == "run":
            config["call"] = self.call
        elif self.llm is not None:
            config |= self.llm.config()
        return config

    def generate_many(self, items):
        """Returns the results or errors of :meth:`generate` for each item.

        Errors are :class:`Invalid` if the row or its record breaks a rule, :class:`Unusable` for an
        unusable completion, and the backend's error for a failed request.
        """
        if self.llm is not None:
            return self.llm.run([self._plan(self.llm, example, rng) for example, rng in items])
        if self.mode == "records":
            return [_caught(self._read, example) for example, _ in items]
        try:
            with Sandbox(workers=1) as sandbox:
                return [
                    _caught(lambda one: self._run(one, sandbox), example) for example, _ in items
                ]
        except SandboxError as error:
            raise MachineError(error.message, error.remedy) from None

    def _read(self, example: Example) -> list[TrainingText]:
        output = example.meta.get(self.output, "")
        text = output if isinstance(output, str) else repr(output)
        input = _text(example, self.input)
        return [
            self._write(example, read_record(example.instruction, input, example.program, text))
        ]

    def _run(self, example: Example, sandbox: Sandbox) -> list[TrainingText]:
        parts = split_completion(example.program)
        call = parts.call or _text(example, self.call)
        input = _text(example, self.input)
        record = run_record(example.instruction, input, parts.program, call, sandbox)
        return [self._write(example, record)]

    def _plan(
        self, llm: ModelClient, example: Example, rng: random.Random
    ) -> Plan[list[TrainingText]]:
        model = Conversation(rng, llm.max_tokens)
        input = _text(example, self.input)
        record = yield from converted(example.instruction, input, example.program, model)
        return [self._write(example, record, {"llm_model": llm.spec.model, **llm.cost(model)})]

    def _write(
        self, example: Example, record: CogexRecord, more: Mapping[str, object] | None = None
    ) -> TrainingText:
        return TrainingText(
            id=f"{example.id}#cogex",
            example_id=example.id,
            generator=self.name,
            segments=(
                Segment(prompt_of(record.instruction, record.input), False),
                Segment(completion_of(record), True),
            ),
            meta={
                "undefined": len(parse_program(record.program).undefined),
                "intermediates": len(record.output) - 1,
                **(more or {}),
            },
        )


def _caught(
    make: Callable[[Example], list[TrainingText]], example: Example
) -> list[TrainingText] | Exception:
    try:
        return make(example)
    except Invalid as error:
        return error


def _text(example: Example, column: str) -> str:
    """Returns a column's value as a string; several, such as tests, on separate lines."""
    value = example.meta.get(column, "")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return value if isinstance(value, str) else "" if value is None else repr(value)


def run_record(
    instruction: str, input: str, program: str, call: str, sandbox: Sandbox
) -> CogexRecord:
    """Runs a call of a real function and builds a record of it.

    Args:
        input: the record's input; by default the call's arguments.
        call: a string with a call: the call itself, a doctest, an assertion.

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
    """Splits a program into the import statements before a function, and the function.

    The function is run with its imports; its record omits them, so they are undefined helpers.
    """
    try:
        body = parse(program).body
    except UNPARSABLE:
        return "", program  # the program rules report the error
    imports = list(takewhile(lambda node: isinstance(node, ast.Import | ast.ImportFrom), body))
    end = (imports[-1].end_lineno or 0) if imports else 0
    lines = program.split("\n")
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def with_intermediates(program: str, leave_out: frozenset[str] = frozenset()) -> str:
    """Changes the function to return a dictionary with ``answer``, if it does not already.

    Args:
        leave_out: named results that are not returned.

    Raises:
        Invalid: if the text is not a single function, or has no return value.
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
    """Returns the names that top-level statements of the function assign, each once."""
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
    """Replaces a statement by text; columns of the syntax tree count UTF-8 bytes."""
    end = node.end_lineno or node.lineno
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    after = lines[end - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno - 1 : end] = [before + text + after]


@cache
def _prompts() -> dict[str, str]:
    return read_yaml(Path(__file__).with_name("prompts.yaml"))


_MOST_STEPS = 3


def converted(instruction: str, input: str, answer: str, model: Conversation) -> Plan[CogexRecord]:
    """Yields, as a plan, the requests that convert an instruction to a record.

    Source: arXiv 2405.16337 section 2.2 and appendix: make input and output Python values, plan,
    write the program. The prompts are modeled on the paper's, with other words and demonstrations.
    The model sees the correct answer when writing the program; a record with another ``answer`` is
    rejected (``answer_differs``). A completion can also break a rule of records, or fail as
    ``bad_values`` (no object with input and output) or ``bad_plan`` (no step, or over 3).

    Raises:
        Invalid: if the record breaks a rule.
        Unusable: if a completion is unusable for another reason.
    """

    def prompt(name: str, shown: str, **more: object) -> str:
        given = {"instruction": instruction, "input": shown or "(none)", **more}
        return _prompts()[name].format(**given)

    values = _values((yield from model.complete(prompt("pythonise", input, output=answer))))
    shown = repr(values["input"]) if values["input"] else ""
    steps = _steps((yield from model.complete(prompt("plan", shown))))
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    request = prompt("program", shown, output=repr(values["output"]), steps=numbered)
    parts = split_completion((yield from model.complete(request)))
    code = f"{parts.program}\n\n>>> {parts.call}" if parts.call else parts.program
    record = read_record(instruction, input, code, parts.output)
    if normalized(record.output["answer"]) != normalized(values["output"]):
        given, wanted = (repr(v)[:80] for v in (record.output["answer"], values["output"]))
        raise Unusable("answer_differs", f"{given} instead of {wanted}")
    return record


def _values(text: str) -> dict[str, object]:
    start = text.find("{")
    try:
        values, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
    except (ValueError, RecursionError):
        try:
            values = parse_output(text)  # a Python literal instead of JSON
        except Invalid as error:
            raise Unusable("bad_values", error.detail) from None
    if not isinstance(values, dict) or not {"input", "output"} <= set(values):
        raise Unusable("bad_values", f"no object with input and output in {text[:80]!r}")
    return values


def _steps(text: str) -> list[str]:
    steps = []
    for line in text.splitlines():
        if not (found := re.search(r"\{.*\}", line)):
            continue
        try:
            step = json.loads(found.group())
        except (ValueError, RecursionError):
            continue
        if isinstance(step, dict) and isinstance(step.get("description"), str):
            steps.append(" ".join(step["description"].split()))
    if not 1 <= len(steps) <= _MOST_STEPS:
        raise Unusable("bad_plan", f"{len(steps)} steps in {text[:80]!r}")
    return steps
