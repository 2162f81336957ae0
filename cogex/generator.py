"""The CoGEX generator: rows to training texts.

By ``mode``:

* ``records``: rows are CoGEX records, from ``families`` or the published data set, to be checked.
* ``run``: rows are real functions with a call, or a test with one; each runs in the sandbox, and
  what it returns is the output (:mod:`codegen.cogex.execution`).
* ``llm``: rows are instructions with an input and an answer (Alpaca); three requests to a model
  convert each (:mod:`codegen.cogex.conversion`).

A row that breaks a rule is skipped under the rule's name (:class:`codegen.cogex.Invalid`).

Source: arXiv 2405.16337 §2.2. Only the completion is trained; the paper does not say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from codegen.cogex.conversion import converted
from codegen.cogex.execution import run_record
from codegen.cogex.literals import Invalid
from codegen.cogex.program import parse_program
from codegen.cogex.record import (
    CogexRecord,
    completion_of,
    prompt_of,
    read_record,
    split_completion,
)
from codegen.errors import ConfigError, MachineError, SandboxError
from codegen.evals.sandbox import Sandbox
from codegen.generation.plans import Conversation, ModelClient, Plan
from codegen.records import Example, Segment, TrainingText

Mode = Literal["records", "run", "llm"]
MODES: tuple[Mode, ...] = ("records", "run", "llm")


@dataclass(frozen=True, slots=True)
class CoGEX:
    """Pseudo-programs with their outputs (CoGEX).

    Attributes:
        mode: the kind of rows; see the module.
        input, output, call: columns, in ``Example.meta``, with the input, the output (mode
            ``records``) and the call (mode ``run``; by default it follows the function, after
            ``>>>``).
        llm: the model for mode ``llm``.

    A text's ``meta`` holds ``undefined``, the number of helpers that nothing defines, and
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
            raise ConfigError(f"There is no mode {self.mode!r}.", f"There are: {', '.join(MODES)}.")
        if (self.mode == "llm") != (self.llm is not None):
            raise ConfigError(
                f"Mode {self.mode!r} {'takes no' if self.llm else 'needs a'} model.",
                "Use mode llm with --endpoint and --model, or with --llm.",
            )

    def config(self) -> dict[str, object]:
        """The settings that decide the texts."""
        config: dict[str, object] = {"name": self.name, "mode": self.mode, "input": self.input}
        if self.mode == "records":
            config["output"] = self.output
        elif self.mode == "run":
            config["call"] = self.call
        elif self.llm is not None:
            config |= self.llm.config()
        return config

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """Yields one text.

        Raises:
            Invalid: if the row or its record breaks a rule.
            Unusable: if a completion can't be used.
            RequestFailed: if a request failed.
            ModelUnusable: if all requests would.
        """
        (texts,) = self.generate_many([(example, rng)])
        if isinstance(texts, Exception):
            raise texts
        yield from texts

    def generate_many(
        self, items: Sequence[tuple[Example, random.Random]]
    ) -> list[list[TrainingText] | Exception]:
        """What :meth:`generate` yields or raises for each item."""
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
    """A column's value as text; several, such as tests, on lines of their own."""
    value = example.meta.get(column, "")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return value if isinstance(value, str) else "" if value is None else repr(value)
