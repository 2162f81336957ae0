"""Samples of a GRPO run, with their verdicts and rewards.

``rollouts.jsonl`` in the run's directory has one line per sample, in step order:
``step`` (from 1), ``problem_id``, ``index``, ``completion``, ``program``, ``status``, ``trust``,
``message``, ``reward`` (weighted sum; null if the sandbox failed), ``rewards`` (name ->
[value, reason]), ``solved`` (whether the hidden tests also pass), ``suspects``, ``tokens``,
``finish_reason`` and ``cpu_s``. Other processes write ``rollouts-1.jsonl`` and so on.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError
from codegen.core.generation import Decoder, Request, SamplingParams, settings_of
from codegen.core.paths import open_plain
from codegen.core.records import FinishReason, Sample
from codegen.core.runs import Journal
from codegen.evals.statistics import Count, estimate_pass_at_k
from codegen.evals.tasks import PromptStyle, meta_of
from codegen.finetune.recipe import Recipe
from codegen.generation.decoders import find_decoder
from codegen.generation.detokenize import TextStream
from codegen.rewards.builtin import Scored
from codegen.rewards.judge import Judge, Judged, combine, metrics_of


def rollouts_path(output: Path, process: int = 0) -> Path:
    """Returns the rollouts file of a process."""
    return output / (f"rollouts-{process}.jsonl" if process else "rollouts.jsonl")


def cut_after(path: Path, step: int) -> None:
    """Removes the lines of later steps, which are rerun, and an incomplete last line.

    Raises:
        InputError: if the path is a link or not a regular file.
    """
    if not path.exists():
        return
    end = 0
    with os.fdopen(open_plain(path, os.O_RDWR), "r+b") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{path} is corrupt after byte {end}.", "Choose another output."
                ) from None
            end += len(line)
        file.truncate(end)


class Rollouts:
    """Collects completions during sampling, and is the trainer's reward function.

    Args:
        requests: problem id -> the model's prompt.
        style: prompt style, which also parses the answers.
    """

    def __init__(
        self,
        judge: Judge,
        journal: Journal,
        recipe: Recipe,
        tokenizer: Any,
        requests: Mapping[str, Request],
        style: PromptStyle,
    ) -> None:
        self.__name__ = "reward"  # its name in TRL's logs
        self.judge, self.journal, self.recipe = judge, journal, recipe
        self.tokenizer, self.requests, self.style = tokenizer, requests, style
        self.decoder = find_decoder(Decoder(recipe.decoder))
        grpo = recipe.grpo
        params = SamplingParams(
            grpo.max_new_tokens, grpo.temperature, grpo.trl.get("top_p", 1.0), recipe.seed
        )
        self.settings = settings_of(recipe.model, params, Decoder(recipe.decoder))
        self._drawing: list[Request] = []
        self._batch: Future[list[Judged]] | None = None
        self._eos: frozenset[int] = frozenset()

    def begin(self, problem_ids: Sequence[str], eos: Collection[int]) -> None:
        """Starts a batch of samples.

        Args:
            problem_ids: problem id of each sample.
            eos: ids of end tokens.
        """
        drawn: Counter[str] = Counter()
        self._drawing, self._batch, self._eos = [], None, frozenset(eos)
        for problem_id in problem_ids:
            request = self.requests[problem_id]
            self._drawing.append(replace(request, index=drawn[problem_id]))
            drawn[problem_id] += 1

    def take(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Submits the completions of a batch to the sandbox, in the background.

        Args:
            prompts, drawn: token ids of each prompt and completion.

        Returns:
            The tokens of each completion up to its stop string.
        """
        made = [
            self._sample(request, prompt, tokens)
            for request, prompt, tokens in zip(self._drawing, prompts, drawn, strict=True)
        ]
        self._batch = self.judge.start([sample for _, sample in made])
        return [kept for kept, _ in made]

    def _sample(
        self, request: Request, prompt: Sequence[int], tokens: Sequence[int]
    ) -> tuple[list[int], Sample]:
        stops = self.decoder.stops(request.stop)
        stream = TextStream(
            self.tokenizer.backend_tokenizer, prompt, stops=stops, marks=request.marks
        )
        kept: list[int] = []
        reason: FinishReason = "length"
        for token in tokens:
            kept.append(token)
            if token in self._eos:
                reason = "eos"
                break
            stream.push(token)
            if stream.stopped:
                reason = "stop"
                break
        stream.flush()
        completion = self.decoder.completion(
            0,
            request,
            stream.text,
            reason,
            meta=meta_of(self.style),
            prompt_tokens=len(prompt),
            completion_tokens=len(kept),
        )
        return kept, completion.sample(self.settings)

    def __call__(
        self,
        completion_ids: Sequence[Sequence[int]],
        log_metric: Any,
        trainer_state: Any,
        **_: Any,
    ) -> list[float | None]:
        """Returns the reward of each sample of the batch, for TRL; writes the records.

        Raises:
            ConfigError, InputError, CodegenError: see :func:`codegen.rewards.rewards_of`.
        """
        if self._batch is None:  # the trainer did not call ``take``
            self.take([[] for _ in completion_ids], completion_ids)
        assert self._batch is not None
        judged = self._batch.result()
        totals, parts = combine(judged, self.recipe.grpo.rewards)
        for name, value in metrics_of(judged, parts).items():
            log_metric(name, value)
        for k, value in self._pass_at_k(judged).items():
            log_metric(f"solved@{k}", value)
        step = trainer_state.global_step + 1
        self.journal.append(
            *(
                _line(step, one, total, {name: parts[name][n] for name in parts})
                for n, (one, total) in enumerate(zip(judged, totals, strict=True))
            )
        )
        return totals

    def _pass_at_k(self, judged: Sequence[Judged]) -> dict[int, float]:
        """Returns the batch's pass@k on all tests; k is the minimum of samples per problem."""
        groups: dict[str, list[bool]] = {}
        for one in judged:
            if one.solved is not None:
                groups.setdefault(one.sample.problem_id, []).append(one.solved)
        counts = [Count(len(solved), sum(solved)) for solved in groups.values()]
        fewest = min((count.n for count in counts), default=0)
        k = min(fewest, self.recipe.grpo.group)
        found = estimate_pass_at_k(counts, k) if k > 1 else None
        return {k: found.value} if found else {}


def _line(step: int, judged: Judged, total: float | None, rewards: Mapping[str, Scored]) -> str:
    sample, verdict = judged.sample, judged.verdict
    return json.dumps(
        {
            "step": step,
            "problem_id": sample.problem_id,
            "index": sample.index,
            "completion": sample.actions or sample.completion,
            "program": sample.meta["program"],
            "status": verdict.status,
            "trust": verdict.trust,
            "message": verdict.message,
            "reward": total,
            "rewards": {name: [one.value, one.reason] for name, one in rewards.items()},
            "solved": judged.solved,
            "suspects": list(judged.suspects),
            "tokens": sample.completion_tokens,
            "finish_reason": sample.finish_reason,
            "cpu_s": round(verdict.cpu_s, 4),
        }
    )
