"""A generator and a sandbox without a model and without processes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.core.generation import request_seed
from codegen.core.records import Sample
from codegen.generation import Backend, Completion, Decoder, Request, SamplingParams
from codegen.sandbox import Job, Outcome


def sample(id_: str, text: str, style: str = "chat", index: int = 0, **fields: Any) -> Sample:
    """A sample that was made without settings, in a style."""
    made: dict[str, Any] = {"finish_reason": "stop", "completion_tokens": 0, **fields}
    made["meta"] = {"style": style}
    return Sample("", id_, index, "", text, settings={}, seed=0, prompt_tokens=0, **made)


@dataclass
class FakeGenerator(Backend):
    """Texts that depend on the request and, as a real model's do, on the others in its batch."""

    kind = "fake"

    model: str = "fake"
    completion: Callable[[Request], str] | None = None
    shuffle: bool = True
    calls: int = 0
    requests: list[Request] = field(default_factory=list)

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Completion]:
        batch = list(requests)
        self.calls += 1
        self.requests += batch
        key = repr([(r.problem_id, r.index) for r in batch])
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        order = list(range(len(batch)))
        if self.shuffle:
            random.Random(self.calls).shuffle(order)
        for i in order:
            request = batch[i]
            text = f"    return {request.index}  # {digest}\n"
            yield Completion(
                i,
                request,
                self.completion(request) if self.completion else text,
                finish_reason="stop",
                seed=request_seed(params.seed, request),
                prompt_tokens=len(request.prompt),
                completion_tokens=len(text),
            )


@dataclass
class FakeSandbox:
    """Judges by a function of the job; counts what it ran."""

    judge: Callable[[Job], Outcome]
    ran: list[Job] = field(default_factory=list)
    description: Mapping[str, Any] = field(default_factory=lambda: {"backend": "fake"})

    def describe(self) -> dict[str, Any]:
        return dict(self.description)

    def run(self, job: Job) -> Outcome:
        self.ran.append(job)
        return self.judge(job)

    def map(self, items: Iterable[tuple[Any, Job]]) -> Iterator[tuple[Any, Outcome]]:
        waiting: list[tuple[Any, Job]] = []
        for item in items:  # out of order, as the real one
            waiting.append(item)
            if len(waiting) == 3:
                key, job = waiting.pop(1)
                yield key, self.run(job)
        for key, job in reversed(waiting):
            yield key, self.run(job)
