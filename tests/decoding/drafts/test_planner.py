"""What is drafted pays: the account's bound, measured costs, and whole runs on machines whose
passes take a virtual time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding import passes, sequences
from codegen.decoding.drafts import Draft, DraftAccount, FixedCosts, PassCosts, Planner, SharedCosts
from codegen.decoding.strategies.speculative import Speculation
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.transformers import TransformersBackend
from codegen.models import LoadedModel, load


def boast(tokens: int, probability: float) -> Draft:
    return Draft.chain(range(tokens), [probability ** (i + 1) for i in range(tokens)])


# --- the account ---------------------------------------------------------------------------------


@given(
    lucky=st.lists(st.booleans(), max_size=400),
    cost=st.sampled_from([0.001, 0.01, 0.05, 0.3, 1.0]),
    probability=st.floats(0.3, 1.0),
    most=st.integers(1, 64),
)
@settings(max_examples=150, deadline=None)
def test_the_account_bounds_what_failing_drafts_cost(
    lucky: list[bool], cost: float, probability: float, most: int
) -> None:
    """However drafts over-estimate themselves, from any round on."""
    planner = Planner(FixedCosts(cost), DraftAccount(slack=0.02, balance=0.7, ceiling=3.0))
    spent = gained = worst = 0.0
    for luck in lucky:
        (draft,) = planner.plan([boast(most, probability)], 1, [100])
        accepted = len(draft) if luck else 0
        planner.record(1, 1 + len(draft), [accepted + 1])
        spent += cost * len(draft)
        gained += accepted + 0.02
        worst = max(0.0, worst + cost * len(draft) - accepted - 0.02)  # over any stretch of rounds
        assert worst <= 3.0 + 1e-6
    assert spent <= gained + 0.7 + 1e-6


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_width_is_the_best_of_all_widths(data: st.DataObject) -> None:
    """Against every width, tried one by one; trees are cut to their most probable nodes."""
    cost = data.draw(st.floats(0.0, 0.4))
    rng = random.Random(data.draw(st.integers(0, 999)))
    drafts = []
    for _ in range(data.draw(st.integers(1, 5))):
        parents: list[int] = []
        probabilities: list[float] = []
        for node in range(rng.randrange(12)):
            parents.append(rng.randrange(-1, node))
            above = probabilities[parents[-1]] if parents[-1] >= 0 else 1.0
            probabilities.append(above * rng.random())
        drafts.append(Draft(list(range(len(parents))), parents, probabilities))
    planner = Planner(FixedCosts(cost), DraftAccount(balance=2.0))
    cut = planner.plan(drafts, len(drafts), [50] * len(drafts), waiting=True)

    def gain(width: int) -> float:
        kept = [sorted(d.probabilities, reverse=True)[: width - 1] for d in drafts]
        return sum(map(sum, kept)) / len(drafts) - cost * (width - 1)

    widest = 1 + max(map(len, drafts))
    affordable = [w for w in range(1, widest + 1) if cost * (w - 1) <= 2.0]
    best = max(gain(width) for width in affordable)
    width = 1 + max(map(len, cut))
    if best <= 0.019:
        assert width == 1
    elif best > 0.021:
        assert gain(width) == pytest.approx(best)
    for draft, whole in zip(cut, drafts, strict=True):
        kept = sorted(whole.probabilities, reverse=True)[: width - 1]
        assert sorted(draft.probabilities, reverse=True) == kept
        for parent, probability in zip(draft.parents, draft.probabilities, strict=True):
            assert parent < 0 or draft.probabilities[parent] >= probability
        assert [whole.tokens.index(token) for token in draft.tokens] == sorted(draft.tokens)


def test_a_row_that_ends_soon_is_worth_little_unless_another_waits() -> None:
    """Eight rows, of which one has a sure draft: alone it can't make the batch end sooner."""
    drafts = [boast(15, 0.99), *[Draft()] * 7]
    for left, waiting, expected in (
        ([100] * 8, False, 1),
        ([100] * 8, True, 16),
        ([100, *[50] * 7], False, 16),  # it is the last to end
        ([50, *[100] * 7], False, 1),
    ):
        costs = PassCosts()
        costs.add_prompt(1000, 0.01)
        costs.add(8, 1, 1.0)
        for width in range(2, 17):
            costs.add(8, width, 1 + 0.065 * (width - 1))
        cut = Planner(costs, DraftAccount(balance=1.0)).plan(drafts, 8, left, waiting)
        assert 1 + max(map(len, cut)) == expected, (left, waiting)


# --- measured costs ------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [0.02, 0.15, 0.6])
@pytest.mark.parametrize("together", [1, 3, 8])
def test_requests_that_share_passes_draft_as_far_as_all_gain(token: float, together: int) -> None:
    """Against every length, tried one by one: the tokens that all requests get in a pass's time."""
    costs = PassCosts()
    for tokens in range(1, 33):
        costs.add(1, tokens, 1 + token * (tokens - 1))
    draft = boast(12, 0.8)
    account = DraftAccount(balance=100.0)
    planner = Planner(SharedCosts(costs, lambda: together), account)
    (cut,) = planner.plan([draft], 1, [50])
    plain = 1 + token * (together - 1)

    def gain(drafted: int) -> float:  # in plain passes of all, for one request's drafted tokens
        return sum(draft.probabilities[:drafted]) / together - token * drafted / plain

    best = max(map(gain, range(13)))
    assert gain(len(cut)) >= best - 0.02 / together - 1e-9
    account.balance = 0.0
    planner.record(1, 1 + len(cut), [1 + len(cut)])  # all of it was right
    assert account.balance > 0 and account.pace >= 1


def test_costs_are_measured_and_guessed_from_above() -> None:
    costs = PassCosts()
    assert costs.ratio(1, 2) is None
    costs.add(1, 8, 1.0)  # tells nothing without a plain pass
    assert costs.ratio(1, 8) is None
    costs.add(1, 1, 0.1)
    assert costs.ratio(1, 1) == 1.0
    unknown = costs.ratio(1, 4)
    assert unknown is not None and unknown >= 4, "before anything is known a token costs a pass"
    costs.add_prompt(100, 1.0)  # a tenth of a plain pass each
    guess = costs.ratio(1, 4)
    assert guess is not None and 1.3 < guess < unknown
    costs.add(1, 8, 0.19)
    costs.add(1, 3, 0.15)
    assert costs.ratio(1, 8) == pytest.approx(1.9) and costs.ratio(1, 3) == pytest.approx(1.5)
    assert costs.ratio(1, 2) == pytest.approx(1.5), "a narrower pass may be of the same kind"
    assert costs.ratio(1, 5) == pytest.approx(1.5 + 0.4 * 2 / 5)
    for _ in range(60):
        costs.add(1, 8, 0.25)
    assert costs.ratio(1, 8) == pytest.approx(2.5, rel=0.01)
    costs.add(1, 8, 40.0)  # a thread that waited for a core
    found = costs.ratio(1, 8)
    assert found is not None and found < 4
    assert costs.ratio(2, 8) is None, "another batch is another thing"


# Seconds of passes over rows x width, and of a prompt's token: measured on CPUs with and without
# AVX-512 BF16, one where a single row has a kernel of its own, and about those of a GPU.


def _curve(one: Sequence[float], eight: Sequence[float]) -> Callable[[int, int], float]:
    def seconds(rows: int, width: int) -> float:
        found = []
        for table in (one, eight):
            place = math.log2(width)
            low = min(int(place), len(table) - 2)
            found.append(table[low] + (place - low) * (table[low + 1] - table[low]))
        return found[0] + (rows - 1) / 7 * (found[1] - found[0])

    return seconds


MACHINES: dict[str, tuple[Callable[[int, int], float], float]] = {
    "bf16": (_curve([31, 32, 32, 35, 43], [43, 54, 67, 92, 148]), 0.9),
    "two kernels": (_curve([30, 56, 57, 66, 80], [50, 75, 97, 138, 215]), 1.2),
    "no bf16": (_curve([23, 32, 52, 101, 201], [107, 208, 382, 730, 1384]), 8.2),
    "gpu": (_curve([20, 20.2, 20.4, 20.8, 21.2], [21, 21.4, 22, 23.1, 25]), 0.02),
}


def succession(kind: str, size: int, forbidden: set[int]) -> torch.Tensor:
    """Logits [V, V] of the next token given the last one: a target that is known at once."""
    rng = torch.Generator().manual_seed(7)
    ids = [i for i in torch.randperm(size, generator=rng).tolist() if i not in forbidden]
    logits = torch.full((size, size), -30.0)
    following = ids[1:] + ids[:1]  # no token comes twice in a short text
    if kind in ("loops", "uneven loops"):
        following = [ids[i + 1 if (i + 1) % 24 else i - 23] for i in range(len(ids) - 1)] + ids[:1]
    logits[ids, following] = 4.5 if kind == "uneven loops" else 30.0
    noise = torch.randn(size, size, generator=rng) * (3.0 if kind == "at random" else 0.5)
    if kind in ("at random", "uneven loops"):
        logits = torch.where(logits < 0, noise, logits)
    if kind == "at random":
        logits = noise
    logits[:, sorted(forbidden)] = -torch.inf
    return logits


class Machine:
    """In place of a model: a loop's clock advances by what its passes would take."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, logits: torch.Tensor, noise: float = 0.05
    ) -> None:
        self.now, self.spent = 0.0, 0.0
        seconds, token = MACHINES[name]
        rng = random.Random(3)

        def forward(_: Any, tokens: torch.Tensor, *__: Any, **___: Any) -> torch.Tensor:
            took = seconds(*tokens.shape)
            self.now += took * math.exp(rng.gauss(0, noise))
            self.spent += took
            return logits[tokens]

        def prefill(_: Any, __: Any, given: Sequence[list[int]], ___: Any) -> None:
            self.now += token * sum(map(len, given))

        monkeypatch.setattr(passes, "forward", forward)
        monkeypatch.setattr(sequences, "prefill", prefill)
        monkeypatch.setattr(Speculation, "clock", lambda *_: self.now)


@pytest.fixture(scope="module")
def loaded(tiny_model_dir: Path) -> LoadedModel:
    return load(str(tiny_model_dir), dtype=torch.float32)


KINDS = ("fresh", "loops", "uneven loops", "at random")


def target(loaded: LoadedModel, kind: str) -> torch.Tensor:
    eos = TransformersBackend(loaded).eos
    return succession(kind, loaded.model.config.vocab_size, set(eos) | {0, 1, 2, 3})


def asked(count: int) -> list[Request]:
    text = "def total(items):\n    result = 0\n    for item in items:\n        result += item\n"
    return [Request(text[: -1 - i], index=i, original=text, heal=False) for i in range(count)]


@pytest.mark.parametrize(
    "name",
    [
        "bf16",
        "gpu",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("two kernels", "no bf16")),
    ],
)
@pytest.mark.parametrize("size", [1, pytest.param(3, marks=pytest.mark.long), 8])
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_never_cost(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str, size: int, kind: str
) -> None:
    """From the first token on, with all that is known of a machine learned on the way."""
    machine = Machine(monkeypatch, name, target(loaded, kind))
    params = SamplingParams(max_new_tokens=96, temperature=1.0)
    took: dict[str, float] = {}
    plain: list[str] = []
    for decoder in ("sample", "suffix", "edit"):
        machine.spent = 0.0
        made = TransformersBackend(loaded, batch_size=size)
        found = list(samples(made, asked(8), params, Decoder(decoder)))
        took[decoder] = machine.spent
        plain = plain or [sample.completion for sample in found]
        assert [sample.completion for sample in found] == plain
    for decoder in ("suffix", "edit"):
        assert took["sample"] / took[decoder] >= 0.97, took
    if name in ("gpu", "bf16") and kind == "loops" and size == 1:
        assert took["sample"] / took["suffix"] > 2, "where drafts pay, they are made"
