"""Candidates from a cache that holds the prompt: the most probable text and its nearest rivals.

The first candidate is decoded greedily. A further one forks off where the model's second choice was
most probable, and goes on greedily from there: candidates differ by construction, where drawing at
a temperature often gives the same text twice. (With a temperature the text is drawn instead.)

Tokens that followed the same text before, in the document or in what was suggested there, are fed
along as a draft and kept as far as they are what would have been chosen anyway, so that one pass
often gives several tokens: most of all where the same line is asked for again after an edit.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from codegen.decoding.drafts import Context, SuffixDrafter
from codegen.decoding.sampling import choose
from codegen.decoding.suffix import SuffixStore
from codegen.generation.text import TextStream
from codegen.server.requests import Candidate, CompletionRequest, Finish
from codegen.server.schedule import Cancelled
from codegen.server.text import StopRule, clean, rule_for, safe_text

if TYPE_CHECKING:
    from codegen.decoding.editing import EditableCache, Passes
    from codegen.server.model import CompletionModel
    from codegen.server.prompts import Prompt

_DRAFT = 7  # most drafted tokens a pass
# What a pass costs beside its tokens, in tokens, on a CPU: with one client a further token costs
# 0.15 of a pass, with eight 0.6 of their share in it.
_FIXED_COST = 5.7
_REMEMBERED = 16  # tokens of the prompt that are kept with what was made behind them
_TRIES = 3  # forks tried for each candidate wanted


class InDoubt(Exception):
    """States that an edit made approximate may have decided a token."""


@dataclass
class _Path:
    """Tokens of one candidate.

    Attributes:
        tokens: made so far, those of the fork included.
        forked: how many of them were given.
        seconds: second choices: (its probability, position, token), of the tokens made here.
        text: what stands of it.
    """

    tokens: list[int] = field(default_factory=list)
    forked: int = 0
    seconds: list[tuple[float, int, int]] = field(default_factory=list)
    text: str = ""
    finish: Finish = "length"


class Decoder:
    """Decodes one request on one document's cache.

    Args:
        model: the shared model.
        cache: it has been given the prompt; afterwards it holds it again.
        prompt: of the request.
        request: what is asked for.
        past: what was made in this document before.
        cancelled: asked before every forward pass.
        on_text: is given the first candidate's text as it comes, without unsafe characters but
            otherwise unfiltered.
        together: how many requests share a pass.
    """

    def __init__(
        self,
        model: CompletionModel,
        cache: EditableCache,
        prompt: Prompt,
        request: CompletionRequest,
        past: SuffixStore,
        cancelled: Callable[[], bool],
        on_text: Callable[[str], None] | None = None,
        together: Callable[[], int] = lambda: 1,
    ) -> None:
        self.together = together
        self.model, self.cache, self.prompt, self.request = model, cache, prompt, request
        self.past = past
        self.cancelled = cancelled
        self.on_text = on_text
        self.deadline = time.monotonic() + request.deadline_s
        self.rule: StopRule | None = None
        if request.multiline is not None:
            self.rule = rule_for(
                request.prefix,
                request.suffix,
                request.language,
                request.multiline,
                request.max_lines,
            )
        ends = model.family.ends if model.family else ()
        self.stops = (*request.stop, *ends)
        self.context = len(cache)
        self.first_logits = cache.logits
        self.made: list[int] = []  # of the first candidate
        self.settled = True

    def run(self) -> Passes[list[Candidate]]:
        """The candidates, best first; yields the forward passes that it needs.

        Raises:
            Cancelled: as soon as ``cancelled`` says so.
            InDoubt: if the request wants doubts settled, and one of the single most probable text
                comes up. Several candidates, and drawn ones, take exact states to begin with.
        """
        try:
            if self.request.temperature > 0:
                return (yield from self._drawn())
            return (yield from self._best())
        finally:
            self.cache.truncate(min(self.context, len(self.cache)))
            if self.made:
                self.past.add([*self.prompt.ids[-_REMEMBERED:], *self.made])

    def _drawn(self) -> Passes[list[Candidate]]:
        found = []
        for number in range(self.request.candidates):
            seed = np.random.SeedSequence([self.request.seed & (2**63 - 1), number])
            uniforms = np.random.default_rng(seed).random(self.request.max_tokens)
            on_text = self.on_text if not number else None
            path = yield from self._decode(_Path(), uniforms.tolist(), on_text)
            found.append(self._candidate(path))
            if self._late():
                break
        return found

    def _best(self) -> Passes[list[Candidate]]:
        request = self.request
        path = _Path(self.made)
        first = yield from self._decode(path, (), self.on_text)
        found = [self._candidate(first)]
        seen = {found[0].text.strip()}
        forks = [(-p, at, token, first) for p, at, token in first.seconds]
        heapq.heapify(forks)
        tries = _TRIES * (request.candidates - 1)
        while forks and len(found) < request.candidates and tries > 0 and not self._late():
            tries -= 1
            _, at, token, parent = heapq.heappop(forks)
            tokens = [*parent.tokens[:at], token]
            path = yield from self._decode(_Path(tokens, len(tokens)))
            candidate = self._candidate(path)
            for p, place, other in path.seconds:
                heapq.heappush(forks, (-p, place, other, path))
            if candidate.text.strip() and candidate.text.strip() not in seen:
                seen.add(candidate.text.strip())
                found.append(candidate)
        return [candidate for candidate in found if candidate.text or request.multiline is None]

    def _candidate(self, path: _Path) -> Candidate:
        request = self.request
        if self.rule is None:
            text = safe_text(path.text)
        else:
            text = clean(path.text, request.prefix, request.suffix, request.language)
        return Candidate(text, len(path.tokens), path.finish)

    # ------------------------------------------------------------------ one candidate

    def _decode(
        self,
        path: _Path,
        uniforms: Sequence[float] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> Passes[_Path]:
        """Goes on with a path until it ends."""
        stream = TextStream(
            self.model.tokenizer.backend_tokenizer,
            self.prompt.ids,
            taken=self.prompt.taken,
            stops=self.stops,
        )
        rest = self.prompt.rest
        self.cache.truncate(self.context)
        logits = self.first_logits
        for token in path.tokens:
            on_text_piece(stream.push(token), on_text)
            rest = self.model.vocabulary.after(rest, token) if rest else rest
        if path.tokens:
            self._check()
            logits = (yield from self.cache.extending(path.tokens))[-1]
            if self._ended(path, stream):
                return path
        drafter = self._drafter(path, uniforms)
        # Logits of the next token, then those behind each token of a draft that was fed along.
        pending, fed = [logits], []
        while len(path.tokens) < self.request.max_tokens:
            token = self._choose(pending[0], rest, path, uniforms)
            if token in self.model.eos:
                path.finish = "eos"
                break
            path.tokens.append(token)
            rest = self.model.vocabulary.after(rest, token) if rest else rest
            on_text_piece(stream.push(token), on_text)
            if self._ended(path, stream):
                return path
            if len(path.tokens) == self.request.max_tokens or self._late():
                break
            if drafter:
                drafter.accept([token])
            if fed and fed[0] == token:
                pending, fed = pending[1:], fed[1:]
                continue
            self._check()
            self.cache.truncate(self.context + len(path.tokens) - 1)
            fed = self._draft(path, drafter) if drafter and not rest else []
            pending = list((yield from self.cache.extending([token, *fed])))
        on_text_piece(stream.flush(), on_text)
        path.text = stream.text
        return path

    def _draft(self, path: _Path, drafter: SuffixDrafter) -> list[int]:
        """As many tokens as are worth feeding along: the most expected tokens for a pass's cost."""
        draft = drafter.draft(min(_DRAFT, self.request.max_tokens - len(path.tokens)))
        cost = self.together() / (self.together() + _FIXED_COST)
        best, most, expected = 0, 1.0, 1.0
        for number, probability in enumerate(draft.probabilities, 1):
            expected += probability
            if expected / (1 + cost * number) > most:
                best, most = number, expected / (1 + cost * number)
        return draft.tokens[:best]

    def _choose(
        self, logits: torch.Tensor, rest: bytes, path: _Path, uniforms: Sequence[float]
    ) -> int:
        """The next token; notes the second choice."""
        if rest and (allowed := self.model.vocabulary.allowed(rest)):
            masked = torch.full_like(logits, -torch.inf)
            masked[allowed] = logits[allowed]
            logits = masked
        if uniforms:
            number = torch.tensor([uniforms[len(path.tokens)]], dtype=torch.float64)
            request = self.request
            return int(choose(logits[None], number, request.temperature, request.top_p)[0])
        if self.request.candidates == 1:
            if self.cache.in_doubt(logits):
                self.settled = False
                if self.request.settle:
                    raise InDoubt
            return int(logits.argmax())
        values, ids = logits.float().topk(2)
        if torch.isfinite(values[1]) and int(ids[1]) not in self.model.eos:
            share = float((values[1] - torch.logsumexp(logits.float(), 0)).exp())
            path.seconds.append((share, len(path.tokens), int(ids[1])))
        return int(ids[0])

    def _ended(self, path: _Path, stream: TextStream) -> bool:
        """Whether a stop string or the stop rule ends the path; sets its text."""
        path.text = stream.text
        end = self.rule.end(path.text) if self.rule else None
        if end is not None:
            path.text = path.text[:end]
        if stream.stopped or end is not None:
            path.finish = "stop"
            return True
        return False

    def _drafter(self, path: _Path, uniforms: Sequence[float]) -> SuffixDrafter | None:
        """Drafts from this document's own prompt and past."""
        if uniforms:
            return None
        drafter = SuffixDrafter(self.past, min_match=2)
        drafter.begin([*self.prompt.ids, *path.tokens], Context())
        return drafter

    def _check(self) -> None:
        if self.cancelled():
            raise Cancelled

    def _late(self) -> bool:
        return time.monotonic() >= self.deadline


def on_text_piece(piece: str, on_text: Callable[[str], None] | None) -> None:
    """Hands a piece of text on, if there is any and anybody wants it."""
    if on_text and (piece := safe_text(piece)):
        on_text(piece)
