"""Loss in chunks, adapters and optimizers: the same numbers with less memory; and the plan."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from codegen.core.config import parse_config
from codegen.core.errors import ConfigError
from codegen.finetune import parse_recipe
from codegen.finetune.batches import MicroBatch, collate
from codegen.finetune.encode import EncodedExample, causal, from_stack
from codegen.finetune.lifecycle import train
from codegen.finetune.losses import (
    FlatActions,
    OwnSamples,
    negative_log_likelihood,
    next_values,
    penalty_of,
    sequence_match,
    terms,
)
from codegen.finetune.recipe import SequenceMatch
from codegen.finetune.trainable import load_model
from codegen.methods.backspace import Trajectory, stack_layout
from codegen.methods.backspace.actions import demonstrator_labels
from codegen.models import load
from tests.llamas import small_llama


def batch_of(rows: int, length: int, vocabulary: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for row in range(rows):
        ids = torch.randint(vocabulary, (length - row,), generator=generator).tolist()
        slots = list(range(3 + row, len(ids) - 1))
        targets = [ids[slot + 1] for slot in slots]
        then = [slot + 1 for slot in slots]
        examples.append(EncodedExample(str(row), ids, slots, targets, then, causal(len(ids))))
    return collate(examples, [((row,),) for row in range(rows)], 0)


class Counts(torch.overrides.TorchFunctionMode):
    """The largest number of rows that are projected at once, backward included."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight, self.largest, self.calls = weight, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear and args[1] is self.weight:
            self.largest = max(self.largest, args[0].numel() // args[0].shape[-1])
            self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tied", [True, False])
def test_chunks_give_the_plain_loss_and_gradients(tied: bool) -> None:
    model = small_llama(
        vocab_size=3000, hidden_size=32, initializer_range=0.02, tie_word_embeddings=tied
    ).double()
    batch, found = batch_of(3, 60, 3000), {}
    for logits_mb in (0, 1):
        model.zero_grad()
        with Counts(model.lm_head.weight) as counts:
            losses = negative_log_likelihood(model, batch, logits_mb)
            (losses * torch.linspace(0, 1, len(losses))).sum().backward()
        assert counts.largest <= (87 if logits_mb else 1 << 30)  # 1 MB of float32 logits
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found[logits_mb] = [losses.detach(), *gradients]
    assert counts.calls == 2  # chunks
    assert len(found[0]) == len(found[1])
    for plain, chunked in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-6, atol=1e-9)


def test_a_model_that_scales_its_logits_is_run_as_usual() -> None:
    class Scaled(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output: Any = super().forward(*args, **kwargs)
            output.logits = output.logits * 0.5
            return output

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3000, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    model, batch = Scaled(config), batch_of(2, 60, 3000)
    plain = negative_log_likelihood(model, batch)
    for _ in range(2):
        torch.testing.assert_close(negative_log_likelihood(model, batch, 1), plain)


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    rows = [{"prompt": f"Add {n}.", "completion": f"x = {n}\n"} for n in range(8)]
    return recipe_of(rows, steps=12, batch_size=8, micro_batch_size=8)


def run(row: dict[str, Any], **changes: Any) -> Any:
    return train(parse_recipe({**row, **changes}))


def test_a_bfloat16_base_learns_as_a_float32_one(row: dict[str, Any], tmp_path: Path) -> None:
    whole = run(row, output=str(tmp_path / "whole"))
    narrow = run(row, dtype="bfloat16")
    differences = [
        abs(a - b) / b for (_, a), (_, b) in zip(narrow.losses, whole.losses, strict=True)
    ]
    assert 0 < max(differences) < 0.05
    adapter = load(narrow.model, dtype=torch.float32)  # the adapter itself is in float32
    assert adapter.model.dtype == torch.float32
    merged = run(row, dtype="bfloat16", merge=True, output=str(tmp_path / "merged"))
    both = [load(result.model, dtype=torch.float32).model for result in (narrow, merged)]
    for (name, one), (_, other) in zip(*(m.named_parameters() for m in both), strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01, msg=name)


def test_dora_learns_and_loads(row: dict[str, Any], tmp_path: Path) -> None:
    plain = run(row, output=str(tmp_path / "plain"))
    result = run(row, lora={"dora": True})
    assert result.losses[0] == plain.losses[0] and result.losses[-1] != plain.losses[-1]
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]
    load(result.model, dtype=torch.float32)
    assert json.loads(Path(result.model, "adapter_config.json").read_text())["use_dora"]


@pytest.mark.parametrize(
    ("change", "package"),
    [({"optimizer": "adamw_8bit"}, "bitsandbytes"), ({"method": "qlora"}, "bitsandbytes")],
)
def test_packages_that_are_not_installed_are_named(
    row: dict[str, Any], change: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.finetune.lifecycle.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs {package}.*pip install {package}"):
        run(row, **change)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"optimizer": "adamw_8bit"}, {"method": "qlora"}])
def test_few_bits_learn(row: dict[str, Any], change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    plain = run(row, output=str(tmp_path / "plain"))
    result = run(row, **change)
    assert result.losses[0][1] == pytest.approx(plain.losses[0][1], rel=0.2)
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]


@pytest.mark.slow
def test_evaluation_takes_no_gradients_from_few_bits(row: dict[str, Any]) -> None:
    """A pass in evaluation mode changes neither the weights' layout nor the gradients."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    loaded = load_model(row["model"], method="qlora", dtype="float32", decoder="sample")
    model = loaded.model
    ids = torch.arange(8)[None]
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()

    def gradients() -> torch.Tensor:
        loss = model.train()(inputs_embeds=embeddings).logits.square().sum()
        return torch.autograd.grad(loss, embeddings)[0]

    before = gradients()
    assert before.any()
    with torch.no_grad():
        model.eval()(ids)
    assert torch.equal(gradients(), before)


BKSPC, EOS = 699, 2


def random_actions(lengths: list[int], ended: list[bool], seed: int) -> FlatActions:
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    logits = torch.randn(total, 7, generator=generator, dtype=torch.float64)
    value = logits.logsumexp(-1)
    # Where no noise was executed, the state that is reached is the one chosen in next.
    final = torch.randn(len(lengths), generator=generator, dtype=torch.float64)
    then, start = [], 0
    for number, length in enumerate(lengths):
        then += [*value[start + 1 : start + length], final[number]]
        start += length
    return FlatActions(
        chosen=logits[:, 3],
        value=value,
        then=torch.stack(then),
        time=torch.cat([torch.arange(n) for n in lengths]),
        trajectory=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        ends=torch.cat(
            [torch.arange(n) == (n - 1 if e else n) for n, e in zip(lengths, ended, strict=True)]
        ),
    )


def long_form(actions: FlatActions, settings: SequenceMatch, *, on_data: bool) -> torch.Tensor:
    """-J of each trajectory as the paper has it: [R]. Slow and plain, the oracle of ``terms``.

    The value term is summed over the steps; for a trajectory that is cut off it ends at its last
    state, V(s_0) - gamma^N V(s_N). On model trajectories (``on_data`` false) there is the mixture's
    quadratic term alone.
    """
    gamma, losses = settings.gamma, []
    then = next_values(actions, settings)
    for number in range(int(actions.trajectory.max()) + 1):
        loss = actions.value.new_zeros(())
        for t in (actions.trajectory == number).nonzero()[:, 0].tolist():
            weight = gamma ** int(actions.time[t])
            x = actions.chosen[t] - gamma * then[t]
            loss = loss - weight * (x - penalty_of(x, settings)) if on_data else loss
            loss = loss + (0 if on_data else weight * penalty_of(x, settings))
            if on_data:
                loss = loss + weight * (actions.value[t] - gamma * then[t])
            if actions.ends[t]:
                after = gamma ** (int(actions.time[t]) + 1)
                x = (1 - gamma) * then[t]
                if on_data:
                    loss = (
                        loss - after / (1 - gamma) * (x - penalty_of(x, settings)) + after * then[t]
                    )
                else:
                    loss = loss + after / (1 - gamma) * penalty_of(x, settings)
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize("divergence", ["chi2_mixture", "chi2", "kl"])
@pytest.mark.parametrize("terminal", ["eos", "zero"])
@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5])
def test_simplified_equals_the_long_form(divergence: Any, terminal: Any, alpha: float) -> None:
    settings = SequenceMatch(alpha=alpha, gamma=0.95, divergence=divergence, terminal=terminal)
    for seed in range(5):
        actions = random_actions([1, 9, 30, 4], [True, True, False, True], seed)
        likelihood, penalty = terms(actions, settings)
        for on_data in (True, False):
            summed = torch.zeros(4, dtype=torch.float64)
            summed.index_add_(0, actions.trajectory, (likelihood if on_data else 0) + penalty)
            long = long_form(actions, settings, on_data=on_data)
            assert (summed - long).abs().max() < 1e-10
        assert bool((penalty >= 0).all())


# A world of two tokens and strings of length 4: every state and action can be written down.
TARGETS: dict[tuple[int, ...], float] = {
    (0, 0, 0, 0): 0.4,
    (0, 1, 0, 1): 0.3,
    (1, 0, 0, 1): 0.2,
    (1, 1, 1, 0): 0.1,
}
LENGTH, BACK, END = 4, 2, 3  # actions: token 0, token 1, backspace, EOS
GAMMA = 0.95
STATES: list[tuple[int, ...]] = [
    s for n in range(LENGTH + 1) for s in itertools.product((0, 1), repeat=n)
]
INDEX = {state: number for number, state in enumerate(STATES)}


def legal() -> torch.Tensor:
    """bool [states, actions]."""
    table = torch.zeros(len(STATES), 4, dtype=torch.bool)
    for state, row in INDEX.items():
        table[row, :2] = len(state) < LENGTH
        table[row, BACK] = len(state) > 0
        table[row, END] = len(state) == LENGTH
    return table


def following(state: tuple[int, ...], action: int) -> tuple[int, ...] | None:
    if action == END:
        return None
    return state[:-1] if action == BACK else (*state, action)


def trajectories(eta: float, count: int, seed: int) -> list[list[tuple[int, int, int | None]]]:
    """Lists of (state, right action, state reached): with probability eta a wrong token first."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.multinomial(
        torch.tensor(list(TARGETS.values())), count, replacement=True, generator=generator
    )
    found = []
    for number in draw.tolist():
        target = list(TARGETS)[number]
        steps: list[tuple[int, int, int | None]] = []
        for at in range(LENGTH):
            here, right = INDEX[target[:at]], target[at]
            if torch.rand((), generator=generator) < eta:
                wrong = INDEX[(*target[:at], 1 - right)]
                steps += [(here, right, wrong), (wrong, BACK, here)]
            steps.append((here, right, INDEX[target[: at + 1]]))
        steps.append((INDEX[target], END, None))
        found.append(steps)
    return found


def flat(logits: torch.Tensor, paths: list[list[tuple[int, int, int | None]]]) -> FlatActions:
    values = logits.logsumexp(-1)
    rows = [(s, a, -1 if n is None else n, t, k, n is None)
            for k, path in enumerate(paths) for t, (s, a, n) in enumerate(path)]  # fmt: skip
    state, action, reached, time, path, ends = map(torch.tensor, zip(*rows, strict=True))
    then = values[reached].where(~ends, torch.zeros(()))
    return FlatActions(logits[state, action], values[state], then, time, path, ends)


def rollouts(
    logits: torch.Tensor, count: int, generator: torch.Generator
) -> list[list[tuple[int, int, int | None]]]:
    policy = logits.detach().softmax(-1)
    found = []
    for _ in range(count):
        state: tuple[int, ...] | None = ()
        path: list[tuple[int, int, int | None]] = []
        while state is not None and len(path) < 40:
            row = INDEX[state]
            action = int(torch.multinomial(policy[row], 1, generator=generator))
            state = following(state, action)
            path.append((row, action, None if state is None else INDEX[state]))
        found.append(path)
    return found


def in_support_after_a_wrong_token(logits: torch.Tensor, seed: int) -> float:
    """How often the final string is a target when the string begins with "1 1 0", which none is."""
    generator = torch.Generator().manual_seed(seed)
    policy = logits.detach().softmax(-1)
    good = 0
    for _ in range(600):
        state: tuple[int, ...] = (1, 1, 0)
        for _ in range(60):
            action = int(torch.multinomial(policy[INDEX[state]], 1, generator=generator))
            reached = following(state, action)
            if reached is None:
                good += state in TARGETS
                break
            state = reached
    return good / 600


def trained(settings: SequenceMatch | None, eta: float, steps: int = 400) -> torch.Tensor:
    """Logits of the tabular policy after Adam on sampled trajectories."""
    mask = legal()
    table = torch.zeros(len(STATES), 4, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.05)
    generator = torch.Generator().manual_seed(7)
    buffer: list[list[list[tuple[int, int, int | None]]]] = []
    for step in range(steps):
        logits = table.masked_fill(~mask, -1e30)
        data = flat(logits, trajectories(eta, 16, step))
        if settings is None:
            loss = (data.value - data.chosen).sum() / 16
        else:
            likelihood, penalty = terms(data, settings)
            loss = (likelihood + penalty).sum() / 16
            if step % 10 == 0:
                buffer = [*buffer, rollouts(logits, 16, generator)][-8:]
            own = flat(logits, buffer[step % len(buffer)])
            loss = loss + terms(own, settings)[1].sum() / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return table.detach().masked_fill(~mask, -1e30)


@pytest.mark.long
def test_a_small_world_learns_to_take_errors_back() -> None:
    """Demonstrations of backspaces matter most; without them only the penalty on own trajectories
    teaches any, as in the specification's figures (0.29 for likelihood, 0.81 at alpha 0.1, 0.998
    with demonstrations).
    """
    likelihood = in_support_after_a_wrong_token(trained(None, 0.0), 1)
    matched = in_support_after_a_wrong_token(
        trained(SequenceMatch(alpha=0.1, gamma=GAMMA, terminal="zero"), 0.0), 1
    )
    shown = in_support_after_a_wrong_token(trained(None, 0.05), 1)
    both = in_support_after_a_wrong_token(
        trained(SequenceMatch(alpha=0.01, gamma=GAMMA, terminal="zero"), 0.05), 1
    )
    assert likelihood < 0.5
    assert matched > likelihood + 0.2
    assert shown > 0.9 and both > 0.9


def encoded(prompt: list[int], actions: list[int]) -> EncodedExample:
    raw = Trajectory((*prompt, *actions), (0,) * (len(prompt) + len(actions)), len(prompt), BKSPC)
    trajectory = Trajectory(
        raw.actions, tuple(demonstrator_labels(raw)), raw.prompt_tokens, raw.bkspc
    )
    stack = stack_layout(trajectory)
    return EncodedExample(
        "e", list(stack.tokens), list(stack.nodes[:-1]), list(stack.labels),
        list(stack.nodes[1:]), from_stack(stack),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64).eval()


def test_own_samples_may_be_as_long_as_the_longest_example(model: Any) -> None:
    """A sample that never meets an end has as many actions as the longest example, by default."""
    examples = [encoded([4, 5], [7, EOS]), encoded([4], [*range(7, 10)] * 60 + [EOS])]
    for limit, expected in ((0, 181), (5, 5)):
        given = {"samples": 2, "sample_every": 1, "max_new_tokens": limit}
        settings = parse_config(SequenceMatch, given, "test")
        own = OwnSamples(settings, examples, frozenset(), None, seed=0)
        own.refresh(model, 0)
        assert [len(sample.targets) for sample in own.draw(0, 2)] == [expected, expected]


def test_one_pass_equals_state_by_state(model: Any) -> None:
    """On a real model: each state run by itself, the backspace masked where nothing is left."""
    examples = [
        encoded([4, 5, 6], [7, 8, BKSPC, BKSPC, 9, 10, EOS]),
        encoded([11], [12, BKSPC, 13, 14, BKSPC, 15, EOS]),
        encoded([3, 4], [5, EOS]),
    ]
    settings = SequenceMatch(alpha=0.3, gamma=0.9)
    rows = [((0, 1),), ((2,),)]
    batch = collate(examples, rows, pad=EOS, successors=True)
    likelihood, penalty = sequence_match(model, batch, settings, BKSPC)
    flat_rows = []
    with torch.inference_mode():
        for number, example in enumerate(examples):
            prompt = example.ids[: example.nodes[0] + 1]
            stack, states = list(prompt), [list(prompt)]
            for slot, then in zip(example.nodes, example.then, strict=True):
                if then > slot and example.layout.positions[then] > example.layout.positions[slot]:
                    stack.append(example.ids[then])
                else:
                    stack.pop()
                states.append(list(stack))
            values, chosen = [], []
            for state, target in itertools.zip_longest(states, example.targets):
                logits = model(torch.tensor([state])).logits[0, -1].clone()
                if len(state) == len(prompt):
                    logits[BKSPC] = -torch.inf
                values.append(logits.float().logsumexp(-1))
                if target is not None:
                    chosen.append(logits[target].float())
            for t, logit in enumerate(chosen):
                ends = t == len(chosen) - 1
                flat_rows.append((logit, values[t], values[t + 1], t, number, ends))
    columns = list(zip(*flat_rows, strict=True))
    plain = FlatActions(
        *(torch.stack(column) for column in columns[:3]),
        *(torch.tensor(column) for column in columns[3:]),
    )
    for ours, theirs in zip((likelihood, penalty), terms(plain, settings), strict=True):
        assert (ours - theirs).abs().max() < 2e-4  # values are float32, of size 10
    # Without penalty and discount, it is maximum likelihood but for the masked backspace.
    plain_loss = negative_log_likelihood(model, batch)
    matched, _ = sequence_match(model, batch, SequenceMatch(alpha=0.0, gamma=1.0), None)
    assert (matched - plain_loss).abs().max() < 1e-5
