"""What a model answers at a moment of editing.

A model in this process is asked in up to three ways. If the history renames something that is in
the window, the prediction continues that renaming: the model chooses where an edit begins, and then
takes what it finds possible. The answer is that no edit is due only if the model is sure of it, and
never if the program shows that one is (:func:`codegen.methods.edits.due.is_due`). If the model
begins an edit and changes nothing, it writes one that begins at the first line that the program
shows to be due. If that changes nothing either, or no line is known, its next most probable answer
is taken, unless that is long, or the program shows nothing and "no edit" is among the model's
answers. A server is asked once.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from codegen.generation import SamplingParams
from codegen.methods.edits.due import due_lines, is_due, rename
from codegen.methods.edits.formats import (
    EditFormat,
    Unreadable,
    Unwritable,
    window_lines,
    window_text,
)
from codegen.methods.edits.sessions import lines_of
from codegen.records import Edit
from codegen.server.requests import Candidate, CompletionRequest, DocumentKey
from codegen.server.upstream import Upstream
from codegen.server.upstream.source import read_row

if TYPE_CHECKING:
    from codegen.server.engine import CompletionEngine
    from codegen.server.model import CompletionModel

MOST_TOKENS = 192
"""Of an answer."""
# The probability of "no edit" below which the best edit is proposed all the same: the largest at
# which the model stays silent in nine of ten moments without a due edit (docs/next_edits.md).
_SURE = 0.55
_UNLIKELY = 0.1  # less of it, and an edit that changes nothing is taken for a slip of the model
_NEVER = 2.0  # more than any probability
_RIVALS = 4  # answers among which an edit is looked for if the first one changes nothing
_RIVAL_TOKENS = 64  # of each; nothing is proposed if the one that is taken is longer
_LEAST = 0.02  # the probability that the model gives each token of a renaming it is not to refuse
TIMEOUT_S = 10.0
"""Per answer of a server."""
_MOST_CHARACTERS = 16_384  # per answer of a server


async def answer(
    form: EditFormat,
    engine: CompletionEngine,
    key: DocumentKey,
    prompt: str,
    edit: Edit,
    *,
    is_sure: bool = False,
) -> str | None:
    """The model's answer in a format; None if it was cut off. See the module's text.

    Args:
        prompt: of the moment ``edit``, in the format.
        is_sure: ask at once for an edit that begins at the line that is due, if one is known.
    """
    if isinstance(engine.model, Upstream):
        return await _answer_of_server(engine.model, form, prompt)
    question = _Question.of(form, engine, key, prompt, edit)
    found = await question.placed() if is_sure else None
    if not found:
        found = await question.first()
        if found and question.is_idle(found):
            found = await question.other_than(found)
    return found.text if found and found.finish_reason != "length" else None


@dataclass(frozen=True, slots=True)
class _Question:
    """One moment that a model in this process is asked about.

    Attributes:
        none: the token that says that no edit is due; None if the format has none.
        is_due: whether the program shows that an edit is due.
        request: what all questions have in common.
    """

    form: EditFormat
    engine: CompletionEngine
    edit: Edit
    none: int | None
    is_due: bool
    request: CompletionRequest

    @classmethod
    def of(
        cls, form: EditFormat, engine: CompletionEngine, key: DocumentKey, prompt: str, edit: Edit
    ) -> _Question:
        tokenizer = cast("CompletionModel", engine.model).tokenizer
        none = tokenizer.convert_tokens_to_ids(form.none) if form.none else None
        target = rename(edit)
        repeated = _written(form, edit, target) if target != window_text(edit) else ""
        request = CompletionRequest(
            key._replace(document=f"{key.document}#next-edit"),
            prefix="",
            tokens=tuple(tokenizer(prompt).input_ids),
            params=SamplingParams(max_new_tokens=MOST_TOKENS),
            stop=form.stop,
            multiline=None,
            prediction=repeated or window_text(edit),
            least=_LEAST if repeated else 0.0,
            marks=form.trained,
        )
        none = none if isinstance(none, int) else None
        return cls(form, engine, edit, none, is_due(edit), request)

    async def first(self) -> Candidate | None:
        """The most probable answer."""
        return await self._asked(replace(self.request, hesitant=self._silence(_SURE)))

    async def placed(self) -> Candidate | None:
        """The answer that begins at the line that is due; None if none is known."""
        begun, rest = self._begun()
        if not begun:
            return None
        tokenizer = cast("CompletionModel", self.engine.model).tokenizer
        more = tokenizer(begun, add_special_tokens=False).input_ids
        found = await self._asked(
            replace(
                self.request,
                tokens=(*self.request.tokens, *more),
                prediction=rest or window_text(self.edit),
                least=_LEAST if rest else 0.0,
            )
        )
        return replace(found, text=begun + found.text) if found else None

    async def other_than(self, first: Candidate) -> Candidate:
        """Another answer than the most probable one, which changes nothing; that one if there is
        no better.
        """
        if (placed := await self.placed()) and not self.is_idle(placed):
            return placed
        prediction = self.request.prediction
        if not self.request.least:  # no renaming is predicted
            prediction = first.text + prediction
        asked = replace(
            self.request,
            params=SamplingParams(max_new_tokens=_RIVAL_TOKENS),
            candidates=_RIVALS,
            prediction=prediction,
            hesitant=self._silence(_UNLIKELY),
            enough=(lambda one: not self.is_idle(one)) if self.is_due else None,
        )
        rivals = (await self.engine.complete(asked)).candidates
        if any(one.text == self.form.none for one in rivals):
            return first
        taken = next((one for one in rivals if not self.is_idle(one)), first)
        return first if taken.finish_reason == "length" else taken

    def is_idle(self, found: Candidate) -> bool:
        """Whether an answer says that something is to be changed, and changes nothing.

        Formats without a mark for "no edit" say so by changing nothing.
        """
        if not self.form.none or found.text == self.form.none:
            return False
        try:
            return self.form.read(self.edit, found.text) == window_text(self.edit)
        except Unreadable:
            return found.finish_reason != "length"

    async def _asked(self, request: CompletionRequest) -> Candidate | None:
        return next(iter((await self.engine.complete(request)).candidates), None)

    def _silence(self, least: float) -> tuple[tuple[int, float], ...]:
        if self.none is None:
            return ()
        return ((self.none, _NEVER if self.is_due else least),)

    def _begun(self) -> tuple[str, str]:
        """How an answer begins at the first line that the program shows to be due.

        Returns:
            The beginning, empty if no line or no such beginning is known; the rest of an answer
            that continues the history's renaming from there, empty if there is none.
        """
        edit = self.edit
        top, bottom = edit.window
        due = min((line - top for line in due_lines(edit) if top <= line < bottom), default=None)
        if due is None or not (begun := self.form.begin(due)):
            return "", ""
        lines, renamed = window_lines(edit), lines_of(rename(edit))
        target = "".join([*lines[:due], *renamed[due:]])
        rest = _written(self.form, edit, target) if renamed != lines else ""
        return begun, rest.removeprefix(begun) if rest.startswith(begun) else ""


def _written(form: EditFormat, edit: Edit, target: str) -> str:
    """The answer for a target; empty if the format cannot express it."""
    try:
        return form.answer(replace(edit, target=target))
    except Unwritable:
        return ""


async def _answer_of_server(upstream: Upstream, form: EditFormat, prompt: str) -> str | None:
    body = {
        "model": upstream.name,
        "prompt": prompt,
        "max_tokens": 2 * MOST_TOKENS,
        "temperature": 0,
        "stop": list(form.stop),
    }
    parts, reason, size = [], None, 0
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aclosing(upstream.stream("completions", body)) as rows,
        ):
            async for row in rows:
                piece, finish = read_row(row)
                parts.append(piece)
                reason = finish or reason
                if (size := size + len(piece)) > _MOST_CHARACTERS:
                    return None
    except TimeoutError:
        return None
    return "".join(parts) if reason == "eos" else None  # no reason: the stream was cut off
