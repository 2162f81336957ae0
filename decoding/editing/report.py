"""What an editable cache is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EditPolicy:
    """How a cache follows edits.

    Attributes:
        min_span: tokens of the shortest run that is reused behind an edit; shorter ones are encoded
            again, which costs little and keeps more of them right.
        max_spans: most runs reused in one update; the longest are taken.
        tail: tokens at the end that an update never leaves as they were encoded in front of another
            text, where its caller names no number.
        repair: tokens that an update may encode again beyond the necessary. If that is enough for
            all stale ones the result is exact, else the last stale ones before the end are taken.
        refresh: share of the stale tokens to encode again, those whose states in the second layer
            have changed most (CacheBlend, arXiv 2405.16444); 0 for none.
        sink: tokens at the start of the sequence whose states are good for nothing elsewhere: what
            stands first draws the attention of all others.
        keep_removed: tokens kept after their removal, for undo, paste and typed suggestions.
        max_stale: share of stale tokens beyond which a report asks for :meth:`recompute`.
        chunk: most tokens of a forward pass.
        doubt: logits by which a most probable token must lead over the second for its choice to
            count as certain while states are stale (:meth:`EditableCache.in_doubt`).
        rotate: false leaves moved keys turned for their old positions: "conflict fast encoding",
            the baseline of the paper, of no use but for comparison.
    """

    min_span: int = 16
    max_spans: int = 64
    tail: int = 32
    repair: int = 0
    refresh: float = 0.0
    sink: int = 4
    keep_removed: int = 1024
    max_stale: float = 0.5
    chunk: int = 256
    doubt: float = 0.75
    rotate: bool = True


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an update did. ``reused + encoded`` is the number of tokens of the sequence.

    Attributes:
        reused: tokens whose cached states were taken.
        moved: those among them that stand elsewhere than before the update.
        encoded: tokens that went through the model.
        stale: reused tokens that were encoded in front of another text than now.
        exact: whether all states are what encoding the whole sequence gives, up to rounding.
        seconds: wall time.
        complete: false if ``stop`` ended it early: the sequence then ends where it was stopped.
        recompute: why :meth:`EditableCache.recompute` should run soon; empty if it need not.
    """

    reused: int
    moved: int
    encoded: int
    stale: int
    exact: bool
    seconds: float
    complete: bool = True
    recompute: str = ""
