"""Fill-in-the-middle data: a part of a program, conditioned on the code before and after it.

Source: Bavarian et al., "Efficient Training of Language Models to Fill in the Middle", 2022 (arXiv
2207.14255); spans of the syntax tree: Gong et al., "Structure-Aware Fill-in-the-Middle Pretraining
for Code", 2025 (arXiv 2506.00204).

A span is a half-open range of characters. All spans of a kind are listed, and one is chosen
uniformly (``char`` spans are sampled directly, since there are too many):

- ``line``: one to ``MOST_LINES`` whole lines that contain code, with their line ends;
- ``block``: the body of a compound statement of Python;
- ``ast``: one statement or expression of Python's syntax tree;
- ``char``: any character range (the paper's document level).

The prompt of a text equals the evaluation's prompt of the same style. ``meta`` has ``kind``,
``span``, ``style`` and the sentinels (``special_tokens``), which fine-tuning requires in the
model's vocabulary; with the style ``auto``, fine-tuning replaces missing ones by another family's
sentinels (``other_tokens``) that are in the vocabulary.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from codegen.core.config import Config, keyed, setting
from codegen.core.errors import SkippedExample, require_known
from codegen.core.python_syntax import UNPARSABLE, characters, first_line, parse, with_newlines
from codegen.core.records import Example, Segment, TrainingText

if TYPE_CHECKING:
    from codegen.evals.tasks.styles import PromptStyle

KINDS = ("line", "block", "ast", "char")
_SENTINEL = re.compile(r"<[^<>\s{}]+>|\[[A-Z]+\]")
MOST_LINES = 8
_FEWEST_CHARS = 2  # shorter expressions are names or digits


class UnsuitableProgram(SkippedExample):
    """An example is unsuitable for infilling: ``empty``, ``sentinel_in_program``, ``no_span``."""

    subject = "No infilling data"


def _styles() -> Mapping[str, PromptStyle]:
    """Returns the evaluation's styles, loaded lazily, since ``--help`` does not need them."""
    from codegen.evals.tasks.styles import STYLES

    return STYLES


class Infilling(Config):
    """Make fill-in-the-middle texts: a part of a program, conditioned on the code around it.

    Train on them with format: plain; a chat template would wrap the sentinels.
    """

    style: str = setting(
        "auto",
        "Sentinels and order of a model family, as in codegen eval run: auto (prefix, suffix, "
        "middle, with the fine-tuned model's sentinels), fim-qwen, fim-qwen-spm, "
        "fim-starcoder, fim-starcoder-spm, fim-santacoder, fim-deepseek, fim-codellama and others.",
    )
    spans: str = setting(
        "line,block,ast,char",
        "Kinds of spans to cut out: line, block and ast (Python), char. Each example uses a "
        "random kind that the program has.",
        metavar="KIND,...",
    )
    loss: Literal["middle", "all"] = keyed(
        "middle", "Trained part: the middle, or all, as in pre-training."
    )
    rate: float = keyed(
        1.0, "Fraction of infilling texts; other texts are whole programs.", ge=0, le=1
    )
    sequences: int = setting(1, "Training texts per program.", ge=1)

    @property
    def name(self) -> str:
        """Name of the method."""
        return "infilling"

    def _check(self) -> None:
        known = ["auto", *(name for name, style in _styles().items() if style.ask == "infill")]
        require_known("infilling style", self.style, known)
        for kind in self.kinds:
            require_known("kind of span", kind, KINDS)

    @property
    def kinds(self) -> list[str]:
        """Kinds of spans."""
        return [kind.strip() for kind in self.spans.split(",")]

    @property
    def _style(self) -> PromptStyle:
        return _styles()["fim-qwen" if self.style == "auto" else self.style]

    @property
    def sentinels(self) -> list[str]:
        """Special tokens of the style."""
        return _SENTINEL.findall(self._style.template)

    @property
    def other_sentinels(self) -> list[list[str]]:
        """For ``auto``, sentinels of other families with the same order, else empty."""
        shape = _SENTINEL.split(self._style.template)
        others = [style.template for style in _styles().values() if style is not self._style]
        same = [_SENTINEL.findall(one) for one in others if _SENTINEL.split(one) == shape]
        return same if self.style == "auto" else []

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """Yields the texts of one example; text k does not depend on ``sequences``.

        Raises:
            UnsuitableProgram: if the program has no span, or contains a sentinel.
        """
        program = example.program
        if not program.strip():
            raise UnsuitableProgram("empty", "the program is empty.")
        words = (word for some in (self.sentinels, *self.other_sentinels) for word in some)
        if found := next((word for word in words if word in program), None):
            raise UnsuitableProgram(
                "sentinel_in_program", f"{found} in the program would be read as a sentinel."
            )
        seeds = [rng.getrandbits(64) for _ in range(self.sequences)]
        for number, seed in enumerate(seeds):
            yield self._text(example, number, random.Random(seed))

    def _text(self, example: Example, number: int, rng: random.Random) -> TrainingText:
        program = example.program
        if rng.random() >= self.rate:
            return self._record(example, number, (Segment(program, True),), {"kind": "none"})
        kinds = self.kinds
        rng.shuffle(kinds)
        for kind in kinds:
            if found := spans_of(kind, program, rng):
                span = rng.choice(found)
                break
        else:
            raise UnsuitableProgram("no_span", f"the program has no {' or '.join(self.kinds)}.")
        style = self._style
        prompt = style.render(prefix=program[: span.start], suffix=program[span.end :])
        middle = program[span.start : span.end]
        segments = (Segment(prompt, self.loss == "all"), Segment(middle, True))
        meta: dict[str, object] = {
            "kind": kind,
            "span": list(span),
            "style": style.name,
            "special_tokens": self.sentinels,
        }
        if others := self.other_sentinels:
            meta["other_tokens"] = others
        return self._record(example, number, segments, meta)

    def _record(
        self, example: Example, number: int, segments: tuple[Segment, ...], meta: dict[str, object]
    ) -> TrainingText:
        text_id = f"{example.id}#infilling-{number}"
        return TrainingText(text_id, example.id, self.name, segments, meta)


class CharSpan(NamedTuple):
    """A character range of a program, ``end`` excluded."""

    start: int
    end: int


def spans_of(kind: str, program: str, rng: random.Random) -> list[CharSpan]:
    """Returns the spans of a kind; empty if none exist, or the program cannot be parsed.

    Args:
        rng: random generator for spans of ``line`` and ``char``.
    """
    if kind == "char":
        return [_anywhere(program, rng)] if program else []
    if kind == "line":
        return list(_lines(program, rng))
    try:
        tree = parse(program)
    except UNPARSABLE:
        return []
    places = _Places(program)
    found = _blocks(tree, places) if kind == "block" else _nodes(tree, places)
    return sorted(span for span in set(found) if program[span.start : span.end].strip())


def _anywhere(program: str, rng: random.Random) -> CharSpan:
    one, other = rng.randint(0, len(program)), rng.randint(0, len(program))
    return CharSpan(min(one, other), max(one, other))


def _lines(program: str, rng: random.Random) -> Iterator[CharSpan]:
    """Yields spans of a random number of lines, one from each line with code."""
    starts = [0]
    for line in re.findall(r"[^\n]*\n|[^\n]+", program):
        starts.append(starts[-1] + len(line))
    for first, start in enumerate(starts[:-1]):
        count = rng.randint(1, MOST_LINES)
        if program[start : starts[first + 1]].strip():
            yield CharSpan(start, starts[min(first + count, len(starts) - 1)])


class _Places:
    """Maps lines and UTF-8 columns of the syntax tree to character indices."""

    def __init__(self, program: str) -> None:
        # ast counts lines as the tokenizer does: at line feeds, carriage returns, or both.
        self._lines = with_newlines(program).split("\n")
        self._starts = [0]
        at = 0
        for line in self._lines:
            at += len(line)
            at += 2 if program[at : at + 2] == "\r\n" else 1
            self._starts.append(at)
        self.length = len(program)

    def at(self, line: int, column: int) -> int:
        """Returns the character index for a line, from 1, and a column in UTF-8 bytes."""
        return self._starts[line - 1] + characters(self._lines[line - 1], column)

    def line(self, line: int) -> int:
        """Returns the index of a line's first character, or the program's length."""
        return min(self._starts[line - 1], self.length)


def _blocks(tree: ast.Module, places: _Places) -> Iterator[CharSpan]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if node is tree or not isinstance(body, list) or not body:
                continue
            first, last = body[0], body[-1]
            above = getattr(node, "lineno", 0)
            if isinstance(first, ast.stmt) and first.lineno > above and not _is_elif(node, name):
                yield CharSpan(places.line(first_line(first)), places.line(last.end_lineno + 1))


def _is_elif(node: ast.AST, name: str) -> bool:
    body = getattr(node, name)
    return (
        name == "orelse"
        and isinstance(node, ast.If)
        and isinstance(body[0], ast.If)
        and body[0].col_offset == node.col_offset
    )


def _nodes(tree: ast.Module, places: _Places) -> Iterator[CharSpan]:
    inside: set[int] = set()  # parts of an f-string have no positions before Python 3.12
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in ast.walk(node) if part is not node)
        if id(node) in inside or not isinstance(node, (ast.stmt, ast.expr)):
            continue
        assert node.end_lineno is not None and node.end_col_offset is not None
        span = CharSpan(
            places.at(node.lineno, node.col_offset), places.at(node.end_lineno, node.end_col_offset)
        )
        if span.end - span.start >= _FEWEST_CHARS:
            yield span
