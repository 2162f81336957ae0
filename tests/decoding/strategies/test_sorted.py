"""The ladder's states are those of the whole model, whatever exits were taken; what the loop emits
with it is what it emits without.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from codegen.core.errors import ModelError
from codegen.decoding.drafts import Context
from codegen.decoding.loop import Row, decode
from codegen.decoding.sampling import distribution
from codegen.decoding.strategies.sorted import (
    ExitCounts,
    Nested,
    NestedRow,
    SortedDrafter,
    SortedSpeculation,
    default_exits,
)
from codegen.decoding.strategies.speculative import Speculation

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
PROMPTS = [[5, 9, 20, 31, 8], [7], [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22], [40, 3]]


def small(seed: int, layers: int = 6, vocabulary: int = 120, kind: Any = None) -> Any:
    torch.manual_seed(seed)
    make = kind or (LlamaForCausalLM, LlamaConfig, {})
    config = make[1](vocab_size=vocabulary, num_hidden_layers=layers, **SMALL, **make[2])
    return make[0](config).float().eval()


@torch.inference_mode()
def whole(model: Any, tokens: list[int], depth: int) -> torch.Tensor:
    """Logits [V] after the tokens by the first layers, from nothing."""
    output = model(torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
    if depth == model.config.num_hidden_layers:
        return output.logits[0, -1]
    return model.lm_head(model.model.norm(output.hidden_states[depth][0, -1]))


def check_states(model: Any, ladder: NestedRow) -> None:
    """Each stage's keys and values against those of one forward pass over the row."""
    with torch.inference_mode():
        cache = model(torch.tensor([ladder.tokens])).past_key_values
    first = 0
    for filled, end in zip(ladder.filled, ladder.nested.exits, strict=True):
        for number in range(first, end):
            ours: Any = ladder.cache.layers[number]
            theirs = cache.layers[number]
            if filled:
                torch.testing.assert_close(
                    ours.keys[:, :, :filled], theirs.keys[:, :, :filled], atol=1e-4, rtol=1e-4
                )
                torch.testing.assert_close(
                    ours.values[:, :, :filled], theirs.values[:, :, :filled], atol=1e-4, rtol=1e-4
                )
        first = end


KINDS = [(LlamaForCausalLM, LlamaConfig, {}), (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16})]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0].__name__)
def test_every_layer_holds_what_the_whole_model_would(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk of growths and cuts, with exits forced at random."""
    monkeypatch.setattr("codegen.decoding.strategies.sorted.BLOCK", 3)
    monkeypatch.setattr("codegen.decoding.strategies.sorted.ROOM", 4)
    model = small(1, kind=kind)
    nested = Nested(model, (2, 3, 6))
    rng = random.Random(0)
    ladder = NestedRow(nested, (0.5, 0.5))
    lengths = set()
    for _ in range(60):
        if ladder.tokens and rng.random() < 0.35:
            ladder.cut(rng.randrange(len(ladder.tokens)))
        ladder.extend([rng.randrange(120) for _ in range(rng.choice((1, 1, 1, 4)))])
        if len(ladder.tokens) > 100:
            ladder.cut(10)
            ladder.extend([3])
        wanted = rng.randrange(3)
        ladder.thresholds = tuple(-1.0 if exit_ == wanted else 2.0 for exit_ in range(2))
        step = ladder.next()
        logits = whole(model, ladder.tokens, nested.exits[wanted])
        assert (step.exit, step.token) == (wanted, int(logits.argmax()))
        assert step.probability == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)
        check_states(model, ladder)
        lengths.add(tuple(filled - ladder.filled[0] for filled in ladder.filled))
    assert len(lengths) > 10  # layers held prefixes of many different lengths
    with pytest.raises(ValueError, match="encoded already"):
        ladder.next()


def test_the_first_sure_exit_is_taken() -> None:
    model = small(2)
    nested = Nested(model, (1, 4, 6))
    rng = random.Random(1)
    for _ in range(20):
        tokens = [rng.randrange(120) for _ in range(8)]
        sure = [float(whole(model, tokens, depth).softmax(-1).max()) for depth in (1, 4)]
        for thresholds in ((0.3, 0.3), (0.9, 0.2), (1.0, 1.0), (0.0, 0.0)):
            ladder = NestedRow(nested, thresholds)
            ladder.extend(tokens)
            pairs = enumerate(zip(sure, thresholds, strict=True))
            expected = next((i for i, (have, need) in pairs if have > need), 2)
            assert ladder.next().exit == expected
            assert [filled > 0 for filled in ladder.filled] == [i <= expected for i in range(3)]


def run(
    model: Any, drafters: Any, temperature: float, prompts: Any = PROMPTS, ahead: bool = False
) -> list[Row]:
    rows = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(sum(prompt))
        numbers = torch.rand(40, generator=generator, dtype=torch.float64)
        rows.append(Row(list(prompt), numbers.tolist()))
    eos = frozenset(range(1, model.config.vocab_size, 29))
    speculation = SortedSpeculation(drafters, 8, ahead) if drafters else None
    decode(model, rows, max_new_tokens=40, temperature=temperature, top_p=0.95, eos=eos,
           strategy=speculation)  # fmt: skip
    return rows


@pytest.mark.parametrize(
    ("batch", "ahead", "thresholds", "temperature"),
    [
        pytest.param(PROMPTS, False, (0.3,), 0.8, marks=pytest.mark.long),
        (PROMPTS, True, (0.0, 1.0), 0.0),
        pytest.param(PROMPTS[:1], False, (1.0,), 0.0, marks=pytest.mark.long),
        (PROMPTS[2:3], True, (0.3,), 0.8),
    ],
)
def test_one_draft_for_several_targets(
    llama: Any, temperature: float, thresholds: tuple[float, ...], batch: Any, ahead: bool
) -> None:
    """Text is that of plain decoding, in fp32, of two targets with one draft."""
    vocabulary = llama.config.vocab_size
    nested = Nested(small(5, vocabulary=vocabulary), (2, 4, 6))
    for target in (llama, small(6, layers=2, vocabulary=vocabulary)):
        plain = run(target, None, temperature, batch)
        drafters = [SortedDrafter(nested, thresholds=thresholds, tokens=4) for _ in batch]
        drafted = run(target, drafters, temperature, batch, ahead)
        assert [(r.tokens, r.finish) for r in drafted] == [(r.tokens, r.finish) for r in plain]


def test_a_draft_launched_ahead_is_as_deep_as_the_last_one_asked_for() -> None:
    """The states and tokens are those of the whole model at that depth, from draft to draft."""
    model = small(8)
    nested = Nested(model, (1, 3, 6))
    drafter = SortedDrafter(nested, tokens=4, thresholds=(0.6, 0.5), least=0.1)
    drafter.begin([4, 8, 15], Context())
    row = [4, 8, 15]
    # What is read instead of each draft's probabilities; the depth and length that follow.
    rounds = [
        ((0.1, 0.2, 0.9), 2, 4),  # no earlier exit is sure
        ((0.1, 0.7, 0.9), 1, 4),  # the second would do
        ((0.7, 0.4), 0, 3),  # the first; the third token's product, 0.4 ** 3, is below 0.1
        ((0.5,), 1, 4),  # it is not sure: one exit more; and a token more
        ((0.2, 0.3), 2, 2),
        ((0.9, 0.9, 0.9), 0, 3),
    ]
    depth, most = 2, 4
    for number, (sure, following, length) in enumerate(rounds):
        lacking = drafter.lacking()
        assert lacking == row[-len(lacking) :]
        found = drafter.ahead(9, torch.tensor([lacking]))
        assert found.shape == (most, 2 + depth)
        tokens = found[:, 0].long().tolist()
        for count, (token, *seen) in enumerate(found.tolist()):
            exits = nested.exits[: 1 + depth]
            logits = [whole(model, row + tokens[:count], exit_) for exit_ in exits]
            best = [float(each.softmax(-1).max()) for each in logits]
            assert seen == pytest.approx(best, abs=1e-4)
            assert token == int(logits[-1].argmax())
        draft = drafter.read_ahead([(token, *sure) for token in tokens])
        assert draft.tokens == tokens and len(sure) == 1 + depth
        check_states(model, drafter.ladder)
        depth, most = following, length
        added = [*tokens[: number % 3], 3 + number]  # some are accepted
        drafter.accept(added)
        row += added


@pytest.mark.long
def test_samples_follow_the_target() -> None:
    """Two tokens, 2,000 times, with one-hot drafts, against the target's exact distribution."""
    target, trials, prompt = small(3, layers=1, vocabulary=6), 2000, [2, 4, 1]
    nested = Nested(small(4, layers=2, vocabulary=6), (1, 2))
    numbers = torch.rand(trials, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts: Counter[tuple[int, int]] = Counter()
    drafts = ExitCounts()
    for start in range(0, trials, 500):
        rows = [Row(list(prompt), u.tolist()) for u in numbers[start : start + 500]]
        drafters = [SortedDrafter(nested, tokens=2, tally=drafts) for _ in rows]
        decode(target, rows, max_new_tokens=3, temperature=0.8, top_p=0.95, eos=frozenset(),
               strategy=Speculation(drafters))  # fmt: skip
        counts.update((row.tokens[0], row.tokens[1]) for row in rows)
    assert sum(drafts.accepted) > 200 and sum(drafts.reached) > sum(drafts.accepted)
    with torch.inference_mode():
        first = distribution(target(torch.tensor([prompt])).logits[:, -1], 0.8, 0.95)[0]
        ends = torch.tensor([[*prompt, token] for token in range(6)])
        second = distribution(target(ends).logits[:, -1], 0.8, 0.95)
    expected = trials * first[:, None] * second
    table = torch.tensor([[counts[a, b] for b in range(6)] for a in range(6)])
    likely = expected > 0
    assert table[~likely].sum() == 0
    statistic = float(((table - expected)[likely] ** 2 / expected[likely]).sum())
    freedom = int(likely.sum()) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_what_can_not_be_cut_is_refused() -> None:
    model = small(9, layers=3)
    assert default_exits(model) == (3,)
    model.config.exit_layers = [1, 3]
    assert Nested(model).exits == (1, 3)
    for exits in ((2, 1, 3), (0, 3), (1, 4), (2, 2, 3)):
        with pytest.raises(ModelError, match="cannot exit"):
            Nested(model, exits)
    scaling = {"embedding_multiplier": 3.0, "logits_scaling": 2.0}
    scaled = small(0, layers=2, kind=(GraniteForCausalLM, GraniteConfig, scaling))
    with pytest.raises(ModelError, match="one by one"):
        Nested(scaled, (1, 2))
    with pytest.raises(ValueError, match="thresholds"):
        SortedDrafter(Nested(model, (1, 2, 3)), thresholds=(0.1, 0.2, 0.3))
