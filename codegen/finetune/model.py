"""The model of a run: loaded or new, cut to its first layers, with trainable weights.

:func:`load_model` loads the recipe's model, or initializes a small random one for ``model: new``
(:func:`init_model`); :func:`make_trainable` enables gradients or adds an adapter.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codegen.core.errors import ConfigError, in_one_line
from codegen.finetune.batch_plan import StepPlan, numbers_of
from codegen.finetune.dataset import Dataset, Outline
from codegen.finetune.recipe import NEW, LoRA, Network, Recipe
from codegen.models import LoadedModel, ModelCard, is_infilling, load, pick_dtype, read_adapter

if TYPE_CHECKING:
    import torch

_WIDER = 4  # width of the feed-forward layers, in units of the model's width


def load_model(recipe: Recipe, dataset: Dataset | None = None) -> LoadedModel:
    """Loads the model to train, with the dataset's tokenizer if it is trained on texts.

    Trained weights are float32; frozen weights under an adapter have the computation's dtype, or
    4 bits (``qlora``).

    Raises:
        ConfigError: if the decoder does not support the model, this machine does not support 4
            bits, or the model has fewer layers than the recipe's exits.
        ModelError: if it does not load, or has no Llama-like layers for ``sorted``.
    """
    import torch

    if dataset and recipe.model == NEW:
        loaded = init_model(recipe, dataset)
    else:
        grows = dataset is not None and (
            dataset.new_token is not None or bool(dataset.trained_tokens)
        )
        dtype = torch.float32 if grows else base_dtype(recipe)
        loaded = load(recipe.model, dtype=dtype, bits=4 if recipe.method == "qlora" else 0)
        if hasattr(loaded.model, "peft_config"):
            # A new adapter would replace the model's own; loading in float32 merges that one.
            if recipe.method == "qlora":
                raise ConfigError(
                    f"{recipe.model} is an adapter; method: qlora needs a base model.",
                    "Set method: lora, or lora.adapter to continue training the adapter.",
                )
            loaded = load(recipe.model, dtype=torch.float32)
        if recipe.method == "qlora":
            _keep_gradients(loaded.model)
        if recipe.infilling != is_infilling(loaded.model):
            raise ConfigError(
                f"The decoder {recipe.decoder} does not support {recipe.model}.",
                "Set decoder: insertion for infilling models only.",
            )
    mark_exits(loaded.model, recipe.sorted.exits, recipe.loss)
    return replace(loaded, tokenizer=dataset.tokenizer) if dataset else loaded


def _keep_gradients(model: Any) -> None:
    """Keeps 4-bit weights in the layout that supports gradients.

    On CPUs with AVX-512 BF16, bitsandbytes repacks a layer's weights at its first forward pass in
    evaluation mode, for example when sampling. The kernel for the new layout has no gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def base_dtype(recipe: Recipe) -> torch.dtype:
    """Returns the dtype of the frozen weights; float32 if all weights are trained."""
    import torch

    if recipe.method == "full":
        return torch.float32
    if recipe.dtype == "auto":
        return pick_dtype("cuda" if torch.cuda.is_available() else "cpu")
    return getattr(torch, recipe.dtype)


def mark_exits(model: Any, exits: tuple[int, ...], loss: str) -> None:
    """Truncates a model in place to the last exit, and stores the exits and their loss in its
    configuration for the drafter; without exits, removes stored ones.

    Raises:
        ConfigError: if it has fewer layers.
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
            f"The last of sorted.exits is {exits[-1]}, the model has {len(parts.layers)} layers.",
            "Set the last exit to the number of layers of the draft.",
        )
    del parts.layers[exits[-1] :]
    config.num_hidden_layers = exits[-1]
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: exits[-1]]
    Nested(model, exits)
    config.exit_layers, config.exit_loss = list(exits), loss


def make_trainable(loaded: LoadedModel, recipe: Recipe, dataset: Dataset, plan: StepPlan) -> Any:
    """Returns the model with all weights trainable, or with the recipe's adapter.

    Raises:
        ConfigError: if the rows do not fit the model, or ``lora.targets`` matches no layer.
    """
    model = loaded.model
    _check_rows(model, recipe, dataset, plan)
    if dataset.new_token is not None:
        _add_embedding(model, dataset.new_token, len(dataset.tokenizer))
    if dataset.trained_tokens:
        _tell_apart(model, dataset.trained_tokens)
    new = () if dataset.new_token is None else (dataset.new_token,)
    made = trainable_of(model, recipe, (*new, *dataset.trained_tokens))
    if recipe.method != "full" and recipe.lora.adapter:
        _continue_adapter(made, recipe.lora, loaded)
    return made


def trainable_of(model: Any, recipe: Recipe, tokens: Sequence[int] = ()) -> Any:
    """Returns the model with gradients enabled for the weights that the recipe trains.

    Args:
        model: the model, changed in place.
        tokens: token ids whose embeddings an adapter also trains.

    Raises:
        ConfigError: if ``lora.targets`` matches no layer.
    """
    import torch

    model.config.use_cache = False
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()  # else checkpointing a frozen base has no gradient
    if recipe.method == "full":
        return model.train()
    from peft import get_peft_model, prepare_model_for_kbit_training

    if recipe.method == "qlora":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=recipe.gradient_checkpointing
        )
    try:
        made = get_peft_model(model, adapter_config(recipe, _token_indices(model, tokens)))
    except ValueError as error:
        raise ConfigError(
            f"lora.targets matches no layer of {recipe.model}: {in_one_line(error)}."
        ) from None
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)
    return made


def _continue_adapter(model: Any, lora: LoRA, base: LoadedModel) -> None:
    """Copies the weights of an earlier adapter into the model's new one.

    Raises:
        ConfigError: naming a setting or tensor that differs between the adapter and the recipe.
        ModelError: if the directory contains no adapter of this model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    settings, weights = read_adapter(lora.adapter, base.fingerprint)
    now = model.peft_config["default"]
    for key in ("r", "lora_alpha", "use_dora"):
        if (then := settings.get(key, getattr(now, key))) != getattr(now, key):
            setting = {"r": "rank"}.get(key, key.removeprefix("lora_").removeprefix("use_"))
            raise ConfigError(
                f"The adapter {lora.adapter} has {setting} {then}, lora.{setting} is "
                f"{getattr(now, key)}.",
                "Set the adapter's settings, or remove lora.adapter to train a new one.",
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an extended vocabulary is stored whole
        wanted = {name: w.shape for name, w in get_peft_model_state_dict(model).items()}
        given = {name: weight.shape for name, weight in weights.items()}
        if odd := sorted(dict(wanted.items() ^ given.items())):
            raise ConfigError(
                f"The adapter {lora.adapter} does not match the recipe: {odd[0]} is missing in one "
                "of them or has another shape.",
                "Use the adapter's lora.targets and kind of training data.",
            )
        set_peft_model_state_dict(model, weights)


def adapter_config(recipe: Recipe, token_indices: Any = None) -> Any:
    """Builds peft's configuration of the recipe's adapter, which also trains the embeddings of
    ``token_indices``.
    """
    from peft import LoraConfig, TaskType

    targets = recipe.lora.targets
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        use_dora=recipe.lora.dora,
        target_modules=targets if isinstance(targets, str) else list(targets),
        trainable_token_indices=token_indices,
        task_type=TaskType.CAUSAL_LM,
    )


def _check_rows(model: Any, recipe: Recipe, dataset: Dataset, plan: StepPlan) -> None:
    """Raises a ConfigError for rows that need unsupported masks or positions."""
    config = model.config.get_text_config()
    outline = Outline.of(dataset.examples)
    widest, has_shared = 0, False
    for numbers in (numbers_of(row) for rows, _ in plan.micro_batches() for row in rows):
        widest = max(widest, int(outline.lengths[numbers].sum()))
        has_shared |= len(numbers) > 1
    deepest = widest if plan.isolation != "example" else int(outline.lengths.max())
    limit = getattr(config, "max_position_embeddings", None)
    if limit and deepest > limit:
        raise ConfigError(
            f"Rows reach position {deepest}, {recipe.model} supports {limit}.", "Lower max_length."
        )
    own_masks = has_shared or not outline.all_causal
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    slides = bool(window) and getattr(config, "use_sliding_window", True)
    slides = slides and (not kinds or "sliding_attention" in kinds)
    other = kinds - {"full_attention", "sliding_attention"}
    if own_masks and (other or (slides and widest > int(window or 0))):
        raise ConfigError(
            f"{recipe.model} has layers that ignore our attention masks (rows of {widest} tokens).",
            "Set packing: none, and use data without backspaces.",
        )


def _add_embedding(model: Any, new: int, tokens: int) -> None:
    """Adds an embedding for a new token to the model.

    It is the mean of the others plus a little noise, so that the model does not predict it
    everywhere but has a gradient for it.
    """
    import torch

    if new >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            others = layer.weight[:new].float()
            noise = torch.randn(others.shape[1], generator=generator).to(others.device)
            row = others.mean(0) + 0.1 * others.std(0) * noise
            layer.weight[new] = row.to(layer.weight.dtype)


def _tell_apart(model: Any, tokens: Sequence[int]) -> None:
    """Adds a little noise to the embeddings of tokens that the model has not learned.

    Unused vocabulary tokens may share one vector; they would be the same input and, with tied
    weights, get the same logits and gradients.
    """
    import torch

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


def init_model(recipe: Recipe, dataset: Dataset) -> LoadedModel:
    """Builds a new model from ``network``; the seed determines its weights."""
    import torch

    network, tokenizer = recipe.network, dataset.tokenizer
    torch.manual_seed(recipe.seed)
    if network.kind == "llama":
        model = _new_llama(network, tokenizer)
    else:
        model = _new_infilling_model(network, tokenizer, dataset.longest_response)
    key = json.dumps([network.model_dump(), recipe.seed, sorted(tokenizer.get_vocab().items())])
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
    """Builds a Llama; its gated feed-forward layers are narrower, to keep the weight count."""
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
