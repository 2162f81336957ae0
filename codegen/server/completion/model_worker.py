"""The worker thread of a model in this process, and the caches of documents.

Before every forward pass, the thread checks whether the completion is still needed. When idle, it
makes stale caches exact.

After an edit, most of a document's states are moved instead of re-encoded, so they are approximate.
States that may have changed a token are re-encoded before the completion is returned, unless the
request accepts the fast one (:attr:`CompletionRequest.certain`).
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from codegen.core.records import FinishReason
from codegen.decoding import drafts
from codegen.decoding.editing import EditableCache, EditedRow
from codegen.decoding.loop import Batch, Row, Strategy, Walk
from codegen.decoding.passes import Passes
from codegen.decoding.sampling import allow_only
from codegen.decoding.sequences import Trees
from codegen.decoding.strategies.speculative import Speculation, walk
from codegen.decoding.suffix import SuffixStore
from codegen.generation.detokenize import TextStream
from codegen.server.completion.model import CompletionModel
from codegen.server.completion.postprocess import safe_text
from codegen.server.completion.requests import (
    Candidate,
    CompletionRequest,
    CompletionResult,
    DocumentKey,
    ServerLimits,
)
from codegen.server.completion.schedule import (
    Cancelled,
    CompletionJob,
    JobQueue,
    Outcome,
    Schedule,
    is_bug,
)
from codegen.server.metrics import Metrics

if TYPE_CHECKING:
    from codegen.edits.formats import Continuation
    from codegen.server.completion.prompts import Prompt

_PAST = 4096  # maximum decoded tokens to keep per document


@dataclass
class DocumentState:
    """State of one document between requests.

    Attributes:
        past: tokens decoded earlier in the document.
        quote: quote of the string in which the cursor's line begins; a change forces a recompute.
        recompute: whether to make the states exact when idle.
        doubtful: the latest prompt if its completion was uncertain, else empty.
    """

    cache: EditableCache
    past: SuffixStore = field(default_factory=lambda: SuffixStore(_PAST))
    quote: str = ""
    recompute: bool = False
    doubtful: list[int] = field(default_factory=list)


class DocumentCaches:
    """Caches by document, only for the worker thread; the least recently used are dropped first.

    Args:
        most: maximum number of documents.
        budget: maximum bytes of all caches. The document in use is kept regardless of its size.

    Attributes:
        documents: states by document, the most recently used last.
    """

    def __init__(self, make: Callable[[], EditableCache], most: int, budget: int) -> None:
        self._make = make
        self._most = most
        self._budget = budget
        self.documents: OrderedDict[DocumentKey, DocumentState] = OrderedDict()
        self.evicted = 0

    def get(self, key: DocumentKey) -> DocumentState:
        """Returns a document's state, new if absent, and marks it as most recent."""
        found = self.documents.get(key)
        if found is None:
            found = self.documents[key] = DocumentState(self._make())
        self.documents.move_to_end(key)
        return found

    def shrink(self) -> None:
        """Drops documents beyond the budget."""
        while len(self.documents) > 1 and (
            len(self.documents) > self._most or self.nbytes > self._budget
        ):
            self.documents.popitem(last=False)
            self.evicted += 1

    def drop(self, key: DocumentKey) -> None:
        """Drops a document, if present."""
        self.documents.pop(key, None)

    def to_recompute(self) -> DocumentState | None:
        """Returns the most recently used document whose states should be made exact."""
        return next((d for d in reversed(self.documents.values()) if d.recompute), None)

    @property
    def nbytes(self) -> int:
        """Size of all caches in bytes."""
        return sum(document.cache.nbytes for document in self.documents.values())

    def __len__(self) -> int:
        return len(self.documents)


class LocalWorker(threading.Thread):
    """Runs several jobs together with one model until the queue is stopped."""

    def __init__(
        self, model: CompletionModel, queue: JobQueue, limits: ServerLimits, metrics: Metrics
    ) -> None:
        super().__init__(name="completions", daemon=True)
        self.model = model
        self.metrics = metrics
        self.caches = DocumentCaches(model.cache, limits.documents, limits.cache_bytes)
        self._queue = queue
        self._schedule = Schedule(model.chunk)
        self._costs = drafts.SharedCosts(self._schedule.costs, lambda: max(1, len(self._schedule)))
        self._account = drafts.DraftAccount()  # counts the drafts of all requests

    def run(self) -> None:
        """Processes jobs until the queue is stopped."""
        schedule = self._schedule
        with torch.inference_mode():
            while True:
                while job := self._queue.take(self.caches.drop, self._refresh):
                    self._end(job, schedule.start(job, self._answer(job)))
                if not len(schedule):
                    return  # take() returns None while no job is running only if stopped
                for ended, outcome in schedule.round():
                    self._end(ended, outcome)

    def _end(self, job: CompletionJob, outcome: Outcome | None) -> None:
        """Finishes a job if it has an outcome."""
        if outcome is None:
            return
        if is_bug(outcome):
            self.caches.drop(job.request.key)
        self._queue.finish(job, outcome)

    def _refresh(self) -> bool:
        """Makes stale states exact until a request arrives; returns True if any were stale."""
        document = self.caches.to_recompute()
        if document is None:
            return False
        try:
            if not document.cache.recompute(stop=lambda: self._queue.wanted):
                return True
            self.metrics.count("recomputed")
        except Exception as error:  # noqa: BLE001 - a bug must not stop the thread
            self._queue.report_bug("A recompute", error)
        document.recompute = False
        return True

    def _answer(self, job: CompletionJob) -> Passes[CompletionResult]:
        request = job.request
        stop = self._preempted(job) if job.warm_up else job.cancel.is_set
        started = time.perf_counter()
        document = self.caches.get(request.key)
        prompt = self.model.prompter.build(request)
        prepared = time.perf_counter()
        report = yield from document.cache.updating(
            prompt.ids, tail=0, statement=prompt.statement, stop=stop
        )
        document.recompute = not report.exact and report.complete
        self.caches.shrink()
        self._gauges()
        self.metrics.count("tokens_encoded", report.encoded)
        self.metrics.count("tokens_moved", report.moved)
        self.metrics.count("tokens_reused", report.reused)
        if not report.complete:
            raise Cancelled
        encoded = time.perf_counter()
        if job.warm_up:
            return CompletionResult(())
        inexact, recomputing_s = document.cache.inexact, 0.0
        doubtful = request.certain and prompt.ids == document.doubtful
        if inexact and (doubtful or request.exact or prompt.quote != document.quote):
            recomputing_s = yield from self._recompute(job, document)
        document.quote = prompt.quote
        try:
            search = self._search(job, document, prompt)
            candidates = yield from search.run()
        except UncertainStates:
            recomputing_s = yield from self._recompute(job, document)
            search = self._search(job, document, prompt)
            candidates = yield from search.run()
        document.doubtful = [] if search.is_certain else prompt.ids
        done = time.perf_counter()
        stages = {
            "queue": started - job.asked,
            "prompt": prepared - started,
            "encode": encoded - prepared,
            "recompute": recomputing_s,
            "decode": done - encoded - recomputing_s,
            "total": done - job.asked,
        }
        self.metrics.count("completions")
        self.metrics.observe(stages)
        return CompletionResult(
            tuple(candidates),
            prompt_tokens=len(prompt.ids) + len(prompt.taken),
            reused=report.reused,
            encoded=report.encoded,
            recomputed=inexact if recomputing_s else 0,
            seen=prompt.seen,
            is_certain=search.is_certain,
            accepted=search.accepted,
            rejected=search.rejected,
            stages=stages,
        )

    def _recompute(self, job: CompletionJob, document: DocumentState) -> Passes[float]:
        """Makes a document's states exact; returns the seconds it took."""
        began = time.perf_counter()
        inexact = document.cache.inexact
        if not (yield from document.cache.recomputing(stop=job.cancel.is_set)):
            raise Cancelled
        document.recompute = False
        self.metrics.count("recomputed_in_request")
        self.metrics.count("tokens_recomputed", inexact)
        return time.perf_counter() - began

    def _search(
        self, job: CompletionJob, document: DocumentState, prompt: Prompt
    ) -> CandidateSearch:
        return CandidateSearch(
            self.model,
            document.cache,
            prompt,
            job.request,
            document.past,
            drafts.Planner(self._costs, self._account),
            job.text_in_loop(),
        )

    def _preempted(self, job: CompletionJob) -> Callable[[], bool]:
        return lambda: job.cancel.is_set() or self._queue.wanted or len(self._schedule) > 1

    def _gauges(self) -> None:
        number, size = len(self.caches), self.caches.nbytes
        self.metrics.gauge("documents", number)
        self.metrics.gauge("cache_bytes", size)
        self.metrics.gauge("documents_evicted", self.caches.evicted)


_DRAFT = 7  # maximum drafted tokens per pass
_REMEMBERED = 16  # last tokens of the prompt to keep with the decoded ones
_GREEDY = (0.0,)  # random numbers, which greedy decoding ignores
_TRIES = 3  # maximum forks tried per requested candidate


class UncertainStates(Exception):
    """States that an edit made approximate may have changed a token."""


@dataclass
class _Path:
    """Tokens of one candidate.

    Attributes:
        tokens: tokens decoded so far, including the ones before the fork.
        seconds: second choices for the tokens decoded in this path: probability, position, token,
            and ``logprob`` up to it.
        logprob: log probability of the tokens, except predicted ones, if ``constraint`` is set.
    """

    tokens: list[int] = field(default_factory=list)
    seconds: list[tuple[float, int, int, float]] = field(default_factory=list)
    text: str = ""
    finish: FinishReason = "length"
    logprob: float = 0.0


@dataclass(eq=False)
class CandidateSearch:
    """Decodes the candidates of one request with one document's cache.

    Args:
        model: the shared model.
        cache: the document's cache; contains the prompt before and afterwards.
        past: tokens decoded earlier in this document.
        planner: trims drafts to the profitable length.
        on_text: called with chunks of the first candidate's text, without unsafe characters but
            otherwise unfiltered.
    """

    model: CompletionModel
    cache: EditableCache
    prompt: Prompt
    request: CompletionRequest
    past: SuffixStore
    planner: drafts.Planner
    on_text: Callable[[str], None] | None = None
    made: list[int] = field(default_factory=list)  # tokens of the first candidate
    is_certain: bool = True
    accepted: int = 0  # tokens drafted from the prediction
    rejected: int = 0

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.request.deadline_s
        self.rule = self.request.stop_rule()
        family = self.model.family
        ends = family.ends if family and not self.request.tokens else ()
        self.stops = (*self.request.stop, *ends)
        self.context = len(self.cache)
        self.row = EditedRow(self.cache)

    def run(self) -> Passes[list[Candidate]]:
        """Returns the candidates, best first; yields the required forward passes.

        Raises:
            UncertainStates: if the request has ``certain`` set and approximate states may have
                changed a token. Several candidates, and sampled ones, begin with exact states.
        """
        try:
            if self.request.params.temperature > 0:
                return (yield from self._drawn())
            return (yield from self._best())
        finally:
            self.cache.truncate(min(self.context, len(self.cache)))
            if self.made:
                self.past.add([*self.prompt.ids[-_REMEMBERED:], *self.made])

    def _drawn(self) -> Passes[list[Candidate]]:
        found, params = [], self.request.params
        for number in range(self.request.candidates):
            seed = np.random.SeedSequence([params.seed & (2**63 - 1), number])
            uniforms = np.random.default_rng(seed).random(params.max_new_tokens).tolist()
            on_text = self.on_text if not number else None
            path = _Path()
            request = self.request
            chooses = request.prediction or request.top_k or request.first_token_thresholds
            strategy = _Chosen(self, path) if chooses else Strategy()
            yield from self._decode(path, strategy, uniforms, on_text)
            found.append(self._candidate(path))
            if self._late():
                break
        return found

    def _best(self) -> Passes[list[Candidate]]:
        request = self.request
        first = _Path(self.made)
        yield from self._decode(first, _Chosen(self, first), _GREEDY, self.on_text)
        found = [self._candidate(first)]
        seen = {found[0].text.strip()}
        forks = [(-p, at, token, logprob, first) for p, at, token, logprob in first.seconds]
        heapq.heapify(forks)
        tries = _TRIES * (request.candidates - 1)
        while forks and len(found) < request.candidates and tries > 0 and not self._late():
            if request.stop_search and request.stop_search(found[-1]):
                break
            tries -= 1
            _, at, token, logprob, parent = heapq.heappop(forks)
            path = _Path([*parent.tokens[:at], token], logprob=logprob)
            yield from self._decode(path, _Chosen(self, path), _GREEDY)
            candidate = self._candidate(path)
            for p, place, other, logprob in path.seconds:
                heapq.heappush(forks, (-p, place, other, logprob, path))
            if candidate.text.strip() and candidate.text.strip() not in seen:
                seen.add(candidate.text.strip())
                found.append(candidate)
        return [candidate for candidate in found if candidate.text or request.multiline is None]

    def _candidate(self, path: _Path) -> Candidate:
        text, tokens = self.request.shown(path.text), len(path.tokens)
        return Candidate(text, tokens, path.finish, math.exp(path.logprob))

    def _decode(
        self,
        path: _Path,
        strategy: Strategy,
        uniforms: Sequence[float],
        on_text: Callable[[str], None] | None = None,
    ) -> Passes[None]:
        """Continues a path until it ends."""
        model, params = self.model, self.request.params
        tokenizer, prompt = model.tokenizer.backend_tokenizer, self.prompt
        stream = TextStream(tokenizer, prompt.ids, prompt.taken, self.stops, self.request.marks)
        row = Row(self.prompt.ids, uniforms, self.prompt.rest, tokens=path.tokens)
        for token in path.tokens:
            on_text_piece(stream.push(token), on_text)
            row.rest = model.vocabulary.after(row.rest, token) if row.rest else row.rest

        def on_token(_: int, token: int) -> bool:
            on_text_piece(stream.push(token), on_text)
            is_unlikely = math.exp(path.logprob) < self.request.min_probability
            return self._ended(path, stream) or is_unlikely or self._late()

        left = params.max_new_tokens - len(path.tokens)
        if left and not (path.tokens and self._ended(path, stream)):
            batch = Batch(
                [row], self.row, max_new_tokens=left, temperature=params.temperature,
                top_p=params.top_p, eos=model.eos, vocabulary=model.vocabulary, on_token=on_token,
            )  # fmt: skip
            yield from strategy.rounds(batch)
            if isinstance(strategy, _Chosen):
                drafted, right = strategy.predicted
                self.accepted += right
                self.rejected += drafted - right
        if path.finish != "stop":
            path.finish = "eos" if row.finish == "eos" else "length"
            on_text_piece(stream.flush(), on_text)
            path.text = stream.text

    def _ended(self, path: _Path, stream: TextStream) -> bool:
        """Returns True if a stop string or the stop rule ends the path; sets its text."""
        path.text = stream.text
        end = self.rule.end(path.text) if self.rule else None
        if end is not None:
            path.text = path.text[:end]
        if stream.stopped or end is not None:
            path.finish = "stop"
            return True
        return False

    def _late(self) -> bool:
        return time.monotonic() >= self.deadline


class _Chosen(Speculation):
    """Decodes a path with drafts from the request's prediction or the document's past.

    Records second choices for other candidates, and uncertain tokens if the cache has states that
    an edit made approximate.
    """

    def __init__(self, search: CandidateSearch, path: _Path) -> None:
        request, model = search.request, search.model
        self.search, self.request, self.path = search, request, path
        if request.prediction:
            drafter: drafts.Drafter = drafts.CursorDrafter(model.drafters.line_ends)
            context, limit = model.drafters.context(request.prediction), model.chunk - 1
        else:
            drafter = drafts.SuffixDrafter(search.past, min_match=2)
            context, limit = drafts.Context(), _DRAFT
        super().__init__([drafter], [context], limit=limit, planner=search.planner)
        self.follower: drafts.CursorDrafter | None = None
        self.is_first = True
        self.text = b"".join(map(self._spelled, path.tokens))
        if request.acceptance_threshold:  # bypasses the drafter, which cuts drafts by cost
            self.follower = drafts.CursorDrafter(model.drafters.line_ends)
            self.follower.reset(context.original)

    @property
    def predicted(self) -> Sequence[int]:
        """Numbers of verified and of correct tokens of the prediction."""
        return self.tallies[0].get("", (0, 0)) if self.request.prediction else (0, 0)

    def verify(self, batch: Batch, trees: Trees, logits: torch.Tensor) -> list[Walk]:
        """See :class:`Strategy`. Chooses and checks only tokens that the walk reaches."""
        (children,) = self._children
        return [walk(children, lambda node: self._choose(batch, logits[:, node]))]

    def _choose(self, batch: Batch, logits: torch.Tensor) -> int:
        """Chooses a token from logits [1, V], modified in place; records rivals and uncertainty."""
        batch.restrict(logits)
        search, request = self.search, self.request
        if request.constraint:
            self._restrict(logits, request.constraint)
        excluded = 0.0  # total probability of the tokens below their thresholds
        if request.first_token_thresholds and self.is_first and not self.path.tokens:
            probabilities = logits[0].float().softmax(0)
            for id_, threshold in request.first_token_thresholds:
                if probabilities[id_] < threshold:
                    logits[0, id_] = -torch.inf
                    excluded += float(probabilities[id_]) if threshold <= 1 else 0.0
        greedy = request.params.temperature == 0
        if greedy and request.candidates == 1 and search.cache.in_doubt(logits):
            search.is_certain = False
            if request.certain:
                raise UncertainStates
        if 0 < request.top_k < logits.shape[1]:
            logits[logits < logits[0].topk(request.top_k).values[-1]] = -torch.inf
        token = own = int(batch.choose(logits[None], torch.tensor([batch.made])))
        logprobs = logits[0].float().log_softmax(0)
        if self.follower:
            token = self._predicted_or(token, self.follower, logprobs)
        self.is_first = False
        before = 0.0
        if request.constraint:
            self.text += self._spelled(token)
            before = self.path.logprob + math.log1p(-min(excluded, 0.999))
            self.path.logprob = before + (float(logprobs[token]) if token == own else 0.0)
        if greedy and request.candidates > 1:
            values, ids = logits[0].float().topk(2)
            other = int(int(ids[0]) == token)  # with equal logits, the second may be the choice
            if torch.isfinite(values[other]) and int(ids[other]) not in search.model.eos:
                share = float((values[other] - torch.logsumexp(logits[0].float(), 0)).exp())
                logprob = before + float(logprobs[ids[other]])
                self.path.seconds.append((share, len(self.path.tokens), int(ids[other]), logprob))
        return token

    def _spelled(self, token: int) -> bytes:
        model = self.search.model
        if token in model.special:
            return model.special[token].encode()
        return model.vocabulary.tokens[token] or b""

    def _restrict(self, logits: torch.Tensor, follow: Callable[[str], Continuation]) -> None:
        """Forbids, in logits [1, V], tokens that would make the answer inapplicable."""
        model = self.search.model
        text = self.text.decode("utf-8", "ignore")
        begun = self.text[len(text.encode()) :]  # first bytes of a character that spans tokens
        marks, copies, ends = follow(text)
        special = {
            token
            for token, name in model.special.items()
            if not begun and (ends if token in model.eos else name in marks)
        }
        if copies is None:
            logits[:, [token for token in model.special if token not in special]] = -torch.inf
            logits[:, len(model.vocabulary.tokens) :] = -torch.inf
            return
        spelled = [copy.encode() for copy in copies]
        rests = [copy[len(begun) :] for copy in spelled if copy.startswith(begun)]
        ids = {token for rest in rests for token in model.vocabulary.spelling(rest)}
        allow_only(logits, {0: sorted(ids | special)})

    def _predicted_or(
        self, token: int, follower: drafts.CursorDrafter, logprobs: torch.Tensor
    ) -> int:
        """Returns the prediction's next token if ``logprobs`` [V] allow it, else ``token``.

        The first token is the model's own if it may mean "no edit".
        """
        predicted, threshold = follower.next, math.log(self.request.acceptance_threshold)
        is_own = self.is_first and bool(self.request.first_token_thresholds)
        if predicted is not None and not is_own and logprobs[predicted] >= threshold:
            token = predicted
        follower.accept([token])
        return token


def on_text_piece(piece: str, on_text: Callable[[str], None] | None) -> None:
    """Calls ``on_text`` with a chunk of text, unless it is empty."""
    if on_text and (piece := safe_text(piece)):
        on_text(piece)


class ServedModel(CompletionModel):
    """A model with a worker: the engine's source of completions in this process."""

    def worker(self, queue: JobQueue, limits: ServerLimits, metrics: Metrics) -> LocalWorker:
        """See :class:`codegen.server.completion.engine.CompletionSource`."""
        return LocalWorker(self, queue, limits, metrics)
