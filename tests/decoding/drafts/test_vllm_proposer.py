"""vLLM's proposer on a stand-in for its batch: places change, prompts come in parts, requests end.

The oracle is one drafter chain a request, alone, in a plain loop. tests/generation has the runs in
a real vLLM.
"""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codegen.core.errors import ConfigError
from codegen.decoding.drafts import Context, DrafterMaker, PlannedDrafter
from codegen.decoding.drafts.vllm_proposer import DraftProposer
from codegen.decoding.healing import Vocabulary, read_vllm_tokenizer
from codegen.decoding.suffix import SuffixStore

K = 8
LONGEST = 256
WAYS = ("cursor", "diff", "suffix")


def configured(folder: Path | None = None, kept: int = 0, device: str = "cuda") -> SimpleNamespace:
    """vLLM's VllmConfig, as far as the proposer looks at it."""
    return SimpleNamespace(
        speculative_config=SimpleNamespace(
            num_speculative_tokens=K,
            suffix_decoding_max_spec_factor=2.0,
            suffix_decoding_min_token_prob=0.1,
            suffix_decoding_max_cached_requests=kept,
        ),
        model_config=SimpleNamespace(max_model_len=LONGEST, tokenizer=str(folder)),
        device_config=SimpleNamespace(device_type=device),
    )


@dataclass
class Asked:
    """A request, what it will say, and what it was drafted so far."""

    name: str
    prompt: list[int]
    answer: list[int]
    extra_args: dict[str, Any] | None = None
    read: int = 0  # tokens of the prompt that were read
    said: int = 0
    draft: list[int] = field(default_factory=list)
    drafts: list[list[int]] = field(default_factory=list)


class Batch:
    """Steps of an engine whose target says what it was told to say."""

    def __init__(self, proposer: DraftProposer, chunk: int = 16) -> None:
        self.proposer, self.chunk = proposer, chunk
        self.rows: list[Asked] = []
        self.requests: dict[str, Any] = {}
        self.tokens = np.zeros((8, LONGEST), dtype=np.int32)
        self.counts = np.zeros(8, dtype=np.int32)
        self.prompts = np.zeros(8, dtype=np.int32)
        proposer.bind(self)

    @property
    def input_batch(self) -> SimpleNamespace:
        return SimpleNamespace(
            req_ids=[row.name for row in self.rows], num_prompt_tokens=self.prompts
        )

    def add(self, asked: Asked) -> None:
        params = SimpleNamespace(extra_args=asked.extra_args, max_tokens=len(asked.answer))
        self.requests[asked.name] = SimpleNamespace(sampling_params=params)
        self.rows.append(asked)

    def step(self) -> None:
        """Reads a part of each prompt, or verifies each draft; asks for the next drafts."""
        sampled: list[list[int]] = []
        for row in self.rows:
            if row.read < len(row.prompt) + row.said:
                row.read = min(row.read + self.chunk, len(row.prompt) + row.said)
            if row.read < len(row.prompt) + row.said:
                sampled.append([])
                continue
            right = 0
            ahead = row.answer[row.said :]
            while right < min(len(row.draft), len(ahead)) and row.draft[right] == ahead[right]:
                right += 1
            new = ahead[: right + 1]
            row.said += len(new)
            row.read += len(new)
            sampled.append(new)
        for place, row in enumerate(self.rows):
            there = row.prompt + row.answer[: row.said]
            self.tokens[place, : len(there)] = there
            self.tokens[place, len(there) :] = -7  # what an earlier request left
            self.counts[place] = len(there)
            self.prompts[place] = len(row.prompt)
        for row, draft in zip(
            self.rows, self.proposer.propose(sampled, self.counts, self.tokens), strict=True
        ):
            row.draft = draft
            if row.read >= len(row.prompt) + row.said:
                row.drafts.append(draft)
        for row in [row for row in self.rows if row.said == len(row.answer)]:
            self.remove(row)
            del self.requests[row.name]

    def remove(self, row: Asked) -> None:
        """The last row takes the place, as in vLLM's batch."""
        place, last = self.rows.index(row), self.rows.pop()
        if last is not row:
            self.rows[place] = last


def alone(asked: Asked, maker: DrafterMaker) -> list[list[int]]:
    """The drafts of a plain loop over one row."""
    context = Context()
    if asked.extra_args:
        original = asked.extra_args["original"]
        context = Context(maker.encode(original), original)
    chain = PlannedDrafter(maker.chain(WAYS if asked.extra_args else ("suffix",)), 0.01)
    chain.begin(asked.prompt, context)
    said, drafts = 0, []
    while True:
        drafted = drafts[-1] if drafts else []
        ahead = asked.answer[said:]
        right = 0
        while right < min(len(drafted), len(ahead)) and drafted[right] == ahead[right]:
            right += 1
        new = ahead[: right + 1]
        said += len(new)
        chain.accept(new)
        most = min(K, len(asked.answer) - said - 1, LONGEST - len(asked.prompt) - said - 1)
        drafts.append(chain.draft(most).tokens if most > 0 else [])
        if said == len(asked.answer):
            return drafts


SOURCE = "def area(width, height):\n    return width * height\n\n\ndef half(x):\n    return x / 2\n"


@pytest.fixture(scope="module")
def maker(tiny_model_dir: Path) -> DrafterMaker:
    tokenizer = read_vllm_tokenizer(SimpleNamespace(tokenizer=str(tiny_model_dir)))
    return DrafterMaker.of(tokenizer, Vocabulary.of(tokenizer).tokens)


def asks(maker: DrafterMaker) -> list[Asked]:
    """Requests that repeat themselves, that rewrite a file, and that start alike."""
    rng = random.Random(1)
    block = [rng.randrange(3, 40) for _ in range(12)]
    rewritten = SOURCE.replace("width", "w", 1)
    found = [
        Asked("loop", block * 3, block * 4),
        Asked("twin", block * 3, block * 2 + block[::-1]),
        Asked("short", [5], [6, 7, 8]),
        Asked("noise", [rng.randrange(90) for _ in range(40)], [rng.randrange(90)] * 20),
        Asked("edit", [9] * 4, maker.encode(rewritten)),
        Asked("late", block, block[3:] * 2),
    ]
    found[4].extra_args = {"original": SOURCE, "other": 1}
    return found


def test_drafts_of_a_batch_are_those_of_a_plain_loop(
    maker: DrafterMaker, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    chain = DrafterMaker.chain

    def counted(*given: Any, **options: Any) -> Any:
        begun.append(given)
        return chain(*given, **options)

    monkeypatch.setattr(DrafterMaker, "chain", counted)
    proposer = DraftProposer(configured(tiny_model_dir))
    proposer.load_model(None)
    batch = Batch(proposer)
    waiting = asks(maker)
    everyone = list(waiting)
    while waiting or batch.rows:
        for _ in range(2):
            if waiting:
                batch.add(waiting.pop(0))
        batch.step()
    assert len(begun) == len(everyone)  # a request that moves is known again
    for asked in everyone:
        assert asked.drafts == alone(asked, maker), asked.name
    assert sum(map(len, everyone[0].drafts)) > 20
    assert sum(map(len, everyone[4].drafts)) > 40


def test_what_a_request_held_is_released_when_it_has_ended() -> None:
    proposer = DraftProposer(configured(kept=4))
    store: SuffixStore = proposer.suffix_options["store"]
    batch = Batch(proposer)
    first, second = Asked("a", [1, 2, 3], [4, 5, 6]), Asked("b", [7, 8], list(range(10, 30)))
    batch.add(first)
    batch.add(second)
    while first in batch.rows:
        batch.step()
    assert store.index() is None
    batch.step()
    assert [row.tokens[0] for row in proposer.rows.values()] == [7]
    past = store.index()
    assert past is not None and past.text(past.sequences()[0]) == first.answer


def test_a_request_that_was_set_aside_goes_on_where_it_was(
    maker: DrafterMaker, tiny_model_dir: Path
) -> None:
    """vLLM takes a request out of the batch for want of room; it comes back and is read again."""
    proposer = DraftProposer(configured(tiny_model_dir, kept=4))
    batch = Batch(proposer)
    edit = asks(maker)[4]
    other = Asked("other", [1, 2], list(range(100, 160)))
    batch.add(edit)
    batch.add(other)
    for _ in range(4):
        batch.step()
    batch.remove(edit)
    edit.read, edit.draft = 0, []
    batch.step()
    assert "edit" in proposer.rows and proposer.suffix_options["store"].index() is None
    batch.rows.append(edit)
    before = len(edit.drafts)
    while edit in batch.rows:
        batch.step()
    expected = alone(edit, maker)
    assert edit.drafts[:before] == expected[:before]
    assert sum(map(len, edit.drafts[before:])) > 10


def test_past_responses_are_drafted_to_their_tenant_alone() -> None:
    answer = list(range(40, 60))

    def drafted(tenant: str | None) -> int:
        asked = Asked(f"of {tenant}", [1, 40], answer[1:], {"tenant": tenant})
        batch.add(asked)
        while asked in batch.rows:
            batch.step()
        return sum(map(len, asked.drafts))

    proposer = DraftProposer(configured(kept=10))
    batch = Batch(proposer)
    assert [drafted("ann"), drafted("bob")] == [0, 0]
    assert drafted("ann") > 10


@pytest.mark.parametrize("said", [
    {"original": 3}, {"original": ""}, {"original": "\ud800 x"}, {"tenant": ["a"]}, {}, None,
    {"original": "x" * 100_000},
])  # fmt: skip
def test_what_a_request_says_never_stops_the_engine(tiny_model_dir: Path, said: Any) -> None:
    batch = Batch(DraftProposer(configured(tiny_model_dir, device="cpu")))
    batch.add(Asked("a", [1, 2], [3, 4, 5], said))
    for _ in range(3):
        batch.step()
    assert not batch.rows


def test_without_our_worker_it_says_how() -> None:
    with pytest.raises(ConfigError, match="--worker-cls"):
        DraftProposer(configured()).propose([[1]], np.array([1]), np.zeros((1, LONGEST), np.int32))


def test_the_module_needs_neither_vllm_nor_torch() -> None:
    code = (
        "import sys, codegen.decoding.drafts.vllm_proposer;"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
