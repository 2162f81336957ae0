"""Conversations in the editor's server: predicted outputs, and editors beside a conversation.

**Predicted outputs.** The answer in a conversation is a module of the standard library with 2 % of
its tokens replaced, inserted or deleted, alike often. The model is made to write it: it computes
each token as ever, then the answer's takes the place of its own. ``plain_tokens_per_cpu_s`` is the
server without a prediction, ``predicted_tokens_per_cpu_s`` with the module as ``prediction``, both
without encoding the prompt; ``predicted_over_plain`` is their ratio. ``shown_...``: the same where
the conversation holds the module, from which the server drafts without a prediction, too.
``accepted_share`` is the share of the answer's tokens that were predicted and confirmed,
``rejected_share`` that of tokens verified in vain.

**Beside a conversation.** Single edits in a document, each followed by a request for eight tokens,
settled, one after the other: alone, and while a conversation of 1,000 tokens streams answers,
blocks of both in turn. ``alone_p50_ms``, ``alone_p95_ms``, ``beside_p50_ms`` and ``beside_p95_ms``
are wall times from the edit to the answer; those with ``cpu`` are the CPU time in between, of the
conversation's passes, too, which is what the clock shows on an idle machine.
``conversation_tokens_per_s`` is what the conversation
got meanwhile, ``conversation_alone_tokens_per_s`` with nobody beside it. With ``-o patience=1``
conversations have their pass in every round.

The model is ``embedded``, as ``codegen serve`` runs it. Limits: one model; who predicts an answer
knows it as well as here only where little is changed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from codegen.benchmarks.completion import _EDITS, _modules, _quantile
from codegen.benchmarks.tools.code_tokens import Code, random_edits
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import ratio_of_sums

_RATE = 0.02
_KINDS = ("plain", "predicted", "shown_plain", "shown_predicted")
_TOKENS = 8
_CHAT_TOKENS = 1000
_BLOCK = 6  # edits


def run(
    quick: bool = False, *, seed: int = 0, files: int = 8, tokens: int = 500, edits: int = 60,
    patience: int = 4,
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: 1 file of 200 tokens, 6 edits alone and beside a conversation.
        seed: of modules, places and edits.
        files: that are written again.
        tokens: of each.
        edits: alone, and as many beside a conversation.
        patience: rounds of editors' requests to one of conversations.
    """
    at_least(1, files=files, edits=edits, patience=patience)
    at_least(16, tokens=tokens)
    if quick:
        files, tokens, edits = 1, min(tokens, 200), _BLOCK
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    bench = _Bench(seed, patience)
    try:
        asyncio.run(bench.rewriting(report, files, tokens))
        asyncio.run(bench.beside(report, edits))
    finally:
        bench.engine.stop()
    report.notes.append("Wall times are those of a shared machine where the load is above zero.")
    return report.mapping()


class _Bench:
    """The engine, and modules to edit."""

    def __init__(self, seed: int, patience: int) -> None:
        import torch

        from codegen.models import load
        from codegen.server import schedule
        from codegen.server.engine import CompletionEngine
        from codegen.server.model import CompletionModel

        torch.set_num_threads(1)
        schedule._PATIENCE = patience
        self.seed, self.rng, self.code = seed, random.Random(seed), Code()
        self.model = CompletionModel(load("embedded"))
        self.engine = CompletionEngine(self.model)
        self.modules = _modules(seed, 1024)

    def conversation(self, name: str, said: str, most: int, **more: Any) -> Any:
        from codegen.generation import SamplingParams
        from codegen.models.chat import conversation
        from codegen.server.requests import CompletionRequest, DocumentKey

        model = self.model
        turns = [{"role": "user", "content": said}]
        _, ids = conversation(model.tokenizer, turns, model.prompter.control)
        return CompletionRequest(
            DocumentKey("chat", "", name),
            "",
            tokens=tuple(ids),
            patient=True,
            multiline=None,
            params=SamplingParams(max_new_tokens=most),
            deadline_s=600.0,
            **more,
        )

    async def rewriting(self, report: Report, files: int, tokens: int) -> None:
        """Modules written again, with and without a prediction, in turn."""
        from codegen.server.local import _Chosen

        choose, answer_is = _Chosen._choose, list[int]()

        def follow(chosen: Any, batch: Any, logits: Any) -> int:
            choose(chosen, batch, logits)
            return answer_is[len(chosen.path.tokens)]

        cpu: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        written, accepted, rejected = 0, 0, 0
        _Chosen._choose = follow  # type: ignore[method-assign]
        try:
            for number in range(files):
                say(f"file {number + 1} of {files}")
                module = self.code.encode(self.modules[number % len(self.modules)])[:tokens]
                answer_is[:] = random_edits(module, _RATE, self.rng)
                text = self.code.decode(module)
                for kind in _KINDS if number % 2 else reversed(_KINDS):
                    name = f"{kind}-{number}"
                    said = f"Rename some variables.\n{text if kind.startswith('shown') else ''}"
                    await self.engine.complete(self.conversation(name, said, 1))
                    more = {"prediction": text} if kind.endswith("predicted") else {}
                    request = self.conversation(name, said, len(answer_is), **more)
                    began = time.process_time()
                    answer = await self.engine.complete(request)
                    cpu[kind].append(time.process_time() - began)
                    accepted, rejected = accepted + answer.accepted, rejected + answer.rejected
                written += len(answer_is)
        finally:
            _Chosen._choose = choose  # type: ignore[method-assign]
        for kind, seconds in cpu.items():
            report.set(f"{kind}_tokens_per_cpu_s", written / sum(seconds), written)
        for shown in ("", "shown_"):
            ratio = ratio_of_sums(cpu[f"{shown}plain"], cpu[f"{shown}predicted"], seed=self.seed)
            report.set(f"{shown}predicted_over_plain", ratio, files)
        report.set("accepted_share", accepted / (2 * written), 2 * written)
        report.set("rejected_share", rejected / (2 * written), 2 * written)

    async def beside(self, report: Report, edits: int) -> None:
        """Edits in a document, alone and beside a conversation, in turn."""
        text = self.modules[0]
        said = self.code.decode(self.code.encode(self.modules[1])[:_CHAT_TOKENS])
        request = self.conversation("talk", said, 1_000)
        alone_rate = await self._rate(request, 100)
        report.set("conversation_alone_tokens_per_s", alone_rate, 100)
        at = text.index("\n", len(text) * 3 // 4)
        await self._edit(text, at)
        found: dict[str, list[float]] = {"alone": [], "beside": []}
        cpu: dict[str, list[float]] = {"alone": [], "beside": []}
        got = seconds = 0.0
        for block in range(0, edits, _BLOCK):
            for kind in found:
                pieces: list[str] = []
                talk = None
                if kind == "beside":
                    talk = asyncio.create_task(self.engine.complete(request, pieces.append))
                    while not pieces:
                        await asyncio.sleep(0.01)
                    pieces.clear()
                began_all = time.perf_counter()
                for step in range(block, min(block + _BLOCK, edits)):
                    text, at = list(_EDITS.values())[step % len(_EDITS)](text, at, self.rng)
                    began, used = time.perf_counter(), time.process_time()
                    await self._edit(text, at)
                    found[kind].append((time.perf_counter() - began) * 1e3)
                    cpu[kind].append((time.process_time() - used) * 1e3)
                if talk:
                    seconds += time.perf_counter() - began_all
                    got += len(self.code.encode("".join(pieces)))
                    self.engine.cancel(request.key)
                    await asyncio.gather(talk, return_exceptions=True)
        for kind in found:
            for unit, times in (("ms", found[kind]), ("cpu_ms", cpu[kind])):
                for share in (50, 95):
                    value = _quantile(sorted(times), share / 100)
                    report.set(f"{kind}_p{share}_{unit}", value, len(times))
        report.set("conversation_tokens_per_s", got / seconds, int(got))

    async def _rate(self, request: Any, tokens: int) -> float:
        from dataclasses import replace

        params = replace(request.params, max_new_tokens=tokens)
        answer = await self.engine.complete(replace(request, params=params))
        return answer.candidates[0].completion_tokens / answer.stages["decode"]

    async def _edit(self, text: str, at: int) -> None:
        from codegen.generation import SamplingParams
        from codegen.server.requests import CompletionRequest, DocumentKey

        key = DocumentKey("editor", "", "document")
        params = SamplingParams(max_new_tokens=_TOKENS)
        given = {"params": params, "multiline": None, "language": "python"}
        await self.engine.complete(CompletionRequest(key, text[:at], text[at:], **given))
