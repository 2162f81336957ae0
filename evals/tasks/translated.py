"""Splits translated tests into two programs: one makes calls, one has the expected values.

MultiPL-E (Cassano et al. 2023, arXiv 2208.08227) scores a program by the exit status of a file that
contains it and its tests, which a program can forge by exiting. But in each language its tests have
one form: a call with literal arguments, and a literal value. So each test becomes two
programs. One follows the program under test, makes the calls and writes their results. The other
writes the expected values in the same way. The two outputs are compared outside the sandbox, so a
program under test never has access to an expected value.

Tests in any other form run unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codegen.core.config import read_yaml

_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', re.DOTALL)
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class SplitTest:
    """A test split into two programs.

    Attributes:
        calls: code that follows the program under test.
        expected: a whole program that writes the expected values.
        count: number of values that each program writes.
    """

    calls: str
    expected: str
    count: int


@dataclass(frozen=True, slots=True)
class TestSyntax:
    """The syntax of a language's tests.

    Attributes:
        start: regex of an assert's beginning. Its content ends at the bracket that closes the last
            one opened here.
        between: separator of the call and the value.
        answer: statement that writes a value, ``{}``.
        end: text after the content.
        stop: end of the content, if it is not a bracket.
        call: template of the call in the statement, ``{}``.
        frame: program that writes the expected values: ``{head}`` is the prompt's import lines,
            ``{answers}`` the statements.
        swapped: whether the expected value comes first.
        head: regex of an import line.
        dropped: regex of code that only the original asserts need.
        added: code to append to the calls.
    """

    start: str = r"assert\("
    between: str = " == "
    answer: str = "codegen_answer({});"
    end: str = ""
    frame: str = "{answers}\n"
    swapped: bool = False
    head: str = ""
    dropped: str = ""
    added: str = ""
    call: str = "{}"
    stop: str = ""


FORMS: Mapping[str, TestSyntax] = {
    language: TestSyntax(**fields)
    for language, fields in read_yaml(Path(__file__).with_name("translated.yaml")).items()
}


def take_apart(form: TestSyntax, prompt: str, test: str) -> SplitTest | None:
    """Splits a test; None if it has another form, or if the answer is a C++ union.

    Args:
        form: test syntax of the language.
        prompt: the problem's prompt; the expected values get its import lines.
        test: the dataset's test.
    """
    if re.search(r"^union ", prompt, re.MULTILINE):  # does not record its active member
        return None
    code = _TEXT.sub(lambda match: "_" * len(match[0]), test)  # strings masked
    calls: list[str] = []
    values: list[str] = []
    parts: list[str] = []
    last = 0
    for match in re.finditer(form.start, code, re.MULTILINE):
        content = _content(form, test, code, match)
        if content is None:
            return None
        call, value, end = content
        calls.append(form.answer.format(form.call.format(call)))
        values.append(form.answer.format(value))
        parts += test[last : match.start()], calls[-1]
        last = end
    text = "".join([*parts, test[last:]])
    if not values:
        return None
    if form.dropped:
        text = re.sub(form.dropped, "", text, flags=re.MULTILINE)
    if form is FORMS["go"]:
        bound = re.findall(r"candidate := \w+", test)
        text = "func main() {\n" + "\n".join([*bound, *calls]) + "\n}\n"
        # Use the imports that only the original tests need; Go rejects unused ones.
        uses = {"testing": "testing.Short", "fmt": "fmt.Sprint"}
        text += "".join(f"var _ = {use}\n" for name, use in uses.items() if f'"{name}"' in prompt)
    head = "\n".join(re.findall(form.head, prompt, re.MULTILINE)) if form.head else ""
    expected = form.frame.format(head=head, answers="\n".join(values))
    return SplitTest(text + form.added, expected, len(calls))


def _content(
    form: TestSyntax, test: str, code: str, found: re.Match[str]
) -> tuple[str, str, int] | None:
    """Returns the call and the expected value of an assert, and the position of its end."""
    depth = 0
    at = found.end()
    splits: list[int] = []
    stop, stopped = re.compile(form.stop) if form.stop else None, None
    while at < len(code):
        if depth == 0 and code.startswith(form.between, at):
            splits.append(at)
        if depth == 0 and stop and (stopped := stop.match(code, at)):
            break
        if code[at] in _OPEN:
            depth += 1
        elif code[at] in _CLOSE:
            depth -= 1
            if depth < 0:
                break
        at += 1
    else:
        return None
    first = found.end()
    end = re.compile(form.end).match(test, stopped.end() if stopped else at + 1)
    if end is None:
        return None
    inner = test[first:at]
    if len(splits) == 1:
        second = splits[0] + len(form.between)
        call, value = test[first : splits[0]].strip(), test[second:at].strip()
    elif not splits and (equals := _equals(code[first:at])) is not None:
        call, value = inner[:equals].strip(), inner[equals + len("equals(") + 1 : -1].strip()
    else:
        return None
    return (value, call, end.end()) if form.swapped else (call, value, end.end())


def _equals(code: str) -> int | None:
    """Returns the position of a final ``.equals`` (Java) or ``.Equals`` call; None if absent."""
    depth = 0
    for at in range(len(code) - 1, -1, -1):
        if code[at] in _CLOSE:
            depth += 1
        elif code[at] in _OPEN:
            depth -= 1
            if depth == 0:
                head = code[:at]
                return at - len(".equals") if head.lower().endswith(".equals") else None
    return None
