"""The rules in both of vLLM's runners: requests come, go and move; wrong options are refused."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.penalties import apply, push_all
from codegen.decoding.rpg.vllm_processors import VllmPenalties, requested
from tests.decoding.rpg.test_methods import LOOP, made


@pytest.fixture(scope="module")
def tokenizer(looping_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(looping_dir, padding_side="left")


class Direction(enum.Enum):
    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


def update(
    removed: Sequence[int] = (), added: Sequence[Any] = (), moved: Sequence[Any] = ()
) -> SimpleNamespace:
    """vLLM's BatchUpdate, as far as a processor looks at it."""
    return SimpleNamespace(batch_size=0, removed=removed, added=added, moved=moved)


def asks(**extra_args: Any) -> SimpleNamespace:
    return SimpleNamespace(extra_args=extra_args or None)


def test_vllm_requests_leave_come_and_move(looping_dir: Path, tokenizer: Any) -> None:
    """Against rules made again for every request at every step, whatever vLLM does to the batch."""
    config = SimpleNamespace(
        model_config=SimpleNamespace(tokenizer=str(looping_dir), hf_config=None)
    )
    processor = VllmPenalties(config, torch.device("cpu"), False)
    assert not processor.is_argmax_invariant()
    size = len(tokenizer)
    prompt = tokenizer(LOOP * 6).input_ids
    link = tokenizer(LOOP).input_ids
    lists: dict[str, list[int]] = {name: [] for name in "abcd"}
    params = {
        "a": ("rpg", {"mode": "paper"}, asks(rpg="mode=paper")),
        "b": (None, {}, asks(other=1)),
        "c": ("no_repeat_ngram", {"size": 2}, asks(no_repeat_ngram={"size": 2})),
        "d": ("rpg", {}, asks(rpg=True)),
    }

    def added(index: int, name: str) -> tuple[Any, ...]:
        return index, params[name][2], prompt, lists[name]

    def check(places: dict[int, str]) -> None:
        logits = torch.ones(4, size)
        assert processor.apply(logits) is logits
        expected = torch.ones(4, size)
        for index, name in places.items():
            kind, options, _ = params[name]
            if kind:
                rule = made(tokenizer, kind, options).rule()
                push_all(rule, prompt + lists[name])
                penalties = [[] for _ in range(4)]
                penalties[index] = list(rule.penalties())
                apply(expected, penalties)
        assert torch.equal(logits, expected)
        changed = {i for i in range(4) if not torch.equal(logits[i], torch.ones(size))}
        assert changed == {i for i, name in places.items() if name != "b"}

    def grow(*names: str) -> None:
        for name in names:
            lists[name].extend(link)

    processor.update_state(update(added=[added(0, "a"), added(1, "b"), added(2, "c")]))
    check({0: "a", 1: "b", 2: "c"})
    grow("a", "c")
    processor.update_state(None)
    check({0: "a", 1: "b", 2: "c"})
    processor.update_state(update(moved=[(0, 2, Direction.SWAP)]))
    check({2: "a", 1: "b", 0: "c"})
    processor.update_state(
        update(removed=[0], added=[added(3, "d")], moved=[(3, 0, Direction.UNIDIRECTIONAL)])
    )
    grow("d")
    check({0: "d", 1: "b", 2: "a"})
    processor.update_state(update(added=[added(2, "b")]))  # takes a's place
    check({0: "d", 1: "b", 2: "b"})
    processor.update_state(update(moved=[(1, 0, Direction.UNIDIRECTIONAL)]))
    check({0: "b", 2: "b"})


@dataclass
class Round:
    """A step of vLLM's model runner V2, as its processors see it.

    Attributes:
        joined: (slot, extra_args) of the requests that join.
        texts: the certain tokens of each slot that has any.
        order: slots in the order of the batch.
        rows: (slot, position, token fed, offset among the request's rows), one a drafted token.
        expected: what becomes of logits that are all 1, [len(rows), V].
    """

    joined: list[tuple[int, dict[str, Any]]]
    texts: dict[int, list[int]]
    order: list[int]
    rows: list[tuple[int, int, int, int]]
    expected: torch.Tensor


def v2_rounds(tokenizer: Any) -> Iterator[Round]:
    """Rules made again for every row: prompts in parts, drafts, slots that change hands."""
    link, rng = tokenizer(LOOP).input_ids, random.Random(0)
    size = len(tokenizer)
    asked = [("rpg", {"mode": "paper"}), ("no_repeat_ngram", {"size": 2}), None]
    running: dict[int, tuple[Any, list[int], int]] = {}  # slot -> what it asks, text, tokens fed
    texts: dict[int, list[int]] = {}
    for _ in range(60):
        joined = []
        if len(running) < 3:
            slot = rng.choice([slot for slot in range(4) if slot not in running])
            wants = rng.choice(asked)
            texts[slot] = link * rng.randint(2, 8)
            joined.append((slot, {"other": 1} if wants is None else {wants[0]: wants[1]}))
            running[slot] = (wants, texts[slot], 0)
        before_step = dict(texts)
        rows: list[tuple[int, int, int, int]] = []
        expected = torch.ones(0, size)
        order = rng.sample(sorted(running), len(running))
        for slot in order:
            wants, text, fed = running[slot]
            drafts: list[int] = []
            if len(text) - fed > 30:
                fed += 20  # a part of the prompt; its row is thrown away
            else:
                fed = len(text)
                drafts = (link * 2)[: rng.randint(0, 5)]
            for number in range(len(drafts) + 1):
                before = text[:fed] + drafts[:number]
                rows.append((slot, len(before) - 1, before[-1], number))
                line = torch.ones(1, size)
                if wants is not None:
                    rule = made(tokenizer, wants[0], dict(wants[1])).rule()
                    push_all(rule, before)
                    apply(line, [rule.penalties()])
                expected = torch.cat([expected, line])
            if fed == len(text):
                text = [*text, *drafts[: rng.randint(0, len(drafts))], rng.choice(link)]
            running[slot] = (wants, text, fed)
            texts[slot] = text
            if len(text) > 120 or rng.random() < 0.05:
                del running[slot]
        yield Round(joined, before_step, order, rows, expected)


def test_vllm_runner_v2_slots_and_drafted_rows(looping_dir: Path, tokenizer: Any) -> None:
    """The layout is that of vLLM's ``LogitsContext``."""
    committed = torch.zeros(4, 400, dtype=torch.int32)
    processor = VllmPenalties(
        SimpleNamespace(model_config=SimpleNamespace(tokenizer=str(looping_dir), hf_config=None)),
        SimpleNamespace(all_token_ids=SimpleNamespace(gpu=committed)),
    )
    changed = 0
    for one in v2_rounds(tokenizer):
        for slot, text in one.texts.items():
            committed[slot, : len(text)] = torch.tensor(text)
        for slot, extra in one.joined:
            assert processor.add_request(slot, asks(**extra)) == ("other" not in extra)
        columns = [torch.tensor(column) for column in zip(*one.rows, strict=True)]
        context = SimpleNamespace(
            idx_mapping_np=np.array(one.order), expanded_idx_mapping=columns[0].int(),
            pos=columns[1].long(), input_ids=columns[2].int(),
        )  # fmt: skip
        found = processor.apply(torch.ones_like(one.expected), context)
        assert torch.equal(found, one.expected)
        changed += int((one.expected != 1).any(dim=1).sum())
    assert changed > 50


def test_vllm_refuses_wrong_options_and_is_inert_without_any() -> None:
    assert requested(None) is None and requested({"top": 1}) is None
    assert requested({"rpg": False}) is None
    assert requested({"rpg": "k_min=5, mode=paper"}) == read_options(
        "rpg", {"k_min": 5, "mode": "paper"}
    )
    for wrong in ({"rpg": "best"}, {"rpg": 3}, {"rpg": True, "dry": True}, {"rpg": {"k_min": 0}}):
        with pytest.raises(ValueError, match=r"rpg|k_min"):
            VllmPenalties.validate_params(asks(**wrong))
    idle = VllmPenalties(SimpleNamespace(model_config=None))
    logits = torch.ones(2, 3)
    idle.update_state(update(added=[(0, asks(), [1], [])]))
    assert torch.equal(idle.apply(logits), torch.ones(2, 3))
