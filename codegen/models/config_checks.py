"""Checks the settings in a model's directory before transformers or peft reads them.

A directory from an untrusted source contains weights and settings. Settings can name files outside
it, files that are unpickled, code to fetch, and attention or quantization kernels on the hub.
These functions remove settings that the user must choose, and reject references to other files or
code. transformers is imported only inside the functions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError, ModelError
from codegen.core.paths import plain_name
from codegen.core.records import read_json

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_TOKENIZER = "tokenizer_config.json"
_ADAPTER = "adapter_config.json"
_MOST_BYTES = 64 * 2**20
_MOST_SETTINGS = 2**20  # bytes of config.json
# Counts of objects that transformers creates before it reads the weights.
_COUNTS = re.compile(r"(.*_)?(layers?|blocks|experts|heads?|labels|groups|stages)")
_MOST_OBJECTS = 4096

# Settings that are removed: the model's implementation and code to fetch.
_OURS = frozenset({
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "_attn_implementation_autoset", "experts_implementation", "_experts_implementation",
    "_experts_implementation_internal", "use_kernels", "kernel_config", "transformers_weights",
    "auto_map", "custom_pipelines", "trust_remote_code",
})  # fmt: skip
# Quantization methods implemented by installed packages.
_QUANTIZED = frozenset({"bitsandbytes", "gptq", "awq", "compressed-tensors"})
_ADAPTERS = frozenset({
    "LORA", "ADALORA", "IA3", "LOHA", "LOKR", "VERA", "OFT", "BOFT", "HRA", "FOURIERFT", "LN_TUNING"
})  # fmt: skip


def vetted_config(place: str, kind: Any = None) -> Any:
    """Returns a model's configuration without removed settings; checks its weight index.

    Args:
        place: a directory or a hub id.
        kind: the configuration's class; by default transformers' for the model's type.

    Raises:
        ModelError: if the model needs its own code or kernels, or names other files.
        OSError, ValueError: if transformers cannot read the configuration.
    """
    from transformers import CONFIG_MAPPING, PretrainedConfig

    if Path(place).is_dir():
        read_object(place, _CONFIG, _MOST_SETTINGS)
    row, _ = PretrainedConfig.get_config_dict(place)
    if not isinstance(row, dict):
        raise ValueError("config.json is not an object")
    row = _without_ours(row)
    _check_counts(place, row)
    model_type = row.get("model_type")
    if kind is None:
        if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
            raise ModelError(
                f"The model {place} has the type {_short(model_type)}, which is not in the "
                "installed transformers; code that comes with a model is never run.",
                "Use another model, or install a newer transformers.",
            )
        kind = CONFIG_MAPPING[model_type]
    quantization = row.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        if not isinstance(method, str) or method not in _QUANTIZED:
            raise ModelError(
                f"The weights of {place} are quantized by {_short(method)}, which may fetch code.",
                "Use weights that are not quantized, or quantized by: "
                f"{', '.join(sorted(_QUANTIZED))}.",
            )
    _check_index(place)
    if not Path(place).is_dir() and read_object(place, _ADAPTER) is not None:
        raise ModelError(
            f"{place} is an adapter on the hub.", "Download it and pass its directory."
        )
    config = kind.from_dict(row)
    config._commit_hash = row.get("_commit_hash")
    return config


def vet_tokenizer(place: str) -> None:
    """Rejects a tokenizer whose settings name files outside its directory.

    Raises:
        ModelError: on such settings.
    """
    for key, value in (read_object(place, _TOKENIZER) or {}).items():
        if not (key.endswith("_file") and isinstance(value, str)):
            continue
        try:
            plain_name(value, f"{place}/{_TOKENIZER}")
        except InputError:
            # A path from another machine is harmless if it does not exist here.
            if Path(value).exists() or Path(place, value).exists():
                raise ModelError(
                    f"{place}/{_TOKENIZER} names the file {_short(value)}, which is outside "
                    "the model's directory.",
                    f"Remove {key} from {_TOKENIZER}.",
                ) from None


def vet_adapter(place: str) -> None:
    """Rejects adapters of unknown kinds, and settings that refer to other code.

    Raises:
        ModelError: on such settings.
    """
    row = read_object(place, _ADAPTER)
    kind = (row or {}).get("peft_type")
    if not isinstance(kind, str) or kind not in _ADAPTERS:
        raise ModelError(
            f"{place}/{_ADAPTER} has the peft_type {_short(kind)}.",
            f"Supported: {', '.join(sorted(_ADAPTERS))}.",
        )
    if row and row.get("megatron_config") is not None:
        raise ModelError(
            f"{place}/{_ADAPTER} sets megatron_config, which would import a module.",
            "Remove megatron_config.",
        )
    _check_ranks(place, row or {})


def _check_ranks(place: str, row: dict[str, Any]) -> None:
    """Rejects huge ranks: peft creates the matrices before it reads the weights."""
    patterns = row.get("rank_pattern")
    of_patterns = patterns.values() if isinstance(patterns, dict) else ()
    for rank in (row.get("r"), row.get("init_r"), *of_patterns):
        if isinstance(rank, int) and rank > _MOST_OBJECTS:
            raise _too_many(f"{place}/{_ADAPTER}", "the rank", rank)


def _too_many(file: str, name: str, number: int) -> ModelError:
    return ModelError(
        f"{file} sets {name} to {_short(number)}; at most {_MOST_OBJECTS:,} is supported.",
        "The file is corrupt or malicious; fetch it again.",
    )


def _without_ours(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_ours(v) for k, v in value.items() if k not in _OURS}
    return [_without_ours(item) for item in value] if isinstance(value, list) else value


def _check_counts(place: str, value: Any) -> None:
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, int) and inner > _MOST_OBJECTS and _COUNTS.fullmatch(name):
            raise _too_many(f"{place}/{_CONFIG}", name, inner)
        _check_counts(place, inner)


def _check_index(place: str) -> None:
    index = read_object(place, _INDEX)
    if index is None:
        return
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files:
        raise ModelError(f"{place}/{_INDEX} has no weight_map.", "Save or fetch the model again.")
    for name in set(map(str, files.values())):
        try:
            plain_name(name, f"{place}/{_INDEX}")
        except InputError as error:
            raise ModelError(error.message, error.remedy) from None
        if not name.endswith(".safetensors"):
            raise ModelError(
                f"{place}/{_INDEX} names the file {_short(name)}; weights are read from"
                " safetensors files.",
                "Save the model with save_pretrained.",
            )


def read_object(place: str, name: str, most: int = _MOST_BYTES) -> dict[str, Any] | None:
    """Returns the JSON object in a model's file; None if the file is missing.

    Raises:
        ModelError: if the file is not a JSON object.
    """
    if Path(place).is_dir():
        path = Path(place, name)
    else:
        from transformers.utils.hub import cached_file

        found = cached_file(
            place,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is None:
            return None
        path = Path(found)
    if not path.is_file():
        return None
    try:
        row = read_json(path, most)
    except (OSError, ValueError) as error:
        raise ModelError(f"{place}/{name} cannot be read: {_short(str(error), 200)}.") from None
    if not isinstance(row, dict):
        raise ModelError(f"{place}/{name} is not a JSON object.")
    return row


def _short(value: Any, most: int = 60) -> str:
    text = ascii(value) if not isinstance(value, str) else ascii(value)[1:-1]
    return text if len(text) <= most else text[: most - 3] + "..."
