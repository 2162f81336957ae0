"""Recipes: a fine-tuning run as a typed YAML file.

All keys, types and ranges are validated before loading anything heavy (:mod:`codegen.core.config`);
errors name the file, the key, the value and the allowed values. A section has the settings of one
method or one part of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from codegen.core.config import Config, Text, parse_config, read_config, setting
from codegen.core.errors import ConfigError, InputError, nearest

NEW = "new"  # value of `model` for random weights
BUILT_IN = Path(__file__).parents[1] / "recipes"
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Format = Literal["chat", "plain"]
Method = Literal["lora", "qlora", "full"]
Turns = Literal["auto", "all", "split", "last"]
Overlong = Literal["drop", "truncate"]
Isolation = Literal["example", "chunk", "none"]
Attention = Literal["auto", "dense"]
Odds = Literal["uniform", "grow_linear", "grow_p2"]


def _refuse_if(wrong: object, message: str, remedy: str = "") -> None:
    if wrong:
        raise ConfigError(message, remedy)


def _section(kind: Any, description: str) -> Any:
    """Returns a field for a section, which defaults to the section's defaults."""
    return Field(default_factory=lambda: kind(), description=description)


class Encoding(NamedTuple):
    """The settings that determine the tokens of a row.

    Attributes:
        systems: domain -> system prompt.
        infilling: whether the model inserts tokens anywhere, not only at the end.
        pieces: shortest chunk and random seed of ``curriculum.mode: decompose``, else empty.
    """

    format: Format
    turns: Turns
    systems: Mapping[str, str]
    infilling: bool
    max_length: int
    overlong: Overlong
    pieces: tuple[int, ...]


class LoRA(Config):
    """Low-rank adapters (Hu et al. 2021) on linear layers."""

    rank: int = setting(16, "rank of the update", ge=1, le=1024)
    alpha: int = setting(32, "scaling: the update is multiplied by alpha / rank", ge=1)
    dropout: float = setting(0.0, "dropout on the adapter's input", ge=0, le=0.9)
    targets: Text | Texts = setting("all-linear", "'all-linear' or layer names")
    dora: bool = setting(False, "also train the magnitude of each column (DoRA)")
    adapter: Text = setting("", "directory of an adapter of the model to continue training")


class Mixture(Config):
    """Mixture-of-Instructions (arXiv 2404.18410); the settings are independent."""

    shares: dict[Text, float] = setting({}, "fraction of the examples from each domain")
    balance: bool = setting(False, "use chunks of one example per domain; small domains repeat")
    order: Literal["fixed", "random", "default_first"] = setting(
        "fixed", "order of the domains in a chunk"
    )
    systems: dict[Text, Text] = setting({}, "system prompt of each domain, for format: chat")


class Curriculum(Config):
    """Dataset Decomposition (arXiv 2405.13226)."""

    mode: Literal["none", "bucket", "decompose"] = setting(
        "none", "bucket: whole examples by length; decompose: chunks of 2^k tokens"
    )
    tokens_per_step: int = setting(8192, "tokens per step, with padding; replaces batch_size", ge=8)
    micro_batch_tokens: int = setting(2048, "padded tokens; replaces micro_batch_size", ge=8)
    least: int = setting(32, "shortest length in tokens", ge=2)
    odds: Odds = setting("grow_p2", "length odds; all except uniform start with short lengths")
    cycles: int = setting(1, "repetitions of the curriculum", ge=1, le=10_000)


class SequenceMatch(Config):
    """SequenceMatch loss (arXiv 2306.05426), for texts with or without backspaces."""

    alpha: float = setting(0.01, "weight of the penalty", ge=0, le=100)
    gamma: float = setting(0.998, "discount factor", ge=0.5, le=1)
    divergence: Literal["chi2_mixture", "chi2", "kl"] = setting(
        "chi2_mixture", "the mixture also uses the model's own samples"
    )
    terminal: Literal["eos", "zero"] = setting("eos", "value of the terminal state")
    ramp: float = setting(0.1, "fraction of steps for the alpha warmup", ge=0, le=1)
    buffer: int = setting(64, "buffer size in generated samples, for chi2_mixture", ge=0)
    sample_every: int = setting(50, "steps between sampling rounds", ge=1)
    samples: int = setting(16, "generated samples per round", ge=1)
    max_new_tokens: int = setting(0, "maximum actions per sample; 0: the longest example's", ge=0)


class Sorted(Config):
    """Sorted fine-tuning of a nested draft (S2D, arXiv 2407.01955)."""

    exits: tuple[int, ...] = setting(
        (), "depths of the sub-models, ascending; the draft ends at the last one"
    )

    def _check(self) -> None:
        exits = list(self.exits)
        _refuse_if(
            exits != sorted(set(exits)) or (exits and exits[0] < 1),
            f"sorted.exits is {exits}; depths must ascend from 1.",
            "Set for example [2, 4, 6].",
        )


class Network(Config):
    """A model with random weights, for ``model: new``."""

    kind: Literal["insertion", "flexible_masks", "fixed_masks", "llama"] = setting(
        "insertion",
        "insert tokens anywhere (ILM), insert and fill masks (FlexMDM), fill a fixed "
        "number of masks (MDM), or generate left to right",
    )
    layers: int = setting(4, "number of layers", ge=1, le=100)
    width: int = setting(128, "width of the hidden states", ge=8, le=16384)
    heads: int = setting(4, "attention heads; twice their number must divide width", ge=1, le=256)
    mixes_neighbours: bool = setting(False, "add neighbors' projected embeddings to tokens")
    rope_step: float = setting(
        1.0, "largest rotary angle per token, rad; pi separates odd from even", ge=0.01, le=3.1416
    )
    final_norm: bool = setting(False, "final norm before the heads")
    prefix_apart: bool = setting(False, "encode the prompt once for all deletions")
    match_keys: bool = setting(
        False, "initialize keys as queries, so that equal tokens attend to each other at once"
    )
    tokenizer: Text = setting(
        "words",
        "'words' of the data, 'bpe-N' (BPE with N tokens learned from the data), a "
        "directory or a hub id",
    )
    draws: int = setting(1, "random deletions per example and step", ge=1, le=1024)
    infill_rate: float = setting(
        0.0, "insertion: fraction of draws with all gaps in one span", ge=0, le=1
    )

    def _check(self) -> None:
        _refuse_if(
            self.width % (2 * self.heads),
            f"network.width {self.width} is not a multiple of twice network.heads {self.heads}.",
        )


class Evaluation(Config):
    """Evaluation during training: loss on held-out texts, and exact matches of responses."""

    data: Text | tuple[Text, ...] = setting((), "held-out data, same formats as data")
    every: int = setting(50, "steps between evaluations", ge=1)
    patience: int = setting(0, "stop after N evaluations without a lower loss; 0: never", ge=0)
    keep: Literal["best", "last"] = setting("best", "weights to save at the end")
    answers: int = setting(0, "held-out prompts for exact match at the end", ge=0)
    watch: int = setting(0, "held-out prompts for exact match at each evaluation", ge=0)


class GRPO(Config):
    """Group-relative policy optimization (GRPO, arXiv 2402.03300), on TRL."""

    task: str = setting("", "task whose problems are the prompts: a name or file:PATH")
    source: str = setting("", "task data that replaces the default: a file or data directory")
    style: str = setting("", "prompt style; default: the task's, or format")
    group: int = setting(8, "samples per problem", ge=2, le=1024)
    max_new_tokens: int = setting(256, "longest sample in tokens", ge=1)
    temperature: float = setting(1.0, "sampling temperature", ge=0.01, le=10)
    rewards: dict[Text, float] = setting(
        {"passed": 1.0}, "reward weights by name (list: codegen plugins)"
    )
    hidden: float = setting(
        0.0, "fraction of each problem's tests hidden from rewards", ge=0, le=0.9
    )
    workers: int = setting(0, "sandboxes that run tests; 0: one per core", ge=0, le=1024)
    trust: Literal["isolated", "blinded", "partly_blinded", "in_sandbox"] = setting(
        "blinded", "minimum trust; problems whose tests are easier to forge get no reward"
    )
    trl: dict[Text, Any] = setting({}, "other settings of TRL's GRPOConfig, such as beta")

    def _check(self) -> None:
        _refuse_if(
            not any(self.rewards.values()),
            "grpo.rewards needs a nonzero weight.",
            "Set at least one, such as passed: 1.0.",
        )


class DPO(Config):
    """Direct preference optimization (DPO, arXiv 2305.18290), on TRL."""

    beta: float = setting(0.1, "strength of the constraint to the initial model", gt=0, le=100)
    trl: dict[Text, Any] = setting({}, "other settings of TRL's DPOConfig, such as loss_type")


class Recipe(Config):
    """One fine-tuning run."""

    how_to_list = "List the keys with: codegen finetune lintseq --check"

    model: Text = setting(..., "'embedded', a directory, a hub id, or 'new' for a new network")
    objective: Literal["sft", "dpo", "grpo"] = setting(
        "sft",
        "sft: texts to imitate; dpo: pairs of preferred and rejected answers; grpo: "
        "the model's own samples, rewarded for passing tests (dpo and grpo need trl)",
    )
    data: Text | Texts | dict[Text, Text] = setting(
        (),
        "data directories, JSONL or Parquet files, hub:org/name[:config][:split] or "
        "puzzles; a mapping defines named domains; unset for grpo, which has a task",
    )
    limit: int = setting(0, "maximum rows per path, or problems of grpo's task; 0: all", ge=0)
    output: Text = setting(..., "directory for checkpoints and the result")
    steps: int = setting(0, "optimizer steps; 0 if epochs is set", ge=0)
    epochs: float = setting(0.0, "passes over the examples, instead of steps", ge=0, le=10_000)
    method: Method = setting(
        "lora",
        "trained weights; qlora keeps the base in 4 bits (bitsandbytes; never tested on GPUs)",
    )
    lora: LoRA = _section(LoRA, "adapter settings, for methods lora and qlora")
    merge: bool = setting(False, "save the model with the adapter merged in")
    format: Format = setting("chat", "chat applies the model's chat template to the prompt")
    chat_template_kwargs: dict[Text, Any] = setting(
        {}, "chat template variables; saved with the model"
    )
    turns: Turns = setting(
        "auto",
        "conversations: all answers in one text, one text per answer, or only the last "
        "one; auto splits if the template renders earlier answers differently",
    )
    network: Network = _section(Network, "settings for model: new")
    decoder: Literal["sample", "edit_sequence", "backspace", "insertion"] = setting(
        "sample", "decoder for the model's outputs"
    )
    loss: Literal["mle", "sequencematch", "sorted"] = setting("mle", "training loss")
    dpo: DPO = _section(DPO, "settings for objective: dpo")
    grpo: GRPO = _section(GRPO, "settings for objective: grpo")
    sequencematch: SequenceMatch = _section(SequenceMatch, "settings for loss: sequencematch")
    sorted: Sorted = _section(Sorted, "nested drafts, for loss: sorted and its baseline mle")
    batch_size: int = setting(8, "examples per optimizer step", ge=1, le=65536)
    micro_batch_size: int = setting(2, "rows per forward pass", ge=1, le=4096)
    max_length: int = setting(512, "longest example in tokens", ge=8, le=1_048_576)
    overlong: Overlong = setting("drop", "handling of longer examples, which are counted")
    token_cache: str = setting("", "directory of shared token caches; default: OUTPUT/tokens")
    packing: Literal["none", "best_fit"] = setting(
        "none", "best_fit: pack a step's examples into shared rows"
    )
    row_length: int = setting(0, "tokens of a packed row; 0: derived from max_length", ge=0)
    isolation: Isolation = setting("example", "which examples of a row attend to each other")
    attention: Attention = setting(
        "auto", "auto: attend per causal block where possible, else a dense mask"
    )
    mixture: Mixture = _section(Mixture, "settings for data with several domains")
    curriculum: Curriculum = _section(Curriculum, "curriculum of sequence lengths")
    evaluation: Evaluation = _section(Evaluation, "evaluation on held-out texts")
    report_to: Text | Texts = setting(
        "none", "trackers: trackio, wandb, tensorboard, mlflow or others that Trainer supports"
    )
    push_to: str = setting("", "org/name of a hub repository for the model; private by default")
    optimizer: Literal["adamw", "muon", "adamw_8bit", "adafactor"] = setting(
        "adamw",
        "muon: Muon for the layers' matrices, AdamW otherwise; adamw_8bit needs bitsandbytes",
    )
    learning_rate: float = setting(3e-4, "peak learning rate", ge=0, le=1)
    muon_rate: float = setting(0.02, "Muon learning rate", ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant", "wsd"] = setting(
        "linear",
        "learning rate schedule after warmup; wsd (warmup, stable, decay) decays only at the "
        "end; runs with constant and wsd can be extended",
    )
    decay: float = setting(0.2, "wsd: fraction of the steps for the decay", ge=0, le=1)
    warmup: float = setting(0.03, "linear warmup steps; below 1: fraction of all steps", ge=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "maximum gradient norm", ge=0)
    gradient_checkpointing: bool = setting(False, "recompute activations to save memory")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "dtype of the computation and frozen weights; trained weights stay float32"
    )
    save_every: int = setting(50, "steps between checkpoints", ge=1)
    seed: int = setting(0, "random seed for data order and new weights", ge=0, le=2**32 - 1)

    def _check(self) -> None:
        wrong = "both steps and" if self.steps else "neither steps nor"
        _refuse_if(
            (self.steps > 0) == (self.epochs > 0),
            f"The recipe sets {wrong} epochs.",
            "Set one: steps (optimizer steps) or epochs (passes over the examples).",
        )
        for name, value in self.chat_template_kwargs.items():
            _refuse_if(
                not name.isidentifier() or not isinstance(value, (bool, int, float, str)),
                f"chat_template_kwargs.{name} is {value!r}.",
                "Set template variables to a string, a number, true or false.",
            )
        self._check_objective()
        self._check_data()
        self._check_model()
        self._check_method()

    def _check_objective(self) -> None:
        if self.objective == "sft":
            return
        others = {
            "loss": self.loss != "mle",
            "decoder": self.infilling,
            "model: new": self.model == NEW,
            "packing": self.packing != "none",
            "mixture": self.uses_mixture or self.mixture.shares or self.mixture.systems,
            "curriculum": self.curriculum.mode != "none",
            "sorted": self.sorted.exits,
            "evaluation.data": self.evaluation.data,
            "lora.adapter": self.lora.adapter,
        }
        if self.objective == "grpo":
            others["decoder"] = self.decoder not in ("sample", "edit_sequence")
        used = [name for name, is_used in others.items() if is_used]
        _refuse_if(
            self.objective == "grpo" and not self.grpo.task,
            "objective: grpo needs a task.",
            "Set grpo.task to a task from `codegen eval tasks`, or to file:PROBLEMS.jsonl.",
        )
        _refuse_if(
            used, f"objective: {self.objective} does not support {', '.join(used)}.", "Change it."
        )

    def _check_data(self) -> None:
        needs_none = self.objective == "grpo"
        _refuse_if(
            needs_none and self.data,
            "objective: grpo generates its data from a task's problems.",
            "Remove data; for your own problems set grpo.task: file:PROBLEMS.jsonl.",
        )
        _refuse_if(
            not needs_none and not self.data,
            "the key 'data' is missing.",
            "Set it to data directories, JSONL or Parquet files, or hub:org/name.",
        )
        domains, systems, shares = self.domains, self.mixture.systems, self.mixture.shares
        listed = ", ".join(domains) or "none"
        is_planned = self.curriculum.mode != "none"
        _refuse_if(
            self.uses_mixture and len(domains) < 2,
            "mixture and isolation: chunk need data of at least two domains.",
            "Set data to a mapping of domain names to paths.",
        )
        unknown = next(iter(sorted(set(systems) - set(domains))), "")
        _refuse_if(
            unknown,
            f"mixture.systems has the unknown domain {unknown!r}.",
            f"Choose from the domains of data: {listed}.",
        )
        _refuse_if(
            systems and self.format != "chat",
            "mixture.systems needs format: chat.",
            "Set format: chat, or remove mixture.systems.",
        )
        _refuse_if(
            self.uses_mixture and self.batch_size % len(domains),
            f"batch_size {self.batch_size} is not a multiple of the {len(domains)} domains.",
            "Set batch_size to a multiple.",
        )
        _refuse_if(
            shares and (set(shares) != set(domains) or min(shares.values()) <= 0),
            f"mixture.shares has {', '.join(sorted(shares))}; data has the domains {listed}.",
            "Set a share above 0 for each domain of data.",
        )
        _refuse_if(
            shares and (self.uses_mixture or is_planned or self.epochs),
            "mixture.shares cannot be combined with mixture.balance, isolation: chunk, a "
            "curriculum or epochs.",
            "Remove them, and set steps.",
        )
        _refuse_if(
            self.row_length and not (self.packing != "none" and self.row_length >= self.max_length),
            f"row_length {self.row_length} needs packing: best_fit, and must be at least "
            f"max_length {self.max_length}.",
            "Remove or raise row_length; examples are never split.",
        )
        _refuse_if(
            is_planned and (self.packing != "none" or self.uses_mixture or self.epochs),
            "A curriculum needs steps, and rows of one example each.",
            "Set steps and packing: none; remove mixture.balance and isolation: chunk.",
        )

    def _check_model(self) -> None:
        is_new, is_llama = self.model == NEW, self.network.kind == "llama"
        _refuse_if(
            is_new and self.infilling == is_llama,
            f"network.kind {self.network.kind} does not support decoder: {self.decoder}.",
            "Set decoder: sample." if is_llama else "Set decoder: insertion.",
        )
        _refuse_if(
            is_new and (self.method != "full" or self.format != "plain"),
            "A new model has no weights to adapt and no chat template.",
            "Set method: full and format: plain.",
        )
        others = {
            "packing": self.packing != "none",
            "mixture": self.uses_mixture,
            "curriculum": self.curriculum.mode != "none",
            "loss": self.loss != "mle",
            "attention": self.attention != "auto",
        }
        used = [name for name, is_used in others.items() if is_used and self.infilling]
        _refuse_if(used, f"decoder: insertion does not support {', '.join(used)}.", "Change it.")

    def _check_method(self) -> None:
        match, exits = self.sequencematch, self.sorted.exits
        if self.loss == "sequencematch":
            _refuse_if(
                match.alpha > 0 and match.gamma == 1,
                "sequencematch.gamma must be below 1 unless alpha is 0.",
            )
            _refuse_if(
                self.curriculum.mode == "decompose" or self.isolation != "example",
                "loss: sequencematch needs whole examples.",
                "Set isolation: example, and curriculum.mode: none or bucket.",
            )
        _refuse_if(
            self.loss == "sorted" and not exits,
            "loss: sorted needs sorted.exits.",
            "Set depths, for example [2, 4, 6].",
        )
        _refuse_if(
            exits and self.method != "full",
            "A nested draft is a model, not an adapter.",
            "Set method: full.",
        )

    @property
    def infilling(self) -> bool:
        """True if the model inserts tokens anywhere, not only at the end."""
        return self.decoder == "insertion"

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """``data`` as (domain, path) pairs."""
        if isinstance(self.data, dict):
            return tuple(sorted(self.data.items()))
        paths = (self.data,) if isinstance(self.data, str) else self.data
        return tuple(("", path) for path in paths)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain names of the data, sorted."""
        return tuple(sorted(self.data)) if isinstance(self.data, dict) else ()

    @property
    def uses_mixture(self) -> bool:
        """True if examples are grouped into chunks of one per domain."""
        return self.mixture.balance or self.isolation == "chunk"

    @property
    def evaluation_sources(self) -> tuple[str, ...]:
        """``evaluation.data`` as a tuple."""
        data = self.evaluation.data
        return (data,) if isinstance(data, str) else data

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths of ``data`` and ``evaluation.data``."""
        return (*(path for _, path in self.sources), *self.evaluation_sources)

    @property
    def encoding(self) -> Encoding:
        """The settings that determine the tokens of a row."""
        pieces = (self.curriculum.least, self.seed) * (self.curriculum.mode == "decompose")
        return Encoding(
            self.format,
            self.turns,
            self.mixture.systems,
            self.infilling,
            self.max_length,
            self.overlong,
            pieces,
        )

    @property
    def packed_length(self) -> int:
        """Length of a packed row in tokens; 0 without packing."""
        if self.packing == "none":
            return 0
        return self.row_length or self.max_length * (len(self.domains) if self.uses_mixture else 1)

    def for_examples(self, count: int) -> Recipe:
        """Returns the recipe with ``steps`` set, given ``count`` examples per epoch."""
        steps = self.steps or max(1, math.ceil(self.epochs * count / self.batch_size))
        return self.model_copy(update={"steps": steps})

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths and checkpoint intervals,
        as JSON values.
        """
        return self.model_dump(mode="json", exclude=_NOT_DECIDING)


_NOT_DECIDING: Any = {
    **dict.fromkeys(("output", "save_every", "token_cache", "report_to", "push_to"), True),
    "grpo": {"workers"},
}
EXTENDABLE = ("constant", "wsd")  # schedules whose first steps do not depend on the run's length


def why_not_extended(recipe: Recipe) -> str:
    """Returns the reason that a run cannot be extended; empty if it can."""
    if recipe.schedule not in EXTENDABLE:
        return f"schedule: {recipe.schedule} depends on the number of steps (constant, wsd do not)"
    if 0 < recipe.warmup < 1:
        return "warmup is a fraction of the steps (set a whole number)"
    if recipe.curriculum.mode != "none":
        return "a curriculum depends on the number of steps"
    if recipe.loss == "sequencematch" and recipe.sequencematch.ramp:
        return "sequencematch.ramp is a fraction of the steps"
    return ""


def steps_before_decay(recipe: Recipe) -> int:
    """Returns the number of steps before the schedule depends on the run's length."""
    if recipe.schedule != "wsd":
        return recipe.steps
    return max(0, recipe.steps - math.ceil(recipe.decay * recipe.steps))


def built_in() -> dict[str, Path]:
    """Returns the built-in recipes by name."""
    return {file.stem: file for file in sorted(BUILT_IN.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies ``key=value`` overrides (dots reach into sections).

    Args:
        path: a YAML file, or the name of a built-in recipe, such as ``lintseq``.

    Raises:
        InputError: if the recipe does not exist or is not YAML.
        ConfigError: if a key is unknown, missing, of a wrong type or out of range.
    """
    recipes = built_in()
    if not Path(path).is_file():
        if str(path) not in recipes:
            hint = nearest(Path(path).stem, list(recipes))
            known = f"Choose a YAML file or a built-in recipe: {', '.join(recipes)}."
            raise InputError(f"Recipe {path} not found.", f"{hint} {known}".lstrip())
        path = recipes[str(path)]
    return read_config(Recipe, path, overrides, "recipe")


def parse_recipe(row: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Builds a recipe from plain data; errors name ``where``."""
    return parse_config(Recipe, row, where)
