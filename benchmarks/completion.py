"""Completion latency from keystroke to suggestion, through the editor back-end's engine.

A document is a module of the standard library around a window of ``context`` tokens. After each
single edit in it (a key at the cursor, a name changed above, an import inserted, a function deleted
and put back, a line pasted, the cursor elsewhere) eight tokens are asked for at the cursor.
``p50_ms`` and ``p95_ms`` are the time from the edit to the first answer by the wall clock,
``p50_cpu_ms`` and ``p95_cpu_ms`` the CPU time of it, which is what the wall clock shows on an idle
machine. ``settled_p50_ms``, ``settled_p95_ms`` and those with ``cpu`` are the time until doubts are
settled, too, which is when an editor that takes no second answer gets its only one;
``in_doubt_share`` of the edits had any. Edits follow one another at once; with ``-o pause=SECONDS``
the engine has that time between an answer and the next edit to make approximate states exact.
``encoded_tokens`` is the mean number of tokens that an edit made the model read,
``cache_hit_share`` the share of all prompt tokens that it did not.

``pass_cpu_ms_N`` is the CPU time of a forward pass, with logits, over N tokens behind a window, as
served; ``pass_full_cpu_ms_N`` that of the model as it is, where the former is a pass written out
for few tokens (:mod:`codegen.decoding.editing.forward`).

``cold_ms`` is the median time of the first answer in a document, whose whole window is encoded.

``clients_N_tokens_per_s``: N clients, each in a document of its own (1,500 characters before the
cursor, which have been encoded), ask for 32 tokens after a key, all at once; tokens of all of them
a second of wall time, the median of 3 times, and ``clients_N_tokens_per_cpu_s`` a second of CPU
time, of all threads.

``cancel_ms`` is the median time from giving up a request that is being decoded until the worker is
idle, ``cancel_passes`` the most forward passes begun after that. ``typed_as_suggested_ms`` is the
95th percentile of an answer for text that continues as was suggested.

``typing_...``: lines are typed at human speed, a request after every key as VS Code sends them, the
older one given up: changed lines of a git repository's history (``-o repository=PATH``), else lines
of other modules. ``typing_p50_ms`` and ``typing_p95_ms`` are from the key to the answer, for keys
that the next one did not overtake; ``typing_answered`` the share of those, ``typing_by_suggestion``
the share of answers without the model, ``typing_right_lines`` the share of lines that a suggestion
had right, from some key before the line's last word on.

``..._avx2``: the same on a CPU without AVX-512, which ``ATEN_CPU_CAPABILITY=avx2`` makes of one
with it, in a process of its own.

``-o upstream=URL`` (with ``api_key_env`` and ``model``; ``llama.cpp`` starts one with the embedded
model's GGUF file) measures that instead: ``clients`` editors, each with a server of its own as
``codegen serve lsp --upstream`` is one, type ``lines`` lines each at human speed, at the same time.
``upstream_p50_ms`` and ``upstream_p95_ms`` are from the key to the answer, for keys that the next
one did not overtake; ``upstream_answered`` the share of those keys, ``upstream_by_suggestion`` the
share of answers without the upstream, ``upstream_cancelled`` the share of requests to it that were
given up, ``upstream_cached`` the share of prompt tokens that it had cached, in answers.

The model is ``embedded``, with the weights and threads that ``codegen serve`` uses here. Limits:
one model; what a user sees has the editor's own delay on top.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from codegen.benchmarks.tools.code_tokens import Code
from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least

_TOKENS = 8
_KEY_S = (0.08, 0.25)  # between keys: uniformly from this
_APART_S = 1.0  # between the beginnings of several clients
_PAUSE_S = 0.6  # before a word or a line
_PAUSES = 0.15  # share of keys with one
_CANCELS = 8
_CLIENTS = (1, 8)
_CLIENT_TOKENS = 32
_CLIENT_CHARS = 1500
_TIMES = 3
_PASSES = (1, 2, 4, 8, 16, 32)
_REPEATS = 9


def run(
    quick: bool = False, *, seed: int = 0, edits: int = 120, documents: int = 6, lines: int = 30,
    context: int = 1024, repository: str = "", pause: float = 0.0, upstream: str = "",
    api_key_env: str = "", model: str = "", clients: int = 8,
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: 6 edits in 1 document, 1 line, the rest once; doubts are not settled as AVX2.
        seed: of modules, places and keys.
        edits: of all documents together.
        documents: modules.
        lines: typed at human speed.
        context: tokens of the window.
        repository: a git repository whose changed lines are typed.
        pause: seconds between an answer and the next edit.
        upstream: a server's URL, or ``llama.cpp``.
        api_key_env: environment variable that holds its key.
        model: its name there; empty for the only one.
        clients: editors at once in front of it.
    """
    at_least(1, edits=edits, documents=documents, lines=lines, clients=clients)
    at_least(128, context=context)
    if quick:
        edits, documents, lines = min(edits, 6), 1, 1
    if upstream:
        return _run_upstream(
            upstream, model, api_key_env, seed, clients, lines, context, repository
        )
    times = 1 if quick else _TIMES
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    bench = _Bench(seed, context, pause)
    try:
        asyncio.run(_measure(bench, report, edits, documents, times, settle=True))
        shared = set(report.figures)
        bench.passes(report, 1 if quick else _REPEATS)
        typed = _Typed()
        texts = _lines(bench.modules[1:], bench.context, bench.rng, lines, repository)
        asyncio.run(_type(bench.engine, texts, bench.rng, typed))
        _report_typing(report, "typing", typed)
    finally:
        bench.engine.stop()
    for key, (value, n) in _as_avx2(
        report, seed, context, pause, edits, documents, times, not quick
    ).items():
        if key in shared:
            report.set(f"{key}_avx2", value, n)
    return report.mapping()


def _run_upstream(
    url: str, model: str, api_key_env: str, seed: int, clients: int, lines: int, context: int,
    repository: str,
) -> Mapping[str, object]:  # fmt: skip
    """Editors in front of one upstream."""
    from codegen.generation.backends import Endpoint, is_loopback
    from codegen.server.engine import CompletionEngine
    from codegen.server.requests import ServerLimits
    from codegen.server.upstream import Upstream

    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "xllamacpp")
    limits = ServerLimits(context_tokens=context, deadline_s=120)
    with ExitStack() as stack:
        key = ""
        if url == "llama.cpp":
            from codegen.models import embedded
            from codegen.models.llamacpp import LlamaOptions, LlamaServer

            options = LlamaOptions(slots=clients, context=2 * context, threads=1)
            server = LlamaServer(embedded.ensure_gguf(), options)
            stack.callback(server.close)
            url, key = f"{server.url}/v1", server.api_key
        endpoint = Endpoint(url=url, model=model or "any", api_key_env=api_key_env)
        engines = []
        for _ in range(clients):
            source = Upstream(
                endpoint.base(),
                model=model,
                key=key or endpoint.api_key(),
                limits=limits,
                remote=not is_loopback(url),
            )
            source.check()
            engines.append(CompletionEngine(source, limits))
            stack.callback(engines[-1].stop)
        say(engines[0].model.status.message)
        modules = _modules(seed, context)
        rng = random.Random(seed)
        texts = [_lines(modules[n % len(modules) :], context, rng, lines, repository)
                 for n in range(clients)]  # fmt: skip
        typed = asyncio.run(_type_together(engines, texts, seed))
        asked = sum(e.metrics.value("completions") + e.metrics.value("cancelled") for e in engines)
        given_up = sum(e.metrics.value("cancelled") for e in engines)
        encoded = sum(e.metrics.value("tokens_encoded") for e in engines)
        cached = sum(e.metrics.value("tokens_reused") for e in engines)
    _report_typing(report, "upstream", typed)
    report.set("upstream_cancelled", given_up / max(1, asked), asked)
    report.set("upstream_cached", cached / max(1, cached + encoded))
    report.samples |= {"clients": clients, "lines": clients * lines, "context": context}
    return report.mapping()


async def _type_together(
    engines: Sequence[Any], texts: Sequence[Sequence[tuple[str, int, str]]], seed: int
) -> _Typed:
    typed = _Typed()
    work = [
        _type(engine, lines, random.Random(seed + number), typed, number * _APART_S)
        for number, (engine, lines) in enumerate(zip(engines, texts, strict=True))
    ]
    await asyncio.gather(*work)
    return typed


def _as_avx2(report: Report, *args: Any) -> dict[str, tuple[Any, int | None]]:
    """The figures, each with its sample size, of this machine without AVX-512; the report's own
    where it has none.
    """
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if not capability.startswith("AVX512"):
        report.notes.append(f"PyTorch's CPU capability is {capability}; ..._avx2 are its figures.")
        return {key: (value, report.samples.get(key)) for key, value in report.figures.items()}
    name = "ATEN_CPU_CAPABILITY"
    before = os.environ.get(name)
    os.environ[name] = "avx2"  # PyTorch reads it once, when it is loaded
    try:
        return fresh(_figures, *args)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _figures(
    seed: int, context: int, pause: float, edits: int, documents: int, times: int, settle: bool
) -> dict[str, tuple[Any, int | None]]:
    report, bench = Report(seed=seed), _Bench(seed, context, pause)
    try:
        asyncio.run(_measure(bench, report, edits, documents, times, settle))
    finally:
        bench.engine.stop()
    return {key: (value, report.samples.get(key)) for key, value in report.figures.items()}


async def _measure(
    bench: _Bench, report: Report, edits: int, documents: int, times: int, settle: bool
) -> None:
    samples: list[_Sample] = []
    for number in range(documents):
        samples += await bench.edits(number, edits // documents, settle)
        say(f"document {number + 1} of {documents} done")
    wall, cpu = sorted(s.wall_ms for s in samples), sorted(s.cpu_ms for s in samples)
    for name, values in (("", wall), ("_cpu", cpu)):
        report.set(f"p50{name}_ms", _quantile(values, 0.5), len(values))
        report.set(f"p95{name}_ms", _quantile(values, 0.95), len(values))
    for unit in ("ms", "cpu_ms") if settle else ():
        settled = sorted(getattr(s, f"settled_{unit}") for s in samples)
        report.set(f"settled_p50_{unit}", _quantile(settled, 0.5), len(settled))
        report.set(f"settled_p95_{unit}", _quantile(settled, 0.95), len(settled))
    report.set("in_doubt_share", sum(not s.settled for s in samples) / len(samples), len(samples))
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
    await bench.clients(report, times)
    report.samples |= {"edits": len(samples), "documents": documents, "context": bench.context}

    report.notes.append("Wall times are those of a shared machine where the load is above zero.")


@dataclass
class _Sample:
    kind: str
    wall_ms: float
    cpu_ms: float
    settled_ms: float
    settled_cpu_ms: float
    settled: bool
    encoded: int
    reused: int


class _Bench:
    """The engine, and documents to edit."""

    def __init__(self, seed: int, context: int, pause: float) -> None:
        import torch

        from codegen.server.engine import CompletionEngine
        from codegen.server.model import CompletionModel
        from codegen.server.requests import ServerLimits

        torch.set_num_threads(1)
        self.context, self.pause = context, pause
        self.rng = random.Random(seed)
        limits = ServerLimits(context_tokens=context)
        self.model = CompletionModel.open("embedded", limits=limits)
        self.engine = CompletionEngine(self.model, limits)
        self.modules = _modules(seed, context)
        self.cold: list[float] = []

    def request(self, text: str, at: int, document: str, **more: Any) -> Any:
        from codegen.generation import SamplingParams
        from codegen.server.requests import CompletionRequest, DocumentKey

        key = more.pop("key", DocumentKey("bench", "", document))
        params = SamplingParams(max_new_tokens=more.pop("max_new_tokens", _TOKENS))
        options = {"params": params, "multiline": None, "language": "python", **more}
        return CompletionRequest(key, text[:at], text[at:], **options)

    async def edits(self, number: int, count: int, settle: bool) -> list[_Sample]:
        """Single edits in one document, each followed by a request."""
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
            began, cpu = time.perf_counter(), time.process_time()
            answer = await self.engine.complete(self.request(text, at, name, settle=False))
            first = time.perf_counter() - began, time.process_time() - cpu
            if settle and not answer.settled:
                await self.engine.complete(self.request(text, at, name))
            settled = time.perf_counter() - began, time.process_time() - cpu
            sample = _Sample(
                kind,
                *(first[0] * 1e3, first[1] * 1e3, settled[0] * 1e3, settled[1] * 1e3),
                answer.settled,
                answer.encoded,
                answer.reused,
            )
            found.append(sample)
            await asyncio.sleep(self.pause)
        return found

    def passes(self, report: Report, repeats: int) -> None:
        """Single forward passes, both kinds in turn."""
        from codegen.decoding.editing import EditableCache

        model, most = self.model, max(_PASSES)
        tokens = model.tokenizer(self.modules[0])["input_ids"][: self.context]
        context, more = tokens[:-most], tokens[-most:]
        caches = {"": model.cache()}
        if model.step is not None:
            caches["_full"] = EditableCache(model.model)
        for cache in caches.values():
            cache.update(context)
        for size in _PASSES:
            times: dict[str, list[float]] = {name: [] for name in caches}
            for _ in range(repeats):
                for name, cache in caches.items():
                    began = time.thread_time()
                    cache.extend(more[:size])
                    times[name].append((time.thread_time() - began) * 1e3)
                    cache.truncate(len(context))
            for name, found in times.items():
                report.set(f"pass{name}_cpu_ms_{size}", _quantile(sorted(found), 0.5), len(found))

    async def cancels(self, report: Report) -> None:
        """Gives up requests while they are decoded."""
        from codegen.server.engine import CompletionEngine

        engine: CompletionEngine = self.engine
        text = self.modules[0]
        at = text.index("\n", len(text) * 3 // 4)
        times, passes = [], []
        with _counted() as begun:
            for number in range(_CANCELS):
                asked = self.request(text, at, "document-0", max_new_tokens=200)
                task = asyncio.ensure_future(engine.complete(asked))
                while len(begun) < 3:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(self.rng.random() * 0.05)
                task.cancel()
                await asyncio.wait({task})
                cancelled = time.perf_counter()
                while not engine.idle:
                    await asyncio.sleep(0.0005)
                times.append((time.perf_counter() - cancelled) * 1e3)
                passes.append(sum(moment > cancelled for moment in begun))
                begun.clear()
                text, at = _EDITS["key"](text, at, random.Random(number))
        report.set("cancel_ms", _quantile(sorted(times), 0.5), len(times))
        report.set("cancel_passes", max(passes))

    async def clients(self, report: Report, times: int) -> None:
        """Several clients at once, in warm documents."""
        from codegen.server.requests import DocumentKey

        def asked(number: int, typed: str, tokens: int) -> Any:
            text = self.modules[number % len(self.modules)]
            at = text.index("\n", len(text) // 2)
            text = text[max(0, at - _CLIENT_CHARS) : at] + typed
            return self.request(
                text, len(text), "", max_new_tokens=tokens,
                key=DocumentKey(f"client-{number}", "", "document"), settle=False,
            )  # fmt: skip

        # Each number of clients has documents of its own, as what was made in one helps the next.
        documents = {count: range(1000 * count, 1001 * count) for count in _CLIENTS}
        for numbers in documents.values():
            await asyncio.gather(*(self.engine.complete(asked(n, "", 1)) for n in numbers))
        rates: dict[int, list[tuple[float, float]]] = {count: [] for count in _CLIENTS}
        for typed in "abc"[:times]:
            for count, numbers in documents.items():  # in turn, as the machine's load changes
                began, cpu = time.perf_counter(), time.process_time()
                answers = await asyncio.gather(
                    *(self.engine.complete(asked(n, typed, _CLIENT_TOKENS)) for n in numbers)
                )
                wall, cpu = time.perf_counter() - began, time.process_time() - cpu
                made = sum(answer.candidates[0].completion_tokens for answer in answers)
                rates[count].append((made / wall, made / cpu))
        for count, found in rates.items():
            for name, values in zip(("s", "cpu_s"), zip(*found, strict=True), strict=True):
                key = f"clients_{count}_tokens_per_{name}"
                report.set(key, _quantile(sorted(values), 0.5), len(values))

    async def typed(self, report: Report) -> None:
        """Continues as was suggested."""
        from codegen.server.requests import CompletionRequest

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
                raise RuntimeError("typed as suggested, and something else was suggested")
        report.set("typed_as_suggested_ms", _quantile(sorted(times), 0.95), len(times))


@dataclass
class _Typed:
    """What came of typing."""

    answered: list[float] = field(default_factory=list)  # ms
    keys: int = 0
    by_suggestion: int = 0
    right: int = 0
    lines: int = 0


async def _type(
    engine: Any,
    lines: Sequence[tuple[str, int, str]],
    rng: random.Random,
    typed: _Typed,
    after_s: float = 0.0,
) -> None:
    """Types lines at human speed, asking after every key; begins after some seconds."""
    await asyncio.sleep(after_s)
    from lsprotocol.types import Position, Range, TextDocumentContentChangePartial

    from codegen.server.session import Session

    session = Session(engine.limits, engine=engine)
    for number, (text, line, words) in enumerate(lines):
        uri = f"typing-{number}.py"
        session.open(uri, "python", 0, text)
        indent = len(words) - len(words.lstrip())
        start = session.snapshot(uri, Position(line, 0), automatic=True)
        assert start is not None
        await session.complete(start, automatic=False)  # as when the file was opened a while ago
        tasks: list[asyncio.Task[Any]] = []
        hit = False
        for column, char in enumerate(words):
            place = Position(line, column)
            change = TextDocumentContentChangePartial(Range(place, place), char)
            session.change(uri, column, [change])
            if column + 1 < indent:
                continue
            snapshot = session.snapshot(uri, Position(line, column + 1), automatic=True)
            assert snapshot is not None
            for task in tasks:
                task.cancel()
            task = asyncio.ensure_future(_timed(session, snapshot))
            tasks.append(task)
            typed.keys += 1
            pause = rng.random() < _PAUSES
            await asyncio.sleep(rng.uniform(*_KEY_S) + (_PAUSE_S if pause else 0.0))
            if task.done():
                seconds, answer = task.result()
                typed.answered.append(seconds * 1e3)
                typed.by_suggestion += answer.from_suggestion
                rest = words[column + 1 :]
                begun = answer.text.partition("\n")[0]
                hit |= len(rest) > 3 and bool(rest.strip()) and begun.rstrip() == rest.rstrip()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        typed.right += hit
        typed.lines += 1
        session.close(uri)
        say(f"line {number + 1} of {len(lines)} typed")


def _report_typing(report: Report, name: str, typed: _Typed) -> None:
    answered = sorted(typed.answered)
    report.set(f"{name}_p50_ms", _quantile(answered, 0.5), len(answered))
    report.set(f"{name}_p95_ms", _quantile(answered, 0.95), len(answered))
    report.set(f"{name}_answered", len(answered) / max(1, typed.keys), typed.keys)
    report.set(f"{name}_by_suggestion", typed.by_suggestion / max(1, len(answered)))
    report.set(f"{name}_right_lines", typed.right / max(1, typed.lines), typed.lines)


async def _timed(session: Any, snapshot: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = await session.complete(snapshot, automatic=True)
    if answer is None:
        raise asyncio.CancelledError
    return time.perf_counter() - began, answer


class _counted:
    """The times at which forward passes begin."""

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


# ------------------------------------------------------ edits: (text, cursor) to new ones


def _key(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    char = rng.choice("abcdefgh(.= ")
    return text[:at] + char + text[at:], at + 1


def _rename(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Another name for the last function that is defined well above the cursor."""
    start = text.rfind("def ", 0, max(0, at - 600)) + 4
    end = text.find("(", start)
    if start < 4 or end < 0:
        return _import(text, at, rng)
    name = f"{text[start:end]}_{rng.randrange(10)}"
    return text[:start] + name + text[end:], at + len(name) - (end - start)


def _import(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Inserted above a definition in the window, as a window's start seldom is the file's."""
    place = text.rfind("\n\n", 0, max(0, at - 1500)) + 2
    line = f"import {rng.choice(['os', 'sys', 're', 'json'])}_{rng.randrange(100)}\n"
    return text[:place] + line + text[place:], at + len(line)


def _delete(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """A few lines above the cursor."""
    start = text.rfind("\n", 0, max(1, at - 400 - rng.randrange(400))) + 1
    end = start
    for _ in range(5):
        end = text.find("\n", end) + 1
    if not 0 < end <= at:
        return _key(text, at, rng)
    return text[:start] + text[end:], at - (end - start)


def _paste(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """Lines from elsewhere, at the cursor."""
    start = rng.randrange(max(1, len(text) - 400))
    start = text.find("\n", start) + 1
    end = text.find("\n", min(len(text) - 1, start + 80)) + 1
    piece = "\n" + text[start:end].rstrip()
    return text[:at] + piece + text[at:], at + len(piece)


def _jump(text: str, at: int, rng: random.Random) -> tuple[str, int]:
    """The cursor to the end of a line nearby; the text stays."""
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
    """Modules of the standard library that are long enough."""
    code = Code()
    modules = [code.decode(ids) for ids in code.library(seed, 60 * context)]
    return [text for text in modules if text.count("\n") > 150]


def _lines(
    modules: Sequence[str], context: int, rng: random.Random, count: int, repository: str
) -> list[tuple[str, int, str]]:
    """Texts, the number of the line to type in them, and what is typed there."""
    found: list[tuple[str, int, str]] = []
    pairs = [(text, text) for text in modules]
    if repository:
        code = Code()
        history = code.history(repository, 4 * count, 16 * context)
        pairs = [(code.decode(one.before), code.decode(one.after)) for one in history]
    while len(found) < count and pairs:
        before, after = pairs[len(found) % len(pairs)] if not repository else pairs.pop(0)
        lines, known = after.split("\n"), set(before.split("\n"))
        new = [n for n, line in enumerate(lines) if line not in known] if repository else []
        if not repository:
            new = rng.sample(range(len(lines) // 3, len(lines)), 40)
        new = [n for n in new if 20 <= len(lines[n]) <= 79]
        if new:
            line = new[0]
            rest = [*lines[:line], "", *lines[line + 1 :]]
            found.append(("\n".join(rest), line, lines[line]))
    return found


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
