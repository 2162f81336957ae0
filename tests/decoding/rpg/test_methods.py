"""The rules in transformers' generate, in our loop, in vLLM, and as decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from codegen.decoding.healing import Vocabulary
from codegen.decoding.loop import Row, decode
from codegen.decoding.rpg import read_options
from codegen.decoding.rpg.methods import Method, Penalized, PenaltyProcessor
from codegen.decoding.rpg.penalties import apply, push_all

LOOP = "x = f(1)\n"
PROMPTS = [LOOP * 6, "def f(a):\n", "if a:\n    pass\n" * 5, "y = [" + "0, " * 12]
# Strong enough to change what a random model says.
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("rpg", {"strength": 6, "cap": 40, "bonus": 0}),
    ("rpg", {"mode": "paper", "decay": 0.3}),
    ("repetition_penalty", {"penalty": 2.0}),
    ("no_repeat_ngram", {"size": 2}),
    ("dry", {"multiplier": 4, "allowed": 1}),
]
NEW = 40


@pytest.fixture(scope="module")
def tokenizer(looping_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(looping_dir, padding_side="left")


@pytest.fixture(scope="module")
def model(looping_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(looping_dir, dtype=torch.float32).eval()


def made(tokenizer: Any, name: str, options: dict[str, Any]) -> Method:
    return Method.of(
        read_options(name, options), Vocabulary.of(tokenizer).tokens, {tokenizer.eos_token_id}
    )


@torch.inference_mode()
def plain(model: Any, method: Method | None, prompt: list[int], eos: int | None) -> list[int]:
    """One row, the whole prefix at every token, the rule made again each time."""
    tokens = list(prompt)
    for _ in range(NEW):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[:, -1].float()
        if method:
            rule = method.rule()
            push_all(rule, tokens)
            apply(logits, [rule.penalties()])
        token = int(logits.argmax())
        if token == eos:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=lambda value: str(value)[:30])
def test_generate_and_our_loop_do_what_the_plain_loop_does(
    model: Any, tokenizer: Any, name: str, options: dict[str, Any]
) -> None:
    method = made(tokenizer, name, options)
    eos = tokenizer.eos_token_id
    prompts = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    expected = [plain(model, method, prompt, eos) for prompt in prompts]
    assert expected != [plain(model, None, prompt, eos) for prompt in prompts]

    rows = [Row(prompt, [0.0] * NEW) for prompt in prompts]
    decode(
        model, rows, max_new_tokens=NEW, temperature=0, top_p=1, eos=frozenset({eos}),
        strategy=Penalized(method),
    )  # fmt: skip
    assert [row.tokens for row in rows] == expected

    processor = PenaltyProcessor.of(tokenizer, name, **options)
    for _ in range(2):  # a second call is another set of prompts to the processor
        batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
        assert (batch.input_ids[:, 0] == tokenizer.pad_token_id).any()
        output = model.generate(
            **batch, max_new_tokens=NEW, do_sample=False,
            logits_processor=LogitsProcessorList([processor]),
        )  # fmt: skip
        for row, tokens in zip(
            output[:, batch.input_ids.shape[1] :].tolist(), expected, strict=True
        ):
            assert row[: len(tokens)] == tokens
            assert set(row[len(tokens) :]) <= {eos, tokenizer.pad_token_id}


class Anew(PenaltyProcessor):
    """Keeps nothing between calls: what a processor with wrong states would differ from."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._states.clear()
        return super().__call__(input_ids, scores)


@pytest.mark.parametrize("how", [
    {"num_beams": 4}, {"num_beams": 3, "num_return_sequences": 3}, {"do_sample": True},
    {"prompt_lookup_num_tokens": 4},
])  # fmt: skip
def test_states_follow_beams_samples_and_rejected_drafts(
    model: Any, tokenizer: Any, how: dict[str, Any]
) -> None:
    batch = tokenizer(PROMPTS[:1], return_tensors="pt")
    outputs = []
    for kind in (PenaltyProcessor, Anew):
        torch.manual_seed(0)
        processor = kind.of(tokenizer, "rpg", strength=6, cap=40, bonus=0)
        output = model.generate(
            **batch, max_new_tokens=NEW, **{"do_sample": False, **how},
            logits_processor=LogitsProcessorList([processor]),
        )  # fmt: skip
        outputs.append(output.tolist())
    assert outputs[0] == outputs[1]
    torch.manual_seed(0)
    free = model.generate(**batch, max_new_tokens=NEW, **{"do_sample": False, **how})
    assert free.tolist() != outputs[0]


def test_scores_of_the_model_are_left_alone(tokenizer: Any) -> None:
    processor = PenaltyProcessor.of(tokenizer, "repetition_penalty", penalty=2)
    scores = torch.ones(1, len(tokenizer))
    assert not torch.equal(processor(torch.tensor([[5, 6]]), scores), scores)
    assert torch.equal(scores, torch.ones_like(scores))
