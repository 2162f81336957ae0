"""Finds GGUF files by name, reads their headers and computes their fingerprints.

This module does not use the library ``gguf``, for two reasons: files are untrusted, so counts are
checked before they are used; and the vocabulary is skipped instead of loaded, so reading a header
takes milliseconds. The format is described in ggml's ``docs/gguf.md``, versions 2 and 3; big-endian
files are rejected.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from codegen.core.errors import InputError, ModelError
from codegen.models.pretrained import MODELS

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_TOKENS = "tokenizer.ggml.tokens"
FIM_TOKEN = re.compile(
    r"▁?[<\[][|｜]?(fim[-_▁](prefix|suffix|middle|begin|hole|end)|(code_)?(prefix|suffix|middle)"
    r"|PRE|SUF|MID|PREFIX|SUFFIX|MIDDLE)[|｜]?[>\]]"
)
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Limits far above any model's needs, to reject corrupt or malicious files.
_MOST_KEYS, _MOST_TENSORS, _MOST_ITEMS, _MOST_TEXT = 1 << 16, 1 << 20, 1 << 26, 1 << 24
_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a GGUF file.

    Attributes:
        keys: the metadata; arrays are replaced by their number of items.
        parameters: number of weights in this file (in the first part of a split model).
        tensor_types: number of parameters by type (``Q4_1``, ``F32``).
        fim_tokens: the vocabulary's tokens around a gap, such as ``<|fim_prefix|>``.
    """

    keys: dict[str, Any]
    parameters: int
    tensor_types: Counter[str]
    fim_tokens: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The architecture's name in llama.cpp."""
        return str(self.keys.get("general.architecture", ""))

    @property
    def context(self) -> int:
        """Context length in training, in tokens; 0 if unknown."""
        value = self.keys.get(f"{self.architecture}.context_length", 0)
        return value if isinstance(value, int) else 0

    @property
    def chat_template(self) -> str:
        """The chat template (Jinja); empty for a base model."""
        return str(self.keys.get("tokenizer.chat_template", ""))

    @property
    def shards(self) -> int:
        """Number of files of the model."""
        value = self.keys.get("split.count", 1)
        return value if isinstance(value, int) and value > 1 else 1


def find_gguf(name: str) -> Path | None:
    """Returns the GGUF file for a model name; None if the name does not refer to a GGUF model.

    The name is a file ``*.gguf``, or a directory without ``config.json`` that contains one GGUF
    model. For a split model, returns the first part.

    Raises:
        ModelError: if there is no such file, a directory contains several models, or the name is a
            later part.
    """
    if not name or name in MODELS:
        return None
    path, mode, why = Path(name).expanduser(), 0, ""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = error.strerror
    except ValueError:
        why = "not a file name"
    if stat.S_ISDIR(mode):
        if (path / "config.json").exists() or (path / "adapter_config.json").exists():
            return None
        # Later parts and vision projectors are not models.
        found = [
            file
            for file in sorted(path.glob("*.[gG][gG][uU][fF]"))
            if _part(file) == 1 and not file.name.startswith("mmproj")
        ]
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:4]) + (", ..." if found[4:] else "")
            raise ModelError(f"{name} contains several GGUF files ({names}).", "Pass one of them.")
        return found[0] if found else None
    if path.suffix.lower() != ".gguf":
        return None
    if why:
        raise ModelError(f"Cannot read {name}: {why}.", "Check the path of the GGUF file.")
    if _part(path) != 1:
        raise ModelError(
            f"{name} is not the first part of its model.",
            "Pass the first part, which ends in -00001-of-....gguf; the others must be in the "
            "same directory.",
        )
    return path


def gguf_of(name: str) -> Path | None:
    """Returns the file like :func:`find_gguf`, but fetches a missing pretrained model.

    Raises:
        ModelError: as :func:`find_gguf`, or if a file cannot be fetched.
    """
    return MODELS[name].ensure_gguf() if name in MODELS else find_gguf(name)


def all_parts(path: Path) -> list[Path]:
    """Returns the paths of a model's files, given the first; they may be missing."""
    if not (match := _SHARD.fullmatch(path.name)):
        return [path]
    count = int(match["count"])
    names = (f"{match['stem']}-{i:05}-of-{count:05}{path.suffix}" for i in range(1, count + 1))
    return [path, *(part for name in names if (part := path.with_name(name)) != path)]


def fingerprint(path: Path) -> str:
    """Returns a hash of a model's files, given the first; independent of their names.

    Raises:
        InputError: if one cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in all_parts(path):
        try:
            with part.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"Cannot read {part}: {error.strerror}.") from None
    return digest.hexdigest()


def read_header(path: Path) -> Header:
    """Reads the header of a GGUF file.

    Raises:
        InputError: if it is not a GGUF file, or its header is corrupt.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a regular file.", "Pass a GGUF file.")
        with path.open("rb") as file:
            return _read_header(file, path)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (EOFError, ValueError) as error:
        raise InputError(
            f"{path} is corrupt: {error}.", "Fetch the file again and compare its size."
        ) from None


def _read_header(file: BinaryIO, path: Path) -> Header:
    magic = file.read(4)
    if magic != b"GGUF":
        raise InputError(
            f"{path} is not a GGUF file: it begins with {magic!r}.",
            "Pass a GGUF file, or a directory with safetensors.",
        )
    version = _number(file, "I")
    if version not in (2, 3):
        raise ValueError(f"the format version is {version}, not 2 or 3")
    tensors = _bounded(_number(file, "Q"), _MOST_TENSORS, "tensors")
    keys, fim = {}, []
    for _ in range(_bounded(_number(file, "Q"), _MOST_KEYS, "keys")):
        name = _text(file)
        keys[name] = _value(file, _number(file, "I"), fim if name == _TOKENS else None)
    types: Counter[str] = Counter()
    for _ in range(tensors):
        _text(file)
        size = 1
        for _ in range(_bounded(_number(file, "I"), 8, "dimensions")):
            size *= _bounded(_number(file, "Q"), 1 << 40, "elements")
        number = _number(file, "I")
        types[_TENSOR_TYPES.get(number, f"type {number}")] += size
        _number(file, "Q")
    return Header(keys, types.total(), types, tuple(fim))


def _value(file: BinaryIO, kind: int, fim: list[str] | None = None) -> Any:
    """Reads a value; for an array only its length. Adds the vocabulary's FIM tokens to ``fim``."""
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        if kind not in _NUMBERS:
            raise ValueError(f"unknown value type {kind}")
        return _number(file, _NUMBERS[kind])
    items, count = _number(file, "I"), _bounded(_number(file, "Q"), _MOST_ITEMS, "items")
    if items == _STRING and fim is not None:
        fim += [text for _ in range(count) if FIM_TOKEN.fullmatch(text := _text(file))]
    elif items == _STRING:
        for _ in range(count):
            file.seek(_bounded(_number(file, "Q"), _MOST_TEXT, "bytes of text"), 1)
    elif items in _NUMBERS:
        file.seek(count * struct.calcsize(_NUMBERS[items]), 1)
    else:
        raise ValueError(f"unknown array type {items}")
    return count


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", _bytes(file, struct.calcsize(f"<{form}")))[0]


def _text(file: BinaryIO) -> str:
    length = _bounded(_number(file, "Q"), _MOST_TEXT, "bytes of text")
    return _bytes(file, length).decode("utf-8", "replace")


def _bytes(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("it ends inside its header")
    return data


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise ValueError(f"its header declares {count:,} {what}")
    return count


def _part(path: Path) -> int:
    match = _SHARD.fullmatch(path.name)
    return int(match["number"]) if match else 1
