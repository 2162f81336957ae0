"""The editable cache against plain forward passes over the whole sequence."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from codegen.decoding.editing import EditableCache, EditPolicy
from codegen.decoding.editing.rotation import find_rotations
from tests.llamas import small_llama

TIGHT = EditPolicy(min_span=2, tail=0, sink=0, chunk=7, keep_removed=20)


def llama(layers: int = 3, seed: int = 0) -> PreTrainedModel:
    return small_llama(
        seed, vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
    )  # fmt: skip


@torch.inference_mode()
def full(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    """The oracle: logits [N, V] of a forward pass without any cache."""
    return model(torch.tensor([tokens])).logits[0]


def edited(tokens: list[int], rng: random.Random) -> list[int]:
    """Some pieces replaced, inserted, taken out or moved elsewhere."""
    found = list(tokens)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(found))
        size = rng.randint(0, 6)
        piece = found[start : start + size]
        new = [rng.randrange(50) for _ in range(rng.randint(0, 6))]
        found[start : start + size] = new
        if rng.random() < 0.3:
            at = rng.randrange(len(found) + 1)
            found[at:at] = piece
    return (found or [1])[:120]


@torch.inference_mode()
def first_layer(model: PreTrainedModel, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The oracle's keys and values [1, H, N, D] of the first layer."""
    cache: Any = model(torch.tensor([tokens]), use_cache=True).cache
    return cache.layers[0].keys, cache.layers[0].values


def held(cache: EditableCache, layer: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The cache's keys and values of a layer, by position."""
    found: Any = cache.kv.layers[layer]
    order = torch.from_numpy(cache.ledger.order)
    return found.keys[:, :, order], found.values[:, :, order]


@pytest.mark.parametrize("seed", range(8))
def test_one_layer_is_exact_after_any_edits(seed: int) -> None:
    """Keys and values of a first layer do not depend on the context, so PIE is exact there."""
    model = llama(layers=1)
    rng = random.Random(seed)
    cache = EditableCache(model, policy=TIGHT)
    tokens = [rng.randrange(50) for _ in range(40)]
    for _ in range(25):
        cache.update(tokens)
        torch.testing.assert_close(cache.logits, full(model, tokens)[-1], rtol=1e-4, atol=1e-4)
        assert cache.token_ids == tokens
        tokens = edited(tokens, rng)


@pytest.mark.parametrize("seed", range(8))
def test_what_counts_as_exact_is_exact(seed: int) -> None:
    model = llama()
    rng = random.Random(seed)
    policy = EditPolicy(min_span=3, tail=2, sink=1, chunk=7, keep_removed=200)
    cache = EditableCache(model, policy=policy)
    history = [[rng.randrange(50) for _ in range(30)]]
    exact = 0
    for step in range(30):
        report = cache.update(history[-1])
        assert report.reused + report.encoded == len(history[-1])
        difference = (cache.logits - full(model, history[-1])[-1]).abs().max()
        if report.exact:
            exact += 1
            assert difference < 1e-3
        history.append(history[-2] if step % 2 else edited(history[-1], rng))
    assert exact >= 15  # the first one and where each edit was undone


def test_recompute_makes_exact_and_goes_on_where_it_was_stopped() -> None:
    model = llama()
    cache = EditableCache(model, policy=TIGHT)
    tokens = [i % 50 for i in range(60)]
    cache.update(tokens)
    changed = [*tokens[:10], 3, 1, 4, *tokens[10:]]
    assert not cache.update(changed).exact
    before = cache.ledger.stale
    answers = iter([False, False, True])
    assert not cache.recompute(stop=lambda: next(answers))
    assert 0 < cache.ledger.stale < before
    assert cache.recompute()
    assert cache.exact and cache.ledger.stale == 0
    torch.testing.assert_close(cache.logits, full(model, changed)[-1], rtol=1e-4, atol=1e-4)


def test_decoding_behind_the_context_leaves_it_alone() -> None:
    model = llama()
    cache = EditableCache(model)
    tokens = [i % 50 for i in range(60)]
    cache.update(tokens)
    logits = cache.logits.clone()
    added = cache.extend([7, 8, 9])
    torch.testing.assert_close(added, full(model, [*tokens, 7, 8, 9])[-3:], rtol=1e-4, atol=1e-4)
    cache.truncate(len(tokens) + 1)
    torch.testing.assert_close(cache.logits, added[0], rtol=1e-4, atol=1e-4)
    cache.truncate(len(tokens))
    assert torch.equal(cache.logits, logits)
    assert cache.update([*tokens, 7, 8, 9]).encoded == 0  # it was typed as suggested


def test_an_update_that_is_stopped_leaves_a_valid_shorter_sequence() -> None:
    model = llama()
    cache = EditableCache(model, policy=TIGHT)
    tokens = [i % 50 for i in range(60)]
    answers = iter([False, False, True])
    report = cache.update(tokens, stop=lambda: next(answers))
    assert not report.complete
    assert cache.token_ids == tokens[:14]
    assert cache.update(tokens).encoded == 46
    torch.testing.assert_close(cache.logits, full(model, tokens)[-1], rtol=1e-4, atol=1e-4)


def test_typing_behind_an_edit_encodes_what_was_typed_only() -> None:
    cache = EditableCache(llama(), policy=EditPolicy(tail=16))
    tokens = [i % 50 for i in range(100)]
    cache.update(tokens)
    changed = [*tokens[:10], 3, *tokens[10:]]
    assert cache.update(changed).encoded == 17
    assert cache.update([*changed, 5]).encoded == 1


def test_keys_do_not_drift() -> None:
    """Edits move the end of a text again and again; its bfloat16 keys stay one rounding away."""
    model: Any = llama(layers=1).bfloat16()
    cache = EditableCache(model, policy=TIGHT)
    tokens = [i % 50 for i in range(60)]
    rng = random.Random(0)
    starts = [[7] * rng.randint(1, 40) for _ in range(200)]
    for start in starts:
        cache.update([*start, *tokens])
    wanted = first_layer(model, [*starts[-1], *tokens])[0][:, :, -50:-1].float()
    error = (held(cache)[0][:, :, -50:-1].float() - wanted).norm() / wanted.norm()
    # What turning the turned keys each time would have come to.
    (rotation,) = find_rotations(model)
    assert rotation is not None
    turned = first_layer(model, [*starts[0], *tokens])[0][:, :, -50:-1]
    for before, after in pairwise(starts):
        shift = torch.tensor([len(after) - len(before)])
        turned = rotation.turn(turned, *rotation.turns(shift))
    drifted = (turned.float() - wanted).norm() / wanted.norm()
    assert error < 0.006 < 3 * error < drifted


def test_logits_after_a_recompute_are_the_new_ones() -> None:
    """Also where decoding went on behind the context before."""
    model = llama()
    tokens = [i % 50 for i in range(60)]
    changed = [*tokens[:10], 3, 1, 4, *tokens[10:]]
    wanted = full(model, changed)[-1]
    for behind in (False, True):
        cache = EditableCache(model, policy=TIGHT)
        cache.update(tokens)
        cache.update(changed)
        approximate = cache.logits.clone()
        cache.extend([5])
        if not behind:
            cache.truncate(len(changed))
        assert not cache.recompute(stop=lambda: True)
        cache.recompute()
        if not behind:
            cache.extend([5])
        cache.truncate(len(changed))
        torch.testing.assert_close(cache.logits, wanted, rtol=1e-4, atol=1e-4)
        assert (approximate - wanted).abs().max() > 1e-3


def test_doubt() -> None:
    cache = EditableCache(llama(), policy=EditPolicy(min_span=2, tail=0, sink=0, doubt=0.5))
    tokens = [i % 50 for i in range(60)]
    cache.update(tokens)
    near = torch.tensor([[0.0, 5.0, 1.0], [3.0, 3.2, 0.0]])
    assert not cache.in_doubt(near)  # exact
    cache.update([*tokens[:10], 3, 1, 4, *tokens[10:]])
    assert cache.in_doubt(near) and cache.in_doubt(near[1])
    assert not cache.in_doubt(near[0])


@pytest.mark.parametrize("place", ["while keys are turned", "in the model"])
def test_an_error_leaves_a_valid_cache(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    model = llama()
    cache = EditableCache(model, policy=TIGHT)
    tokens = [i % 50 for i in range(60)]
    cache.update(tokens)
    last: Any = cache.kv.layers[2]
    with monkeypatch.context() as patch:
        if place == "in the model":
            patch.setattr(model.model.layers[1], "forward", None)
        else:
            patch.setattr(last, "move", None)  # two layers are done when it fails
        with pytest.raises(TypeError):
            cache.update([*tokens[:10], 3, 1, 4, *tokens[15:]])
    assert cache.token_ids == tokens[:10]
    report = cache.update(tokens)
    assert report.exact and report.encoded < 60
    torch.testing.assert_close(cache.logits, full(model, tokens)[-1], rtol=1e-4, atol=1e-4)


def test_memory_is_bounded_while_a_text_is_edited_again_and_again() -> None:
    cache = EditableCache(llama(), policy=EditPolicy(min_span=4, keep_removed=64))
    rng = random.Random(0)
    tokens = [rng.randrange(50) for _ in range(100)]
    cache.update(tokens)
    sizes = []
    for _ in range(200):
        tokens = edited(tokens, rng)
        cache.update(tokens)
        sizes.append(cache.nbytes)
    assert max(sizes[100:]) <= 1.5 * sizes[99]
    assert cache.kv.capacity <= 512
