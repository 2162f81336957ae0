"""The samples of a GRPO run, with their verdicts and rewards.

``rollouts.jsonl`` in the run's directory has a line for each sample, in the order of the steps:
``step`` (from 1), ``problem_id``, ``index``, ``completion``, ``program``, ``status``, ``trust``,
``message``, ``reward`` (their weighted sum; null if the sandbox failed), ``rewards`` (name ->
[value, reason]), ``solved`` (whether the hidden tests pass too), ``suspects``, ``tokens``,
``finish_reason``, ``cpu_s``, and with several turns ``earlier`` ([completion, status] of each).
Further processes write their own files, ``rollouts-1.jsonl`` and so on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.errors import ConfigError, InputError
from codegen.evals.statistics import Count, estimate_pass_at_k
from codegen.evals.tasks import PromptStyle, meta_of
from codegen.finetune.recipe import Recipe
from codegen.generation.decoders import find_decoder
from codegen.generation.protocol import Decoder, Request, SamplingParams, settings_of
from codegen.generation.text import TextStream
from codegen.models.chat import end_of_turn, render
from codegen.paths import open_plain
from codegen.records import FinishReason, Sample
from codegen.rewards.base import Scored
from codegen.rewards.judge import Judge, Judged, combine, feedback, metrics_of
from codegen.runs import Journal


def rollouts_path(output: Path, process: int = 0) -> Path:
    """The file of a process."""
    return output / (f"rollouts-{process}.jsonl" if process else "rollouts.jsonl")


def cut_after(path: Path, step: int) -> None:
    """Removes the lines of later steps, which will be repeated, and an incomplete last line.

    Raises:
        InputError: if the path is a link, or not a plain file.
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
                    f"{path} is damaged after byte {end}.", "Choose another output."
                ) from None
            end += len(line)
        file.truncate(end)


@dataclass
class _Row:
    """A sample that is drawn and judged.

    Attributes:
        index: its number among the problem's samples of this step.
        batch, at: the batch of its last verdict, and its place there.
        ended: whether the model ended its answer itself.
        earlier: completion and status of earlier turns.
    """

    request: Request
    index: int
    batch: Future[list[Judged]] | None = None
    at: int = 0
    ended: bool = False
    earlier: list[tuple[str, str]] = field(default_factory=list)

    @property
    def judged(self) -> Judged:
        assert self.batch is not None
        return self.batch.result()[self.at]


class Rollouts:
    """Takes completions as they are drawn, and is the reward function of a trainer.

    Args:
        requests: problem -> the model's prompt.
        style: the prompt style, which also reads the answers.
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
        params = SamplingParams(
            recipe.grpo.max_new_tokens, recipe.grpo.temperature, recipe.grpo.top_p, recipe.seed
        )
        self.settings = settings_of(recipe.model, params, Decoder(recipe.decoder))
        self.rows: list[_Row] = []
        self._expected: list[int] = []  # the rows whose completions are drawn next
        self._eos: frozenset[int] = frozenset()

    def begin(self, problem_ids: Sequence[str], eos: Collection[int]) -> None:
        """Begins a batch of samples.

        Args:
            problem_ids: the problem of each.
            eos: tokens that end a completion.
        """
        drawn: dict[str, int] = {}
        self.rows = []
        for problem_id in problem_ids:
            index = drawn[problem_id] = drawn.get(problem_id, -1) + 1
            self.rows.append(_Row(self.requests[problem_id], index))
        self._expected = list(range(len(self.rows)))
        self._eos = frozenset(eos)

    def take(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Takes the next completions, and has them judged in the background.

        Args:
            prompts, drawn: token ids of each.

        Returns:
            The tokens of each up to its stop string.
        """
        numbers, self._expected = self._expected[: len(drawn)], self._expected[len(drawn) :]
        kept, samples = [], []
        for number, prompt, tokens in zip(numbers, prompts, drawn, strict=True):
            ids, sample = self._sample(self.rows[number], prompt, tokens)
            kept.append(ids)
            samples.append(sample)
        batch = self.judge.start(samples)
        for at, number in enumerate(numbers):
            self.rows[number].batch, self.rows[number].at = batch, at
        return kept

    def _sample(
        self, row: _Row, prompt: Sequence[int], tokens: Sequence[int]
    ) -> tuple[list[int], Sample]:
        stops = self.decoder.stops(row.request.stop)
        stream = TextStream(
            self.tokenizer.backend_tokenizer, prompt, stops=stops, marks=row.request.marks
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
        row.ended = reason == "eos"
        completion = self.decoder.completion(
            0,
            replace(row.request, index=row.index),
            stream.text,
            reason,
            meta=meta_of(self.style),
            prompt_tokens=len(prompt),
            completion_tokens=len(kept),
        )
        return kept, completion.sample(self.settings)

    # --- several turns ---------------------------------------------------------------------------

    def converse(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Draws completions in turns: the answer to a program that fails is its verdict.

        The model sees the kind of failure and the failing input, never the expected result. This is
        TRL's ``rollout_func``; ``env_mask`` keeps the messages out of the loss.
        """
        prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
        group = self.recipe.grpo.group
        completions, logprobs = trainer._generate_single_turn(prompt_ids, None, {}, group)
        masks = [[1] * len(ids) for ids in completions]
        numbers = list(range(len(self.rows)))
        for _ in range(1, self.recipe.grpo.turns):
            numbers = [n for n in numbers if self.rows[n].ended and self._fails(self.rows[n])]
            if not numbers:
                break
            messages = [self.message_tokens(feedback(self.rows[n].judged)) for n in numbers]
            for number in numbers:
                row = self.rows[number]
                row.earlier.append((row.judged.sample.completion, row.judged.verdict.status))
            self._expected = numbers
            contexts = [
                [*prompt_ids[n], *completions[n], *message]
                for n, message in zip(numbers, messages, strict=True)
            ]
            drawn, logs = trainer._generate_single_turn(contexts, None, {}, 1)
            for at, (number, message) in enumerate(zip(numbers, messages, strict=True)):
                completions[number] = [*completions[number], *message, *drawn[at]]
                masks[number] += [0] * len(message) + [1] * len(drawn[at])
                if logprobs is not None and logs is not None:
                    logprobs[number] = [*logprobs[number], *[0.0] * len(message), *logs[at]]
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": completions,
            "logprobs": logprobs,
            "env_mask": masks,
        }

    @staticmethod
    def _fails(row: _Row) -> bool:
        return row.judged.verdict.status not in ("passed", "infra_error", "bad_test")

    def message_tokens(self, message: str) -> list[int]:
        """The tokens of a user's message after an answer, up to where the next answer begins.

        Raises:
            ConfigError: if the chat template renders an answer differently once others follow.
        """
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        more = [*turns, {"role": "user", "content": message}]
        before = render(self.tokenizer, turns, opens=False)
        after = render(self.tokenizer, more)
        end = self.tokenizer.decode(end_of_turn(self.tokenizer)[-1:])
        head, found, _ = before.rpartition(end)
        if not found or not after.startswith(head + end):
            raise ConfigError(
                "The model's chat template renders answers differently once others follow, so a "
                "conversation's tokens cannot be continued.",
                "Set grpo.turns: 1.",
            )
        return self.tokenizer(after[len(head + end) :], add_special_tokens=False).input_ids

    # --- rewards ----------------------------------------------------------------------------------

    def __call__(
        self,
        completion_ids: Sequence[Sequence[int]],
        log_metric: Any,
        trainer_state: Any,
        **_: Any,
    ) -> list[float | None]:
        """The reward of each sample of the batch, in TRL's form; writes the records.

        Raises:
            ConfigError, InputError, CodegenError: see :func:`codegen.rewards.rewards_of`.
        """
        if self._expected:  # the trainer did not call ``take``
            self.take([[] for _ in completion_ids], completion_ids)
        judged = [row.judged for row in self.rows]
        totals, parts = combine(judged, self.recipe.grpo.rewards)
        for name, value in metrics_of(judged, parts).items():
            log_metric(name, value)
        for k, value in self._pass_at_k(judged).items():
            log_metric(f"solved@{k}", value)
        step = trainer_state.global_step + 1
        self.journal.append(
            *(
                self._line(step, row, total, {name: parts[name][n] for name in parts})
                for n, (row, total) in enumerate(zip(self.rows, totals, strict=True))
            )
        )
        return totals

    def _pass_at_k(self, judged: Sequence[Judged]) -> dict[int, float]:
        """pass@k of the batch by all tests, k being the smallest number of samples per problem."""
        groups: dict[str, list[bool]] = {}
        for one in judged:
            if one.solved is not None:
                groups.setdefault(one.sample.problem_id, []).append(one.solved)
        counts = [Count(len(solved), sum(solved)) for solved in groups.values()]
        fewest = min((count.n for count in counts), default=0)
        k = min(fewest, self.recipe.grpo.group)
        found = estimate_pass_at_k(counts, k) if k > 1 else None
        return {k: found.value} if found else {}

    @staticmethod
    def _line(step: int, row: _Row, total: float | None, rewards: Mapping[str, Scored]) -> str:
        judged = row.judged
        sample, verdict = judged.sample, judged.verdict
        line: dict[str, Any] = {
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
        if row.earlier:
            line["earlier"] = row.earlier
        return json.dumps(line)
