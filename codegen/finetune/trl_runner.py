"""Objectives trained with TRL: preferences (DPO) and reinforcement learning (GRPO).

TRL's trainers are subclasses of transformers' Trainer, so settings, checkpoints, curves and the
saved model are the same as for SFT; a section's ``trl`` has settings specific to TRL.

``objective: dpo`` (arXiv 2305.18290) compares each answer's likelihood with its initial value, so
it needs the initial model: the model without its adapter or, with ``method: full``, a second copy.
Prompts and answers are tokenized as in SFT and at inference; TRL's own dataset preparation is not
used.

``objective: grpo`` (arXiv 2402.03300) uses ``batch_size`` problems per step and a group of samples
for each; a sample's advantage is its reward minus the group's mean. The sandbox tests programs
while the model generates the next ones. A step's problems depend only on the seed and the step, so
runs can be resumed and extended. Samples, verdicts and rewards of every step are kept in
``rollouts.jsonl`` in the run's directory, one line per sample in step order: ``step`` (from 1),
``problem_id``, ``index``, ``completion``, ``program``, ``status``, ``trust``, ``message``,
``reward`` (weighted sum; null if the sandbox failed), ``rewards`` (name -> [value, reason]),
``solved`` (whether the hidden tests also pass), ``suspects``, ``tokens``, ``finish_reason`` and
``cpu_s``. Other processes write ``rollouts-1.jsonl`` and so on.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from codegen.core import plugins
from codegen.core.errors import ConfigError, InputError, in_one_line, plural
from codegen.core.generation import Decoder, Request, SamplingParams, settings_of
from codegen.core.paths import open_plain
from codegen.core.records import FinishReason, Sample
from codegen.core.runs import Journal
from codegen.evals import tasks
from codegen.evals.statistics import Count, estimate_pass_at_k
from codegen.evals.tasks import PromptStyle, meta_of
from codegen.finetune.dataset import read_pairs
from codegen.finetune.encode import TextEncoder, set_template_arguments
from codegen.finetune.recipe import Recipe
from codegen.finetune.sft import (
    OnStep,
    RunCallback,
    Say,
    TrainedModel,
    keep_tensorboard_in,
    run_trainer,
    training_options,
)
from codegen.finetune.trainable import adapter_config, load_model, mark_exits, own_optimizer
from codegen.generation.decoders import find_decoder
from codegen.generation.detokenize import TextStream
from codegen.models import LoadedModel
from codegen.models.chat import chat_prompt, require_template
from codegen.rewards.builtin import Scored
from codegen.rewards.judge import Judge, TestedSample, combine, metrics_of

Pair = dict[str, list[int]]


def trl_config(
    kind: Any,
    recipe: Recipe,
    loaded: LoadedModel,
    own: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Any:
    """Builds a TRL configuration, such as ``GRPOConfig``, from a recipe.

    Args:
        recipe: recipe with the general settings.
        own: settings from the objective's section of the recipe.
        given: the section's ``trl``, settings by TRL's names.

    Raises:
        ConfigError: for a name that is unknown to TRL or that the recipe sets, or a value that TRL
            rejects.
    """
    section = f"{recipe.objective}.trl"
    decided = {
        **training_options(recipe, Path(recipe.output), loaded),
        "gradient_checkpointing": recipe.gradient_checkpointing,
        **own,
    }
    # TRL uses transformers' deprecated names for every sample.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    if twice := sorted(set(given) & set(decided)):
        raise ConfigError(f"{section}.{twice[0]} is set by the recipe.", "Remove it.")
    with _refusals(kind.__name__, ValueError, TypeError):
        return kind(**decided, **given)


@contextlib.contextmanager
def _refusals(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Converts errors of these kinds from a TRL class to a ConfigError."""
    try:
        yield
    except kinds as error:
        raise ConfigError(f"TRL's {name} rejects these settings: {in_one_line(error)}.") from None


def batch_sizes(recipe: Recipe, rows: int) -> dict[str, int]:
    """Returns TRL's settings that divide a step's rows among forward passes and processes.

    Raises:
        ConfigError: if the rows cannot be divided evenly.
    """
    at_once = min(recipe.micro_batch_size, rows)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if rows % (at_once * processes):
        samples = f", so {rows} samples per step," if rows != recipe.batch_size else ""
        times = f", times {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"batch_size {recipe.batch_size}{samples} is not a multiple of micro_batch_size "
            f"{at_once}{times}.",
            f"Set a multiple. Objective {recipe.objective} needs equal-sized forward passes.",
        )
    return {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": rows // (at_once * processes),
    }


def make_trl_trainer(
    kind: Any, loaded: LoadedModel, recipe: Recipe, arguments: Any, **own: Any
) -> Any:
    """Builds a TRL trainer for the recipe's model, adapter and optimizer.

    Args:
        arguments: configuration from :func:`trl_config`.

    Raises:
        ConfigError: for settings that TRL rejects, ``lora.targets`` that match no layer, or Muon
            with an adapter, which TRL adds after creating the optimizer.
    """
    if recipe.optimizer == "muon" and recipe.method != "full":
        raise ConfigError(
            f"optimizer: muon does not support adapters with objective: {recipe.objective}.",
            "Choose another optimizer, or method: full.",
        )
    with _refusals(kind.__base__.__name__, ValueError):
        return kind(
            **own,
            model=loaded.model,
            args=arguments,
            processing_class=loaded.tokenizer,
            optimizers=(own_optimizer(loaded.model, recipe), None),
            peft_config=None if recipe.method == "full" else adapter_config(recipe.lora),
        )


def _load(recipe: Recipe) -> LoadedModel:
    loaded = load_model(
        recipe.model, method=recipe.method, dtype=recipe.dtype, decoder=recipe.decoder
    )
    mark_exits(loaded.model, (), recipe.loss)
    return loaded


def train_with(
    trainer: Any,
    loaded: LoadedModel,
    recipe: Recipe,
    output: Path,
    checkpoint: Path | None,
    counts: dict[str, Any],
    on_step: OnStep | None,
    say: Say,
) -> TrainedModel:
    """Runs a TRL trainer from a checkpoint to the end.

    Args:
        trainer: trainer before its first step.
        recipe: the run's recipe, with ``steps`` set.
        output, checkpoint, on_step, say: see :func:`codegen.finetune.sft.train_sft`.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(RunCallback(recipe, output, on_step))
    keep_tensorboard_in(trainer, output)
    seconds, first = run_trainer(trainer, checkpoint, say, prints=True)
    seen = 0 if first else int(trainer.state.num_input_tokens_seen)
    return TrainedModel(trainer, loaded, recipe, counts, seconds, seen)


class _PairTrainer(DPOTrainer):
    """TRL's trainer on pairs that are already encoded."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def train_dpo(
    recipe: Recipe, output: Path, checkpoint: Path | None, on_step: OnStep | None, say: Say
) -> TrainedModel:
    """Trains a DPO recipe; see :func:`codegen.finetune.sft.train_sft`.

    Raises:
        ConfigError, InputError, ModelError: for unsuitable settings, data or models.
    """
    loaded = _load(recipe)
    set_template_arguments(loaded.tokenizer, recipe.chat_template_kwargs)
    pairs, counts = read_encoded_pairs(recipe, loaded.tokenizer)
    recipe = recipe.for_examples(len(pairs))
    left_out = ", ".join(f"{n} {reason}" for reason, n in counts["dropped"].items())
    say(
        f"{plural(len(pairs), 'pair')}, {plural(counts['tokens'], 'token')}"
        + (f"; dropped: {left_out}" * bool(left_out))
    )
    settings = recipe.dpo
    config = trl_config(
        DPOConfig,
        recipe,
        loaded,
        {
            **batch_sizes(recipe, recipe.batch_size),
            "beta": settings.beta,
            "max_length": recipe.max_length if recipe.overlong == "truncate" else None,
        },
        settings.trl,
    )
    loaded.model.config.use_cache = False
    needs_reference = recipe.method == "full" and not config.precompute_ref_log_probs
    reference = _load(recipe).model if needs_reference else None
    torch.manual_seed(recipe.seed)  # for the adapter's initial weights
    trainer = make_trl_trainer(
        _PairTrainer,
        loaded,
        recipe,
        config,
        ref_model=reference,
        train_dataset=datasets.Dataset.from_list(pairs),
    )
    return train_with(trainer, loaded, recipe, output, checkpoint, counts, on_step, say)


def read_encoded_pairs(recipe: Recipe, tokenizer: Any) -> tuple[list[Pair], dict[str, Any]]:
    """Returns the recipe's pairs as token ids (``prompt_ids``, ``chosen_ids``, ``rejected_ids``),
    and their counts.

    Raises:
        InputError: if a row is not a pair, or no pair is left.
    """
    encoder = TextEncoder(tokenizer, recipe.format, turns=recipe.turns)
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    cut = tokens = answers = 0
    for _, path in recipe.sources:
        for where, *records in read_pairs(path, recipe.limit):
            encoded = [encoder.examples(record) for record in records]
            if any(len(examples) != 1 for examples in encoded):
                raise InputError(
                    f"{where}: the template splits an answer into several texts.",
                    "Set turns: all, or end the prompt before the last answer.",
                )
            texts = [examples[0].ids for examples in encoded]
            first = encoded[0][0].nodes[0] + 1  # start of the answer
            chosen, rejected = (ids[first:] for ids in texts)
            longest = max(map(len, texts))
            if chosen == rejected:
                dropped["equal answers"] += 1
            elif first >= recipe.max_length or (
                longest > recipe.max_length and recipe.overlong == "drop"
            ):
                dropped["too long"] += 1
            else:
                cut += longest > recipe.max_length
                tokens += sum(min(len(ids), recipe.max_length) for ids in texts)
                answers += sum(min(len(ids), recipe.max_length) - first for ids in texts)
                prompt = texts[0][:first]
                pairs.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    if not pairs:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "no row"
        paths = ", ".join(path for _, path in recipe.sources)
        raise InputError(
            f"No usable pair in {paths} ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )
    counts = {
        "examples": len(pairs),
        "tokens": tokens,
        "trained_tokens": answers,
        "dropped": dict(dropped),
        "cut": cut,
    }
    return pairs, counts


def train_grpo(
    recipe: Recipe, output: Path, checkpoint: Path | None, on_step: OnStep | None, say: Say
) -> TrainedModel:
    """Trains a GRPO recipe; see :func:`codegen.finetune.sft.train_sft`.

    Raises:
        ConfigError, InputError: for settings that the task, the model or TRL does not support.
        SandboxError: if this machine does not support the sandbox.
    """
    settings = recipe.grpo
    task = tasks.load(settings.task, settings.source or None)
    problems = list(task.problems())[: recipe.limit or None]
    style = tasks.find_style(settings.style or task.style or recipe.format)
    for name in settings.rewards:
        plugins.load("rewards", name)
    requests = {problem.id: task.request(problem, style, 0) for problem in problems}
    recipe = recipe.for_examples(len(problems))
    samples = plural(recipe.batch_size * settings.group, "sample")
    say(f"{plural(len(problems), 'problem')}, {samples} per step.")
    loaded = _load(recipe)
    if style.chat:
        require_template(loaded.tokenizer)
        set_template_arguments(loaded.tokenizer, recipe.chat_template_kwargs)
    _check_lengths(recipe, loaded, list(requests.values()))
    arguments = trl_config(GRPOConfig, recipe, loaded, _grpo_settings(recipe), settings.trl)
    rows = [
        {"prompt": _prompt(request), "problem_id": problem_id}
        for problem_id, request in requests.items()
    ]
    order = [
        number for step in range(recipe.steps) for number in problems_of(step, recipe, len(rows))
    ]
    path = rollouts_path(output, arguments.process_index)
    cut_after(path, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    judge = Judge(
        task,
        hidden=settings.hidden,
        constants="share" in settings.rewards,
        workers=settings.workers,
        trust=settings.trust,
    )
    with judge, Journal(path, "output") as journal:
        _check_trust(judge, problems, say)
        rollouts = Rollouts(judge, journal, recipe, loaded.tokenizer, requests, style)
        trainer = make_trl_trainer(
            JudgingTrainer,
            loaded,
            recipe,
            arguments,
            rollouts=rollouts,
            reward_funcs=[rollouts],
            train_dataset=datasets.Dataset.from_list(rows).select(order),
        )
        reference: Any = trainer.ref_model
        if reference is not None:  # TRL loads it from disk, without an adapter
            reference.load_state_dict(loaded.model.state_dict())
        counts = {"examples": len(problems), "dropped": {}}
        trained = train_with(trainer, loaded, recipe, output, checkpoint, counts, on_step, say)
    if judge.failures:
        say(f"The sandbox failed on {plural(judge.failures, 'program')}; they got no reward.")
    return trained


def _check_trust(judge: Judge, problems: Sequence[Any], say: Say) -> None:
    """Reports the number of problems whose tests a program could forge.

    Raises:
        ConfigError: if this applies to all problems.
    """
    refused = [problem for problem in problems if judge.refuses(problem)]
    if len(refused) == len(problems):
        raise ConfigError(
            f"The tests of all {len(problems)} problems have less trust than {judge.trust}: "
            "a program could forge their results.",
            "Rewrite the tests as plain assertions, or allow it: -o grpo.trust=in_sandbox.",
        )
    if refused:
        say(
            f"{len(refused)} of {plural(len(problems), 'problem')} get no reward: their tests "
            f"have less trust than {judge.trust} (grpo.trust)."
        )


class JudgingTrainer(GRPOTrainer):
    """TRL's trainer, with completions tested as soon as they are generated.

    The two methods override TRL's private ones. If a later version does not call them, completions
    are tested when their rewards are computed, with the same result.

    Args:
        rollouts: collector of the completions, and the reward function.
        given: arguments of ``trl.GRPOTrainer``.
    """

    def __init__(self, rollouts: Rollouts, **given: Any) -> None:
        self.rollouts = rollouts
        super().__init__(**given)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self.rollouts.begin([row["problem_id"] for row in inputs], self.eos_token_ids)
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> Any:
        drawn, logs = super()._generate_single_turn(
            prompt_ids, images, multimodal_fields, num_generations, has_tool_images
        )
        kept = self.rollouts.take(prompt_ids, drawn)
        if logs is not None:
            logs = [log[: len(ids)] for log, ids in zip(logs, kept, strict=True)]
        return kept, logs


def problems_of(step: int, recipe: Recipe, count: int) -> list[int]:
    """Returns the problem indices of a step; each epoch covers all problems once, shuffled.

    Args:
        step: step index, from 0.
    """
    positions = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    orders = {
        turn: np.random.default_rng([recipe.seed, turn]).permutation(count)
        for turn in {position // count for position in positions}
    }
    return [int(orders[position // count][position % count]) for position in positions]


def _check_lengths(recipe: Recipe, loaded: LoadedModel, requests: Sequence[Request]) -> None:
    """Raises a ConfigError if prompts and samples exceed the model's context length."""
    tokenizer = loaded.tokenizer
    longest = max(
        len(chat_prompt(tokenizer, one.prompt) if one.chat else tokenizer(one.prompt).input_ids)
        for one in requests
    )
    most = recipe.grpo.max_new_tokens
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if limit and longest + most > limit:
        raise ConfigError(
            f"The longest prompt has {longest} tokens, samples have up to {most}; {recipe.model} "
            f"supports {limit} in total.",
            "Lower grpo.max_new_tokens.",
        )


def _prompt(request: Request) -> str | list[dict[str, str]]:
    if not request.chat:
        return request.prompt
    turns = [{"role": "user", "content": request.prompt}]
    return [*turns, {"role": "assistant", "content": request.prefill}] if request.prefill else turns


def _grpo_settings(recipe: Recipe) -> dict[str, Any]:
    """Returns TRL's GRPO settings from the recipe."""
    settings = recipe.grpo
    return {
        **batch_sizes(recipe, recipe.batch_size * settings.group),
        "num_generations": settings.group,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "shuffle_dataset": False,
    }


def rollouts_path(output: Path, process: int = 0) -> Path:
    """Returns the rollouts file of a process."""
    return output / (f"rollouts-{process}.jsonl" if process else "rollouts.jsonl")


def cut_after(path: Path, step: int) -> None:
    """Removes the lines of steps after ``step``, which are rerun, and an incomplete last line.

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
        self._batch: Future[list[TestedSample]] | None = None
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
        """Returns the reward of each sample in the batch; writes the records.

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

    def _pass_at_k(self, judged: Sequence[TestedSample]) -> dict[int, float]:
        """Returns the batch's pass@k on all tests; k is the minimum of the samples per problem."""
        groups: dict[str, list[bool]] = {}
        for one in judged:
            if one.solved is not None:
                groups.setdefault(one.sample.problem_id, []).append(one.solved)
        counts = [Count(len(solved), sum(solved)) for solved in groups.values()]
        fewest = min((count.n for count in counts), default=0)
        k = min(fewest, self.recipe.grpo.group)
        estimate = estimate_pass_at_k(counts, k) if k > 1 else None
        return {k: estimate.value} if estimate else {}


def _line(
    step: int, judged: TestedSample, total: float | None, rewards: Mapping[str, Scored]
) -> str:
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
