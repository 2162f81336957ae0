"""``objective: grpo``: the model's own programs, rewarded for passing tests, by TRL's GRPOTrainer.

Each step draws ``batch_size`` problems and a group of samples of each; a sample's advantage is its
reward minus its group's mean (GRPO, arXiv 2402.03300). The sandbox judges programs while the model
draws the next ones. The problems of a step depend on the seed and the step alone, so runs can be
resumed and extended. Samples, verdicts and rewards of every step are kept (:mod:`.rollouts`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset as Rows
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from codegen import plugins
from codegen.errors import ConfigError, plural
from codegen.evals import tasks
from codegen.evals.tasks import PromptStyle, Task
from codegen.finetune.conversations import set_template_arguments
from codegen.finetune.handover import batch_sizes, make_trl_trainer, train_with, trl_config
from codegen.finetune.model import load_model
from codegen.finetune.plan import steps_of
from codegen.finetune.recipe import Recipe
from codegen.finetune.result import TrainingResult, last_whole_checkpoint
from codegen.finetune.rollouts import Rollouts, cut_after, rollouts_path
from codegen.finetune.trainer import OnStep
from codegen.generation.protocol import Request
from codegen.models import LoadedModel
from codegen.models.chat import chat_prompt, require_template
from codegen.rewards.judge import Judge
from codegen.runs import Journal


def fit(
    recipe: Recipe,
    output: Path,
    on_step: OnStep | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Trains, or resumes; see :func:`codegen.finetune.run.train`.

    Raises:
        ConfigError, InputError: for settings that do not fit the task, the model or TRL.
        SandboxError: if this machine has no sandbox.
    """
    settings = recipe.grpo
    task = tasks.load(settings.task, settings.source or None)
    problems = list(task.problems())[: settings.problems or None]
    style = _style(recipe, task)
    for name in settings.rewards:
        plugins.load("rewards", name)
    requests = {problem.id: task.request(problem, style, 0) for problem in problems}
    recipe = recipe.model_copy(update={"steps": steps_of(recipe, len(problems))})
    samples = plural(recipe.batch_size * settings.group, "sample")
    say(f"{plural(len(problems), 'problem')}, {samples} per step.")
    loaded = load_model(recipe)
    if style.chat:
        require_template(loaded.tokenizer)
        set_template_arguments(loaded.tokenizer, recipe.chat_template_kwargs)
    _check_lengths(recipe, loaded, list(requests.values()))
    arguments = trl_config(GRPOConfig, recipe, loaded, _own(recipe), settings.trl)
    rows = [
        {"prompt": _prompt(request), "problem_id": problem_id}
        for problem_id, request in requests.items()
    ]
    order = [
        number for step in range(recipe.steps) for number in problems_of(step, recipe, len(rows))
    ]
    checkpoint = last_whole_checkpoint(output)
    path = rollouts_path(output, arguments.process_index)
    cut_after(path, int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    judge = Judge(
        task,
        hidden=settings.hidden,
        constants="share" in settings.rewards,
        workers=settings.workers,
        cpu_s=settings.cpu_s,
    )
    with judge, Journal(path, "output") as journal:
        rollouts = Rollouts(judge, journal, recipe, loaded.tokenizer, requests, style)
        trainer = make_trl_trainer(
            JudgingTrainer,
            loaded,
            recipe,
            arguments,
            rollouts=rollouts,
            reward_funcs=[rollouts],
            train_dataset=Rows.from_list(rows).select(order),
            rollout_func=rollouts.converse if settings.turns > 1 else None,
        )
        reference: Any = trainer.ref_model
        if reference is not None:  # TRL reads it from disk, without an adapter
            reference.load_state_dict(loaded.model.state_dict())
        counts = {"examples": len(problems), "dropped": {}}
        result = train_with(
            trainer, loaded, recipe, output, counts, value="reward", on_step=on_step, say=say
        )
    if judge.failures:
        say(f"The sandbox failed with {plural(judge.failures, 'program')}; no reward was given.")
    return result


class JudgingTrainer(GRPOTrainer):
    """TRL's trainer, whose completions are judged as soon as they are drawn.

    The two methods override TRL's private ones. If a later version does not call them, completions
    are judged when their rewards are computed, with the same result.

    Args:
        rollouts: takes the completions; also the reward function.
        given: see ``trl.GRPOTrainer``.
    """

    def __init__(self, rollouts: Rollouts, **given: Any) -> None:
        self.rollouts = rollouts
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
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
        most = self.rollouts.recipe.grpo.sample_rows
        size = num_generations * max(1, most // num_generations) if most else len(prompt_ids)
        completions: list[list[int]] = []
        logprobs: list[Any] | None = None
        for at in range(0, len(prompt_ids), size):
            prompts = prompt_ids[at : at + size]
            drawn, logs = super()._generate_single_turn(
                prompts, images, multimodal_fields, num_generations, has_tool_images
            )
            kept = self.rollouts.take(prompts, drawn)
            completions += kept
            if logs is not None:
                cut = [log[: len(ids)] for log, ids in zip(logs, kept, strict=True)]
                logprobs = [*(logprobs or []), *cut]
        return completions, logprobs


def problems_of(step: int, recipe: Recipe, count: int) -> list[int]:
    """The numbers of the problems of a step; a pass over all has each once, in random order.

    Args:
        step: from 0.
    """
    places = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    orders = {
        turn: np.random.default_rng([recipe.seed, turn]).permutation(count)
        for turn in {place // count for place in places}
    }
    return [int(orders[place // count][place % count]) for place in places]


def _style(recipe: Recipe, task: Task[Any]) -> PromptStyle:
    style = tasks.find_style(recipe.grpo.style or task.style or recipe.format)
    if recipe.grpo.turns > 1 and not style.chat:
        raise ConfigError(
            f"grpo.turns needs a conversation, which the prompt style {style.name} is not.",
            "Set grpo.turns: 1, or a prompt style with the chat template.",
        )
    return style


def _check_lengths(recipe: Recipe, loaded: LoadedModel, requests: Sequence[Request]) -> None:
    """Refuses prompts and samples that the model cannot hold."""
    tokenizer = loaded.tokenizer
    longest = max(
        len(chat_prompt(tokenizer, one.prompt) if one.chat else tokenizer(one.prompt).input_ids)
        for one in requests
    )
    most = recipe.grpo.max_new_tokens * recipe.grpo.turns
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if limit and longest + most > limit:
        raise ConfigError(
            f"The longest prompt has {longest} tokens, and samples up to {most}; {recipe.model} "
            f"supports {limit} in all.",
            "Lower grpo.max_new_tokens or grpo.turns.",
        )


def _prompt(request: Request) -> str | list[dict[str, str]]:
    return [{"role": "user", "content": request.prompt}] if request.chat else request.prompt


def _own(recipe: Recipe) -> dict[str, Any]:
    """TRL's settings from the recipe."""
    settings = recipe.grpo
    return {
        **batch_sizes(recipe, recipe.batch_size * settings.group),
        "num_generations": settings.group,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "beta": settings.beta,
        "loss_type": settings.loss_type,
        "shuffle_dataset": False,
    }
