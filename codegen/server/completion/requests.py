"""Requests to the engine, its completions, and the limits on both.

Unlike :class:`codegen.generation.Request`, a completion request belongs to a document. Shared
fields have the same names, and the sampling parameters are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from codegen.core.errors import CodegenError, ConfigError
from codegen.core.records import FinishReason
from codegen.generation import SamplingParams
from codegen.server.completion.postprocess import Multiline, StopRule, clean, rule_for, safe_text

if TYPE_CHECKING:
    from codegen.edits.formats import Continuation


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits per client, and memory limits of the server.

    Attributes:
        context_tokens: maximum prompt tokens; text farther from the cursor is omitted.
        max_tokens: maximum tokens of a completion.
        candidates: maximum candidates per request.
        document_chars: maximum characters of a document; longer ones get no completions.
        body_bytes: maximum size of an HTTP body or LSP message.
        documents: number of documents whose caches are kept.
        cache_bytes: maximum size of all keys and values; least recently used ones are evicted.
        queue: maximum number of waiting requests.
        requests_per_s: mean requests per second allowed per client.
        burst: requests that one client may send at once.
        together: maximum concurrent requests; they share forward passes.
        deadline_s: time limit of a request, which then returns the text decoded so far.
        read_s: time limit for a client to send its request.
        conversation_tokens: maximum tokens of a conversation, including the response.
        conversation_s: time limit of a response in a conversation.
    """

    context_tokens: int = 1024
    max_tokens: int = 512
    candidates: int = 8
    document_chars: int = 4_000_000
    body_bytes: int = 8_000_000
    documents: int = 64
    cache_bytes: int = 1 << 30
    queue: int = 64
    requests_per_s: float = 50.0
    burst: int = 100
    together: int = 8
    deadline_s: float = 20.0
    read_s: float = 10.0
    conversation_tokens: int = 8192
    conversation_s: float = 600.0

    def __post_init__(self) -> None:
        for field_ in fields(self):
            if getattr(self, field_.name) <= 0:
                raise ConfigError(f"{field_.name} must be above 0.")


class DocumentKey(NamedTuple):
    """Key of a document's cache; different clients or workspaces never share one."""

    client: str
    workspace: str
    document: str


class Snippet(NamedTuple):
    """Excerpt of another file.

    Attributes:
        name: the file's name; a file may have several snippets.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Request for the text between a prefix and a suffix.

    Attributes:
        prefix, suffix: text around the cursor, possibly truncated by the client.
        path: the document's path; only a label, no file is opened.
        snippets: excerpts of other files, the most important last.
        snippet_share: maximum fraction of the prompt's tokens for the snippets.
        repository: the repository's name, for models trained with it before the files.
        candidates: number of different candidates to return.
        params: sampling of each candidate. Temperature 0 returns the most likely text, then its
            nearest alternatives; above 0 each candidate is sampled.
        stop: strings that end a candidate.
        multiline: maximum extent of a candidate; None for a raw continuation, which stops only at
            ``max_new_tokens``, ``stop`` or the end of the sequence, and is cleaned only of unsafe
            characters.
        max_lines: maximum lines of a candidate.
        deadline_s: seconds after which the text decoded so far is returned.
        certain: whether to re-encode states that an edit made approximate and that may have changed
            the completion. With False, the completion is faster, and
            :attr:`CompletionResult.is_certain` tells whether it is certain.
        tokens: a whole prompt as token ids, such as a conversation's; the text around the cursor
            then only identifies documents without names.
        low_priority: whether other requests take precedence.
        wait_for_upstream: whether to wait for an unreachable upstream server until the deadline,
            instead of only briefly.
        prediction: expected text for most of the completion. It is used as a draft, which affects
            only the time.
        acceptance_threshold: if above 0, a token of the prediction is chosen wherever its
            probability is at least this, except as the first token of a completion with
            ``first_token_thresholds``: typical acceptance with a constant threshold (Cai et al.
            2024, arXiv 2401.10774, section 2.3.1).
        first_token_thresholds: token id -> minimum probability for it to begin a completion; below
            that, the most likely other token begins it.
        top_k: number of most likely tokens to sample from; 0 for all.
        marks: special tokens to show by name in the text; other special tokens are hidden.
        constraint: start of the completion -> allowed continuations
            (:class:`.formats.Continuation`); None allows everything.
        min_probability: with ``constraint``, a completion is cut off (``length``) when its
            probability falls below this.
        stop_search: predicate on a candidate that ends the search for more; None searches for all.
    """

    key: DocumentKey
    prefix: str
    suffix: str = ""
    language: str = ""
    path: str = ""
    snippets: tuple[Snippet, ...] = ()
    snippet_share: float = 0.25
    repository: str = ""
    candidates: int = 1
    params: SamplingParams = SamplingParams(max_new_tokens=64)
    stop: tuple[str, ...] = ()
    multiline: Multiline | None = "auto"
    max_lines: int = 12
    deadline_s: float = 20.0
    certain: bool = True
    tokens: tuple[int, ...] = ()
    low_priority: bool = False
    wait_for_upstream: bool = True
    prediction: str = ""
    acceptance_threshold: float = 0.0
    first_token_thresholds: tuple[tuple[int, float], ...] = ()
    top_k: int = 0
    marks: tuple[str, ...] = ()
    constraint: Callable[[str], Continuation] | None = field(default=None, repr=False)
    min_probability: float = 0.0
    stop_search: Callable[[Candidate], bool] | None = field(default=None, repr=False)

    @property
    def exact(self) -> bool:
        """True if decoding must begin with exact states, unlike a single greedy suggestion."""
        plain = self.candidates == 1 and self.params.temperature == 0
        more = self.tokens or self.prediction or self.top_k
        return bool(more or self.first_token_thresholds) or not plain

    def stop_rule(self) -> StopRule | None:
        """Returns the rule that ends a candidate; None for a raw continuation."""
        if self.multiline is None:
            return None
        return rule_for(self.prefix, self.suffix, self.language, self.multiline, self.max_lines)

    def shown(self, text: str) -> str:
        """Returns the part of a candidate's text to show."""
        if self.multiline is None:
            return safe_text(text)
        return clean(text, self.prefix, self.suffix, self.language)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One suggestion.

    Attributes:
        completion_tokens: number of decoded tokens.
        finish_reason: reason that decoding stopped.
        probability: probability of the whole text, if the request has ``constraint``.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class CompletionResult:
    """Result of one request.

    Attributes:
        candidates: different candidates, best first; empty if none is worth suggesting.
        reused, encoded: prompt tokens, see :class:`codegen.decoding.editing.EditReport`.
        recomputed: reused tokens that were re-encoded because the result was uncertain.
        seen: number of characters before the cursor in the prompt.
        from_suggestion: whether the result is an earlier suggestion.
        is_certain: false if re-encoding the whole prompt might change the result.
        accepted, rejected: tokens drafted from the request's prediction that the model accepted
            and rejected.
        stages: seconds by stage (``queue``, ``prompt``, ``encode``, ``recompute``, ``decode``,
            ``total``).
    """

    candidates: tuple[Candidate, ...]
    prompt_tokens: int = 0
    reused: int = 0
    encoded: int = 0
    recomputed: int = 0
    seen: int = 0
    from_suggestion: bool = False
    is_certain: bool = True
    accepted: int = 0
    rejected: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Text of the first candidate."""
        return self.candidates[0].text if self.candidates else ""


@dataclass(frozen=True, slots=True)
class Status:
    """The server's state, for editors to show.

    Attributes:
        kind: ``Normal``, ``Inactive`` (no suggestions in the file), ``Warning`` or ``Error``.
        busy: whether the server is still starting.
    """

    kind: str
    message: str
    busy: bool = False


class Superseded(CodegenError):
    """A newer request for the same document arrived, or the client disconnected."""


class Overloaded(CodegenError):
    """Too many requests are waiting.

    Attributes:
        after_s: seconds after which to retry.
    """

    def __init__(self, message: str, remedy: str = "", after_s: int = 1) -> None:
        super().__init__(message, remedy)
        self.after_s = after_s


class Unavailable(CodegenError):
    """The upstream server did not respond before the deadline, or rejected the request."""
