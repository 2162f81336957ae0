"""A language model in the two roles of CoGEX: it writes programs, and it emulates them.

Reasoner: instruction and input to program, call and output. Emulator: instruction, input and a
fixed program to call and output; a call that is given too is only emulated. Source: arXiv
2405.16337 §2.1.

A model that was not trained on records is shown some first (few-shot); one behind a chat interface
is asked to go on with the text. Whatever it writes is read, never run; what can't be read is a
failure with a reason, never an exception.

Limit: as everywhere, a sample's last bits depend on the batch it was made in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.cogex.literals import Invalid, parse_output
from codegen.cogex.program import ANSWER
from codegen.cogex.record import (
    INSTRUCTION,
    OUTPUT,
    PROMPT,
    CogexRecord,
    Parts,
    emulation_prompt,
    prompt_of,
    split_completion,
    split_emulation,
    text_of,
)
from codegen.errors import ConfigError, ModelError
from codegen.generation.protocol import Decoder, Generator, Request, SamplingParams
from codegen.records import Sample

_NEXT = f"\n{INSTRUCTION}"  # where a model that was shown records would begin another one
_CHAT = (
    "Go on with the last of the texts below where it ends, in the same form, and write nothing "
    "else. The code is Python that may call undefined helpers; its output is a dictionary of "
    "literals, worked out in your head.\n\n"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model is asked.

    Attributes:
        instruction, input: of the problem.
        program: the function to emulate; empty for a reasoner.
        call: the call to emulate; empty if the model is to write it.
        key: what the sampling's random numbers depend on, beside ``index`` and the seed.
    """

    instruction: str
    input: str
    program: str = ""
    call: str = ""
    key: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Emulation:
    """What a model says a call gives.

    Attributes:
        program, call: what was emulated.
        output: the dictionary; empty if there is none.
        failure: why there is no answer, by a short word: a rule of outputs
            (:class:`~codegen.cogex.literals.Invalid`), ``truncated``, ``no_answer`` (a dictionary
            without that key) or ``not_asked`` (the model refused the prompt); empty for success.
        text: what the model wrote.
    """

    program: str
    call: str
    output: Mapping[str, Any]
    failure: str = ""
    text: str = ""

    @property
    def answer(self) -> Any:
        """The answer; None if it failed."""
        return self.output.get(ANSWER) if not self.failure else None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens of a program, and of a call with its output."""

    program_tokens: int = 320
    output_tokens: int = 192


class PseudoModel:
    """Asks a generation back-end.

    Args:
        generator: the back-end.
        name: of the model, for reports and fingerprints.
        shots: records that are shown before each question.
        chat: whether the text goes into the user's turn of a chat.
        batch_size: questions that are given to the back-end at once.
        limits: of what it writes.
        seed: of the sampling.
    """

    def __init__(
        self,
        generator: Generator,
        name: str = "",
        *,
        shots: Sequence[CogexRecord] = (),
        chat: bool = False,
        batch_size: int = 32,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        self.generator, self.name, self.chat = generator, name, chat
        self.batch_size, self.limits, self.seed = batch_size, limits or Limits(), seed
        self._before = "".join(f"{text_of(shot)}\n\n" for shot in shots)

    def write(self, asks: Sequence[Ask], temperature: float) -> Iterator[tuple[int, str, str]]:
        """Programs for problems: (number of the ask, program, failure), in any order.

        Nothing is checked but that there is some text.
        """
        stop = (f"\n{PROMPT}", f"\n{OUTPUT}", _NEXT)
        tokens = self.limits.program_tokens
        for number, sample in self._samples(asks, stop, tokens, temperature):
            if isinstance(sample, str):
                yield number, "", sample
                continue
            program = split_completion(sample.completion).program
            failure = "" if program else "no_function"
            yield number, program, "truncated" if sample.finish_reason == "length" else failure

    def solve(self, asks: Sequence[Ask], temperature: float) -> Iterator[tuple[int, Emulation]]:
        """Program, call and output at once: the reasoner."""
        tokens = self.limits.program_tokens + self.limits.output_tokens
        for number, sample in self._samples(asks, (_NEXT,), tokens, temperature):
            if isinstance(sample, str):
                yield number, Emulation("", "", {}, sample)
                continue
            yield number, _emulation("", split_completion(sample.completion), sample)

    def emulate(self, asks: Sequence[Ask], temperature: float) -> Iterator[tuple[int, Emulation]]:
        """Call and output of fixed programs: the emulator."""
        tokens = self.limits.output_tokens
        for number, sample in self._samples(asks, (_NEXT,), tokens, temperature):
            ask = asks[number]
            if isinstance(sample, str):
                yield number, Emulation(ask.program, ask.call, {}, sample)
                continue
            text = sample.completion
            parts = Parts("", ask.call, text) if ask.call else split_emulation(text)
            yield number, _emulation(ask.program, parts, sample)

    def _samples(
        self, asks: Sequence[Ask], stop: tuple[str, ...], tokens: int, temperature: float
    ) -> Iterator[tuple[int, Sample | str]]:
        params = SamplingParams(tokens, temperature, seed=self.seed)
        requests = [self._request(number, ask, stop) for number, ask in enumerate(asks)]
        # Rows of like length are decoded together.
        order = sorted(range(len(asks)), key=lambda number: (len(requests[number].prompt), number))
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            yield from self._window([(number, requests[number]) for number in numbers], params)

    def _request(self, number: int, ask: Ask, stop: tuple[str, ...]) -> Request:
        text = self._before + prompt_for(ask)
        return Request(
            _CHAT + text if self.chat else text,
            chat=self.chat,
            stop=stop,
            task="cogex",
            problem_id=f"{ask.key or number}",
            index=ask.index,
            heal=False,
        )

    def _window(
        self, window: Sequence[tuple[int, Request]], params: SamplingParams
    ) -> Iterator[tuple[int, Sample | str]]:
        try:
            requests = [request for _, request in window]
            samples = list(self.generator.generate(requests, params, Decoder()))
        except ConfigError:
            raise
        except ModelError as error:
            if len(window) == 1:
                yield window[0][0], f"not_asked: {error.message}"
                return
            for one in window:  # alone, each shows its own fault
                yield from self._window([one], params)
            return
        waiting = {(r.problem_id, r.index): number for number, r in reversed(window)}
        if len(waiting) < len(window):
            raise ConfigError("Two questions of a batch have the same key and index.")
        for sample in samples:
            yield waiting[sample.problem_id, sample.index], sample


def prompt_for(ask: Ask) -> str:
    """The text that a model goes on with."""
    if ask.program:
        return emulation_prompt(ask.instruction, ask.input, ask.program, ask.call)
    return prompt_of(ask.instruction, ask.input)


def _emulation(program: str, parts: Parts, sample: Sample) -> Emulation:
    program, failure = program or parts.program, ""
    output: Mapping[str, Any] = {}
    try:
        output = parse_output(parts.output)
        if ANSWER not in output:
            failure = "no_answer"
    except Invalid as error:
        failure = "truncated" if sample.finish_reason == "length" else error.reason
    return Emulation(program, parts.call, output, failure, sample.completion)
