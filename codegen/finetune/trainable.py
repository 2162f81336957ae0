"""A run's model (loaded or new, possibly truncated, with trainable weights) and optimizers.

:func:`load_model` loads the recipe's model; for ``model: new``, :func:`new_tokenizer` and
:func:`init_model` make a small random one. :func:`make_trainable` enables gradients or adds an
adapter. :func:`own_optimizer` builds an optimizer that transformers lacks.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch

from codegen.core.errors import ConfigError, in_one_line
from codegen.core.records import TrainingText
from codegen.finetune.batch_plan import StepPlan, numbers_of
from codegen.finetune.dataset import ExampleLengths
from codegen.finetune.recipe import NEW, LoRA, Method, Network, Recipe
from codegen.models import (
    LoadedModel,
    ModelCard,
    is_infilling,
    load,
    load_tokenizer,
    pick_dtype,
    read_adapter,
)
from codegen.models.pretrained import train_byte_bpe

# Special tokens of a new model's tokenizer, by their names in transformers.
SPECIAL = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "unk", "cls", "bos", "mask")}
_BPE, _BPE_TEXTS = re.compile(r"bpe-(\d{3,6})"), 10_000  # maximum texts to learn a tokenizer from
_WIDER = 4  # width of the feed-forward layers, in units of the model's width


def load_model(
    name: str,
    *,
    method: Method,
    dtype: str,
    decoder: str,
    grows: bool = False,
) -> LoadedModel:
    """Loads the model to train, in 4 bits for ``qlora``.

    Args:
        dtype: ``dtype`` of the recipe; see :func:`base_dtype`.
        grows: whether embeddings change before an adapter is added, so all weights are float32.

    Raises:
        ConfigError: if the decoder does not support the model, or this machine does not support 4
            bits.
        ModelError: if the model does not load.
    """
    wanted = torch.float32 if grows else base_dtype(method, dtype)
    loaded = load(name, dtype=wanted, bits=4 if method == "qlora" else 0, trained=True)
    if hasattr(loaded.model, "peft_config"):
        # A new adapter would replace the model's own; loading in float32 merges the old one.
        if method == "qlora":
            raise ConfigError(
                f"{name} is an adapter; method: qlora needs a base model.",
                "Set method: lora, or lora.adapter to continue training the adapter.",
            )
        loaded = load(name, dtype=torch.float32)
    if method == "qlora":
        _keep_gradients(loaded.model)
    if is_infilling(loaded.model) != (decoder == "insertion"):
        raise ConfigError(
            f"The decoder {decoder} does not support {name}.",
            "Set decoder: insertion for infilling models only.",
        )
    return loaded


def _keep_gradients(model: Any) -> None:
    """Keeps 4-bit weights in the layout that supports gradients.

    On CPUs with AVX-512 BF16, bitsandbytes repacks a layer's weights at its first forward pass in
    evaluation mode, for example when sampling. The kernel for the new layout has no gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def base_dtype(method: Method, dtype: str) -> torch.dtype:
    """Returns the dtype of the frozen weights; float32 if all weights are trained."""
    if method == "full":
        return torch.float32
    if dtype == "auto":
        return pick_dtype("cuda" if torch.cuda.is_available() else "cpu")
    return getattr(torch, dtype)


def mark_exits(model: Any, exits: tuple[int, ...], loss: str) -> None:
    """Truncates a model in place to the last exit, and stores the exits and their loss in its
    configuration for the drafter; without exits, removes stored ones.

    Raises:
        ConfigError: if the model has fewer layers.
        ModelError: if the model cannot be split at these depths.
    """
    from codegen.decoding.strategies.sorted import Nested, parts_of

    config = model.config.get_text_config()
    if not exits:
        for name in ("exit_layers", "exit_loss"):
            if hasattr(config, name):
                delattr(config, name)
        return
    parts = parts_of(model)
    if exits[-1] > len(parts.layers):
        raise ConfigError(
            f"sorted.exits ends at {exits[-1]}; the model has {len(parts.layers)} layers.",
            "Set the last exit to the number of layers of the draft.",
        )
    del parts.layers[exits[-1] :]
    config.num_hidden_layers = exits[-1]
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: exits[-1]]
    Nested(model, exits)
    config.exit_layers, config.exit_loss = list(exits), loss


def make_trainable(
    model: Any,
    name: str,
    method: Method,
    lora: LoRA,
    *,
    tokens: Sequence[int] = (),
    gradient_checkpointing: bool = False,
) -> Any:
    """Returns the model with all weights trainable, or with an adapter.

    Args:
        model: the model, changed in place.
        name: its name, for errors.
        tokens: token ids whose embeddings an adapter also trains.

    Raises:
        ConfigError: if ``lora.targets`` matches no layer.
    """
    model.config.use_cache = False
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()  # else checkpointing a frozen base has no gradient
    if method == "full":
        return model.train()
    from peft import get_peft_model, prepare_model_for_kbit_training

    if method == "qlora":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=gradient_checkpointing
        )
    try:
        made = get_peft_model(model, adapter_config(lora, _token_indices(model, tokens)))
    except ValueError as error:
        raise ConfigError(
            f"lora.targets matches no layer of {name}: {in_one_line(error)}."
        ) from None
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)
    return made


def continue_adapter(model: Any, lora: LoRA, base: LoadedModel) -> None:
    """Copies the weights of an earlier adapter into the model's new one.

    Raises:
        ConfigError: if a setting or tensor differs between the adapter and the recipe.
        ModelError: if the directory contains no adapter of this model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    settings, weights = read_adapter(lora.adapter, base.fingerprint)
    now = model.peft_config["default"]
    for key in ("r", "lora_alpha", "use_dora"):
        if (then := settings.get(key, getattr(now, key))) != getattr(now, key):
            setting = {"r": "rank"}.get(key, key.removeprefix("lora_").removeprefix("use_"))
            raise ConfigError(
                f"The adapter {lora.adapter} has {setting} {then}, but lora.{setting} is "
                f"{getattr(now, key)}.",
                "Set lora to the adapter's settings, or remove lora.adapter to train a new one.",
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns about saved embeddings
        expected = {name: w.shape for name, w in get_peft_model_state_dict(model).items()}
        stored = {name: weight.shape for name, weight in weights.items()}
        if odd := sorted(dict(expected.items() ^ stored.items())):
            raise ConfigError(
                f"The adapter {lora.adapter} does not match the recipe: {odd[0]} is missing in one "
                "of them or has another shape.",
                "Use the adapter's lora.targets and kind of training data.",
            )
        set_peft_model_state_dict(model, weights)


def adapter_config(lora: LoRA, token_indices: Any = None) -> Any:
    """Builds peft's configuration of an adapter, which also trains the embeddings of
    ``token_indices``.
    """
    from peft import LoraConfig, TaskType

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        trainable_token_indices=token_indices,
        task_type=TaskType.CAUSAL_LM,
    )


def check_rows(model: Any, name: str, lengths: ExampleLengths, plan: StepPlan) -> None:
    """Raises a ConfigError for rows that need unsupported masks or positions."""
    config = model.config.get_text_config()
    widest, has_shared = 0, False
    for numbers in (numbers_of(row) for rows, _ in plan.micro_batches() for row in rows):
        widest = max(widest, int(lengths.slots[numbers].sum()))
        has_shared |= len(numbers) > 1
    deepest = widest if plan.isolation != "example" else int(lengths.slots.max())
    limit = getattr(config, "max_position_embeddings", None)
    if limit and deepest > limit:
        raise ConfigError(
            f"Rows have {deepest} positions; {name} supports {limit}.", "Lower max_length."
        )
    own_masks = has_shared or not lengths.all_causal
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    slides = bool(window) and getattr(config, "use_sliding_window", True)
    slides = slides and (not kinds or "sliding_attention" in kinds)
    other = kinds - {"full_attention", "sliding_attention"}
    if own_masks and (other or (slides and widest > int(window or 0))):
        raise ConfigError(
            f"{name} has layers that ignore custom attention masks (rows of {widest} tokens).",
            "Set packing: none, and use data without backspaces.",
        )


def add_embedding(model: Any, new: int, tokens: int) -> None:
    """Adds an embedding for a new token to the model.

    The embedding is the mean of the others plus a little noise, so that the model does not predict
    the token everywhere but has a gradient for it.
    """
    if new >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            others = layer.weight[:new].float()
            noise = torch.randn(others.shape[1], generator=generator).to(others.device)
            row = others.mean(0) + 0.1 * others.std(0) * noise
            layer.weight[new] = row.to(layer.weight.dtype)


def add_noise(model: Any, tokens: Sequence[int]) -> None:
    """Adds a little noise to the embeddings of tokens that the model has not learned.

    Unused vocabulary tokens may share one vector; they would be the same input and, with tied
    weights, get the same logits and gradients.
    """
    generator = torch.Generator().manual_seed(1)
    layers = [model.get_input_embeddings()]
    if not getattr(model.config, "tie_word_embeddings", False):
        layers.append(model.get_output_embeddings())
    with torch.no_grad():
        for layer in layers:
            scale = 0.3 * layer.weight.float().std()
            for token in tokens:
                row = layer.weight[token]
                noise = torch.randn(row.shape, generator=generator).to(row.device)
                row += (scale * noise).to(row.dtype)


def _token_indices(model: Any, tokens: Sequence[int]) -> Any:
    """Returns peft's ``trainable_token_indices``: embedding rows that an adapter also trains."""
    if not tokens:
        return None
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    indices = {names[id(model.get_input_embeddings())]: list(tokens)}
    if not getattr(model.config, "tie_word_embeddings", False):
        indices[names[id(model.get_output_embeddings())]] = list(tokens)
    return indices


def init_model(network: Network, tokenizer: Any, longest: int, seed: int) -> LoadedModel:
    """Builds a new model; the seed determines its weights.

    Args:
        longest: length of the longest response in tokens.
    """
    torch.manual_seed(seed)
    if network.kind == "llama":
        model = _new_llama(network, tokenizer)
    else:
        model = _new_infilling_model(network, tokenizer, longest)
    key = json.dumps([network.model_dump(), seed, sorted(tokenizer.get_vocab().items())])
    fingerprint = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    return LoadedModel(NEW, NEW, NEW, fingerprint, model, tokenizer, ModelCard())


def _new_infilling_model(network: Network, tokenizer: Any, longest: int) -> Any:
    from codegen.decoding import insertion

    forbidden = {tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "cls_token_id": tokenizer.cls_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "mask_token_id": tokenizer.mask_token_id,
        "forbidden_token_ids": sorted(forbidden),
        "hidden_size": network.width,
        "num_hidden_layers": network.layers,
        "num_attention_heads": network.heads,
        "intermediate_size": _WIDER * network.width,
        "dropout": 0.0,
        "rope_step": network.rope_step,
        "mixes_neighbours": network.mixes_neighbours,
        "final_norm": network.final_norm,
        "prefix_apart": network.prefix_apart,
        "initializer_range": network.width**-0.5,
    }
    if network.kind == "fixed_masks":
        config = insertion.FixedMaskConfig(**sizes, body_length=longest)
        model: Any = insertion.FixedMaskLM(config)
    elif network.kind == "flexible_masks":
        config = insertion.FlexibleMaskConfig(**sizes, loss_length=longest)
        model = insertion.FlexibleMaskLM(config)
    else:
        rate = network.infill_rate
        config = insertion.InsertionConfig(**sizes, infill_rate=rate, marks_open_slots=rate > 0)
        model = insertion.InsertionLM(config)
    if network.match_keys:
        model.encoder.match_keys()
    return model


def _new_llama(network: Network, tokenizer: Any) -> Any:
    """Builds a Llama; its gated feed-forward layers are narrower, to keep the parameter count."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=network.width,
        intermediate_size=round(_WIDER * network.width * 2 / 3),
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        num_key_value_heads=network.heads,
        max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "linear",
            "rope_theta": 10000.0,
            "factor": 1 / network.rope_step,
        },
        initializer_range=network.width**-0.5,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def new_tokenizer(name: str, texts: Iterable[TrainingText]) -> Any:
    """Returns a new model's tokenizer: learned from the texts, or an existing one.

    Missing special tokens for infilling are added, except with ``words``.
    """
    if name == "words":
        return words_tokenizer(word for text in texts for word in text.text.split())
    if learned := _BPE.fullmatch(name):
        some = (text.text for text in islice(texts, _BPE_TEXTS))
        tokenizer = train_byte_bpe(some, int(learned[1]))
    else:
        tokenizer = load_tokenizer(name)
    framing = ("cls_token", "bos_token", "mask_token")
    lacking = [kind for kind in framing if getattr(tokenizer, kind) is None]
    tokenizer.add_special_tokens({kind: SPECIAL[kind] for kind in lacking})
    return tokenizer


def words_tokenizer(words: Iterable[str]) -> Any:
    """Builds a tokenizer with one token per whitespace-separated word; numbers first, ascending."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(SPECIAL.values())
    ordered = sorted(set(words) - set(special), key=lambda w: (not w.isdecimal(), len(w), w))
    vocabulary = {word: number for number, word in enumerate([*special, *ordered])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(prefix=" ", cleanup=False)  # a space between all words
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **SPECIAL,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def own_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer | None:
    """Returns the recipe's optimizer if transformers lacks it, else None."""
    if recipe.optimizer != "muon":
        return None
    return muon_and_adamw(model, recipe.muon_rate, recipe.learning_rate, recipe.weight_decay)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices and AdamW for other weights, as one optimizer.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; torch
    implements it for matrices only. The update of a matrix is its momentum with all singular
    values set near 1. On the puzzles it needs about half of AdamW's steps (docs/insertion.md).

    Args:
        parts: the two optimizers; a schedule scales both learning rates.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        super().__init__(self._groups(), {})
        self.param_groups = self._groups()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """Runs one step of both optimizers."""
        loss = closure() if closure is not None else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of both optimizers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state from :meth:`state_dict`."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()


def muon_and_adamw(
    model: torch.nn.Module, muon_rate: float, learning_rate: float, weight_decay: float
) -> MuonAndAdamW:
    """Builds Muon for the layers' trained matrices and AdamW for other weights."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    inside = {name for name, weight in trained if ".layers." in name and weight.dim() == 2}
    matrices = [weight for name, weight in trained if name in inside]
    others = [weight for name, weight in trained if name not in inside]
    return MuonAndAdamW(
        torch.optim.Muon(matrices, lr=muon_rate, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=weight_decay),
    )
