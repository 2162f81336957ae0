"""The vllm back-end: without vLLM, on an engine that is a plain loop; and in a real vLLM.

The oracle of both is the transformers back-end. The real runs take the Python that
CODEGEN_VLLM_PYTHON names, or this one if it has vLLM; tests/generation/in_vllm.py is what they
run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from codegen.core.errors import ConfigError, ModelError
from codegen.core.generation import CAPABILITIES, request_seed
from codegen.core.records import Sample
from codegen.decoding.rpg import METHODS
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.decoders import READERS, STRATEGIES, find_decoder, supported
from codegen.generation.transformers import TransformersBackend
from codegen.generation.vllm import (
    Adapter,
    EngineOutput,
    EngineRequest,
    VllmBackend,
    VllmEngine,
    import_vllm,
)
from codegen.models import ModelCard, fingerprint_of, load, write_card
from tests.processes import run

ROOT = Path(__file__).parents[2]
NEW = 14
DRAFTS = ("suffix", "edit")
ORIGINAL = "def f(x):\n    return x + 1\n"
REQUESTS = [
    Request("def f(x):\n", problem_id="plain"),
    Request("retu", problem_id="healed"),
    Request("if a:\n    ", problem_id="indent", index=1),
    Request("x = sel", problem_id="not healed", heal=False),
    Request("add two numbers", problem_id="chat", chat=True),
    Request("", problem_id="empty"),
    Request("class A:\n", problem_id="edits", original=ORIGINAL),
]


class PlainEngine(VllmEngine):
    """What vLLM does, by a loop over whole prefixes; of drafts, it accepts some each step."""

    device, dtype = "cpu", "float32"

    v2 = False

    def __init__(self, place: str, *, requires: str, **settings: Any) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        self.holds = 512
        self.drafts, self.settings = requires == "drafts", settings
        self.running: dict[str, tuple[list[int], int, EngineRequest]] = {}
        self.turns: list[EngineRequest] = []
        self.steps = 0
        self.closed = False

    def add(self, name: str, prompt: Sequence[int], turn: EngineRequest) -> None:
        assert name not in self.running and not self.closed
        self.turns.append(turn)
        self.running[name] = (list(prompt), turn.max_tokens, turn)

    @torch.inference_mode()
    def step(self) -> list[EngineOutput]:
        self.steps += 1
        made = []
        for name, (tokens, left, turn) in list(self.running.items()):
            new: list[int] = []
            for _ in range(1 + self.steps % 3 if self.drafts else 1):
                logits = self.model(torch.tensor([tokens + new])).logits[0, -1]
                if turn.allowed is not None:
                    mask = torch.full_like(logits, -torch.inf)
                    mask[list(turn.allowed)] = 0
                    logits = logits + mask
                new.append(int(logits.argmax()))
                if new[-1] in turn.ends or len(new) == left:
                    break
            ended = new[-1] in turn.ends or len(new) == left
            self.running[name] = (tokens + new, left - len(new), turn)
            made.append(EngineOutput(name, new, ended))
            if ended:
                del self.running[name]
        return made

    def abort(self, names: Sequence[str]) -> None:
        for name in names:
            self.running.pop(name, None)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def adapter_dir(vllm_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model that changes what it writes."""
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(vllm_model_dir, dtype=torch.float32)
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    model = get_peft_model(
        base, LoraConfig(r=12, lora_alpha=24, target_modules=targets, task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    write_card(
        folder,
        ModelCard(base=str(vllm_model_dir), base_fingerprint=fingerprint_of(str(vllm_model_dir))),
    )
    return folder


@pytest.fixture(scope="module")
def hf(vllm_model_dir: Path) -> TransformersBackend:
    return TransformersBackend(load(str(vllm_model_dir), dtype=torch.float32, device="cpu"))


def made(
    generator: TransformersBackend | VllmBackend,
    requests: Sequence[Request] = REQUESTS,
    decoder: Decoder | None = None,
    **params: Any,
) -> list[Sample]:
    """Samples in the order of the requests, without what only one of the back-ends says."""
    settings = SamplingParams(**{"max_new_tokens": NEW, **params})
    found = [comparable(s) for s in samples(generator, requests, settings, decoder or Decoder())]
    order = [(r.problem_id, r.index) for r in requests]
    return sorted(found, key=lambda sample: order.index((sample.problem_id, sample.index)))


def comparable(sample: Sample) -> Sample:
    settings = {key: value for key, value in sample.settings.items() if key != "backend"}
    meta = {key: value for key, value in sample.meta.items() if key != "passes"}
    return dataclasses.replace(sample, settings=settings, meta=meta)


def stops_of(found: Sequence[Sample]) -> tuple[str, ...]:
    return tuple({sample.completion[4:6] for sample in found if len(sample.completion) > 12})


@pytest.mark.parametrize(
    ("name", "plain"),
    [("sample", "sample"), ("edit_sequence", "edit_sequence"), ("suffix", "sample"),
     ("edit", "sample")],
)  # fmt: skip
def test_records_are_those_of_the_transformers_back_end(
    vllm_model_dir: Path, hf: TransformersBackend, name: str, plain: str
) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    expected = [
        dataclasses.replace(sample, settings={**sample.settings, "decoder": name})
        for sample in made(hf, decoder=Decoder(plain))
    ]
    assert made(ours, decoder=Decoder(name)) == expected
    engine: Any = ours.engine("drafts" if name in DRAFTS else "")
    assert engine.drafts == (name in DRAFTS)
    given = [turn.extra_args for turn in engine.turns]
    assert ({"original": ORIGINAL} in given) == (name == "edit")
    assert any(turn.allowed is not None for turn in engine.turns)


@pytest.mark.parametrize("name", ["sample", "suffix"])
def test_stop_strings_end_a_request_and_vllm_is_told(
    vllm_model_dir: Path, hf: TransformersBackend, name: str
) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    stops = stops_of(made(hf))
    assert len(stops) > 2
    requests = [dataclasses.replace(request, stop=stops) for request in REQUESTS]
    expected = made(hf, requests)
    assert {sample.finish_reason for sample in expected} >= {"stop"}
    found = made(ours, requests, Decoder(name))
    for one, other in zip(found, expected, strict=True):
        assert dataclasses.replace(one, settings={}) == dataclasses.replace(other, settings={})
    assert not ours.engine("drafts" if name == "suffix" else "").running  # type: ignore[attr-defined]


def test_text_is_streamed_and_samples_come_as_they_end(vllm_model_dir: Path) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    streamed = [""] * len(REQUESTS)

    def on_text(number: int, piece: str) -> None:
        streamed[number] += piece

    params = SamplingParams(max_new_tokens=NEW)
    requests = [dataclasses.replace(request, stop=("e",)) for request in REQUESTS]
    made = list(samples(ours, iter(requests), params, Decoder(), on_text))
    ids = [request.problem_id for request in requests]
    for sample in made:
        assert streamed[ids.index(sample.problem_id)] == sample.completion
    lengths = [sample.completion_tokens for sample in made]
    assert [sample.problem_id for sample in made] != ids or lengths == sorted(lengths)


def test_who_stops_listening_leaves_nothing_running(vllm_model_dir: Path) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    requests = [dataclasses.replace(REQUESTS[0], index=0, stop=("e", " ", "\n")), *REQUESTS[1:]]
    iterator = samples(ours, requests, SamplingParams(max_new_tokens=NEW), Decoder())
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    engine: Any = ours.engine()
    assert not engine.running
    assert len(made(ours)) == len(REQUESTS)


def test_what_is_asked_of_vllm(vllm_model_dir: Path) -> None:
    ours = VllmBackend(
        str(vllm_model_dir), batch_size=3, options={"max_model_len": 99}, start=PlainEngine
    )
    made(ours, decoder=Decoder("rpg+edit_sequence", {"mode": "paper"}), temperature=0.7, top_p=0.9)
    engine: Any = ours.engine()
    assert engine.settings == {
        "adapter": None, "batch_size": 3, "options": {"max_model_len": 99}
    }  # fmt: skip
    healed = [turn for turn in engine.turns if turn.allowed is not None]
    assert healed and all(turn.max_tokens == 1 for turn in healed)
    for turn in engine.turns:
        assert turn.extra_args == {"rpg": {"mode": "paper"}}
        assert (turn.temperature, turn.top_p) == (0.7, 0.9)
        assert set(turn.ends) == ours.eos
    # A seed is its request's own, whatever else there is, and no two parts have the same.
    seeds = [turn.seed for turn in engine.turns]
    first = request_seed(0, REQUESTS[0])
    assert len(set(seeds)) == len(seeds)
    assert {(first + i) % 2**63 for i in range(3)} & set(seeds)
    made(ours)
    assert all(turn.seed is None for turn in engine.turns[len(seeds) :])


def test_drafts_need_another_engine(vllm_model_dir: Path) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    plain: Any = ours.engine()
    assert ours.engine() is plain
    assert ours.engine("logits") is plain
    drafting: Any = ours.engine("drafts")
    assert plain.closed and drafting.drafts and not drafting.closed
    ours.close()
    assert drafting.closed


def test_ends_and_parameters_are_those_of_the_loaded_model(
    vllm_model_dir: Path, hf: TransformersBackend
) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    assert ours.eos == hf.eos
    fingerprint = hf.loaded.fingerprint
    assert ours.identity(Decoder())["model_fingerprint"] == fingerprint
    assert ours.parameters == sum(p.numel() for p in hf.loaded.model.parameters())


def test_every_decoder_is_done_or_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        find_decoder(Decoder("none"))
    known = caught.value.remedy.rpartition("are: ")[2].rstrip(".").split(", ")
    done = {"sample", "edit_sequence", "grammar", *METHODS, *DRAFTS}
    assert set(known) == {*READERS, *STRATEGIES} > done
    for name in known:
        options = {"draft": "somewhere"} if name in {"rsd", "sorted"} else {}
        options |= {"gbnf": 'root ::= "a"'} if name == "grammar" else {}
        if name in done:
            assert supported(Decoder(name, options), VllmBackend)
        else:
            with pytest.raises(ConfigError, match="--backend transformers") as refused:
                supported(Decoder(name, options), VllmBackend)
            required = CAPABILITIES[STRATEGIES[name].requires]
            assert required in refused.value.message and "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="superposed"):
        supported(Decoder("edit_sequence+superposed"), VllmBackend)


def test_drafts_are_for_greedy_decoding(vllm_model_dir: Path) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    with pytest.raises(ConfigError, match="seed"):
        made(ours, decoder=Decoder("suffix"), temperature=0.8)


def test_models_and_prompts_that_vllm_does_not_take(vllm_model_dir: Path, tmp_path: Path) -> None:
    ours = VllmBackend(str(vllm_model_dir), start=PlainEngine)
    with pytest.raises(ModelError, match=r"long: .* vLLM's limit is 512") as caught:
        made(ours, [Request("x = 1\n" * 400, problem_id="long")])
    assert "max_model_len" in caught.value.remedy
    config = json.loads((vllm_model_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "insertion_lm"}))
    with pytest.raises(ModelError, match="in any order"):
        VllmBackend(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="peft_type"):
        VllmBackend(str(tmp_path))
    with pytest.raises(ModelError, match="no model directory"):
        VllmBackend("./absent")


@pytest.mark.parametrize(
    ("settings", "extra", "reason"),
    [
        ({"alpha_pattern": {"q_proj": 4}}, {}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, {}, "init_lora_weights"),
        ({"peft_type": "LOHA"}, {}, "LOHA"),
        ({"r": 4096}, {}, "rank 4096"),
        ({}, {"base_model.model.model.embed_tokens.weight": torch.ones(2, 2)}, "embed_tokens"),
    ],
)
def test_adapters_that_hold_more_than_vllm_applies(
    adapter_dir: Path, tmp_path: Path, settings: Any, extra: Any, reason: str
) -> None:
    shutil.copytree(adapter_dir, tmp_path / "other")
    config = tmp_path / "other" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    weights = tmp_path / "other" / "adapter_model.safetensors"
    save_file({**load_file(weights), **extra}, weights)
    with pytest.raises(ModelError, match=reason) as caught:
        VllmBackend(str(tmp_path / "other"), start=PlainEngine)
    assert "\n" not in str(caught.value) and "--backend transformers" in caught.value.remedy


def test_an_adapter_is_put_on_its_base(
    vllm_model_dir: Path, adapter_dir: Path, tmp_path: Path
) -> None:
    ours = VllmBackend(str(adapter_dir), start=PlainEngine)
    engine: Any = ours.engine()
    assert ours.place == str(vllm_model_dir)
    assert engine.settings["adapter"] == Adapter(str(adapter_dir), 12)
    assert ours.identity(Decoder())["model_fingerprint"] == fingerprint_of(str(adapter_dir))
    assert fingerprint_of(str(adapter_dir)) != fingerprint_of(str(vllm_model_dir))
    shutil.copytree(adapter_dir, tmp_path / "moved")
    write_card(tmp_path / "moved", ModelCard(base=str(vllm_model_dir), base_fingerprint="other"))
    with pytest.raises(ModelError, match="not the one it was trained on"):
        VllmBackend(str(tmp_path / "moved"))
    write_card(tmp_path / "moved", ModelCard(base=str(adapter_dir)))
    with pytest.raises(ModelError, match="one adapter"):
        VllmBackend(str(tmp_path / "moved"))
    (tmp_path / "moved" / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="does not load"):
        VllmBackend(str(tmp_path / "moved"))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_extra_is_named() -> None:
    with pytest.raises(ModelError, match=r"codegen-toolkit\[vllm\]"):
        import_vllm()


def in_vllm(
    python: str, folder: Path, cases: Sequence[Mapping[str, Any]], **options: Any
) -> list[list[Any]]:
    """What the back-end makes in a Python with vLLM, case by case, in the order it was made."""
    program = [python, Path(__file__).with_name("in_vllm.py"), folder]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = run(
        *program,
        json.dumps({"dtype": "float32", "max_model_len": 512, **options}),
        input=json.dumps(cases),
        env={**settings, "PYTHONPATH": str(ROOT)},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("SAMPLES ")]
    assert len(lines) == len(cases), done.stderr[-3000:]
    return [json.loads(line[8:]) for line in lines]


def case(
    requests: Sequence[Request], name: str = "sample", options: Any = None, **params: Any
) -> dict[str, Any]:
    return {
        "decoder": name,
        "options": options or {},
        "params": {"max_new_tokens": NEW, **params},
        "requests": [dataclasses.asdict(request) for request in requests],
    }


_PARSED = """
import json, sys
from vllm.engine.arg_utils import EngineArgs
from codegen.generation.vllm import _drafting
for given in json.load(sys.stdin):
    settings = _drafting("", {"speculative_config": given})
    config = EngineArgs(
        model=sys.argv[1], dtype="float32", max_model_len=256, **settings
    ).create_engine_config()
    drafts = config.speculative_config
    unlike = config._get_v2_model_runner_unsupported_features()
    print("PARSED", json.dumps([drafts.method, drafts.num_speculative_tokens, unlike]))
"""


@pytest.mark.slow
def test_real_vllm_gives_what_the_hf_back_end_gives(
    vllm_python: str, vllm_model_dir: Path, hf: TransformersBackend
) -> None:
    """Greedy, in float32: with drafts and without, with rules, stop strings and healed prompts."""
    stops = stops_of(made(hf))
    long = [dataclasses.replace(request, stop=stops[:1]) for request in REQUESTS]
    loops = [Request("x = f(1)\n" * 6, problem_id=f"loop {i}", index=i) for i in range(3)]
    size = {"max_new_tokens": 60}
    asked: list[tuple[str, Sequence[Request], dict[str, Any], dict[str, Any]]] = [
        ("sample", REQUESTS, {}, {}),
        ("sample", long, {}, size),
        ("rpg", loops, {"mode": "paper"}, size),
        ("no_repeat_ngram", REQUESTS, {"size": 2}, size),
        ("suffix", [*long, *loops], {}, size),
        ("edit", [*REQUESTS, *loops], {}, size),
    ]
    cases = [case(requests, name, options, **more) for name, requests, options, more in asked]
    seeded = [dataclasses.replace(REQUESTS[0], index=i) for i in range(4)]
    hot = {"temperature": 2.0, "top_p": 0.95, **size}
    cases += [
        case(seeded, **hot),
        case([*loops, *seeded[::-1]], **hot),
        case(seeded, temperature=50),
    ]
    *answers, refused = in_vllm(vllm_python, vllm_model_dir, cases)
    assert "vLLM rejected the request: temperature must be" in refused[0]
    *greedy, one, other = [[Sample(**row) for row in rows] for rows in answers]
    changed = 0
    for (name, requests, options, more), done in zip(asked, greedy, strict=True):
        drafting = name in DRAFTS
        expected = made(hf, requests, Decoder("sample" if drafting else name, options), **more)
        found = {(sample.problem_id, sample.index): sample for sample in done}
        for sample in expected:
            ours = found[sample.problem_id, sample.index]
            assert ours.settings["backend"] == "vllm"
            assert dataclasses.replace(comparable(ours), settings={}) == dataclasses.replace(
                sample, settings={}
            )
        changed += expected != made(hf, requests, **more)
        if drafting:
            tokens = sum(sample.completion_tokens for sample in done)
            assert tokens > 1.3 * sum(sample.meta["passes"] for sample in done)
    assert changed == 2  # the rules
    # Sampled: each has its own seed, in whatever order and company.
    texts = {sample.index: sample.completion for sample in one}
    assert len(set(texts.values())) == len(seeded)
    assert texts == {s.index: s.completion for s in other if s.problem_id == "plain"}
