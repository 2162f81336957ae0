"""The rules in transformers' generate, in our loop, in vLLM, and as decoders."""

from __future__ import annotations

import enum
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from codegen.decoding.healing import Vocabulary
from codegen.decoding.loop import Row, decode
from codegen.decoding.rpg import METHODS, read_options
from codegen.decoding.rpg.methods import Method, Penalized, PenaltyProcessor
from codegen.decoding.rpg.rules import apply, push_all
from codegen.decoding.rpg.vllm_processors import RequestPenalties, VllmPenalties, requested
from codegen.errors import ConfigError
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.decoders import find_decoder
from codegen.generation.transformers import TransformersBackend
from codegen.models import load

LOOP = "x = f(1)\n"
PROMPTS = [LOOP * 6, "def f(a):\n", "if a:\n    pass\n" * 5, "y = [" + "0, " * 12]
# Strong enough to change what a random model says.
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("rpg", {"strength": 6, "cap": 40, "bonus": 0}),
    ("rpg", {"mode": "paper", "decay": 0.3}),
    ("rpg", {"mode": "reference", "decay": 0.3}),
    ("repetition_penalty", {"penalty": 2.0}),
    ("no_repeat_ngram", {"size": 2}),
    ("dry", {"multiplier": 4, "allowed": 1}),
]
NEW = 40


@pytest.fixture(scope="module")
def looping_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its layers turned down: it says a token, or a few, again and again."""
    folder = tmp_path_factory.mktemp("looping")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.02
        layer.mlp.down_proj.weight.data *= 0.02
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(looping_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(looping_dir, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(looping_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(looping_dir, padding_side="left")


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


# --- decoders ------------------------------------------------------------------------------------


def test_decoders_take_options_and_can_be_joined(looping_dir: Path) -> None:
    generator = TransformersBackend(
        load(str(looping_dir), dtype=torch.float32, device="cpu"), batch_size=2
    )
    requests = [Request(prompt, problem_id=str(i)) for i, prompt in enumerate(PROMPTS)]
    params = SamplingParams(max_new_tokens=30)

    def texts(name: str, **options: Any) -> list[str]:
        return [s.completion for s in samples(generator, requests, params, Decoder(name, options))]

    free = texts("sample")
    assert texts("rpg", strength=0, bonus=0) == free
    assert texts("no_repeat_ngram", size="2") == texts("sample+no_repeat_ngram", size=2) != free
    sample = next(samples(generator, requests, params, Decoder("dry", {"allowed": 1})))
    assert sample.settings["decoder"] == "dry"
    assert sample.settings["decoder_options"] == {"allowed": 1}
    joined = next(samples(generator, requests, params, Decoder("edit_sequence+rpg")))
    assert joined.actions and "edits" in joined.meta


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (Decoder("rgp"), "Did you mean 'rpg'"),
        (Decoder("rpg+dry"), "joins two strategies"),
        (Decoder("rpg+rpg"), "joins two strategies"),
        (Decoder("sample+edit_sequence"), "joins two readers"),
        (Decoder("sample", {"mode": "paper"}), "takes no option 'mode'"),
        (Decoder("rpg", {"mood": "paper"}), "Did you mean 'mode'"),
        (Decoder(""), "Unknown decoder ''"),
    ],
)
def test_wrong_decoders_are_named(decoder: Decoder, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_decoder(decoder)
    assert message in str(caught.value)


# --- vLLM ----------------------------------------------------------------------------------------


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
                penalties[index] = list(rule.penalties())  # type: ignore[assignment]
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


_IN_V2 = """
import json, sys
import numpy as np, torch
from types import SimpleNamespace
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext, LogitsProcessor, build_custom_logits_processors,
    build_custom_logits_processors_params_validator)
from vllm.v1.worker.gpu import buffer_utils
from vllm.v1.worker.gpu.states import RequestState
if not torch.accelerator.is_available():
    buffer_utils.is_uva_available = lambda: False  # vLLM's own way without pinned memory
name = "codegen.decoding.rpg.vllm_processors:VllmPenalties"
cpu = torch.device("cpu")
states = RequestState(4, 400, 512, 8, int(sys.argv[2]), cpu, use_dense_all_token_ids=True)
config = SimpleNamespace(model_config=SimpleNamespace(tokenizer=sys.argv[1], hf_config=None))
(processor,) = build_custom_logits_processors(config, states, False, [name])
assert isinstance(processor, LogitsProcessor)
validate = build_custom_logits_processors_params_validator([name])
try:
    validate(SamplingParams(extra_args={"rpg": {"k_min": 0}}))
except VLLMValidationError as error:
    assert "k_min" in str(error)
else:
    raise SystemExit("wrong options were taken")
answers = []
for joined, texts, order, rows in json.load(sys.stdin):
    for slot, text in texts.items():
        states.all_token_ids.gpu[int(slot), : len(text)] = torch.tensor(text)
    for slot, extra in joined:
        params = SamplingParams(extra_args=extra)
        validate(params)
        processor.add_request(slot, params)
    processor.apply_staged_writes()
    slots, positions, tokens, offsets = (torch.tensor(column) for column in zip(*rows))
    context = LogitsContext(
        expanded_idx_mapping=slots.int(), idx_mapping=torch.tensor(order).int(),
        idx_mapping_np=np.array(order), expanded_local_pos=offsets.int(), input_ids=tokens.int(),
        pos=positions, seq_lens_upper_bound_np=np.array([400] * len(order)))
    found = processor.apply(torch.ones(len(rows), int(sys.argv[2])), context)
    places = (found != 1).nonzero()
    answers.append([places.tolist(), found[places[:, 0], places[:, 1]].tolist()])
print("OUTPUT", json.dumps(answers))
"""


@pytest.mark.slow
def test_runner_v2_with_vllms_own_classes(
    looping_dir: Path, tokenizer: Any, vllm_python: str
) -> None:
    """vLLM loads the processor, and its own request state, parameters and context are used."""
    rounds = list(v2_rounds(tokenizer))
    asked = [[one.joined, one.texts, one.order, one.rows] for one in rounds]
    done = subprocess.run(
        [vllm_python, "-c", _IN_V2, str(looping_dir), str(len(tokenizer))],
        input=json.dumps(asked), capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    line = next((one for one in done.stdout.splitlines() if one.startswith("OUTPUT")), None)
    if "No module named 'vllm.v1.worker.gpu.sample" in done.stderr:
        pytest.skip("this vLLM has no processors for its model runner V2")
    assert line, done.stderr[-3000:]
    for one, (places, values) in zip(rounds, json.loads(line.removeprefix("OUTPUT")), strict=True):
        found = torch.ones_like(one.expected)
        for (row, column), value in zip(places, values, strict=True):
            found[row, column] = value
        assert torch.equal(found, one.expected)


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


def test_vllm_callable_for_one_request(tokenizer: Any) -> None:
    method = made(tokenizer, "rpg", {"mode": "paper"})
    penalties = RequestPenalties(method)
    link = tokenizer(LOOP).input_ids
    for prompt, output in [
        (link * 2, []),
        (link * 2, link),
        (link * 2, link[:1]),
        (link, link * 3),
    ]:
        logits = penalties(prompt, output, torch.ones(len(tokenizer)))
        rule = method.rule()
        push_all(rule, prompt + output)
        expected = torch.ones(1, len(tokenizer))
        apply(expected, [rule.penalties()])
        assert torch.equal(logits, expected[0])


_IN_VLLM = """
import json, sys
from vllm import LLM, SamplingParams
folder, prompts, asked = sys.argv[1], *map(json.loads, sys.argv[2:4])
llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=256,
          logits_processors=["codegen.decoding.rpg.vllm_processors:VllmPenalties"])
greedy = {"temperature": 0, "max_tokens": int(sys.argv[4])}
params = [SamplingParams(**greedy, extra_args=one) for one in asked]
outputs = llm.generate(prompts, params)
print("OUTPUT", json.dumps([list(one.outputs[0].token_ids) for one in outputs]))
"""


@pytest.mark.slow
def test_real_vllm_says_what_generate_says(
    tmp_path: Path, tiny_model_dir: Path, vllm_python: str
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        initializer_range=0.3, eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
    )).eval()  # fmt: skip
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.02
        layer.mlp.down_proj.weight.data *= 0.02
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    asked = [None, *({name: options} for name, options in SETTINGS)]
    prompts = [LOOP * (1 + i) for i in range(len(asked))]
    done = subprocess.run(
        [vllm_python, "-c", _IN_VLLM, str(tmp_path), json.dumps(prompts), json.dumps(asked),
         str(NEW)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
             "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    line = next((one for one in done.stdout.splitlines() if one.startswith("OUTPUT")), None)
    assert line, done.stderr[-2000:]
    free_differs = 0
    for prompt, one, tokens in zip(prompts, asked, json.loads(line[6:]), strict=True):
        batch = tokenizer(prompt, return_tensors="pt")
        processors = [PenaltyProcessor.of(tokenizer, name, **o) for name, o in (one or {}).items()]
        runs = [
            model.generate(**batch, max_new_tokens=NEW, do_sample=False,
                           logits_processor=LogitsProcessorList(some))[0].tolist()
            for some in (processors, [])
        ]  # fmt: skip
        start = batch.input_ids.shape[1]
        assert tokens == runs[0][start:]
        free_differs += runs[0] != runs[1]
    assert free_differs >= len(METHODS)


def test_the_modules_need_no_vllm() -> None:
    code = "import sys, codegen.decoding.rpg.vllm_processors; assert 'vllm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
