"""Completion latency from keystroke to suggestion, through the editor server's engine.

A document is a standard library module with a window of ``context`` tokens. After each single edit
in it (a key at the cursor, a name changed above, an import inserted, a function deleted, a line
pasted, the cursor elsewhere) eight tokens are requested at the cursor. ``p50_ms`` and ``p95_ms``
are wall times from the edit to the first answer, ``p50_cpu_ms`` and ``p95_cpu_ms`` the answer's CPU
times, which equal the wall times on an idle machine. ``certain_...`` is the time to the certain
answer, which editors that accept only one answer receive; ``in_doubt_share`` is the fraction of
edits whose first answer was not certain. ``encoded_tokens`` is the mean number of tokens encoded
per edit, ``cache_hit_share`` the fraction of prompt tokens that were cached. ``cold_ms`` is the
median time of the first answer in a document, whose whole window is encoded.

``cancel_ms`` is the median time from canceling a request that is being decoded until the worker is
idle, ``cancel_passes`` the maximum number of forward passes begun after that.
``typed_as_suggested_ms`` is the 95th percentile of the answer time if the user types as suggested.

``..._avx2``: the same without AVX-512 (``ATEN_CPU_CAPABILITY=avx2``), in a separate process; not
for llama.cpp, which selects its instructions itself.

``engine`` names the inference engine: ``-o engine=auto`` is the engine that ``codegen serve`` uses
here, ``llamacpp`` runs the GGUF file, ``kernels`` our forward pass for few tokens, ``transformers``
only transformers, with the same cache. llama.cpp does not revise answers, so ``in_doubt_share`` is
0, its CPU times have a resolution of 10 ms, and its passes cannot be counted. Limit: excludes the
editor's own delay.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.benchmarks.tools.code_tokens import Code
from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.timing import tree_cpu_s
from codegen.core.errors import CodegenError, ConfigError, plural, require_known

if TYPE_CHECKING:
    from codegen.server.completion.engine import CompletionSource
    from codegen.server.completion.requests import ServerLimits

ENGINES = ("auto", "llamacpp", "kernels", "transformers")
_TOKENS = 8
_CANCELS = 8


@options(quick={"edits": 6, "documents": 1})
def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    engine: str = "auto",
    seed: int = 0,
    edits: int = 120,
    documents: int = 6,
    context: int = 1024,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: 6 edits in 1 document, without certain answers for AVX2.
        model: model name, directory, hub id or GGUF file.
        engine: the inference engine.
        seed: seed of modules, cursors and keys.
        edits: total number of edits.
        documents: number of modules.
        context: window length in tokens.
    """
    at_least(1, edits=edits, documents=documents)
    at_least(128, context=context)
    file = gguf_file(model, engine)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "xllamacpp")
    given = (model, file, engine == "transformers", seed, context, edits, documents)
    for key, (value, n) in _figures(*given, certain=True).items():
        report.set(key, value, n)
    if not file:
        for key, (value, n) in _as_avx2(report, *given, not quick).items():
            report.set(f"{key}_avx2", value, n)
    report.samples |= {"documents": documents, "context": context}
    report.notes.append("If the load is above zero, other programs may have slowed answers.")
    return report.mapping()


def _as_avx2(report: Report, *args: Any) -> dict[str, tuple[Any, int | None]]:
    """Returns results and sample sizes without AVX-512; the report's if the CPU lacks it."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if not capability.startswith("AVX512"):
        report.notes.append(f"PyTorch's CPU capability is {capability}; ..._avx2 are its results.")
        return {key: (value, report.samples.get(key)) for key, value in report.figures.items()}
    name = "ATEN_CPU_CAPABILITY"
    before = os.environ.get(name)
    os.environ[name] = "avx2"  # PyTorch reads this once, at import
    try:
        return fresh(_figures, *args)
    except CodegenError as error:
        report.notes.append(f"As AVX2: {error}")
        return dict.fromkeys(report.figures, (None, None))
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def gguf_file(model: str, engine: str) -> Path | None:
    """Returns the GGUF file for llama.cpp; None if another engine runs the model.

    Raises:
        ConfigError: if the engine is unknown or cannot run the model.
    """
    from codegen.generation import editor_backend
    from codegen.models.gguf import find_gguf, gguf_of
    from codegen.models.pretrained import MODELS

    require_known("engine", engine, ENGINES)
    has_file, has_weights = model in MODELS or find_gguf(model), not find_gguf(model)
    if not (has_file if engine == "llamacpp" else has_weights or engine == "auto"):
        what = "is not a GGUF file" if has_weights else "is a GGUF file"
        raise ConfigError(f"{model} {what}; {engine} cannot run it.", "Remove -o engine.")
    runs = engine == "llamacpp" or (engine == "auto" and editor_backend(model) == "llamacpp")
    return gguf_of(model) if runs else None


def _open(
    model: str, file: Path | None, plain: bool, limits: ServerLimits
) -> tuple[CompletionSource, str]:
    """Returns the model as the server opens it, and a description of its engine."""
    from codegen.kernels import cpu
    from codegen.models.llamacpp import idle_cores
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.upstream import LlamaUpstream

    if file:
        threads = idle_cores()
        source = LlamaUpstream.open(file, limits, threads=threads)
        types = ", ".join(name for name, _ in source.server.header.tensor_types.most_common())
        return source, f"llama.cpp, {plural(threads, 'thread')}, {types}"
    loaded = ServedModel.open(model, limits=limits, precision="full" if plain else "auto")
    dtype, step = loaded.model.dtype, loaded.step
    name = "transformers" if step is None else "our pass with PyTorch's products"
    if step is not None and step.bits:
        bits = " and ".join(map(str, step.bits))
        name = f"our pass with kernels {cpu.KERNELS[dtype]}, weights of {bits} bits"
    return loaded, f"{name}, {str(dtype).removeprefix('torch.')}"


def _figures(
    model: str, file: Path | None, plain: bool, seed: int, context: int, edits: int,
    documents: int, certain: bool,
) -> dict[str, tuple[Any, int | None]]:  # fmt: skip
    report, bench = Report(seed=seed), _Bench(model, file, plain, seed, context)
    report.set("engine", bench.runs)
    try:
        asyncio.run(_measure(bench, report, edits, documents, certain))
    finally:
        bench.engine.stop()
    return {key: (value, report.samples.get(key)) for key, value in report.figures.items()}


async def _measure(
    bench: _Bench, report: Report, edits: int, documents: int, certain: bool
) -> None:
    samples: list[_Sample] = []
    for number in range(documents):
        samples += await bench.edits(number, edits // documents, certain)
        say(f"document {number + 1} of {documents} done")
    wall, cpu = sorted(s.wall_ms for s in samples), sorted(s.cpu_ms for s in samples)
    for name, values in (("", wall), ("_cpu", cpu)):
        report.set(f"p50{name}_ms", _quantile(values, 0.5), len(values))
        report.set(f"p95{name}_ms", _quantile(values, 0.95), len(values))
    for unit in ("ms", "cpu_ms") if certain else ():
        times = sorted(getattr(s, f"certain_{unit}") for s in samples)
        report.set(f"certain_p50_{unit}", _quantile(times, 0.5), len(times))
        report.set(f"certain_p95_{unit}", _quantile(times, 0.95), len(times))
    report.set(
        "in_doubt_share", sum(not s.is_certain for s in samples) / len(samples), len(samples)
    )
    by_kind: dict[str, list[float]] = {}
    for sample in samples:
        by_kind.setdefault(sample.kind, []).append(sample.cpu_ms)
    for kind, values in by_kind.items():
        report.set(f"p50_cpu_ms_{kind}", _quantile(sorted(values), 0.5), len(values))
    encoded, reused = sum(s.encoded for s in samples), sum(s.reused for s in samples)
    report.set("encoded_tokens", encoded / len(samples))
    report.set("cache_hit_share", reused / (reused + encoded))
    report.set("cold_ms", _quantile(sorted(bench.cold), 0.5), len(bench.cold))
    await bench.cancels(report)
    await bench.typed(report)


@dataclass
class _Sample:
    kind: str
    wall_ms: float
    cpu_ms: float
    certain_ms: float
    certain_cpu_ms: float
    is_certain: bool
    encoded: int
    reused: int


class _Bench:
    """The engine, and documents to edit."""

    def __init__(self, model: str, file: Path | None, plain: bool, seed: int, context: int) -> None:
        import torch

        from codegen.server.completion.engine import CompletionEngine
        from codegen.server.completion.requests import ServerLimits

        torch.set_num_threads(1)
        self.context = context
        self.rng = random.Random(seed)
        limits = ServerLimits(context_tokens=context, deadline_s=600.0)  # for a busy machine
        source, self.runs = _open(model, file, plain, limits)
        self.engine = CompletionEngine(source, limits)
        self.is_ours = file is None
        self.cpu_s: Callable[[], float] = time.process_time if self.is_ours else tree_cpu_s
        self.modules = _modules(seed, context)
        self.cold: list[float] = []

    def request(self, text: str, at: int, document: str, **more: Any) -> Any:
        from codegen.generation import SamplingParams
        from codegen.server.completion.requests import CompletionRequest, DocumentKey

        key = more.pop("key", DocumentKey("bench", "", document))
        params = SamplingParams(max_new_tokens=more.pop("max_new_tokens", _TOKENS))
        options: Any = {"params": params, "multiline": None, "language": "python", **more}
        return CompletionRequest(key, text[:at], text[at:], **options)

    async def edits(self, number: int, count: int, certain: bool) -> list[_Sample]:
        """Makes single edits in one document, each followed by a request."""
        text = self.modules[number % len(self.modules)]
        at = text.index("\n", len(text) * 3 // 4)
        name = f"document-{number}"
        began = time.perf_counter()
        await self.engine.complete(self.request(text, at, name))
        self.cold.append((time.perf_counter() - began) * 1e3)
        found = []
        for step in range(count):
            kind = list(_EDITS)[step % len(_EDITS)]
            text, at = _EDITS[kind](text, at, self.rng)
            began, cpu = time.perf_counter(), self.cpu_s()
            answer = await self.engine.complete(self.request(text, at, name, certain=False))
            first = time.perf_counter() - began, self.cpu_s() - cpu
            if certain and not answer.is_certain:
                await self.engine.complete(self.request(text, at, name))
            second = time.perf_counter() - began, self.cpu_s() - cpu
            sample = _Sample(
                kind,
                *(first[0] * 1e3, first[1] * 1e3, second[0] * 1e3, second[1] * 1e3),
                answer.is_certain,
                answer.encoded,
                answer.reused,
            )
            found.append(sample)
        return found

    async def cancels(self, report: Report) -> None:
        """Cancels requests during decoding."""
        from codegen.server.completion.engine import CompletionEngine

        engine: CompletionEngine = self.engine
        text = self.modules[0]
        at = text.index("\n", len(text) * 3 // 4)
        times, passes = [], []
        with _counted() as begun:
            for number in range(_CANCELS):
                asked = self.request(text, at, "document-0", max_new_tokens=200)
                shown = None if self.is_ours else lambda _: begun.append(time.perf_counter())
                task = asyncio.ensure_future(engine.complete(asked, shown))
                while len(begun) < 3 and not task.done():
                    await asyncio.sleep(0.001)
                text, at = _EDITS["key"](text, at, random.Random(number))
                if task.done():  # the request finished early
                    begun.clear()
                    task.result()
                    continue
                await asyncio.sleep(self.rng.random() * 0.05)
                task.cancel()
                await asyncio.wait({task})
                cancelled = time.perf_counter()
                while not engine.idle:
                    await asyncio.sleep(0.0005)
                times.append((time.perf_counter() - cancelled) * 1e3)
                passes.append(sum(moment > cancelled for moment in begun))
                begun.clear()
        report.set("cancel_ms", _quantile(sorted(times), 0.5), len(times))
        report.set("cancel_passes", max(passes) if self.is_ours and passes else None)

    async def typed(self, report: Report) -> None:
        """Types the suggested text."""
        from codegen.server.completion.requests import CompletionRequest

        text = self.modules[0]
        at = text.index("\n", len(text) * 3 // 4)
        asked: CompletionRequest = self.request(text, at, "typed", multiline="auto")
        words = "return self._parsed_arguments.get(name, default)"
        self.engine.suggestions(asked.key).add(asked, len(asked.prefix), (words,))
        times = []
        for size in range(1, len(words)):
            grown = text[:at] + words[:size] + text[at:]
            began = time.perf_counter()
            answer = await self.engine.complete(
                self.request(grown, at + size, "typed", multiline="auto")
            )
            times.append((time.perf_counter() - began) * 1e3)
            if answer.text != words[size:]:
                raise RuntimeError("Typed as suggested, but the suggestion changed.")
        report.set("typed_as_suggested_ms", _quantile(sorted(times), 0.95), len(times))


class _counted:
    """Yields the start times of forward passes."""

    def __enter__(self) -> list[float]:
        from codegen.decoding.editing import EditableCache

        begun: list[float] = []
        self._kind, self._run = EditableCache, EditableCache.run_passes

        def run(requests: Any) -> Any:
            begun.append(time.perf_counter())
            return self._run(requests)

        EditableCache.run_passes = staticmethod(run)
        return begun

    def __exit__(self, *_: object) -> None:
        self._kind.run_passes = staticmethod(self._run)


def _key(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    char = rng.choice("abcdefgh(.= ")
    return text[:at] + char + text[at:], at + 1


def _rename(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Renames the last function that is defined well above the cursor."""
    start = text.rfind("def ", 0, max(0, at - 600)) + 4
    end = text.find("(", start)
    if start < 4 or end < 0:
        return _import(text, at, rng)
    name = f"{text[start:end]}_{rng.randrange(10)}"
    return text[:start] + name + text[end:], at + len(name) - (end - start)


def _import(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Inserts an import above a definition in the window, since few windows start a file."""
    place = text.rfind("\n\n", 0, max(0, at - 1500)) + 2
    line = f"import {rng.choice(['os', 'sys', 're', 'json'])}_{rng.randrange(100)}\n"
    return text[:place] + line + text[place:], at + len(line)


def _delete(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Deletes a few lines above the cursor."""
    start = text.rfind("\n", 0, max(1, at - 400 - rng.randrange(400))) + 1
    end = start
    for _ in range(5):
        end = text.find("\n", end) + 1
    if not 0 < end <= at:
        return _key(text, at, rng)
    return text[:start] + text[end:], at - (end - start)


def _paste(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Pastes other lines of the document at the cursor."""
    start = rng.randrange(max(1, len(text) - 400))
    start = text.find("\n", start) + 1
    end = text.find("\n", min(len(text) - 1, start + 80)) + 1
    piece = "\n" + text[start:end].rstrip()
    return text[:at] + piece + text[at:], at + len(piece)


def _jump(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Moves the cursor to the end of a nearby line; the text is unchanged."""
    place = text.find("\n", max(0, at - 300 + rng.randrange(600)))
    return text, place if place > 200 else at


_EDITS = {
    "key": _key,
    "rename": _rename,
    "import": _import,
    "delete": _delete,
    "paste": _paste,
    "jump": _jump,
}


def _modules(seed: int, context: int) -> list[str]:
    """Returns the standard library modules that are long enough."""
    code = Code()
    modules = [code.decode(ids) for ids in code.library(seed, 60 * context)]
    return [text for text in modules if text.count("\n") > 150]


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
