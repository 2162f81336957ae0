"""The model's response for an edit state.

A model in this process is queried in up to three ways. If the history renames something in the
window, the request's prediction continues that rename: the model chooses where an edit begins, and
then accepts predicted tokens above a minimum probability. The response is "no edit" if no edit can
reach the minimum probability, but never if the program shows that one is expected
(:func:`codegen.edits.expected_edits.is_due`). If the model begins an edit that changes nothing, it
is queried for an edit at the first line that the program shows to need one. If that changes nothing
either, or no such line is known, the next most likely response is used, unless it is long, or the
program shows no expected change and the model's responses include "no edit". A server is queried
once.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from codegen.core.records import Edit
from codegen.edits.expected_edits import due_lines, is_due, rename
from codegen.edits.formats import (
    EditFormat,
    Unreadable,
    Unwritable,
    window_lines,
    window_text,
)
from codegen.edits.sessions import lines_of
from codegen.generation import SamplingParams
from codegen.server.completion.requests import Candidate, CompletionRequest, DocumentKey
from codegen.server.completion.upstream import Upstream
from codegen.server.completion.upstream.source import read_row

if TYPE_CHECKING:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.model import CompletionModel

MOST_TOKENS = 192
"""Maximum tokens per response."""
_UNLIKELY = 0.1  # minimum probability of "no edit" in the search for another response
_NEVER = 2.0  # above any probability
_RIVALS = 4  # responses to search for an edit if the first one changes nothing
_RIVAL_TOKENS = 64  # maximum tokens per response; no proposal if the chosen one is longer
_ACCEPTANCE = 0.02  # minimum probability of each token of a predicted rename
TIMEOUT_S = 10.0
"""Maximum seconds per server response."""
_MOST_CHARACTERS = 16_384  # per server response


async def answer(
    form: EditFormat,
    engine: CompletionEngine,
    key: DocumentKey,
    prompt: str,
    edit: Edit,
    threshold: float = 0.0,
    *,
    is_sure: bool = False,
) -> Candidate | None:
    """Returns the model's response in a format; None if it was truncated. See the module docstring.

    The response may be less likely than ``threshold``.

    Args:
        prompt: prompt for the edit state ``edit``, in the format.
        threshold: minimum probability of an edit; where the format restricts answers, a less likely
            edit is cut off.
        is_sure: whether to first request an edit at the line that needs a change, if known.
    """
    if isinstance(engine.source, Upstream):
        return await _answer_of_server(engine.source, form, prompt)
    query = _Query.of(form, engine, key, prompt, edit, threshold)
    found = await query.placed() if is_sure else None
    if not found:
        found = await query.first()
        if found and found.probability >= threshold and query.is_idle(found):
            found = await query.other_than(found)
    if found and found.finish_reason == "length" and found.probability >= threshold:
        return None
    return found


@dataclass(frozen=True, slots=True)
class _Query:
    """Queries to a model in this process about one edit state.

    Attributes:
        none: the token for "no edit"; None if the format has none.
        is_due: whether the program shows that an edit is expected.
        threshold: minimum probability of an edit.
        request: the common part of all queries.
    """

    form: EditFormat
    engine: CompletionEngine
    edit: Edit
    none: int | None
    is_due: bool
    threshold: float
    request: CompletionRequest

    @classmethod
    def of(
        cls,
        form: EditFormat,
        engine: CompletionEngine,
        key: DocumentKey,
        prompt: str,
        edit: Edit,
        threshold: float,
    ) -> _Query:
        tokenizer = cast("CompletionModel", engine.source).tokenizer
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
            acceptance_threshold=_ACCEPTANCE if repeated else 0.0,
            marks=form.trained,
            constraint=partial(form.follow, edit) if form.follow else None,
            min_probability=threshold,
        )
        none = none if isinstance(none, int) else None
        return cls(form, engine, edit, none, is_due(edit), threshold, request)

    async def first(self) -> Candidate | None:
        """Returns the most likely response."""
        thresholds = self._thresholds(1 - self.threshold)
        return await self._asked(replace(self.request, first_token_thresholds=thresholds))

    async def placed(self) -> Candidate | None:
        """Returns the response that begins at the line that needs a change; None if unknown."""
        begun, rest = self._begun()
        if not begun:
            return None
        constraint = self.request.constraint
        tokenizer = cast("CompletionModel", self.engine.source).tokenizer
        more = tokenizer(begun, add_special_tokens=False).input_ids
        found = await self._asked(
            replace(
                self.request,
                tokens=(*self.request.tokens, *more),
                constraint=(lambda text: constraint(begun + text)) if constraint else None,
                prediction=rest or window_text(self.edit),
                acceptance_threshold=_ACCEPTANCE if rest else 0.0,
            )
        )
        return replace(found, text=begun + found.text) if found else None

    async def other_than(self, first: Candidate) -> Candidate:
        """Returns a better response than ``first``, which changes nothing; else ``first``."""
        if (placed := await self.placed()) and not self.is_idle(placed):
            return placed
        prediction = self.request.prediction
        if not self.request.acceptance_threshold:  # no rename is predicted
            prediction = first.text + prediction
        asked = replace(
            self.request,
            params=SamplingParams(max_new_tokens=_RIVAL_TOKENS),
            candidates=_RIVALS,
            prediction=prediction,
            first_token_thresholds=self._thresholds(_UNLIKELY),
            stop_search=(lambda one: not self.is_idle(one)) if self.is_due else None,
        )
        rivals = (await self.engine.complete(asked)).candidates
        if any(one.text == self.form.none for one in rivals):
            return first
        taken = next((one for one in rivals if not self.is_idle(one)), first)
        return first if taken.finish_reason == "length" else taken

    def is_idle(self, found: Candidate) -> bool:
        """Returns True if a response begins an edit but changes nothing.

        In formats without a "no edit" mark, an edit that changes nothing means "no edit".
        """
        if not self.form.none or found.text == self.form.none:
            return False
        try:
            return self.form.read(self.edit, found.text) == window_text(self.edit)
        except Unreadable:
            return found.finish_reason != "length"

    async def _asked(self, request: CompletionRequest) -> Candidate | None:
        return next(iter((await self.engine.complete(request)).candidates), None)

    def _thresholds(self, silence: float) -> tuple[tuple[int, float], ...]:
        if self.none is None:
            return ()
        return ((self.none, _NEVER if self.is_due else silence),)

    def _begun(self) -> tuple[str, str]:
        """Returns the start of a response at the first line that needs a change.

        Returns:
            The start, empty if unknown; and the rest of a response that continues the history's
            rename from there, or "".
        """
        edit = self.edit
        top, bottom = edit.window
        due = min((line - top for line in due_lines(edit) if top <= line < bottom), default=None)
        if due is None or not (begun := self.form.begin(edit, due)):
            return "", ""
        lines, renamed = window_lines(edit), lines_of(rename(edit))
        target = "".join([*lines[:due], *renamed[due:]])
        rest = _written(self.form, edit, target) if renamed != lines else ""
        return begun, rest.removeprefix(begun) if rest.startswith(begun) else ""


def _written(form: EditFormat, edit: Edit, target: str) -> str:
    """Returns the response for a target; empty if the format cannot express it."""
    try:
        return form.answer(replace(edit, target=target))
    except Unwritable:
        return ""


async def _answer_of_server(upstream: Upstream, form: EditFormat, prompt: str) -> Candidate | None:
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
    # Without a finish reason, the stream was interrupted.
    return Candidate("".join(parts), len(parts), "eos") if reason == "eos" else None
