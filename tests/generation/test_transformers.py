"""The transformers back-end on a small random model: seeds, batching, stops, decoders, errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from codegen.core.errors import ConfigError, ModelError
from codegen.core.generation import request_seed
from codegen.core.records import Sample
from codegen.decoding.long_context import LMInfinite
from codegen.decoding.loop import Row, decode
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.transformers import TransformersBackend
from codegen.methods.backspace import with_backspace
from codegen.models import LoadedModel, load


@pytest.fixture(scope="module")
def loaded(tiny_model_dir: Path) -> LoadedModel:
    return load(str(tiny_model_dir), dtype=torch.float32, device="cpu")


def run(
    loaded: LoadedModel, requests: Sequence[Request], batch_size: int = 8, **params: object
) -> list[Sample]:
    settings = SamplingParams(**{"max_new_tokens": 12, "temperature": 1.0, **params})  # type: ignore[arg-type]
    return list(samples(TransformersBackend(loaded, batch_size), requests, settings, Decoder()))


REQUESTS = [
    Request(prompt, problem_id=f"p{i}", index=k, task="t")
    for i, prompt in enumerate(["def f(x):\n", "import", "class A:\n    def g(self):\n        "])
    for k in range(3)
]


def test_samples_do_not_depend_on_batching_or_order(loaded: LoadedModel) -> None:
    together = {(s.problem_id, s.index): s for s in run(loaded, REQUESTS)}
    alone = {(s.problem_id, s.index): s for s in run(loaded, REQUESTS[::-1], batch_size=1)}
    assert together == alone
    assert len({s.completion for s in together.values()}) == len(REQUESTS)


@pytest.mark.parametrize("prefill", ["", "Sure:\n```python\n"])
def test_greedy_equals_transformers_generate(loaded: LoadedModel, prefill: str) -> None:
    prompt = "return isinstance(value, str)"
    request = Request(prompt, chat=True, prefill=prefill)
    sample = run(loaded, [request], temperature=0.0)[0]
    turns = [{"role": "user", "content": prompt}]
    if prefill:
        turns.append({"role": "assistant", "content": prefill})
    # transformers strips the turn's end, so the text is taken up to the prefill.
    text = loaded.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=not prefill
    )
    text = text[: text.rindex(prefill) + len(prefill)]
    inputs = loaded.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    output = loaded.model.generate(**inputs, max_new_tokens=12, do_sample=False)  # type: ignore[operator]
    new = output[0, inputs["input_ids"].shape[1] :]
    assert sample.completion == loaded.tokenizer.decode(new, skip_special_tokens=True)
    assert sample.prompt_tokens == inputs["input_ids"].shape[1]


def test_stop_string_ends_a_sample_and_is_left_out(loaded: LoadedModel) -> None:
    free = run(loaded, REQUESTS, max_new_tokens=30)
    stops = tuple({s.completion[5:7] for s in free if len(s.completion) > 20})
    assert stops
    stopped = run(loaded, [_with_stop(r, stops) for r in REQUESTS], max_new_tokens=30)
    assert any(s.finish_reason == "stop" for s in stopped)
    for before, after in zip(free, stopped, strict=True):
        cuts = [before.completion.find(stop) for stop in stops if stop in before.completion]
        expected = before.completion[: min(cuts)] if cuts else before.completion
        assert after.completion == expected


def _with_stop(request: Request, stops: tuple[str, ...]) -> Request:
    return Request(
        request.prompt, stop=stops, task="t", problem_id=request.problem_id, index=request.index
    )


def test_streaming_gives_the_completion(loaded: LoadedModel) -> None:
    streamed = [""] * len(REQUESTS)

    def on_text(number: int, piece: str) -> None:
        streamed[number] += piece

    generator = TransformersBackend(loaded, batch_size=2)
    params = SamplingParams(max_new_tokens=12, temperature=1.0)
    made = list(samples(generator, REQUESTS, params, Decoder(), on_text))
    assert streamed == [sample.completion for sample in made]


def test_empty_and_long_prompts(loaded: LoadedModel) -> None:
    assert run(loaded, [Request("")])[0].completion_tokens > 0
    with pytest.raises(ModelError, match="is 512"):
        run(loaded, [Request("x = 1\n" * 400)])


def test_unknown_decoder_and_bad_parameters(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="edit_sequence"):
        list(
            samples(TransformersBackend(loaded), [Request("a")], SamplingParams(), Decoder("edits"))
        )
    with pytest.raises(ConfigError, match="top_p is 0"):
        SamplingParams(top_p=0)
    with pytest.raises(ConfigError, match="temperature is -1"):
        SamplingParams(temperature=-1)


@pytest.mark.parametrize("prompt", ["retu", "impor", "x = sel", "if a:\n    "])
def test_healing_neither_repeats_nor_loses_text_at_the_border(
    loaded: LoadedModel, prompt: str
) -> None:
    generator = TransformersBackend(loaded)
    healed = generator.vocabulary.heal(loaded.tokenizer(prompt).input_ids)
    assert healed.rest, "the border of this prompt must be one that a token can span"
    params = SamplingParams(max_new_tokens=8, temperature=1.0)
    request = Request(prompt, task="t")
    sample = next(samples(generator, [request], params, Decoder()))
    assert sample.prompt_tokens == len(healed.ids)

    assert _whole_text(generator, request, params) == prompt + sample.completion


def _whole_text(generator: TransformersBackend, request: Request, params: SamplingParams) -> str:
    """Prompt and completion of a request as one text, from the loop's tokens decoded at once."""
    tokenizer = generator.loaded.tokenizer
    healed = generator.vocabulary.heal(tokenizer(request.prompt).input_ids)
    philox = np.random.Philox(request_seed(params.seed, request))
    uniforms = np.random.Generator(philox).random(params.max_new_tokens).tolist()
    row = Row(healed.ids, uniforms, healed.rest)
    decode(
        generator.loaded.model,
        [row],
        max_new_tokens=params.max_new_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        eos=generator.eos,
        vocabulary=generator.vocabulary,
    )
    return tokenizer.decode(healed.ids + row.tokens, skip_special_tokens=True)


def test_the_end_of_a_turn_ends_a_sample(loaded: LoadedModel) -> None:
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    config, tokenizer = loaded.model.generation_config, loaded.tokenizer
    saved = config.eos_token_id, loaded.model.config.eos_token_id, tokenizer.eos_token
    try:
        config.eos_token_id = loaded.model.config.eos_token_id = 0
        tokenizer.eos_token = "<|endoftext|>"
        assert {0, end} <= TransformersBackend(loaded).eos
    finally:
        config.eos_token_id, loaded.model.config.eos_token_id, tokenizer.eos_token = saved


def test_a_prompt_too_long_names_its_problem(loaded: LoadedModel) -> None:
    long = Request("x = 1\n" * 400, problem_id="HumanEval/7")
    with pytest.raises(ModelError, match=r"^HumanEval/7: Prompt and completion"):
        run(loaded, [Request("a"), long])


def test_the_backspace_decoder_gives_what_stands(loaded: LoadedModel) -> None:
    decoder = Decoder("backspace")
    with pytest.raises(ModelError, match="no token <bkspc>"):
        next(samples(TransformersBackend(loaded), [Request("a")], SamplingParams(), decoder))
    tokenizer, token = with_backspace(loaded.tokenizer)
    model = copy.deepcopy(loaded.model)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = 0.0
        model.get_output_embeddings().bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
        model.get_output_embeddings().bias[token] = 9.0
    generator = TransformersBackend(dataclasses.replace(loaded, tokenizer=tokenizer, model=model))
    params = SamplingParams(max_new_tokens=40, temperature=1.0)
    pieces: list[str] = []
    (sample,) = samples(
        generator, [Request("def f")], params, decoder, lambda _, p: pieces.append(p)
    )
    assert sample.meta["actions"] == sample.completion_tokens == 40
    assert sample.actions.count("<bkspc>") == sample.meta["backspaces"] > 5
    assert "<bkspc>" not in sample.completion and "".join(pieces) == sample.completion
    with pytest.raises(ConfigError, match="two strategies"):
        next(samples(generator, [Request("a")], params, Decoder("backspace+rpg")))


@pytest.mark.parametrize("name", ["suffix", "edit", "edit_sequence+suffix"])
def test_drafts_do_not_change_a_sample(loaded: LoadedModel, name: str) -> None:
    text = "def f(x):\n    return x\n"
    requests = [
        Request(text * 3, problem_id=str(i), original=text * 2 if i else "") for i in range(3)
    ]
    reader = name.partition("+")[0] if "+" in name else "sample"
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_new_tokens=40, temperature=temperature)
        plain = list(samples(TransformersBackend(loaded), requests, params, Decoder(reader)))
        drafted = list(samples(TransformersBackend(loaded), requests, params, Decoder(name)))
        for one, other in zip(plain, drafted, strict=True):
            assert (one.completion, one.finish_reason) == (other.completion, other.finish_reason)
            assert 0 < other.meta["passes"] <= other.completion_tokens + 1
    with pytest.raises(ConfigError, match="two strategies"):
        next(samples(TransformersBackend(loaded), requests, params, Decoder("suffix+rpg")))


@pytest.mark.parametrize(
    "options", [{"branching": "2,2,1"}, {"branching": 3}, {"beam": "3x3"}, {}], ids=str
)
def test_rsd_gives_the_greedy_text(loaded: LoadedModel, options: dict[str, object]) -> None:
    params = SamplingParams(max_new_tokens=12)
    requests = [dataclasses.replace(request, heal=False) for request in REQUESTS]
    plain = list(samples(TransformersBackend(loaded), requests, params, Decoder()))
    decoder = Decoder("rsd", {"draft": loaded.name, **options})
    drafted = list(samples(TransformersBackend(loaded), requests, params, decoder))
    assert [s.completion for s in drafted] == [s.completion for s in plain]
    assert all(s.meta["passes"] <= -(-(s.completion_tokens + 1) // 2) for s in drafted)
    assert drafted[0].settings["decoder_options"]["draft"] == loaded.name


@pytest.mark.parametrize("shape", [{"branching": "3,1"}, {"beam": "3x2"}], ids=str)
def test_rsd_samples_do_not_depend_on_the_batch(loaded: LoadedModel, shape: dict[str, str]) -> None:
    params = SamplingParams(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=5)
    decoder = Decoder("rsd", {"draft": loaded.name, **shape})
    together = list(samples(TransformersBackend(loaded, 9), REQUESTS, params, decoder))
    alone = list(samples(TransformersBackend(loaded, 1), REQUESTS, params, decoder))
    assert [s.completion for s in together] == [s.completion for s in alone]
    assert len({s.completion for s in together}) > 3


def test_rsd_refuses_a_draft_with_other_tokens(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.add_tokens(["<new>"])
    other = dataclasses.replace(loaded, tokenizer=tokenizer)
    monkeypatch.setattr("codegen.generation.transformers.load", lambda *_, **__: other)
    with pytest.raises(ModelError, match="a different tokenizer"):
        list(
            samples(
                TransformersBackend(loaded),
                REQUESTS,
                SamplingParams(),
                Decoder("rsd", {"draft": "other"}),
            )
        )


def test_superposed_samples_of_a_prompt_come_together(loaded: LoadedModel, tmp_path: Path) -> None:
    params = SamplingParams(max_new_tokens=6)
    requests = [Request("import", index=i, heal=False) for i in range(3)]
    requests.append(Request("def f(x):\n", heal=False))
    found = list(samples(TransformersBackend(loaded), requests, params, Decoder("superposed")))
    assert len({sample.completion for sample in found[:3]}) > 1
    plain = list(samples(TransformersBackend(loaded), requests[3:], params, Decoder()))
    assert found[3].completion == plain[0].completion  # one draft is greedy decoding
    (tmp_path / "a.py").write_text("import os\nimport sys\n" * 20)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    options = {"code": str(tmp_path), "alpha": 0.9}
    guided = list(
        samples(TransformersBackend(loaded), requests, params, Decoder("superposed", options))
    )
    assert guided[0].completion != found[0].completion


def test_lm_infinite_goes_on_beyond_the_models_length(loaded: LoadedModel) -> None:
    """As in the loop; where nothing is far nothing changes; loops of their own refuse it."""
    params = SamplingParams(max_new_tokens=600)
    with pytest.raises(ModelError, match="is 512"):
        run(loaded, REQUESTS[:1], max_new_tokens=600)
    settings = LMInfinite(4, 64)
    generator = TransformersBackend(loaded, infinite=settings)
    generator.eos = frozenset()
    (sample,) = samples(generator, REQUESTS[:1], params, Decoder("suffix"))
    assert sample.completion_tokens == 600
    assert sample.meta["lm_infinite"] == {"n_global": 4, "n_local": 64}
    short = SamplingParams(max_new_tokens=12, temperature=1.0)
    near = list(
        samples(
            TransformersBackend(loaded, infinite=LMInfinite(4, 512)), REQUESTS, short, Decoder()
        )
    )
    assert [s.completion for s in near] == [s.completion for s in run(loaded, REQUESTS)]
    for name in ("rsd", "superposed"):
        options = {"draft": "d"} if name == "rsd" else {}
        with pytest.raises(ConfigError, match="with LM-Infinite does not support"):
            list(samples(generator, REQUESTS, params, Decoder(name, options)))


PROMPTS = [Request(prompt) for prompt in ("def f(x):\n", "import", "class A:\n    def g(self):\n")]


def written(source: Path, target: Path, **settings: object) -> str:
    """A copy of a model with other settings in its configuration."""
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return str(target)


@pytest.fixture(scope="module")
def drafting(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    target = tmp_path_factory.mktemp("sorted") / "model"
    name = written(tiny_model_dir, target, exit_layers=[2], exit_loss="sorted")
    return load(name, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [{}, {"exit_layers": [1, 2]}, {"exit_loss": "sorted"},
     {"exit_layers": [1, 2], "exit_loss": "mle"}],
    ids=str,
)  # fmt: skip
def test_a_draft_that_was_not_trained_as_one_is_refused(
    drafting: LoadedModel, tiny_model_dir: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    name = written(tiny_model_dir, tmp_path / "model", **settings)
    for options in ({}, {"exits": "1,2"}):
        decoder = Decoder("sorted", {"draft": name, **options})
        with pytest.raises(ModelError, match="not trained with the loss sorted") as error:
            list(samples(TransformersBackend(drafting), PROMPTS, SamplingParams(), decoder))
        assert "codegen finetune" in str(error.value.remedy)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(
    "options",
    [{"exits": "1,2", "thresholds": 0.2}, {"exits": [1], "tokens": 3}, {"least": 0.01}],
    ids=str,
)
def test_the_text_is_that_of_plain_decoding(
    drafting: LoadedModel, temperature: float, options: dict[str, object]
) -> None:
    params = SamplingParams(max_new_tokens=16, temperature=temperature)
    plain = list(samples(TransformersBackend(drafting), PROMPTS, params, Decoder()))
    decoder = Decoder("sorted", {"draft": drafting.name, **options})
    drafted = list(samples(TransformersBackend(drafting), PROMPTS, params, decoder))
    for one, other in zip(plain, drafted, strict=True):
        assert (one.completion, one.finish_reason) == (other.completion, other.finish_reason)
        assert 0 < other.meta["passes"] <= other.completion_tokens + 1
    if temperature == 0 and "least" in options:  # the draft is the target
        assert sum(s.meta["passes"] for s in drafted) < sum(s.completion_tokens for s in drafted)
