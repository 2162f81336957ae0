"""GRPO with a reward from the sandbox in one flat script: copy it and change what you need.

    python recipes/grpo_loop.py
    python recipes/grpo_loop.py steps=200 group=32 learning_rate=5e-4

A Llama with 0.8M parameters is first trained briefly on texts in which half of the answers are
correct: it learns the form, but rarely writes the requested program. Then it learns only from its
own samples: each step samples a group of programs for each of some problems, runs their tests in
the sandbox, and raises the likelihood of programs with more reward than their group's mean (GRPO,
arXiv 2402.03300; tokens weighted as in DAPO, arXiv 2503.14476), without value network, reference
model or trainer. `objective: grpo` (recipes/grpo.yaml) does the same on TRL, for real models, with
checkpoints, records and a report.

Expect: the rate of correct samples rises from 6.9% (95% interval 4.9 to 9.5) to 13.5% (10.8 to
16.9) of 480 samples; measured with seed 0 and torch 2.13 on a CPU.
"""

from __future__ import annotations

import operator
import random
import re
import time
from typing import Any

import torch
from pydantic import Field
from transformers import LlamaConfig, LlamaForCausalLM

from codegen.core.config import Config, run_script
from codegen.evals.statistics import wilson
from codegen.rewards import SandboxReward

END, PAD = 0, 1
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv}
WORDS = {"add": "+", "subtract": "-", "times": "*", "divide by": "//"}
HEAD = "def f(x):\n    return x "
PIECES = ["<end>", "<pad>", "\n", "# ", " ", "x", HEAD, *WORDS, *SIGNS, *"0123456789"]
NUMBER = {piece: number for number, piece in enumerate(PIECES)}
PATTERN = re.compile("|".join(map(re.escape, sorted(PIECES, key=len, reverse=True))))


class Settings(Config):
    """Settings, set by key=value on the command line."""

    first_steps: int = Field(300, ge=1, description="steps on texts, half of them correct")
    steps: int = Field(60, ge=0, description="steps of GRPO")
    problems: int = Field(8, ge=1, description="problems per step of GRPO")
    group: int = Field(16, ge=2, description="samples per problem")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of GRPO (2e-3 on texts)")
    clip: float = Field(0.2, gt=0, description="PPO clip range")
    updates: int = Field(2, ge=1, description="updates per step, on the same samples")
    samples: int = Field(20, ge=1, description="samples per problem for evaluation")
    seed: int = Field(0, ge=0, description="random seed of weights, texts and samples")


def encode(texts: list[str]) -> torch.Tensor:
    """Encodes strings as ids [B, S], padded on the left."""
    rows = [[NUMBER[piece] for piece in PATTERN.findall(text)] for text in texts]
    width = max(map(len, rows))
    return torch.tensor([[PAD] * (width - len(row)) + row for row in rows])


def decode(row: torch.Tensor) -> str:
    """Decodes ids [S] up to the end token."""
    ids = row.tolist()
    return "".join(PIECES[i] for i in (ids[: ids.index(END)] if END in ids else ids))


def log_probs(model: Any, ids: torch.Tensor, start: int) -> torch.Tensor:
    """Returns log-probabilities [B, S - start] of the tokens of ids [B, S] from ``start`` on."""
    mask = (ids != PAD).long()
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=places).logits
    chosen = ids[:, start:, None]
    return logits[:, start - 1 : -1].log_softmax(-1).gather(2, chosen).squeeze(2)


@torch.no_grad()
def draw(model: Any, prompts: list[str], count: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Samples at temperature 1: ids [B * count, S], the mask of the completions' tokens
    [B * count, C], and the position where completions start.
    """
    given = encode(prompts)
    ids = model.generate(
        given, attention_mask=(given != PAD).long(), do_sample=True, num_return_sequences=count,
        max_new_tokens=8, eos_token_id=END, pad_token_id=PAD, top_k=0,
    )  # fmt: skip
    start = given.shape[1]
    return ids, ids[:, start:] != PAD, start


def main(settings: Settings) -> dict[str, float]:
    """Trains; returns the rates of correct samples before and after GRPO."""
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)

    # 24 problems, each with a prompt, the correct program, and tests.
    pairs = [(word, k) for word in WORDS for k in range(2, 8)]
    prompts = [f"# {word} {k}\n" for word, k in pairs]
    programs = [f"{HEAD}{WORDS[word]} {k}\n" for word, k in pairs]
    tests = [
        "\n".join(f"assert f({x}) == {SIGNS[WORDS[word]](x, k)}" for x in (-7, 0, 5, 23))
        for word, k in pairs
    ]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(PIECES), hidden_size=128, intermediate_size=512, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=32,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=END, pad_token_id=PAD,
        )
    )  # fmt: skip

    # First texts: the correct program after half of the prompts, a random one after the others.
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, settings.first_steps)
    for _ in range(settings.first_steps):
        texts = []
        for number in rng.choices(range(len(pairs)), k=64):
            texts.append(prompts[number])
            texts[-1] += programs[number] if rng.random() < 0.5 else rng.choice(programs)
        ids = torch.cat([encode(texts), torch.full((len(texts), 1), END)], 1)
        loss = -log_probs(model, ids, 1)[ids[:, 1:] != PAD].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    # Reward: 1 if all tests pass, None if a sandbox failed. Tests and program run in separate
    # processes, both in sandboxes.
    reward = SandboxReward({"passed": 1.0}, cpu_s=1.0)

    def rewards_of(numbers: list[int], ids: torch.Tensor, start: int) -> list[float | None]:
        return reward(
            prompts=[prompts[number] for number in numbers],
            completions=[decode(row[start:]) for row in ids],
            tests=[tests[number] for number in numbers],
        )

    def measure() -> float:
        ids, _, start = draw(model, prompts, settings.samples)
        numbers = [number for number in range(len(pairs)) for _ in range(settings.samples)]
        found = [value for value in rewards_of(numbers, ids, start) if value is not None]
        share = sum(found) / len(found)
        low, high = wilson(share, len(found))
        print(f"right: {share:.1%} of {len(found)} samples ({low:.1%} to {high:.1%})", flush=True)
        return share

    result = {"before": measure()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    for step in range(settings.steps):
        started = time.perf_counter()
        chosen = rng.choices(range(len(pairs)), k=settings.problems)
        ids, mask, start = draw(model, [prompts[number] for number in chosen], settings.group)
        numbers = [number for number in chosen for _ in range(settings.group)]

        # Advantages [B]: rewards against the mean of the problem's group, in units of its
        # deviation. Samples without a reward count neither for nor against.
        values = [float("nan") if r is None else r for r in rewards_of(numbers, ids, start)]
        groups = torch.tensor(values).view(settings.problems, settings.group)
        mean = groups.nanmean(1, keepdim=True)
        deviation = ((groups - mean) ** 2).nanmean(1, keepdim=True).sqrt()
        advantages = ((groups - mean) / (deviation + 1e-4)).nan_to_num(0.0).view(-1, 1)

        # Updates: raise the probability of tokens with a positive advantage, but not beyond
        # 1 + clip times its value at sampling (PPO, arXiv 1707.06347).
        with torch.no_grad():
            old = log_probs(model, ids, start)
        for _ in range(settings.updates):
            ratio = (log_probs(model, ids, start) - old).exp()
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            gain = torch.minimum(ratio * advantages, clipped * advantages)
            loss = -gain[mask].mean()  # over all tokens of the step
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if step % 10 == 9:
            seconds = time.perf_counter() - started
            print(
                f"step {step + 1} reward {groups.nanmean():.3f} seconds {seconds:.2f}", flush=True
            )
    result["after"] = measure()
    reward.close()
    return result


if __name__ == "__main__":
    run_script(Settings, main, "grpo_loop")
