"""CoGEX records, their rules, and their text form.

A row has the fields of the published dataset (``mkhalifa/CoGEX`` on the hub):
``instruction``, ``input``, ``code_prompt`` (the function, a blank line, ``>>> call``) and
``code_output`` (the dictionary). The text form has a header line before each::

    ### Instruction
    {instruction}
    ### Input
    {input}
    ### Code
    {code_prompt}
    ### Output
    {code_output}

A prompt ends after the input (reasoner) or after the function (emulator). An emulator's prompt also
has the following ``>>>``, since a prompt that ends in blank lines would be tokenized differently
than in training.

Source: arXiv 2405.16337 §2 and the dataset's fields; the paper shows the header strings only in an
image, so they follow a replication that trained on the published file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from codegen.cogex.literals import Invalid, parse_output
from codegen.cogex.program import (
    PseudoProgram,
    check_call,
    check_output,
    find_call,
    parse_program,
    split_session,
)

INSTRUCTION, INPUT, CODE, OUTPUT = "### Instruction", "### Input", "### Code", "### Output"
PROMPT = ">>>"


@dataclass(frozen=True, slots=True)
class CogexRecord:
    """A pseudo-program with a call and its output.

    Attributes:
        input: may be empty.
        call: a call of the program, without ``>>>``.
        output: intermediate results in return-statement order, then ``answer``.
    """

    instruction: str
    input: str
    program: str
    call: str
    output: Mapping[str, object]

    @property
    def code_prompt(self) -> str:
        """The function and the call."""
        return f"{self.program}\n\n{PROMPT} {self.call}"

    @property
    def code_output(self) -> str:
        """The output as a literal."""
        return repr(dict(self.output))

    def to_row(self) -> dict[str, str]:
        """Returns the fields of the published dataset."""
        return {
            "instruction": self.instruction,
            "input": self.input,
            "code_prompt": self.code_prompt,
            "code_output": self.code_output,
        }


@dataclass(frozen=True, slots=True)
class CompletionParts:
    """The parts of a completion; a missing one is empty."""

    program: str = ""
    call: str = ""
    output: str = ""


def read_record(instruction: str, input: str, code_prompt: str, code_output: str) -> CogexRecord:
    """Parses a record from the four fields of a row.

    Raises:
        Invalid: if a rule is broken; names the rule.
    """
    parts = split_completion(code_prompt)
    if parts.output:
        raise Invalid("more_than_function", f"the code contains the line {OUTPUT}")
    text, after = split_session(parts.program)
    program = parse_program(text)  # check the fields in order
    output = check_output(program, parse_output(code_output))
    call = _call_of(program, parts.call, after or code_prompt)
    record = CogexRecord(instruction.strip(), input.strip(), program.text, call, output)
    check_record(record)
    return record


def _call_of(program: PseudoProgram, call: str, session: str) -> str:
    """Returns the call as written, or a session's first call of the program.

    ``>>> words = ['a']`` and ``>>> print(f(words))`` become ``f(['a'])``.
    """
    try:
        check_call(program, call)
    except Invalid as error:
        marked = [line for line in session.splitlines() if line.startswith((PROMPT, "..."))]
        try:
            return find_call("\n".join(marked) or session, program.name)
        except Invalid:
            raise error from None
    return call


def check_record(record: CogexRecord) -> PseudoProgram:
    """Checks a record and returns its program.

    Raises:
        Invalid: if a rule is broken; names the rule.
    """
    program = parse_program(record.program)
    check_call(program, record.call)
    check_output(program, dict(record.output))
    parse_output(record.code_output)  # the values must be literals
    return program


def split_completion(text: str) -> CompletionParts:
    """Splits a completion into function, call and output.

    The function ends before the first ``>>>``, or else before the output's header, which may also
    be ``Example Output:``, as in the paper's prompt. The code's header may be missing; a Markdown
    fence around the code is removed.
    """
    text = text.replace("\r\n", "\n")
    if header := re.search(rf"^{CODE}[ \t]*\n", text, re.MULTILINE):
        text = text[header.end() :]
    code, found, output = _cut(text, rf"^(?:{OUTPUT}[ \t]*$|Example Output:)")
    output = output if found else ""
    program, _, call = _cut(code, rf"^{PROMPT}")
    program = re.sub(r"^[ \t]*```\w*[ \t]*$", "", program, flags=re.MULTILINE)
    return CompletionParts(program.strip("\n").rstrip(), _first_call(call), output.strip())


def split_emulation(text: str) -> CompletionParts:
    """Splits an emulator's completion, with or without a leading ``>>>``, into call and output."""
    return split_completion(f"{PROMPT} {text.strip().removeprefix(PROMPT).lstrip()}")


def _cut(text: str, mark: str) -> tuple[str, bool, str]:
    match = re.search(mark, text, re.MULTILINE)
    return (text[: match.start()], True, text[match.end() :]) if match else (text, False, "")


def _first_call(text: str) -> str:
    """Returns a call's text: its first line, and more lines until its brackets close."""
    first, *rest = text.split("\n")
    call = [first.strip()]
    depth = _opened(first)
    for line in rest:
        if depth <= 0 or line.startswith((PROMPT, "```")):
            break
        call.append(line)
        depth += _opened(line)
    return "\n".join(call).rstrip()


def _opened(line: str) -> int:
    """Returns the number of brackets that a line leaves open."""
    return sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))


def prompt_of(instruction: str, input: str) -> str:
    """Builds a reasoner's prompt: everything before the code's header."""
    return f"{INSTRUCTION}\n{instruction}\n{INPUT}\n{input}\n"


def emulation_prompt(instruction: str, input: str, program: str, call: str = "") -> str:
    """Builds an emulator's prompt: up to the call or, if set, up to the output."""
    start = f"{prompt_of(instruction, input)}{CODE}\n{program}\n\n{PROMPT}"
    return f"{start} {call}\n{OUTPUT}\n" if call else start


def completion_of(record: CogexRecord) -> str:
    """Returns a reasoner's target text."""
    return f"{CODE}\n{record.code_prompt}\n{OUTPUT}\n{record.code_output}"


def text_of(record: CogexRecord) -> str:
    """Returns the whole text form."""
    return prompt_of(record.instruction, record.input) + completion_of(record)
