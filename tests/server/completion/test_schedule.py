"""Requests that run together: each gets what it would get alone, and none waits for the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.core.errors import CodegenError
from codegen.server.completion.schedule import Schedule

TEXT = Path(__file__).read_text()


@pytest.fixture(params=["plain", "full", "avx2", "avx512_bf16"])
def model(
    request: pytest.FixtureRequest, whole_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """With PyTorch's products, without a pass of its own, and with the compiled kernels."""
    import torch

    from codegen.kernels import cpu
    from codegen.models import load, quantization
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.requests import ServerLimits

    dtype = torch.bfloat16 if request.param == "avx512_bf16" else torch.float32
    compiled = request.param in ("avx2", "avx512_bf16")
    if compiled and dtype not in cpu.KERNELS:
        pytest.skip(f"no kernels {request.param} here")
    monkeypatch.setattr(cpu, "preferable", lambda _: compiled)
    monkeypatch.setattr(quantization, "MIN_WEIGHTS", 1)
    found = ServedModel(
        load(str(whole_model_dir), dtype=dtype),
        limits=ServerLimits(context_tokens=256),
        precision="full" if request.param == "full" else "auto",
    )
    assert (found.step is not None and found.step.quantized) == compiled
    return found


def test_a_model_that_loses_too_much_in_8_bits_keeps_its_own_weights(
    whole_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from codegen.kernels import cpu
    from codegen.models import load, quantization
    from codegen.server.completion.model_worker import ServedModel

    if torch.float32 not in cpu.KERNELS:
        pytest.skip("no kernels for float32 here")
    monkeypatch.setattr(cpu, "preferable", lambda _: True)
    monkeypatch.setattr(quantization, "MIN_WEIGHTS", 1)
    loaded = load(str(whole_model_dir), dtype=torch.float32)
    assert ServedModel(loaded).step.quantized  # type: ignore[union-attr]
    for layer in loaded.model.model.layers:  # an outlier in each row
        layer.input_layernorm.weight.data[0] *= 1e4
        for part in ("q_proj", "k_proj", "v_proj"):
            getattr(layer.self_attn, part).weight.data[:, 0] /= 1e4
    step = ServedModel(loaded).step
    assert step is not None and not step.quantized


def engine_of(model: Any) -> Any:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits

    return CompletionEngine(model, ServerLimits(context_tokens=256))


def requests(ask: Any) -> list[Any]:
    """Of more clients than run at the same time: short and long contexts, candidates, draws."""
    options: list[dict[str, Any]] = [
        {},
        {"max_tokens": 30},
        {"candidates": 3},
        {"temperature": 1.0, "seed": 3},
        {"multiline": "auto"},
    ]
    ends = (1, 30, 90, 133, 171, 300, 420, 555, 700, 801, 12, 64)
    return [
        ask(TEXT[:end], document=f"{end}", client=f"{end}", **options[number % len(options)])
        for number, end in enumerate(ends)
    ]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests had a pass, of each round."""
    from codegen.decoding.editing import EditableCache

    run, found = EditableCache.run_passes, []

    def watched(requests: Any) -> Any:
        found.append(len(requests))
        return run(requests)

    monkeypatch.setattr(EditableCache, "run_passes", staticmethod(watched))
    return found


def texts(answer: Any) -> list[str]:
    return [candidate.text for candidate in answer.candidates]


def test_each_client_gets_what_it_gets_alone(model: Any, ask: Any, sizes: list[int]) -> None:
    asked = requests(ask)

    def orders() -> Iterator[list[Any]]:
        """Three orders; the second and third time the documents are warm."""
        return (asked[number * 3 :] + asked[: number * 3] for number in range(3))

    async def alone() -> list[Any]:
        engine = engine_of(model)
        found = [
            {one.key: texts(await engine.complete(one)) for one in these} for these in orders()
        ]
        engine.stop()
        return found

    async def together() -> list[Any]:
        engine = engine_of(model)
        found = []
        for these in orders():
            answers = await asyncio.gather(*(engine.complete(one) for one in these))
            found.append({one.key: texts(a) for one, a in zip(these, answers, strict=True)})
        engine.stop()
        return found

    expected = asyncio.run(alone())
    passes = len(sizes)
    assert set(sizes) == {1}
    sizes.clear()
    assert asyncio.run(together()) == expected
    assert max(sizes) >= 8
    assert sum(sizes) >= passes
    assert len(sizes) < passes / 2


async def test_who_is_cancelled_or_fails_leaves_the_others_alone(
    model: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.decoding.editing import EditableCache

    run = EditableCache.run_passes
    # Contexts that each model encodes by the products that it decodes with.
    asked = [ask(TEXT[: 14 + 2 * n], document=f"{n}", max_tokens=24) for n in range(6)]
    broken: set[Any] = set()

    def watched(requests: Any) -> Any:
        if any(one.cache in broken for one in requests):
            raise ZeroDivisionError
        return run(requests)

    engine = engine_of(model)
    expected = [texts(await engine.complete(one)) for one in asked]
    engine.stop()
    monkeypatch.setattr(EditableCache, "run_passes", staticmethod(watched))
    engine = engine_of(model)
    for one in asked:  # so that the documents have caches
        await engine.complete(one)
    broken.add(engine.worker.caches.get(asked[2].key).cache)
    tasks = [asyncio.ensure_future(engine.complete(one)) for one in asked]
    await asyncio.sleep(0.002)
    tasks[4].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for number, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        if number == 2:
            assert isinstance(answer, CodegenError) and "ZeroDivisionError" in str(answer)
        elif number == 4:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert texts(answer) == wanted
    broken.clear()
    for number in (2, 4):  # both documents are as good as new
        assert texts(await engine.complete(asked[number])) == expected[number]
    engine.stop()


class Fake:
    """A job whose work takes passes of the given sizes."""

    def __init__(self, name: str, sizes: list[int]) -> None:
        self.name, self.cancel = name, threading.Event()
        self.sizes, self.ended = sizes, False
        self.request = SimpleNamespace(low_priority=False)

    def work(self) -> Iterator[Any]:
        try:
            for size in self.sizes:
                yield SimpleNamespace(size=size, keep=1, name=self.name, cache=None)
        finally:
            self.ended = True
        return self.name


def rounds(jobs: list[Fake], monkeypatch: pytest.MonkeyPatch, chunk: int = 64) -> list[list[str]]:
    """Who had a pass in each round."""
    from codegen.decoding.editing import EditableCache

    found: list[list[str]] = []

    def run(requests: Any) -> list[Any]:
        found.append([one.name for one in requests])
        return [object() for _ in requests]

    monkeypatch.setattr(EditableCache, "run_passes", staticmethod(run))
    schedule = Schedule(chunk)
    over = []
    for job in jobs:
        assert schedule.start(job, job.work()) is None  # type: ignore[arg-type]
    while len(schedule):
        over += schedule.round()
    assert {job.name: outcome for job, outcome in over} == {job.name: job.name for job in jobs}  # type: ignore[attr-defined]
    return found


def test_contexts_take_a_chunk_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits go before whole contexts, several in one round; whole contexts take turns."""
    jobs = [Fake("a", [64] * 4), Fake("b", [64] * 4), Fake("edit", [24]), Fake("paste", [40, 30])]
    found = rounds(jobs, monkeypatch)
    assert found[0] == ["edit", "paste"]
    assert found[1] == ["paste"]
    assert ["".join(names) for names in found[2:]] == ["a", "b"] * 4


def test_a_document_s_next_request_waits_for_the_one_that_runs(ask: Any) -> None:
    from codegen.server.completion.schedule import CompletionJob, JobQueue
    from codegen.server.metrics import Metrics

    queue, loop = JobQueue(8, Metrics(), together=8), asyncio.new_event_loop()

    def job(document: str, warm_up: bool = False) -> CompletionJob:
        return CompletionJob(
            ask("x", document=document), loop, loop.create_future(), warm_up=warm_up
        )

    def take() -> CompletionJob | None:
        return queue.take(lambda _: None, lambda: False)

    first, second, other, warm = job("a"), job("a"), job("b"), job("c", warm_up=True)
    queue.put(first)
    assert take() is first and take() is None
    queue.put(second)
    assert first.cancel.is_set() and take() is None
    queue.put(warm)
    queue.put(other)
    assert take() is other and take() is None  # nothing warms up beside what is wanted
    queue.done(first)
    assert take() is second and take() is None
    queue.done(second)
    queue.done(other)
    assert queue.idle is False and take() is warm
    queue.done(warm)
    assert queue.idle
    loop.close()
