"""From a recipe to what the trainer runs on: examples, the plan, held-out batches, the model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from codegen.data.manifest import read_texts
from codegen.errors import ConfigError, InputError
from codegen.finetune.attention import causal
from codegen.finetune.backends import Attention
from codegen.finetune.batch import MicroBatch, collate
from codegen.finetune.curriculum import decompose
from codegen.finetune.encode import Encoded, Encoder, Encoding, encode_all
from codegen.finetune.plan import Plan, make_curriculum, make_mixture, make_plan, statistics
from codegen.finetune.processes import UNSHARED, processes_a_row
from codegen.finetune.recipe import Recipe
from codegen.methods.backspace import is_trajectory, with_backspace
from codegen.models import LoadedModel
from codegen.records import TrainingText

_HELD_OUT_TOKENS = 4096  # slots of a micro-batch of evaluation


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data for one run.

    Attributes:
        tokenizer: the model's, with the backspace token if the data has backspaces.
        backspace: its id then.
        examples: encoded.
        plan: of all steps.
        held_out: micro-batches to evaluate on.
        held_out_texts: what they were made of.
        counts: examples, tokens, what was dropped and cut, padding, mask coverage.
    """

    tokenizer: Any
    backspace: int | None
    examples: list[Encoded]
    plan: Plan
    held_out: list[Any]
    held_out_texts: list[TrainingText]
    counts: dict[str, Any]


def prepare(recipe: Recipe, loaded: LoadedModel) -> Prepared:
    """Reads and encodes the data for a model, and plans the steps.

    Raises:
        InputError: if nothing can be trained on, naming what became of the texts; or for a text
            with backspaces that does not fit the recipe.
    """
    tokenizer = loaded.tokenizer
    texts = [(domain, text) for domain, path in recipe.sources for text in read_texts(path)]
    held = [("", text) for path in recipe.evaluation_sources for text in read_texts(path)]
    backspace = None
    if any(is_trajectory(text) for _, text in (*texts, *held)):
        tokenizer, backspace = with_backspace(tokenizer)
    encoder = _encoder(recipe, tokenizer)
    if recipe.curriculum.mode == "decompose":
        encoding = _pieces(texts, tokenizer, recipe)
    else:
        encoding = encode_all(
            texts, encoder, max_length=recipe.max_length, overlong=recipe.overlong
        )
    _require(encoding, [path for _, path in recipe.sources])
    if missing := set(recipe.domains) - {example.domain for example in encoding.examples}:
        raise InputError(
            f"No text of the domain {min(missing)!r} can be trained on.", "Raise max_length?"
        )
    plan = _plan(recipe, encoding.examples)
    counts = encoding.counts() | statistics(encoding.examples, plan)
    held_out: list[Any] = []
    if held:
        evaluation = encode_all(held, encoder, max_length=recipe.max_length, overlong="drop")
        _require(evaluation, recipe.evaluation_sources)
        held_out = list(_held_out(recipe, loaded.model, evaluation.examples, tokenizer))
        counts["held_out"] = evaluation.counts()
    held_texts = [text for _, text in held]
    return Prepared(tokenizer, backspace, encoding.examples, plan, held_out, held_texts, counts)


def _require(encoding: Encoding, paths: Any) -> None:
    if not encoding.examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in encoding.dropped.items()) or "no text"
        raise InputError(
            f"No training text of {', '.join(paths)} can be trained on ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )


def _plan(recipe: Recipe, examples: list[Encoded]) -> Plan:
    if recipe.curriculum.mode != "none":
        curriculum = recipe.curriculum
        return make_curriculum(
            examples,
            steps=recipe.steps,
            tokens_per_step=curriculum.tokens_per_step,
            micro_batch_tokens=curriculum.micro_batch_tokens,
            seed=recipe.seed,
            least=curriculum.least,
            most=max(map(len, examples)),
            finer=curriculum.finer and curriculum.mode == "bucket",
            odds=curriculum.odds,
            draw=curriculum.draw,
            cycles=curriculum.cycles,
        )
    if recipe.uses_mixture:
        return make_mixture(
            examples,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            micro_batch_size=recipe.micro_batch_size,
            seed=recipe.seed,
            row_length=recipe.capacity,
            isolation=recipe.isolation,
            balance=recipe.mixture.balance,
            order=recipe.mixture.order,
            default=next((d for d in recipe.domains if d not in recipe.mixture.systems), ""),
        )
    return make_plan(
        examples,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        micro_batch_size=recipe.micro_batch_size,
        seed=recipe.seed,
        row_length=recipe.capacity,
        isolation=recipe.isolation,
    )


def _pieces(texts: list[tuple[str, TrainingText]], tokenizer: Any, recipe: Recipe) -> Encoding:
    """All tokens of all texts in pieces of 2^k, each token predicted once; see ``decompose``."""
    encoding = Encoding()
    most = 1 << (recipe.max_length.bit_length() - 1)
    for domain, text in texts:
        ids = [*tokenizer(text.text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        at = 0
        rng = random.Random(f"{recipe.seed}:{text.id}") if recipe.curriculum.spread else None
        for size in decompose(len(ids) - 1, recipe.curriculum.least, most, rng):
            slots = list(range(size))
            encoding.examples.append(
                Encoded(
                    f"{text.example_id}@{at}",
                    ids[at : at + size],
                    slots,
                    ids[at + 1 : at + size + 1],
                    slots,  # nobody asks for the state after the last one
                    causal(size),
                    domain,
                    final=False,
                )
            )
            at += size
        if rest := len(ids) - 1 - at:
            encoding.drop("below_least", rest)
    return encoding


def _encoder(recipe: Recipe, tokenizer: Any) -> Encoder:
    if not recipe.fills_gaps:
        return Encoder(tokenizer, recipe.format, recipe.mixture.systems)
    from codegen.finetune.gaps import GapEncoder

    return GapEncoder(tokenizer, recipe.format)


def _held_out(recipe: Recipe, model: Any, examples: list[Encoded], tokenizer: Any) -> Iterable[Any]:
    if not recipe.fills_gaps:
        return _left_to_right(examples, tokenizer.pad_token_id)
    from codegen.finetune.gaps import held_out_batches

    return held_out_batches(model, examples, recipe.seed)


def _left_to_right(examples: list[Encoded], pad: int) -> Iterator[MicroBatch]:
    parts = processes_a_row()
    attention: Attention = "auto" if parts > 1 else "dense"

    def batch(numbers: list[int]) -> MicroBatch:
        return collate(examples, [((i,),) for i in numbers], pad, attention=attention, parts=parts)

    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]), i))
    group: list[int] = []
    for number in order:
        if group and (len(group) + 1) * len(examples[number]) > _HELD_OUT_TOKENS:
            yield batch(group)
            group = []
        group.append(number)
    yield batch(group)


def trainable(loaded: LoadedModel, recipe: Recipe, prepared: Prepared) -> Any:
    """The model with what the recipe trains switched on.

    Raises:
        ConfigError: if the recipe's method does not fit the model or the machine.
    """
    import torch

    model = loaded.model
    _check_rows(model, recipe, prepared)
    model.config.use_cache = False
    new_token = _grow(model, loaded.tokenizer, prepared)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()  # else a frozen base gives the checkpoints no gradient
    if recipe.method == "full":
        return model.train()
    from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

    if recipe.method == "qlora":
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=recipe.gradient_checkpointing
        )
    targets = recipe.lora.targets
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        trainable_token_indices=_token_indices(model, new_token),
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        made = get_peft_model(model, config)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"lora.targets fits no layer of {recipe.model}: {reason}") from None
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)
    return made


def load_options(recipe: Recipe) -> dict[str, Any]:
    """What the recipe's method asks of loading.

    Raises:
        ConfigError: if this machine can't do it.
    """
    import torch

    if recipe.method != "qlora":
        return {}
    from importlib.util import find_spec

    if not torch.cuda.is_available() or find_spec("bitsandbytes") is None:
        missing = "bitsandbytes" if torch.cuda.is_available() else "a CUDA device"
        raise ConfigError(
            f"method: qlora needs {missing}, which this machine does not have.",
            "Set method: lora, or pip install bitsandbytes on a machine with a GPU.",
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    }


def _check_rows(model: Any, recipe: Recipe, prepared: Prepared) -> None:
    """Refuses rows that the model would not compute as meant."""
    from codegen.decoding.contexts import bound_to_length

    config = model.config.get_text_config()
    plan, examples = prepared.plan, prepared.examples
    rows = [row for step in plan.steps for rows in step for row in rows]
    widest = max(sum(len(examples[i]) for chunk in row for i in chunk) for row in rows)
    deepest = widest if plan.isolation != "example" else max(map(len, examples))
    limit = getattr(config, "max_position_embeddings", None)
    if limit and deepest > limit:
        raise ConfigError(
            f"Rows reach position {deepest}, {recipe.model} holds {limit}.", "Lower max_length."
        )
    own_masks = any(len(row) * len(row[0]) > 1 for row in rows) or any(
        not example.layout.is_causal for example in examples
    )
    shared = processes_a_row() > 1
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    slides = bool(window) and getattr(config, "use_sliding_window", True)
    slides = slides and (not kinds or "sliding_attention" in kinds)
    other = kinds - {"full_attention", "sliding_attention"}
    if (own_masks or shared) and (other or (slides and widest > int(window or 0))):
        raise ConfigError(
            f"{recipe.model} has layers that don't take a mask of ours (rows of {widest} tokens).",
            UNSHARED if shared else "Set packing: none, and data without backspaces.",
        )
    if shared and (kind := bound_to_length(config)):
        raise ConfigError(
            f"The {kind} frequencies of {recipe.model} depend on the length of what a process"
            " holds, so processes can't share rows.",
            UNSHARED,
        )


def _grow(model: Any, known: Any, prepared: Prepared) -> int | None:
    """Gives the model a row for the backspace token, if its tokenizer did not have it; the new id.

    The row is the mean of the others with a little noise, so that the model neither writes it
    everywhere nor is without a gradient for it.
    """
    import torch

    new = prepared.backspace
    if new is None or prepared.tokenizer is known:
        return None
    if new >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(prepared.tokenizer), mean_resizing=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            others = layer.weight[:new].float()
            noise = torch.randn(others.shape[1], generator=generator).to(others.device)
            row = others.mean(0) + 0.1 * others.std(0) * noise
            layer.weight[new] = row.to(layer.weight.dtype)
    return new


def _token_indices(model: Any, new: int | None) -> Any:
    """Which embedding rows an adapter trains besides: those of a new token."""
    if new is None:
        return None
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    indices = {names[id(model.get_input_embeddings())]: [new]}
    if not getattr(model.config, "tie_word_embeddings", False):
        indices[names[id(model.get_output_embeddings())]] = [new]
    return indices
