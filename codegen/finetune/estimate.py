"""Estimates a run's memory by part, tokens, steps and floating-point operations in advance.

One optimizer step on the widest rows runs on fake tensors (without data), with the real code of the
model, its adapter, checkpointing and the loss. All live tensor storages are counted. The sizes of
the optimizer state and of packed 4-bit weights are computed.

Limits: one process; assumes that GPU kernels keep the same tensors as CPU kernels; excludes
fragmentation, the CUDA context (about 0.5 GB) and Python (about 0.5 GB).
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from codegen.core.errors import ConfigError
from codegen.finetune.batch_plan import Row, StepPlan, numbers_of, statistics
from codegen.finetune.batches import MicroBatch, attending, collate
from codegen.finetune.dataset import ExampleLengths
from codegen.finetune.encode import EncodedExample
from codegen.finetune.losses import LOGITS_MB, negative_log_likelihood
from codegen.finetune.recipe import NEW, Recipe
from codegen.finetune.sft import prepare
from codegen.finetune.trainable import base_dtype, make_trainable
from codegen.models import pick_dtype, resolve
from codegen.models.config_checks import vetted_config

# Bytes of optimizer state per trained parameter; blocks of 256 share a float32 scale.
_STATE = {
    "adamw": 8.0,
    "muon": 4.0,  # matrices only; AdamW's state for the few other weights is neglected
    "adamw_8bit": 2 + 2 * 4 / 256,
    "adafactor": 0.01,
}
# NF4 in blocks of 64 whose scales are 8 bits, in blocks of 256 with a float32 scale (QLoRA).
_FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
_CHECKPOINTS = 3  # two are kept, and a third is written before the oldest is deleted


@dataclass(frozen=True, slots=True)
class ResourceEstimate:
    """Estimated resources of a run.

    Attributes:
        parameters, trained_parameters: number of weights in the model.
        memory: bytes by part: ``weights`` (frozen ones, or all), ``adapter``, ``gradients``,
            ``optimizer``, ``activations`` (everything else at the peak).
        disk: bytes of the model and of the maximum number of simultaneous checkpoints.
        steps: optimizer steps.
        tokens: slots computed in all steps, including padding.
        flops: floating-point operations of the whole run.
    """

    parameters: int
    trained_parameters: int
    memory: dict[str, int]
    disk: int
    steps: int
    tokens: int
    flops: float

    @property
    def peak(self) -> int:
        """Total bytes of memory."""
        return sum(self.memory.values())

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as plain data."""
        return {**asdict(self), "peak": self.peak}


def estimate(recipe: Recipe) -> ResourceEstimate:
    """Estimates a run's resources from its data and model configuration, without the weights.

    Raises:
        ConfigError: unless the recipe trains an existing model by maximum likelihood.
        CodegenError: for the same data and model errors as in the run.
    """
    if recipe.model == NEW or recipe.loss != "mle" or recipe.objective != "sft":
        raise ConfigError(
            "--plan supports only an existing model with objective: sft and loss: mle.",
            "Run a few steps instead: -o steps=3 -o output=DIR",
        )
    with tempfile.TemporaryDirectory(prefix="codegen-plan-") as cache:
        cached = {} if recipe.token_cache else {"token_cache": cache}
        recipe, dataset, plan = prepare(recipe.model_copy(update=cached))
        counts = statistics(dataset.examples, plan)
        batch = _widest(dataset.examples, plan)
    # 4-bit weights are counted afterwards, since packing needs the data.
    unpacked = {"method": "lora"} if recipe.method == "qlora" else {}
    model = _without_weights(recipe.model_copy(update=unpacked))
    memory, flops = _of_a_step(model, recipe, batch)
    saved = memory["adapter"] or memory["weights"]
    flops *= counts["slots"] / batch.inputs["input_ids"].numel()
    return ResourceEstimate(
        sum(weight.numel() for weight in set(model.parameters())),
        sum(weight.numel() for weight in set(model.parameters()) if weight.requires_grad),
        memory,
        saved + _CHECKPOINTS * (saved + memory["optimizer"]),
        recipe.steps,
        counts["slots"],
        flops,
    )


def _widest(examples: Sequence[EncodedExample], plan: StepPlan) -> MicroBatch:
    """Builds the micro-batch with the most slots."""
    slots = ExampleLengths.of(examples).slots

    def width(micro_batch: tuple[list[Row], int]) -> int:
        rows, least = micro_batch
        return len(rows) * max(least, *(int(slots[numbers_of(row)].sum()) for row in rows))

    rows, least = max(plan.micro_batches(), key=width)
    used = {number: examples[number] for row in rows for number in numbers_of(row)}
    return collate(used, rows, 0, isolation=plan.isolation, width=least, attention="auto")


def _without_weights(recipe: Recipe) -> Any:
    """Builds the recipe's model with fake tensors."""
    from transformers import AutoModelForCausalLM

    place, _ = resolve(recipe.model)
    if (Path(place) / "adapter_config.json").is_file():
        raise ConfigError("--plan needs a model, not an adapter.", "Set model to its base model.")
    config = vetted_config(place, None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=base_dtype(recipe.method, recipe.dtype), attn_implementation="sdpa"
        )
        model = make_trainable(
            model,
            recipe.model,
            recipe.method,
            recipe.lora,
            gradient_checkpointing=recipe.gradient_checkpointing,
        )
    model.train()
    made: dict[int, torch.nn.Parameter] = {}
    with FakeTensorMode() as mode:
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) not in made:
                    empty = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
                    made[id(weight)] = torch.nn.Parameter(empty, weight.requires_grad)
                module._parameters[name] = made[id(weight)]
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
    model.fake_mode = mode
    return model


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of all live tensor storages, starting with a model's."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.now = self.peak = 0
        for tensor in (*model.parameters(), *model.buffers()):
            self._add(tensor)
        self.weights = self.now

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self._alive.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._add(value)
        return result


def _of_a_step(model: Any, recipe: Recipe, batch: MicroBatch) -> tuple[dict[str, int], float]:
    """Returns the bytes by part, and the floating-point operations of one micro-batch."""
    is_half = recipe.dtype == "bfloat16"
    if recipe.dtype == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        is_half = pick_dtype(device) == torch.bfloat16
    base = model.get_base_model() if recipe.method != "full" else model
    with model.fake_mode as mode, attending(base, "auto"):

        def fake(value: Any) -> Any:
            return mode.from_tensor(value) if isinstance(value, torch.Tensor) else value

        inputs = {name: fake(value) for name, value in batch.inputs.items()}
        tensors = {name: fake(getattr(batch, name)) for name in ("nodes", "targets", "weights")}
        batch = replace(batch, inputs=inputs, **tensors)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                losses = negative_log_likelihood(model, batch, LOGITS_MB)
            losses.sum().backward()

        with FlopCounterMode(display=False) as counter:
            step()
        with StorageTracker(model) as storages:
            step()  # again with gradients allocated, as with several micro-batches
    weights = set(model.parameters())
    learned = sum(weight.numel() for weight in weights if weight.requires_grad)
    gradients = 4 * learned
    memory = {
        "weights": storages.weights,
        "adapter": 0,
        "gradients": gradients,
        "optimizer": round(_STATE[recipe.optimizer] * learned),
        "activations": storages.peak - storages.weights - gradients,
    }
    if recipe.method != "full":
        memory["adapter"] = 4 * learned
        memory["weights"] -= 4 * learned
    if recipe.method == "qlora":
        packed = [weight for weight in _linear_weights(model) if not weight.requires_grad]
        saved = sum(weight.nbytes - round(_FOUR_BITS * weight.numel()) for weight in packed)
        memory["weights"] -= saved
        memory["activations"] += max(weight.nbytes for weight in packed)  # unpacked for the matmul
    return memory, float(counter.get_total_flops())


def _linear_weights(model: Any) -> Iterator[torch.Tensor]:
    """Yields the weights that are packed to 4 bits: linear layers except the output layer."""
    head = model.get_base_model().get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield module.weight
