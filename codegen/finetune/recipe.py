"""Recipes: a fine-tuning run as a typed YAML file.

Every key is checked for its name, type and range before anything heavy is loaded; an error names
the file, the key, what was given and what is allowed (:mod:`codegen.finetune.settings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codegen.errors import ConfigError, InputError
from codegen.finetune.sections import (
    Curriculum,
    Evaluation,
    LoRA,
    Mixture,
    Network,
    SequenceMatch,
    Sorted,
)
from codegen.finetune.settings import describe, override, parse, setting

NEW = "new"  # the name of a model from scratch


@dataclass(frozen=True, slots=True)
class Recipe:
    """One fine-tuning run."""

    model: str = setting(about="'embedded', a directory, a hub id, or 'new' for that of network")
    data: str | tuple[str, ...] | dict[str, str] = setting(
        about="data directories, JSONL files or puzzles; with names, the names are domains"
    )
    output: str = setting(about="directory for checkpoints, the result and the curves")
    steps: int = setting(about="optimizer steps", low=1, high=10_000_000)
    method: Literal["lora", "qlora", "full"] = setting(
        "lora", about="what is trained; qlora holds the base in 4 bits (CUDA, bitsandbytes)"
    )
    lora: LoRA = setting(LoRA, about="adapter settings, for methods lora and qlora")
    merge: bool = setting(
        False, about="save the model with the adapter folded in, instead of the adapter"
    )
    format: Literal["chat", "plain"] = setting(
        "chat", about="whether the prompt is wrapped in the model's chat template"
    )
    network: Network = setting(Network, about="for model new")
    decoder: Literal["sample", "edit_sequence", "backspace", "insertion"] = setting(
        "sample", about="the decoder that reads this model's outputs"
    )
    loss: Literal["mle", "sequencematch", "sorted"] = setting("mle", about="what is minimised")
    sequencematch: SequenceMatch = setting(SequenceMatch, about="for loss sequencematch")
    sorted: Sorted = setting(Sorted, about="nested drafts: for loss sorted, and for mle to compare")
    batch_size: int = setting(8, about="examples per optimizer step", low=1, high=65536)
    micro_batch_size: int = setting(2, about="rows per forward pass", low=1, high=4096)
    max_length: int = setting(512, about="longest example in tokens", low=8, high=1_048_576)
    overlong: Literal["drop", "cut"] = setting(
        "drop", about="what happens to longer examples; both are counted"
    )
    packing: Literal["none", "best_fit"] = setting(
        "none", about="best_fit: the examples of a step share rows"
    )
    row_length: int = setting(
        0, about="tokens of a packed row; 0 for what max_length needs", low=0, high=1 << 24
    )
    isolation: Literal["example", "chunk", "none"] = setting(
        "example", about="which examples of a row see one another"
    )
    attention: Literal["auto", "dense", "flex"] = setting(
        "auto",
        about="auto: causal blocks of a row one by one, else a dense mask; flex: FlexAttention",
    )
    mixture: Mixture = setting(Mixture, about="for data of several domains")
    curriculum: Curriculum = setting(Curriculum, about="of lengths")
    evaluation: Evaluation = setting(Evaluation, about="on held-out texts")
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", about="muon for the layers' matrices, AdamW for all else"
    )
    learning_rate: float = setting(3e-4, about="peak learning rate", low=0, high=1)
    muon_rate: float = setting(0.02, about="that of the matrices under muon", low=0, high=1)
    schedule: Literal["linear", "cosine", "constant"] = setting(
        "linear", about="how the rate falls after the warm-up"
    )
    warmup: float = setting(0.03, about="share of the steps for the warm-up", low=0, high=1)
    weight_decay: float = setting(0.01, about="AdamW's weight decay", low=0, high=1)
    max_grad_norm: float = setting(1.0, about="gradient clipping", low=0, high=1e6)
    gradient_checkpointing: bool = setting(False, about="less memory for more computing")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", about="of the computation; the trained weights stay float32"
    )
    save_every: int = setting(50, about="steps between checkpoints", low=1, high=10_000_000)
    seed: int = setting(0, about="decides order and initialisation", low=0, high=2**32 - 1)

    def __post_init__(self) -> None:
        if self.uses_mixture and len(self.domains) < 2:
            raise ConfigError(
                "mixture and isolation: chunk need data of two domains at least.",
                "Give data as names with paths, one for each domain.",
            )
        if unknown := sorted(set(self.mixture.systems) - set(self.domains)):
            raise ConfigError(
                f"mixture.systems names the domain {unknown[0]!r}, which data does not have.",
                f"There are: {', '.join(self.domains) or 'none'}.",
            )
        if self.mixture.systems and self.format != "chat":
            raise ConfigError(
                "mixture.systems needs format: chat.", "A plain text has no system prompt."
            )
        if self.uses_mixture and self.batch_size % len(self.domains):
            raise ConfigError(
                f"batch_size {self.batch_size} is no multiple of the {len(self.domains)} domains.",
                "Choose one.",
            )
        self._check_methods()

    def _check_methods(self) -> None:
        is_llama = self.network.kind == "llama"
        if self.model == NEW and self.fills_gaps == is_llama:
            raise ConfigError(
                f"A network of kind {self.network.kind} "
                + ("writes from left to right." if is_llama else "fills gaps."),
                "Set decoder: sample." if is_llama else "Set decoder: insertion.",
            )
        if self.model == NEW and (self.method != "full" or self.format != "plain"):
            raise ConfigError(
                "A new model has no weights to adapt and no chat template.",
                "Set method: full and format: plain.",
            )
        if self.fills_gaps:
            self._check_gaps()
        if self.curriculum.mode != "none" and (self.packing != "none" or self.uses_mixture):
            raise ConfigError(
                "A curriculum has rows of one example each.",
                "Set packing: none, and neither mixture.balance nor isolation: chunk.",
            )
        if self.loss == "sequencematch":
            if self.sequencematch.alpha > 0 and self.sequencematch.gamma == 1:
                raise ConfigError("sequencematch.gamma must be below 1, or alpha 0.")
            if self.curriculum.mode == "decompose" or self.isolation != "example":
                raise ConfigError(
                    "The loss sequencematch needs whole examples.",
                    "Set isolation: example, and no curriculum or curriculum.mode: bucket.",
                )
        self._check_sorted()
        if self.row_length and self.packing == "none":
            raise ConfigError("row_length is for packing: best_fit.", "Leave it out.")
        if 0 < self.row_length < self.max_length:
            raise ConfigError(
                f"row_length {self.row_length} is below max_length {self.max_length}.",
                "An example is never split: choose row_length at least as long.",
            )

    def _check_sorted(self) -> None:
        uses_layers = bool(self.sorted.layers)
        if self.loss == "sorted" and not self.sorted.exits:
            raise ConfigError(
                "The loss sorted needs sorted.exits.", "Give depths, for instance [2, 4, 6]."
            )
        if (uses_layers or self.sorted.exits) and self.method != "full":
            raise ConfigError(
                "A nested draft is a model of its own, not an adapter.", "Set method: full."
            )
        if uses_layers and self.model == NEW:
            raise ConfigError(
                "sorted.layers cuts a model that exists; a new one has network.layers.",
                "Leave sorted.layers out.",
            )

    def _check_gaps(self) -> None:
        if self.packing != "none" or self.uses_mixture or self.curriculum.mode != "none":
            raise ConfigError(
                "A model that fills gaps has rows of one example each.",
                "Set packing: none, no mixture, isolation: example and no curriculum.",
            )
        if self.loss != "mle":
            raise ConfigError("A model that fills gaps has a loss of its own.", "Leave loss out.")
        if self.attention != "auto":
            raise ConfigError("A model that fills gaps sees all of a row.", "Leave attention out.")

    @property
    def fills_gaps(self) -> bool:
        """Whether the model writes in no fixed order."""
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
    def capacity(self) -> int:
        """Tokens of a packed row; 0 without packing."""
        if self.packing == "none":
            return 0
        needed = self.max_length * (len(self.domains) if self.uses_mixture else 1)
        return self.row_length or needed

    @property
    def evaluation_sources(self) -> tuple[str, ...]:
        """``evaluation.data`` as a tuple."""
        data = self.evaluation.data
        return (data,) if isinstance(data, str) else data


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies ``key=value`` overrides (dots reach into sections).

    Raises:
        InputError: if the file can't be read or is not YAML.
        ConfigError: naming the key that is unknown, missing, of a wrong type or out of range.
    """
    import yaml

    path = Path(path)
    try:
        row = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for bytes or dates that are none
        reason = " ".join(str(error).split())
        raise InputError(f"The recipe {path} is not valid YAML: {reason}.") from None
    if not isinstance(row, dict):
        raise ConfigError(f"The recipe {path} must be a mapping of keys to values.")
    for text in overrides:
        override(row, text)
    return parse_recipe(row, str(path))


def parse_recipe(row: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Builds a recipe from plain data; errors name ``where``."""
    return parse(Recipe, row, where)


def describe_keys() -> list[tuple[str, str, str]]:
    """(key, type, help) of every recipe key, for the documentation and ``--help``."""
    return list(describe(Recipe))
