"""The sections of a recipe, each the settings of one method or part of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codegen.errors import ConfigError
from codegen.finetune.settings import setting


@dataclass(frozen=True, slots=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021) on linear layers."""

    rank: int = setting(16, about="rank of the update", low=1, high=1024)
    alpha: int = setting(32, about="the update is scaled by alpha / rank", low=1, high=4096)
    dropout: float = setting(0.0, about="dropout on the adapter's input", low=0, high=0.9)
    targets: str | tuple[str, ...] = setting(
        "all-linear", about="'all-linear' or the names of the layers"
    )


@dataclass(frozen=True, slots=True)
class Mixture:
    """Mixture-of-Instructions (arXiv 2404.18410): its switches, each of which can be had alone."""

    balance: bool = setting(
        False, about="chunks of one example of each domain, small domains repeating"
    )
    order: Literal["fixed", "random", "default_first"] = setting(
        "fixed", about="of the domains in a chunk"
    )
    systems: dict[str, str] = setting(
        dict, about="system prompt of each domain, for the format chat"
    )


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Dataset Decomposition (arXiv 2405.13226)."""

    mode: Literal["none", "bucket", "decompose"] = setting(
        "none",
        about="bucket: whole examples by length; decompose: all text in pieces of 2^k tokens",
    )
    tokens_per_step: int = setting(
        8192, about="slots of an optimizer step, in place of batch_size", low=8, high=1 << 30
    )
    micro_batch_tokens: int = setting(
        2048, about="slots of a forward pass, in place of micro_batch_size", low=8, high=1 << 30
    )
    least: int = setting(32, about="shortest length", low=2, high=1 << 20)
    spread: bool = setting(
        True, about="decompose: long texts give pieces of all lengths, not of the longest alone"
    )
    finer: bool = setting(False, about="also lengths of 1.5 times each power of two")
    odds: Literal["uniform", "grow_linear", "grow_p2"] = setting(
        "grow_p2", about="of lengths; short ones first but for uniform"
    )
    draw: Literal["paper", "weighted", "deterministic"] = setting(
        "paper", about="by odds, by odds times what there is, or in fixed parts"
    )
    cycles: int = setting(1, about="repetitions of the curriculum", low=1, high=10_000)


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """The loss of SequenceMatch (arXiv 2306.05426), for texts with backspaces or plain ones."""

    alpha: float = setting(0.01, about="weight of the penalty", low=0, high=100)
    gamma: float = setting(0.998, about="discount", low=0.5, high=1)
    divergence: Literal["chi2_mixture", "chi2", "kl"] = setting(
        "chi2_mixture", about="the mixture also uses the model's own samples"
    )
    terminal: Literal["eos", "zero"] = setting("eos", about="the value behind the end")
    ramp: float = setting(
        0.1, about="share of the steps over which alpha rises from 0", low=0, high=1
    )
    buffer: int = setting(
        64, about="own samples kept to learn from, for chi2_mixture", low=0, high=1_000_000
    )
    sample_every: int = setting(
        50, about="steps between rounds of sampling", low=1, high=10_000_000
    )
    samples: int = setting(16, about="own samples of a round", low=1, high=100_000)
    max_new_tokens: int = setting(
        0,
        about="maximum actions in an own sample; 0 uses the longest training example",
        low=0,
        high=100_000,
    )
    temperature: float = setting(1.0, about="of sampling", low=0.01, high=10)


@dataclass(frozen=True, slots=True)
class Sorted:
    """Sorted fine-tuning of a nested draft (S2D, arXiv 2407.01955)."""

    layers: int = setting(
        0, about="the draft is the model's first so many layers; 0 for all", low=0, high=1000
    )
    exits: tuple[int, ...] = setting(
        (), about="depths of the sub-models, ascending; the last is that of the draft"
    )

    def __post_init__(self) -> None:
        if list(self.exits) != sorted(set(self.exits)) or (self.exits and self.exits[0] < 1):
            raise ConfigError(
                f"sorted.exits is {list(self.exits)}; depths must ascend from 1 on.",
                "Give for instance [2, 4, 6].",
            )
        if self.layers and self.exits and self.exits[-1] != self.layers:
            raise ConfigError(
                f"The last of sorted.exits is {self.exits[-1]}, sorted.layers {self.layers}.",
                "Everything exits behind the last layer: make them equal.",
            )


@dataclass(frozen=True, slots=True)
class Network:
    """A model from scratch, for ``model: new``."""

    kind: Literal["insertion", "flexible_masks", "fixed_masks", "llama"] = setting(
        "insertion",
        about="tokens inserted anywhere (ILM), masks inserted and filled (FlexMDM), masks of a "
        "fixed number filled (MDM), or left to right",
    )
    layers: int = setting(4, about="layers", low=1, high=100)
    width: int = setting(128, about="of the hidden states", low=8, high=16384)
    heads: int = setting(
        4, about="of the attention; twice their number divides width", low=1, high=256
    )
    dropout: float = setting(0.0, about="but for llama, which has none", low=0, high=0.9)
    mixes_neighbours: bool = setting(
        False, about="a token's embedding has maps of its neighbours' added (not in the paper)"
    )
    rope_step: float = setting(
        1.0,
        about="angle of the fastest rotary channels from token to token; pi tells odd from even",
        low=0.01,
        high=3.1416,
    )
    final_norm: bool = setting(False, about="a norm before the heads (the paper has none)")
    prefix_apart: bool = setting(
        False, about="the prompt does not see the answer, so it is encoded once for all draws"
    )
    match_keys: bool = setting(
        False, about="keys begin as queries, so that equal tokens see one another from the start"
    )
    tokenizer: str = setting("words", about="'words' of the data, or a directory or hub id")
    draws: int = setting(
        1, about="times that each example of a step loses tokens", low=1, high=1024
    )
    stop_weight: float = setting(1.0, about="of insertion's stop loss", low=0, high=1000)
    infill_rate: float = setting(
        0.0, about="share of insertion's draws in which one span has all gaps", low=0, high=1
    )

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"network.width {self.width} is no multiple of twice network.heads {self.heads}."
            )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loss on held-out texts during training, and right answers at its end."""

    data: str | tuple[str, ...] = setting((), about="data directories or JSONL files")
    every: int = setting(50, about="steps between evaluations", low=1, high=10_000_000)
    patience: int = setting(
        0, about="evaluations without a lower loss that end it; 0 for never", low=0, high=10_000
    )
    keep: Literal["best", "last"] = setting("best", about="which weights are kept in the end")
    answers: int = setting(
        0,
        about="texts whose answers are compared with the model's at the end",
        low=0,
        high=10_000_000,
    )
    watch: int = setting(
        0, about="of these, how many also at each evaluation", low=0, high=10_000_000
    )
    set_of: int = setting(
        0,
        about="words of an answer that belong together, in a set without order; 0 for a sequence",
        low=0,
        high=1000,
    )
