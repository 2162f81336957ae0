"""A language model in the two roles of CoGEX: it writes programs, and it emulates them.

The reasoner maps instruction and input to program, call and output. The emulator maps instruction,
input and program to call and output or, given a call, to the output. Source: arXiv 2405.16337 §2.1.

A model that was not trained on records gets some as examples (few-shot); a chat model is prompted
to continue the text. Its completion is parsed, never run here; a failure has a reason and is never
an exception.

Limit: a sample's probabilities depend on its batch in the last bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.cogex import record
from codegen.cogex.literals import Invalid, parse_output
from codegen.cogex.program import ANSWER
from codegen.core.errors import ConfigError
from codegen.core.generation import Backend, Completion, Decoder, Request, SamplingParams

_NEXT = f"\n{record.INSTRUCTION}"  # a few-shot model would begin another record here
_CHAT = (
    "Go on with the last of the texts below where it ends, in the same form, and write nothing "
    "else. The code is Python that may call undefined helpers; its output is a dictionary of "
    "literals, worked out in your head.\n\n"
)


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """Input for a model to write or emulate a program.

    Attributes:
        instruction, input: the problem.
        program: the function to emulate; empty for a reasoner.
        call: the call to emulate; empty if the model should write it.
        key, index: sampling seed, combined with the model's seed.
    """

    instruction: str
    input: str
    program: str = ""
    call: str = ""
    key: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Emulation:
    """A model's output for a call.

    Attributes:
        program, call: the emulated program and call.
        output: the dictionary; empty if absent.
        failure: the reason for a missing answer: a rule of outputs
            (:class:`~codegen.cogex.literals.Invalid`), ``truncated``, ``no_answer`` (no such key)
            or ``not_asked`` (the backend rejected the prompt); empty for success.
        text: the completion.
    """

    program: str
    call: str
    output: Mapping[str, object]
    failure: str = ""
    text: str = ""

    @property
    def answer(self) -> Any:
        """The answer; None if the emulation failed."""
        return self.output.get(ANSWER) if not self.failure else None


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """Maximum tokens of a program, and of a call with its output."""

    program_tokens: int = 320
    output_tokens: int = 192


class PseudoModel:
    """A model that writes and emulates programs, on a generation backend.

    Args:
        name: the model's name, for reports and fingerprints.
        shots: records before each prompt.
        chat: True sends the prompt as a user's message.
    """

    def __init__(
        self,
        backend: Backend,
        name: str = "",
        *,
        shots: Sequence[record.CogexRecord] = (),
        chat: bool = False,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self.backend, self.name, self.chat = backend, name, chat
        self.batch_size, self.limits, self.seed = batch_size, TokenLimits(), seed
        self._before = "".join(f"{record.text_of(shot)}\n\n" for shot in shots)

    def write(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, str, str]]:
        """Yields programs for problems, in any order: (index of the query, program, failure).

        Programs are only checked to be non-empty.
        """
        stop = (f"\n{record.PROMPT}", f"\n{record.OUTPUT}", _NEXT)
        tokens = self.limits.program_tokens
        for number, made in self._completions(queries, stop, tokens, temperature):
            if made.error:
                yield number, "", _refused(made)
                continue
            program = record.split_completion(made.text).program
            failure = "" if program else "no_function"
            yield number, program, "truncated" if made.finish_reason == "length" else failure

    def solve(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, Emulation]]:
        """Runs the reasoner: program, call and output."""
        tokens = self.limits.program_tokens + self.limits.output_tokens
        for number, made in self._completions(queries, (_NEXT,), tokens, temperature):
            yield number, _emulation(ModelQuery("", ""), record.split_completion(made.text), made)

    def emulate(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, Emulation]]:
        """Runs the emulator: calls and outputs of given programs."""
        tokens = self.limits.output_tokens
        for number, made in self._completions(queries, (_NEXT,), tokens, temperature):
            query = queries[number]
            parts = (
                record.CompletionParts("", query.call, made.text)
                if query.call
                else record.split_emulation(made.text)
            )
            yield number, _emulation(query, parts, made)

    def _completions(
        self, queries: Sequence[ModelQuery], stop: tuple[str, ...], tokens: int, temperature: float
    ) -> Iterator[tuple[int, Completion]]:
        params = SamplingParams(tokens, temperature, seed=self.seed)
        requests = [self._request(number, query, stop) for number, query in enumerate(queries)]
        # Prompts of similar length are decoded together.
        order = sorted(
            range(len(queries)), key=lambda number: (len(requests[number].prompt), number)
        )
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            window = [requests[number] for number in numbers]
            if len({(one.problem_id, one.index) for one in window}) < len(window):
                raise ConfigError("Two queries of a batch have the same key and index.")
            for made in self.backend.generate(window, params, Decoder()):
                yield numbers[made.number], made

    def _request(self, number: int, query: ModelQuery, stop: tuple[str, ...]) -> Request:
        text = self._before + prompt_for(query)
        return Request(
            _CHAT + text if self.chat else text,
            chat=self.chat,
            stop=stop,
            task="cogex",
            problem_id=f"{query.key or number}",
            index=query.index,
            heal=False,
        )


def prompt_for(query: ModelQuery) -> str:
    """Builds the text that a model continues."""
    if query.program:
        return record.emulation_prompt(query.instruction, query.input, query.program, query.call)
    return record.prompt_of(query.instruction, query.input)


def _emulation(query: ModelQuery, parts: record.CompletionParts, made: Completion) -> Emulation:
    if made.error:
        return Emulation(query.program, query.call, {}, _refused(made))
    program, failure = query.program or parts.program, ""
    output: Mapping[str, object] = {}
    try:
        output = parse_output(parts.output)
        if ANSWER not in output:
            failure = "no_answer"
    except Invalid as error:
        failure = "truncated" if made.finish_reason == "length" else error.reason
    return Emulation(program, parts.call, output, failure, made.text)


def _refused(made: Completion) -> str:
    return f"not_asked: {made.error.message}" if made.error else ""
