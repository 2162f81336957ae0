"""Recipes: a fine-tuning run as a typed YAML file.

Every key is checked for its name, type and range before anything heavy is loaded
(:mod:`codegen.config`); an error names the file, the key, the value and what is allowed. Sections
hold the settings of one method or one part of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from codegen.config import Config, Text, parse_config, read_config, setting
from codegen.errors import ConfigError

NEW = "new"  # as the model: one with random weights
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]


def _refuse_if(wrong: object, message: str, remedy: str = "") -> None:
    if wrong:
        raise ConfigError(message, remedy)


def _section(kind: Any, description: str) -> Any:
    """A field that holds a section; by default one of its defaults."""
    return Field(default_factory=lambda: kind(), description=description)


class LoRA(Config):
    """Low-rank adapters (Hu et al. 2021) on linear layers."""

    rank: int = Field(16, ge=1, le=1024, description="rank of the update")
    alpha: int = Field(32, ge=1, le=4096, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, le=0.9, description="dropout on the adapter's input")
    targets: Text | Texts = Field("all-linear", description="'all-linear' or names of layers")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) (rsLoRA)")
    dora: bool = Field(False, description="also train the length of each column (DoRA)")


class SeleKT(Config):
    """Few changed weights (NextCoder, ICML 2025), for method: full."""

    share: float = Field(
        1.0, ge=0, le=1, description="share of each tensor's weights that may change; 1 for all"
    )
    every: int = Field(100, ge=1, le=10_000_000, description="steps between projections")


class Mixture(Config):
    """Mixture-of-Instructions (arXiv 2404.18410): its switches, each of which works alone."""

    shares: dict[Text, float] = Field(
        {}, description="share of each domain in the examples, such as of general data replayed"
    )

    balance: bool = Field(
        False, description="chunks of one example of each domain; small domains repeat"
    )
    order: Literal["fixed", "random", "default_first"] = Field(
        "fixed", description="order of the domains in a chunk"
    )
    systems: dict[Text, Text] = Field(
        {}, description="system prompt of each domain, for format: chat"
    )


class Curriculum(Config):
    """Dataset Decomposition (arXiv 2405.13226)."""

    mode: Literal["none", "bucket", "decompose"] = Field(
        "none", description="bucket: whole examples by length; decompose: pieces of 2^k tokens"
    )
    tokens_per_step: int = Field(
        8192, ge=8, le=1 << 30, description="slots per optimizer step; replaces batch_size"
    )
    micro_batch_tokens: int = Field(
        2048, ge=8, le=1 << 30, description="slots per forward pass; replaces micro_batch_size"
    )
    least: int = Field(32, ge=2, le=1 << 20, description="shortest length")
    spread: bool = Field(True, description="decompose: long texts give pieces of all lengths")
    finer: bool = Field(False, description="bucket: add lengths of 1.5 times each power of two")
    odds: Literal["uniform", "grow_linear", "grow_p2"] = Field(
        "grow_p2", description="odds of the lengths; all but uniform start with short ones"
    )
    draw: Literal["paper", "weighted", "deterministic"] = Field(
        "paper", description="draw by odds, by odds times the steps left, or in fixed parts"
    )
    cycles: int = Field(1, ge=1, le=10_000, description="repetitions of the curriculum")


class SequenceMatch(Config):
    """The loss of SequenceMatch (arXiv 2306.05426), for texts with backspaces or plain ones."""

    alpha: float = Field(0.01, ge=0, le=100, description="weight of the penalty")
    gamma: float = Field(0.998, ge=0.5, le=1, description="discount")
    divergence: Literal["chi2_mixture", "chi2", "kl"] = Field(
        "chi2_mixture", description="the mixture also uses the model's own samples"
    )
    terminal: Literal["eos", "zero"] = Field("eos", description="value of the state after the end")
    ramp: float = Field(
        0.1, ge=0, le=1, description="share of the steps during which alpha rises from 0"
    )
    buffer: int = Field(
        64, ge=0, le=1_000_000, description="own samples kept to learn from, for chi2_mixture"
    )
    sample_every: int = Field(
        50, ge=1, le=10_000_000, description="steps between rounds of sampling"
    )
    samples: int = Field(16, ge=1, le=100_000, description="own samples per round")
    max_new_tokens: int = Field(
        0,
        ge=0,
        le=100_000,
        description="maximum actions in an own sample; 0 uses the longest training example",
    )
    temperature: float = Field(1.0, ge=0.01, le=10, description="sampling temperature")


class Sorted(Config):
    """Sorted fine-tuning of a nested draft (S2D, arXiv 2407.01955)."""

    layers: int = Field(
        0, ge=0, le=1000, description="the draft is the model's first N layers; 0 for all"
    )
    exits: tuple[int, ...] = Field(
        (), description="depths of the sub-models, ascending, the last the draft's own"
    )

    def model_post_init(self, context: Any) -> None:
        """Checks the depths."""
        exits = list(self.exits)
        _refuse_if(
            exits != sorted(set(exits)) or (exits and exits[0] < 1),
            f"sorted.exits is {exits}; depths must ascend from 1.",
            "Give for instance [2, 4, 6].",
        )
        _refuse_if(
            self.layers and exits and exits[-1] != self.layers,
            f"The last of sorted.exits is {exits[-1:]}, sorted.layers {self.layers}.",
            "The last exit is the last layer: make them equal.",
        )


class Network(Config):
    """A model with random weights, for ``model: new``."""

    kind: Literal["insertion", "flexible_masks", "fixed_masks", "llama"] = Field(
        "insertion",
        description="tokens inserted anywhere (ILM), masks inserted and filled (FlexMDM), masks of "
        "a fixed number filled (MDM), or left to right",
    )
    layers: int = Field(4, ge=1, le=100, description="number of layers")
    width: int = Field(128, ge=8, le=16384, description="width of the hidden states")
    heads: int = Field(
        4, ge=1, le=256, description="attention heads; twice their number must divide width"
    )
    dropout: float = Field(0.0, ge=0, le=0.9, description="dropout; llama has none")
    mixes_neighbours: bool = Field(
        False, description="add maps of its neighbors to a token's embedding (not in the paper)"
    )
    rope_step: float = Field(
        1.0,
        ge=0.01,
        le=3.1416,
        description="angle of the fastest rotary channels per token; pi separates odd from even",
    )
    final_norm: bool = Field(False, description="a norm before the heads (not in the paper)")
    prefix_apart: bool = Field(
        False,
        description="the prompt does not see the response, so it is encoded once for all draws",
    )
    match_keys: bool = Field(
        False,
        description="initialize keys as queries, so that equal tokens see one another at once",
    )
    tokenizer: Text = Field("words", description="'words' of the data, a directory or a hub id")
    draws: int = Field(1, ge=1, le=1024, description="times each example of a step loses tokens")
    stop_weight: float = Field(1.0, ge=0, le=1000, description="weight of insertion's stop loss")
    infill_rate: float = Field(
        0.0, ge=0, le=1, description="share of insertion's draws in which one span has all gaps"
    )

    def model_post_init(self, context: Any) -> None:
        """Checks the width."""
        _refuse_if(
            self.width % (2 * self.heads),
            f"network.width {self.width} is not a multiple of twice network.heads {self.heads}.",
        )


class Evaluation(Config):
    """During training: loss on held-out texts, exact matches of responses, and pass@k of a task."""

    data: Text | tuple[Text, ...] = Field((), description="as data of the recipe")
    every: int = Field(50, ge=1, le=10_000_000, description="steps between evaluations")
    patience: int = Field(
        0, ge=0, le=10_000, description="stop after N evaluations without a lower loss; 0 for never"
    )
    keep: Literal["best", "last"] = Field("best", description="which weights are saved at the end")
    answers: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="held-out prompts whose completions are compared with the text at the end",
    )
    watch: int = Field(
        0, ge=0, le=10_000_000, description="how many of them also at each evaluation"
    )
    set_of: int = Field(
        0,
        ge=0,
        le=1000,
        description="compare completions as a set of groups of N words; 0 as sequences",
    )
    task: str = Field(
        "", description="task whose programs are judged in the sandbox (codegen eval tasks)"
    )
    task_every: int = Field(100, ge=1, le=10_000_000, description="steps between two times")
    problems: int = Field(0, ge=0, le=100_000, description="its first N problems; 0 for all")
    samples: int = Field(1, ge=1, le=1000, description="samples per problem")
    temperature: float = Field(0.0, ge=0, le=10, description="of these samples; 0 is greedy")
    max_new_tokens: int = Field(256, ge=1, le=1 << 20, description="longest sample in tokens")


class GRPO(Config):
    """Reinforcement by group-relative advantages (GRPO, arXiv 2402.03300), on TRL."""

    task: str = Field(
        "", description="task whose problems are the prompts (codegen eval tasks, or file:PATH)"
    )
    style: str = Field("", description="prompt style; by default the task's, or format")
    problems: int = Field(0, ge=0, le=10_000_000, description="its first N problems; 0 for all")
    group: int = Field(8, ge=2, le=1024, description="samples per problem")
    max_new_tokens: int = Field(256, ge=1, le=1 << 20, description="longest sample in tokens")
    temperature: float = Field(1.0, ge=0.01, le=10, description="sampling temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling")
    beta: float = Field(
        0.0, ge=0, le=100, description="weight of the divergence from the initial model"
    )
    loss_type: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = (
        Field("dapo", description="how the samples' tokens are weighted, as in TRL")
    )
    rewards: dict[Text, float] = Field(
        {"passed": 1.0}, description="rewards and their weights (codegen plugins)"
    )
    hidden: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share of each problem's tests that the rewards do not see; they measure how "
        "many samples are really right",
    )
    turns: int = Field(
        1, ge=1, le=16, description="tries at a program; the verdict is the next message"
    )
    sample_rows: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="samples drawn at once, while earlier ones are judged; 0 for all of a step",
    )
    cpu_s: float = Field(
        0.0, ge=0, le=3600, description="most CPU seconds of a program; 0 for the task's limit"
    )
    workers: int = Field(0, ge=0, le=1024, description="sandboxes that judge; 0 for one per core")
    trl: dict[Text, Any] = Field({}, description="further settings of TRL's GRPOConfig")

    def model_post_init(self, context: Any) -> None:
        """Checks the rewards."""
        _refuse_if(
            not self.rewards or not any(self.rewards.values()),
            "grpo.rewards gives no reward a weight.",
            "Name at least one, such as passed: 1.0.",
        )


class DPO(Config):
    """Preferences, on TRL (DPO, arXiv 2305.18290)."""

    beta: float = Field(
        0.1, gt=0, le=100, description="how closely the model is held to the initial one"
    )
    loss_type: Literal[
        "sigmoid",
        "sigmoid_norm",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
    ] = Field("sigmoid", description="the loss of a pair, as in TRL; sigmoid is DPO's")
    sft: float = Field(
        0.0, ge=0, le=100, description="weight of the likelihood of the preferred answers (RPO)"
    )
    trl: dict[Text, Any] = Field({}, description="further settings of TRL's DPOConfig")


class Recipe(Config):
    """One fine-tuning run."""

    model: Text = Field(
        description="'embedded', a directory, a hub id, or 'new' for the network described below"
    )
    objective: Literal["sft", "dpo", "grpo"] = Field(
        "sft",
        description="sft: texts to imitate; dpo: pairs of a preferred and a rejected answer; grpo: "
        "the model's own samples, rewarded for passing tests (dpo and grpo need trl)",
    )
    data: Text | Texts | dict[Text, Text] = Field(
        (),
        description="data directories, JSONL or Parquet files, hub:org/name[:config][:split] or "
        "puzzles; as a mapping, its names are domains; none with grpo, which has a task",
    )
    limit: int = Field(0, ge=0, le=1 << 40, description="rows read of each; 0 for all")
    output: Text = Field(description="directory for checkpoints and the result")
    steps: int = Field(
        0, ge=0, le=10_000_000, description="optimizer steps; 0 where epochs is given"
    )
    epochs: float = Field(
        0.0, ge=0, le=10_000, description="passes over the examples, in place of steps"
    )
    method: Literal["lora", "qlora", "full"] = Field(
        "lora",
        description="what is trained; qlora holds the base in 4 bits (bitsandbytes; never tested)",
    )
    lora: LoRA = _section(LoRA, "adapter settings, for methods lora and qlora")
    selekt: SeleKT = _section(SeleKT, "for method: full")
    merge: bool = Field(
        False, description="save the model with the adapter merged in, instead of the adapter"
    )
    format: Literal["chat", "plain"] = Field(
        "chat", description="chat wraps the prompt in the model's chat template"
    )
    chat_template_kwargs: dict[Text, Any] = Field(
        {}, description="values of the chat template's variables; saved with the model"
    )
    turns: Literal["auto", "all", "split", "last"] = Field(
        "auto",
        description="conversations: all answers in one text, one text per answer, or only the last "
        "one; auto splits where the template shows earlier answers differently",
    )
    network: Network = _section(Network, "for model: new")
    decoder: Literal["sample", "edit_sequence", "backspace", "insertion"] = Field(
        "sample", description="the decoder that reads the model's outputs"
    )
    loss: Literal["mle", "sequencematch", "sorted"] = Field("mle", description="what is minimized")
    dpo: DPO = _section(DPO, "for objective: dpo")
    grpo: GRPO = _section(GRPO, "for objective: grpo")
    sequencematch: SequenceMatch = _section(SequenceMatch, "for loss: sequencematch")
    sorted: Sorted = _section(
        Sorted, "nested drafts: for loss: sorted, and for mle as its baseline"
    )
    batch_size: int = Field(8, ge=1, le=65536, description="examples per optimizer step")
    micro_batch_size: int = Field(2, ge=1, le=4096, description="rows per forward pass")
    max_length: int = Field(512, ge=8, le=1_048_576, description="longest example in tokens")
    overlong: Literal["drop", "truncate", "split"] = setting(
        "drop",
        "what happens to longer examples; they are counted",
        old_values={"cut": "truncate"},
    )
    token_cache: str = Field(
        "", description="directory of token caches, to share them between runs; OUTPUT/tokens"
    )
    packing: Literal["none", "best_fit"] = Field(
        "none", description="best_fit: the examples of a step share rows"
    )
    row_length: int = Field(
        0, ge=0, le=1 << 24, description="tokens of a packed row; 0 derives it from max_length"
    )
    isolation: Literal["example", "chunk", "none"] = Field(
        "example", description="which examples of a row see one another"
    )
    attention: Literal["auto", "dense", "flex"] = Field(
        "auto",
        description="auto: the causal blocks of a row one by one, else a dense mask; flex: "
        "FlexAttention",
    )
    mixture: Mixture = _section(Mixture, "for data of several domains")
    curriculum: Curriculum = _section(Curriculum, "sequence lengths in order")
    evaluation: Evaluation = _section(Evaluation, "on held-out texts and a task")
    report_to: Text | Texts = Field(
        "none", description="trackers: trackio, wandb, tensorboard, mlflow or others of Trainer"
    )
    run_name: str = Field("", description="name of the run in a tracker; by default output")
    project: str = Field("codegen", description="project of the run in a tracker")
    push_to: str = Field(
        "", description="org/name of a hub repository that receives the model, private by default"
    )
    optimizer: Literal[
        "adamw",
        "muon",
        "adamw_8bit",
        "paged_adamw_8bit",
        "lion_8bit",
        "adamw_torch_8bit",
        "adamw_torch_4bit",
        "adafactor",
    ] = Field(
        "adamw",
        description="muon: for the layers' matrices, AdamW for the rest; adamw_8bit, "
        "paged_adamw_8bit and lion_8bit need bitsandbytes, adamw_torch_* torchao (never "
        "tested, all five)",
    )
    learning_rate: float = Field(3e-4, ge=0, le=1, description="peak learning rate")
    muon_rate: float = Field(0.02, ge=0, le=1, description="Muon learning rate")
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear",
        description="learning rate after the warm-up; wsd (warm-up, stable, decay) falls at the "
        "end only; runs with constant and wsd can be extended",
    )
    decay: float = Field(0.2, ge=0, le=1, description="wsd: share of the steps for the decay")
    warmup: float = Field(0.03, ge=0, le=1, description="share of the steps for the warm-up")
    warmup_steps: int = Field(
        0, ge=0, le=10_000_000, description="steps of the warm-up, in place of a share"
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's weight decay")
    max_grad_norm: float = Field(1.0, ge=0, le=1e6, description="gradient clipping")
    gradient_checkpointing: bool = Field(False, description="trade computing for memory")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the computation; the trained weights stay float32"
    )
    base_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the frozen weights under an adapter; auto as the computation"
    )
    logits_mb: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="largest logits in MB; larger ones are computed in chunks, twice",
    )
    compile: bool = Field(
        False, description="torch.compile; needs a C++ compiler on CPUs; never tested on GPUs"
    )
    liger: bool = Field(
        False, description="Liger's kernels for layers (GPU, liger-kernel; never tested)"
    )
    save_every: int = Field(50, ge=1, le=10_000_000, description="steps between checkpoints")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="decides order and initialization")

    def model_post_init(self, context: Any) -> None:
        """Checks settings that depend on one another."""
        _refuse_if(
            (self.steps > 0) == (self.epochs > 0),
            "The recipe gives both steps and epochs."
            if self.steps
            else "The recipe gives neither steps nor epochs.",
            "Give the number of optimizer steps, or of passes over the examples.",
        )
        _refuse_if(
            self.epochs and self.curriculum.mode != "none",
            "A curriculum is planned for a number of steps.",
            "Give steps in place of epochs.",
        )
        for name, value in self.chat_template_kwargs.items():
            _refuse_if(
                not name.isidentifier() or not isinstance(value, (bool, int, float, str)),
                f"chat_template_kwargs.{name} is {value!r}.",
                "Give variables of the chat template with a text, a number, true or false.",
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
            "selekt": self.selekt.share < 1,
            "sorted": self.sorted.layers or self.sorted.exits,
            "evaluation.data": self.evaluation.data,
        }
        if self.objective == "grpo":
            others["turns"] = self.grpo.turns > 1 and self.format != "chat"
            others["decoder"] = self.decoder not in ("sample", "edit_sequence")
        used = [name for name, is_used in others.items() if is_used]
        _refuse_if(
            self.objective == "grpo" and not self.grpo.task,
            "objective: grpo needs a task.",
            "Set grpo.task to one of codegen eval tasks, or to file:PROBLEMS.jsonl.",
        )
        _refuse_if(
            self.objective == "dpo" and self.overlong == "split",
            "objective: dpo does not support overlong: split.",
            "Set overlong: drop, or truncate.",
        )
        _refuse_if(
            used, f"objective: {self.objective} does not support {', '.join(used)}.", "Remove it."
        )

    def _check_data(self) -> None:
        needs_none = self.objective == "grpo"
        _refuse_if(
            needs_none and self.data,
            "objective: grpo samples its own data, from the problems of a task.",
            "Remove data; grpo.task: file:PROBLEMS.jsonl names problems of your own.",
        )
        _refuse_if(
            not needs_none and not self.data,
            "the key 'data' is missing.",
            "Give data directories, JSONL or Parquet files, or hub:org/name.",
        )
        domains, systems = self.domains, self.mixture.systems
        _refuse_if(
            self.uses_mixture and len(domains) < 2,
            "mixture and isolation: chunk need data of at least two domains.",
            "Give data as a mapping of names to paths, one per domain.",
        )
        unknown = next(iter(sorted(set(systems) - set(domains))), "")
        _refuse_if(
            unknown,
            f"mixture.systems names the unknown domain {unknown!r}.",
            f"The domains of data are: {', '.join(domains) or 'none'}.",
        )
        _refuse_if(
            systems and self.format != "chat",
            "mixture.systems needs format: chat.",
            "A plain text has no system prompt.",
        )
        _refuse_if(
            self.uses_mixture and self.batch_size % len(domains),
            f"batch_size {self.batch_size} is not a multiple of the {len(domains)} domains.",
            "Choose a multiple.",
        )
        shares = self.mixture.shares
        _refuse_if(
            shares and (set(shares) != set(domains) or min(shares.values()) <= 0),
            f"mixture.shares names {', '.join(sorted(shares))} for the domains "
            f"{', '.join(domains) or 'none'}.",
            "Give each domain of data a share above 0.",
        )
        _refuse_if(
            shares and (self.uses_mixture or self.curriculum.mode != "none" or self.epochs),
            "mixture.shares goes neither with mixture.balance, isolation: chunk, a curriculum nor "
            "epochs.",
            "Leave them out, and give steps.",
        )
        _refuse_if(
            self.row_length and self.packing == "none",
            "row_length applies only to packing: best_fit.",
            "Leave it out.",
        )
        _refuse_if(
            0 < self.row_length < self.max_length,
            f"row_length {self.row_length} is below max_length {self.max_length}.",
            "Examples are never split: choose row_length at least as long.",
        )
        _refuse_if(
            self.curriculum.mode != "none" and (self.packing != "none" or self.uses_mixture),
            "A curriculum needs rows of one example each.",
            "Set packing: none, and neither mixture.balance nor isolation: chunk.",
        )

    def _check_model(self) -> None:
        is_new, is_llama = self.model == NEW, self.network.kind == "llama"
        _refuse_if(
            is_new and self.infilling == is_llama,
            f"A network of kind {self.network.kind} "
            + ("generates from left to right." if is_llama else "is an infilling model."),
            "Set decoder: sample." if is_llama else "Set decoder: insertion.",
        )
        _refuse_if(
            is_new and (self.method != "full" or self.format != "plain"),
            "A new model has no weights to adapt and no chat template.",
            "Set method: full and format: plain.",
        )
        if not self.infilling:
            return
        _refuse_if(
            self.packing != "none" or self.uses_mixture or self.curriculum.mode != "none",
            "An infilling model needs rows of one example each.",
            "Set packing: none, no mixture, isolation: example and no curriculum.",
        )
        _refuse_if(
            self.loss != "mle", "An infilling model has a loss of its own.", "Leave loss out."
        )
        _refuse_if(
            self.attention != "auto",
            "An infilling model sees the whole row.",
            "Leave attention out.",
        )

    def _check_method(self) -> None:
        match, exits, layers = self.sequencematch, self.sorted.exits, self.sorted.layers
        if self.loss == "sequencematch":
            _refuse_if(
                match.alpha > 0 and match.gamma == 1,
                "sequencematch.gamma must be below 1, or alpha 0.",
            )
            _refuse_if(
                self.curriculum.mode == "decompose" or self.isolation != "example",
                "The loss sequencematch needs whole examples.",
                "Set isolation: example, and no curriculum or curriculum.mode: bucket.",
            )
        _refuse_if(
            self.loss == "sorted" and not exits,
            "The loss sorted needs sorted.exits.",
            "Give depths, for instance [2, 4, 6].",
        )
        every, evaluation = self.selekt.every, self.evaluation
        _refuse_if(
            self.selekt.share < 1 and self.method != "full",
            "selekt trains all weights.",
            "Set method: full.",
        )
        _refuse_if(
            self.selekt.share < 1 and evaluation.data and evaluation.every % every,
            f"evaluation.every {evaluation.every} is not a multiple of selekt.every {every}.",
            "Only projected weights can be kept as the best: make it one.",
        )
        _refuse_if(
            (layers or exits) and self.method != "full",
            "A nested draft is a model of its own, not an adapter.",
            "Set method: full.",
        )
        _refuse_if(
            layers and self.model == NEW,
            "sorted.layers cuts an existing model; a new one has network.layers.",
            "Leave sorted.layers out.",
        )

    @property
    def infilling(self) -> bool:
        """Whether the model inserts tokens anywhere instead of writing from left to right."""
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
        """The names of the data, sorted."""
        return tuple(sorted(self.data)) if isinstance(self.data, dict) else ()

    @property
    def uses_mixture(self) -> bool:
        """Whether examples come in chunks of as many as there are domains."""
        return self.mixture.balance or self.isolation == "chunk"

    @property
    def evaluation_sources(self) -> tuple[str, ...]:
        """``evaluation.data`` as a tuple."""
        data = self.evaluation.data
        return (data,) if isinstance(data, str) else data


EXTENDABLE = ("constant", "wsd")  # schedules of which a longer run begins as a shorter one


def why_not_extended(recipe: Recipe) -> str:
    """Why a longer run would not begin as this one did; empty if it would."""
    if recipe.schedule not in EXTENDABLE:
        return f"schedule: {recipe.schedule} depends on the number of steps (constant, wsd do not)"
    if recipe.warmup and not recipe.warmup_steps:
        return "warmup is a share of the steps (warmup_steps, or warmup: 0, is not)"
    if recipe.curriculum.mode != "none":
        return "a curriculum is planned for a number of steps"
    if recipe.loss == "sequencematch" and recipe.sequencematch.ramp:
        return "sequencematch.ramp is a share of the steps"
    ends_unprojected = recipe.epochs or recipe.steps % recipe.selekt.every
    if recipe.selekt.share < 1 and recipe.schedule == "constant" and ends_unprojected:
        return "selekt projects the weights at its last step, which selekt.every does not divide"
    return ""


def steps_before_decay(recipe: Recipe) -> int:
    """The steps that a run of any length has in common with this one."""
    if recipe.schedule != "wsd":
        return recipe.steps
    return max(0, recipe.steps - math.ceil(recipe.decay * recipe.steps))


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies ``key=value`` overrides (dots reach into sections).

    Raises:
        InputError: if the file cannot be read or is not YAML.
        ConfigError: naming the key that is unknown, missing, of a wrong type or out of range.
    """
    return read_config(Recipe, path, overrides, "recipe")


def parse_recipe(row: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Builds a recipe from plain data; errors name ``where``."""
    return parse_config(Recipe, row, where)
